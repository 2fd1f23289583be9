"""K adapters trained at once are the K adapters that PEFT and torch train one after another."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from reference import VOCABULARY, Batches, apart, batches_of, by_bank, by_peft, some_rows
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from seal.engine import Row
from seal.engine.host import Host
from seal.engine.layouts import AS_THEY_LIE, Layout
from seal.engine.prepacked import can_prepack
from seal.types import ATTENTION, LLAMA_LINEAR, Tuning

TUNINGS = (
    Tuning(rank=8, alpha=16, targets=LLAMA_LINEAR, lr=1e-2, batch=1, epochs=3),
    Tuning(rank=4, alpha=8, targets=("q_proj", "v_proj"), lr=3e-3, batch=2, epochs=2),
    Tuning(rank=6, alpha=3, targets=ATTENTION, lr=1e-3, batch=3, epochs=4),
    Tuning(rank=1, alpha=2, targets=("gate_proj", "up_proj", "down_proj"), lr=1e-2, batch=4, epochs=1),
    Tuning(rank=8, alpha=16, targets=LLAMA_LINEAR, lr=5e-3, batch=9, epochs=5, clip=0.0),
    Tuning(rank=3, alpha=6, targets=("o_proj",), lr=2e-2, batch=2, epochs=3, clip=0.1),
    Tuning(rank=8, alpha=8, targets=LLAMA_LINEAR, lr=3e-3, batch=1, epochs=1, layers=1),
    Tuning(rank=5, alpha=10, targets=("v_proj",), lr=1e-2, batch=5, epochs=2),
)


@pytest.fixture
def exact_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers rounds to float32 inside the norms; with it, float64 is not float64."""

    def forward(self: LlamaRMSNorm, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    for norm in (LlamaRMSNorm, Qwen2RMSNorm):
        monkeypatch.setattr(norm, "forward", forward)


def a_model(dtype: torch.dtype = torch.float64, family: str = "llama") -> PreTrainedModel:
    """The same weights at every call."""
    config_class, model_class = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[family]
    config = config_class(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config).float()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
    return model.to(dtype)


def compare(tunings: Sequence[Tuning], data: Sequence[Batches], family: str = "llama") -> None:
    """In float64, after whole trials."""
    started, losses, products = by_bank(a_model(family=family), tunings, data)
    for slot, tuning in enumerate(tunings):
        their_losses, theirs = by_peft(a_model(family=family), tuning, started[slot], data[slot])
        assert losses[slot] == pytest.approx(their_losses, rel=1e-10)
        assert apart(products[slot], theirs) < 1e-8


@pytest.mark.usefixtures("exact_norm")
@pytest.mark.parametrize("slots", [1, 4, 16])
def test_a_whole_trial_in_float64_is_that_of_peft(slots: int) -> None:
    tunings = (TUNINGS * 2)[:slots]
    compare(tunings, [batches_of(some_rows(slot), tuning) for slot, tuning in enumerate(tunings)])


@pytest.mark.parametrize(
    "layout", [AS_THEY_LIE, Layout("plain"), Layout("transposed", "packed"), Layout("packed", "packed")], ids=", ".join
)
@pytest.mark.parametrize("slots", [1, 4, 16])
def test_the_first_twenty_losses_in_float32_are_those_of_peft(slots: int, layout: Layout) -> None:
    tunings = (TUNINGS * 2)[:slots]
    data = [batches_of(some_rows(slot), tuning)[:20] for slot, tuning in enumerate(tunings)]
    started, losses, _ = by_bank(a_model(torch.float32), tunings, data, layout=layout)
    for slot, tuning in enumerate(tunings):
        theirs, _ = by_peft(a_model(torch.float32), tuning, started[slot], data[slot])
        assert losses[slot] == pytest.approx(theirs, abs=1e-5)


@pytest.mark.skipif(not can_prepack(torch.device("cpu"), torch.bfloat16), reason="torch has no such products of bfloat16 here")
def test_in_bfloat16_the_prepacked_layout_changes_rounding_alone() -> None:
    """Losses of 20 steps beside those in float32: as near in the layout as without it."""
    assert Host(a_model(torch.bfloat16)).copy_bytes() > 0
    tunings = TUNINGS[:4]
    data = [batches_of(some_rows(slot), tuning)[:20] for slot, tuning in enumerate(tunings)]
    exact, plain, packed = (
        torch.tensor([loss for each in by_bank(a_model(number), tunings, data, layout=layout)[1] for loss in each])
        for number, layout in (
            (torch.float32, AS_THEY_LIE),
            (torch.bfloat16, AS_THEY_LIE),
            (torch.bfloat16, Layout("transposed", "packed")),
        )
    )
    far = float((plain - exact).abs().max())
    assert float((packed - plain).abs().max()) < far < 0.1


@pytest.mark.usefixtures("exact_norm")
def test_biases_of_the_base_stay_in_place() -> None:
    tunings = (TUNINGS[1], TUNINGS[2])
    compare(tunings, [batches_of(some_rows(slot), tuning) for slot, tuning in enumerate(tunings)], family="qwen2")


@pytest.mark.usefixtures("exact_norm")
def test_loss_on_the_completion_only() -> None:
    tunings = (TUNINGS[1], TUNINGS[4])
    compare(tunings, [batches_of(some_rows(slot, prompt=4), tuning) for slot, tuning in enumerate(tunings)])


@pytest.mark.usefixtures("exact_norm")
def test_a_row_weighs_as_much_as_it_is_told() -> None:
    rows = [Row(row.ids, row.labels, weight) for row, weight in zip(some_rows(0, 6), (0.5, 3, 1, 1, 0.1, 2), strict=True)]
    compare(TUNINGS[1:2], [batches_of(rows, TUNINGS[1])])


@pytest.mark.usefixtures("exact_norm")
@pytest.mark.parametrize(
    "how",
    [
        {"weight_decay": 0.1},
        {"schedule": "cosine"},
        {"schedule": "constant"},
        {"warmup": 3},
        {"schedule": "cosine", "warmup": 4, "weight_decay": 0.3},
        {"schedule": "constant", "warmup": 5},
    ],
    ids=str,
)
def test_decay_and_schedules_are_those_of_torch_and_transformers(how: dict[str, object]) -> None:
    # a neighbour with other settings runs along
    tuning = Tuning(rank=4, alpha=8, targets=("q_proj", "v_proj"), lr=1e-2, batch=2, epochs=2, **how)  # type: ignore[arg-type]
    compare((tuning, TUNINGS[2]), [batches_of(some_rows(0), tuning), batches_of(some_rows(1), TUNINGS[2])])


@pytest.mark.usefixtures("exact_norm")
def test_a_step_taken_in_parts_is_the_same_step() -> None:
    tunings = (TUNINGS[2], TUNINGS[4])
    data = [batches_of(some_rows(slot), tuning) for slot, tuning in enumerate(tunings)]
    _, losses, whole = by_bank(a_model(), tunings, data)
    for limit in (1, 40):  # a part a row; parts that cut through both slots
        _, their_losses, parts = by_bank(a_model(), tunings, data, step_tokens=limit)
        for slot in range(2):
            assert losses[slot] == pytest.approx(their_losses[slot], rel=1e-12)
            assert max(float((whole[slot][name] - parts[slot][name]).norm()) for name in whole[slot]) < 1e-10
