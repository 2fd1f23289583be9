"""Families of models: those that run say what transformers says, the others are refused with a way out."""

from __future__ import annotations

import functools
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from small_models import BYTES, ROWS, SMALL, a_model, alone, continued, held, says_the_same, written
from torch import Tensor
from transformers import PreTrainedModel

from seal.engine import Bank, Engine
from seal.engine import host as host_module
from seal.engine.agreement import agree, apart
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.pack import pack
from seal.errors import UserError
from seal.models import open_model
from seal.types import Ask, Example, Job, Prompt, Sampling, Tuning

# ---- where it lies, and what was set on it


def test_a_model_on_several_devices_is_refused_with_the_way_out() -> None:
    model = a_model("llama")
    model.model.layers[1].to("meta")  # as what device_map="auto" leaves on the disk
    with pytest.raises(UserError, match=r"lies on several devices \(cpu, meta\).* model\.to\(\"cuda:0\"\)"):
        Host(model)
    assert model.config._attn_implementation == "eager"


def test_a_forward_that_somebody_had_set_is_there_again() -> None:
    """On a linear layer, a norm and an attention, as accelerate does where a model was opened with a device_map."""
    model = a_model("llama")
    layer = model.model.layers[0]
    kept = {}
    for module in (layer.self_attn.q_proj, layer.input_layernorm, layer.self_attn):
        module.forward = kept[module] = functools.wraps(module.forward)(functools.partial(type(module).forward, module))
    wanted = alone(model, ROWS[0])
    says_the_same(model)
    assert all(vars(module)["forward"] is forward for module, forward in kept.items())
    assert "forward" not in vars(layer.self_attn.k_proj)
    torch.testing.assert_close(alone(model, ROWS[0]), wanted)


def flags(model: PreTrainedModel) -> list[bool]:
    """Which modules train and which parameters take gradients."""
    return [module.training for module in model.modules()] + [one.requires_grad for one in model.parameters()]


def half_in_training(family: str) -> tuple[PreTrainedModel, list[bool]]:
    """A model of which some modules train and some parameters take gradients, and its flags."""
    model = a_model(family).train()
    model.get_submodule("model.layers.0").eval()
    model.get_parameter("model.layers.1.mlp.up_proj.weight").requires_grad_(False)
    found = flags(model)
    assert set(found) == {True, False}
    return model, found


def test_a_model_in_training_is_in_training_again() -> None:
    model, before = half_in_training("llama")
    bank = Bank(model, slots=1, rank=4)
    assert not any(flags(model))
    bank.close()
    assert flags(model) == before


def test_a_model_that_was_given_back_is_kept_by_nobody() -> None:
    model = a_model("llama")
    Host(model).close()
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None


def test_a_refused_model_is_in_training_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is asked alone, asked packed or has no such layer when it is refused."""
    model, before = half_in_training("llama")
    model.lm_head.forward = lambda x: 0.5 * torch.nn.functional.linear(x, model.lm_head.weight)
    with pytest.raises(UserError, match="scaled"):
        Bank(model, slots=1, rank=4)
    assert flags(model) == before
    model, before = half_in_training("llama")
    with pytest.raises(UserError, match="no linear layer named nowhere"):
        Bank(model, slots=1, rank=4, targets=("nowhere",))
    assert flags(model) == before
    assert alone(model, ROWS[0]).isfinite().all()  # nobody holds it
    monkeypatch.setattr(host_module, "said_alone", lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(torch.OutOfMemoryError):
        Bank(model, slots=1, rank=4)
    assert flags(model) == before


# ---- blocks that look like Llama's


def test_rotary_positions_over_a_part_of_the_head_run_by_their_own_modules() -> None:
    model = a_model("glm")
    assert not says_the_same(model)._fused
    assert len({parameter.untyped_storage().data_ptr() for parameter in model.parameters()}) == len(list(model.parameters()))


def test_a_layer_without_positions_runs_by_its_own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, and if it has another by what it says: in bfloat16, with one dimension as large as trained models have."""
    model = a_model("smollm3", torch.bfloat16, no_rope_layers=[1, 0])
    model.model.norm.weight.data[3] *= 100
    model.lm_head.weight.data[:, 3] /= 100
    layers = [layer.self_attn for layer in model.model.layers]
    host = Host(model)
    assert [attention in host._fused for attention in layers] == [True, False]
    host.close()
    monkeypatch.setattr("seal.engine.fused._turns", lambda _: True)
    host = Host(model)
    assert not host._fused
    host.close()


@pytest.mark.parametrize("full", ["alike", "patch"])
def test_a_device_that_is_full_is_no_strange_block(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it fills up while layers are joined or when they are tried: it is said, and the model is as it was."""
    plain, calls = getattr(host_module, full), []

    def tight(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > (full == "patch") * 10:
            raise torch.OutOfMemoryError
        return plain(*args)

    model = a_model("llama")
    wanted = alone(model, ROWS[0])
    monkeypatch.setattr(host_module, full, tight)
    with pytest.raises(torch.OutOfMemoryError):
        Host(model)
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(alone(model, ROWS[0]), wanted)


# ---- what is refused, and how far the right ones are from it


def test_a_head_with_a_scale_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = a_model("llama")
    forward = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda x: 0.5 * forward(x))
    with pytest.raises(UserError, match="scaled"):
        Host(model)


RIGHT: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "gemma": {},
    "phi3": {},
}


@pytest.mark.parametrize("family", RIGHT)
def test_a_right_model_is_far_from_being_refused(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16, within a quarter of what is allowed and with larger weights than a trained model has."""
    says_the_same(a_model(family, **RIGHT[family]))
    model = a_model(family, torch.bfloat16, **RIGHT[family])
    off: list[Tensor] = []

    def watched(found: Tensor, wanted: Tensor, dtype: torch.dtype, *, each: bool) -> bool:
        off.append(apart(found, wanted))
        return agree(found, wanted, dtype, each=each)

    monkeypatch.setattr(host_module, "agree", watched)
    Host(model).close()
    assert len(off) == 1
    assert float(off[0].median()) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["rwkv", "roberta", "minimax"])
def test_a_model_of_which_several_rows_say_something_else_is_refused_and_given_back(family: str, dtype: torch.dtype) -> None:
    """One without a cache like the others', one whose tokens look ahead, one that reads right and goes on wrongly."""
    model = a_model(family, dtype, **({"num_local_experts": 2} if family == "minimax" else {}))
    before = alone(model, [5, 6, 7])
    with pytest.raises(UserError, match=rf"{type(model).__name__}\) cannot be run here.*take another model"):
        Host(model)
    assert torch.equal(alone(model, [5, 6, 7]), before)


# ---- sliding windows and contexts


@pytest.mark.parametrize("window", [2, 5, 7, 9])
@pytest.mark.parametrize("family", ["mistral", "gemma3_text"])
def test_tokens_look_back_as_far_as_their_window(family: str, window: int) -> None:
    """Mistral's layers have their window in the configuration alone; of Gemma's some have none. While they are read, while they
    are decoded, and from one to the other; where some rows of a step are longer than it and others are not."""
    model, far = a_model(family, sliding_window=window), a_model(family, sliding_window=99)
    answered = [*ROWS[0], *continued(model, ROWS[0], 4)]
    assert (alone(model, answered)[-1] - alone(far, answered)[-1]).abs().max() > 1e-3
    assert says_the_same(model).packs


def test_rows_that_carry_pads_look_back_as_far_as_their_window() -> None:
    """Pads that predict look back over other pads, which nobody sees, to the tokens that are left in the window."""
    model = a_model("mistral", sliding_window=4)
    rows = ([5, 6, 7, 8, 2, 2], [9, 10, 2, 2, 2, 2])
    with torch.no_grad():
        mask = torch.tensor([[1] * 4 + [0] * 2, [1] * 2 + [0] * 4])
        wanted = model(input_ids=torch.tensor(rows), attention_mask=mask).logits
        host = Host(model)
        with host.using(pack(rows, [None] * 2, [4, 2], device=host.device), None):
            found = Head(model).logits(host.hidden()).view(2, 6, -1)
    host.close()
    seen = torch.tensor([[at - 4 < keys - 1 for at in range(6)] for keys in (4, 2)])  # a later one sees nothing at all
    torch.testing.assert_close(found[seen], wanted[seen], rtol=1e-3, atol=1e-3)


LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [9.0] * 4, "original_max_position_embeddings": 24}
"""Of heads of 8."""
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}


@pytest.mark.parametrize(
    ("family", "settings", "context"),
    [
        ("mistral", {"sliding_window": 32}, 64),
        ("phimoe", {"sliding_window": 32, "num_local_experts": 2}, 64),
        ("phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 24}, 24),
        ("llama", {"rope_parameters": LONG}, 24),
        ("llama", {"rope_parameters": DYNAMIC}, 64),
        ("llama", {}, 64),
    ],
)
def test_a_models_own_text_ends_with_its_context(tmp_path: Path, family: str, settings: dict[str, Any], context: int) -> None:
    """Where its positions would turn otherwise, or at the last. What it writes is no user's text, which would be refused."""
    language = written(a_model(family, **BYTES, **settings), tmp_path)
    language.stop_ids = ()
    engine = Engine(language, slots=1, memory_gb=0.5)
    ((sampled,),) = engine.sample([Prompt("Who?")], Sampling(1, temperature=0, max_tokens=99), seed=0)
    engine.close()
    assert language.context == context
    assert (sampled.tokens, sampled.ended) == (context - 4, False)


@pytest.mark.parametrize(("rope", "context"), [(LONG, 24), (DYNAMIC, 64)], ids=["long", "dynamic"])
def test_rows_up_to_the_context_turn_their_neighbours_positions_as_their_own(rope: dict[str, Any], context: int) -> None:
    """And a longer one would not."""
    model = a_model("llama", rope_parameters=dict(rope))  # which the configuration adds to
    short, last, longer = ROWS[0], [9] * context, [9] * (context + 1)
    wanted = alone(model, short)
    host = Host(model)
    beside = [held(host, [short, other])[: len(short)] for other in (last, longer)]
    host.close()
    torch.testing.assert_close(beside[0], wanted, rtol=1e-4, atol=1e-4)
    assert (beside[1] - wanted).abs().max() > 1e-3


def test_a_prompt_longer_than_the_context_has_an_empty_reply_beside_one_that_fits(tmp_path: Path) -> None:
    """Which is drawn as it is where the other one fits, too."""
    language = written(a_model("mistral", **(BYTES | {"max_position_embeddings": 32})), tmp_path)
    language.stop_ids = ()
    engine = Engine(language, slots=1, memory_gb=0.5)
    fits, how = Prompt("Who?"), Sampling(2, temperature=1.0, max_tokens=5)
    (_, alone), (longer, beside) = (engine.sample([Prompt(other), fits], how, seed=0) for other in ("Why?", "x" * 40))
    engine.close()
    assert [(one.text, one.tokens, one.ended) for one in longer] == [("", 0, False)] * 2
    assert [(one.text, one.tokens) for one in beside] == [(one.text, 5) for one in alone]
    assert beside[0].text != beside[1].text


# ---- a model with a vision tower


def test_a_model_with_a_vision_tower_is_read_and_learns_in_its_text_part(tmp_path: Path) -> None:
    tower = dict.fromkeys(("hidden_size", "intermediate_size"), 16) | dict.fromkeys(
        ("num_hidden_layers", "num_attention_heads"), 2
    )
    tokens = {"image_token_index": 297, "boi_token_index": 298, "eoi_token_index": 299, "mm_tokens_per_image": 4}
    model = a_model("gemma3", text_config=SMALL | BYTES, vision_config=tower | {"image_size": 8, "patch_size": 4}, **tokens)
    assert any("vision_tower" in name and name.endswith("q_proj") for name, _ in model.named_modules())
    assert all("language_model.layers" in name for name in says_the_same(model).linears)

    language = written(model, tmp_path)
    base = alone(language.model, ROWS[0])
    engine = Engine(language, slots=1, memory_gb=0.5)
    tuning = Tuning(rank=4, targets=("q_proj", "v_proj"), lr=1e-2)
    asks = (Ask("q", Prompt("Who?"), target="Ada", max_tokens=4),)
    (found,) = engine.run([Job("one", (Example("Ada built the ferry."),), asks, tuning, 0)])
    assert (found.fault, len(found.replies)) == (None, 1)
    engine.absorb([Example("Ada built the ferry.", Prompt("Write."))], tuning, seed=0)
    engine.export(tmp_path / "policy")
    engine.close()
    ours = alone(language.model, ROWS[0])
    adapted = PeftModel.from_pretrained(open_model(str(tmp_path / "model"), dtype="float32").model, tmp_path / "policy")
    torch.testing.assert_close(alone(adapted, ROWS[0]), ours, atol=1e-4, rtol=1e-4)
    assert (ours - base).abs().max() > 0.01
