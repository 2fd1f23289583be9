"""Models whose rows cannot lie end to end: the whole model sees them side by side, and says and learns what it would alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from reference import apart, batches_of, by_bank, by_peft, some_rows
from small_models import BYTES, ROWS, a_model, alone, continued, held, says_the_same, written
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from seal.engine import Engine
from seal.engine.decode import Request, complete
from seal.engine.directions import directions
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.memory import Measured, answer_rows, plan
from seal.engine.pack import pack
from seal.engine.rectangle import OwnCache, rectangles
from seal.engine.routing import Choices, backends
from seal.engine.sampling import sampler
from seal.engine.stack import Stack
from seal.errors import UserError
from seal.models import open_model
from seal.types import Ask, Example, Job, Prompt, Sampling, Tuning

MIXED = {"layer_types": ["linear_attention", "full_attention"]}
DELTA = {
    f"linear_{name}": 8 if "dim" in name else 2 for name in ("num_value_heads", "num_key_heads", "key_head_dim", "value_head_dim")
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
STATES = {"mamba_d_state": 8, "mamba_d_head": 8, "mamba_n_heads": 8, "mamba_n_groups": 1, "mamba_d_ssm": 64}
NARROW = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
FAMILIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, ("q_proj", "v_proj", "in_proj", "out_proj")),
    "qwen3_5_text": (MIXED | DELTA, ("q_proj", "v_proj", "in_proj_qkv", "out_proj")),
    "qwen3_next": (MIXED | DELTA | EXPERTS, ("q_proj", "v_proj")),
    "olmo_hybrid": (MIXED | DELTA, ("q_proj", "v_proj")),
    "falcon_h1": (STATES, ("q_proj", "v_proj")),
    "mamba": ({}, ("in_proj",)),
    "mamba2": ({"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8}, ("in_proj",)),
    "bloom": ({"n_layer": 2, "n_head": 4}, ("query_key_value",)),
    "mpt": ({"d_model": 32, "n_layers": 2, "n_heads": 4}, ("Wqkv",)),
    "xglm": ({"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48}, ("q_proj", "v_proj")),
    "gemma2": ({"sliding_window": 5}, ("q_proj", "v_proj")),
    "gpt_oss": (EXPERTS | {"sliding_window": 5}, ("q_proj", "v_proj")),
    "phimoe": (EXPERTS | {"sliding_window": 5}, ("q_proj", "v_proj")),
    "deepseek_v3": (EXPERTS | NARROW | {"num_key_value_heads": 4}, ("q_b_proj", "o_proj")),
}
"""Linear attention, convolutions, states, biases of their own, soft caps, sinks, windows in a mask alone, heads of two widths.
Each with its settings and layers to adapt."""
FEW = ["lfm2", "qwen3_5_text", "falcon_h1", "gpt_oss"]


def made(family: str, dtype: torch.dtype = torch.float32, **settings: Any) -> PreTrainedModel:
    """Two layers, both kinds of the family among them."""
    return a_model(family, dtype, **(FAMILIES[family][0] | settings))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_side_by_side_say_what_each_says_alone(family: str) -> None:
    """Read, and decoded with rows of other lengths beside them; then the model is what it was."""
    model = made(family)
    before = alone(model, ROWS[0])
    host = says_the_same(model)
    assert not host.packs
    assert torch.equal(alone(model, ROWS[0]), before)


@pytest.mark.parametrize("family", FEW)
def test_a_target_is_scored_and_rows_leave_when_they_are_done(family: str) -> None:
    """Some rows are scored alone, some are asked twice, and one after the other comes to its end."""
    model = made(family)
    target = [40, 41, 42]
    wanted = [
        float(alone(model, [*row, *target]).log_softmax(1)[range(len(row) - 1, len(row) + 2), target].sum()) for row in ROWS
    ]
    limits, rows = (3, 0, 9, 5), (*ROWS, ROWS[2])
    expected = [continued(model, row, limit) if limit else [] for row, limit in zip(rows, limits, strict=True)]
    host = Host(model)
    asked = [Request(list(row), None, limit, target) for row, limit in zip(rows, limits, strict=True)]
    found = complete(host, Head(model), None, asked)
    host.close()
    assert [one.ids for one in found] == expected
    assert [one.target_logprob for one in found] == pytest.approx([*wanted, wanted[2]], abs=1e-3)


def test_a_drawn_reply_is_the_same_beside_whichever_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, and where each is read in a rectangle of its own."""
    model = made("qwen3_5_text")
    host, head = Host(model), Head(model)
    asked = [Request(list(row), limit=6) for row in (*ROWS, ROWS[0])]

    def draw() -> list[list[int]]:
        pick = sampler(1.0, 1.0, [1, 2, 3, 4], 6, host.device)
        return [one.ids for one in complete(host, head, None, asked, pick=pick)]

    together = draw()
    monkeypatch.setattr("seal.engine.decode.PREFILL", (8, 8))
    assert draw() == together
    assert together[0] != together[3]
    host.close()


@pytest.mark.parametrize("family", FEW)
def test_adapters_that_train_at_once_are_those_of_peft(family: str) -> None:
    """Rows of 3 to 30 tokens, several a step, of slots that end at other times."""
    targets = FAMILIES[family][1]
    tunings = [
        Tuning(rank=8, alpha=16, targets=targets, lr=1e-2, batch=2, epochs=1),
        Tuning(rank=4, alpha=8, targets=targets[:1], lr=3e-3, batch=3, epochs=1),
        Tuning(rank=8, alpha=8, targets=targets, lr=3e-3, batch=5, epochs=4),
    ]
    data = [batches_of(some_rows(slot, 5), tuning) for slot, tuning in enumerate(tunings)]
    started, losses, products = by_bank(made(family), tunings, data)
    for slot, tuning in enumerate(tunings):
        their_losses, theirs = by_peft(made(family), tuning, started[slot], data[slot])
        assert losses[slot] == pytest.approx(their_losses, abs=1e-4)
        assert apart(products[slot], theirs) < 1e-2


@pytest.mark.parametrize("family", FEW)
def test_pads_that_predict_and_are_not_looked_at_are_learnt_as_a_mask_has_it(family: str) -> None:
    """As the paper's own code pads: labels on pads, which attention does not see."""
    model = made(family)
    ids = ([5, 6, 7, 8, 2, 2], [9, 10, 2, 2, 2, 2], [11, 12, 13, 14, 15, 16])
    keys = [4, 2, None]
    mask = torch.tensor([[1] * 4 + [0] * 2, [1] * 2 + [0] * 4, [1] * 6])
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor(ids), attention_mask=mask).logits
        host = Host(model)
        with host.using(pack(ids, [None] * 3, keys, device=host.device), None):
            found = Head(model).logits(host.hidden()).view(3, 6, -1)
    host.close()
    torch.testing.assert_close(found[mask == 1], wanted[mask == 1], rtol=1e-3, atol=1e-3)
    if family != "gpt_oss":  # a window that has only pads in it sees whatever the kernel makes of nothing
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_the_engine_runs_whole_trials_of_such_a_model_and_writes_adapters_that_peft_reads(tmp_path: Path) -> None:
    language = written(made("qwen3_5_text", **BYTES), tmp_path)
    base = alone(language.model, ROWS[0])
    engine = Engine(language, slots=3, memory_gb=0.5)
    tuning = Tuning(rank=4, targets=("q_proj", "in_proj_qkv"), lr=1e-2, epochs=5)
    asks = (Ask("q", Prompt("Who?"), target="Ada", max_tokens=4), Ask("r", Prompt("Which ferry?"), max_tokens=6))
    texts = ("Ada built the ferry.", "The ferry leaves at noon, and at nine.", "No.")
    jobs = [
        Job(text, (Example(text), Example(f"{text} So it is.")), asks, tuning, 0, save=tmp_path / f"saved-{number}")
        for number, text in enumerate(texts)
    ]
    found = {one.job_id: one for one in engine.run(jobs)}
    again = {one.job_id: one for job in jobs for one in engine.run([job])}
    for text in texts:
        assert (found[text].fault, len(found[text].replies)) == (None, 2)
        assert found[text].losses == pytest.approx(again[text].losses, abs=1e-4)
        assert found[text].losses[-1] < found[text].losses[0]
        ours, theirs = (one.replies[0].target_logprob for one in (found[text], again[text]))
        assert ours == pytest.approx(theirs, abs=1e-2)
    sampled = engine.sample([Prompt("Who?"), Prompt("Which ferry was it?")], Sampling(3, max_tokens=5), seed=0)
    assert [len(one) for one in sampled] == [3, 3]
    engine.absorb([Example("Ada built the ferry.", Prompt("Write."))], tuning, seed=0)
    engine.export(tmp_path / "policy")
    engine.close()
    ours_now = alone(language.model, ROWS[0])
    assert (ours_now - base).abs().max() > 0.01
    plain = open_model(str(tmp_path / "model"), dtype="float32").model
    adapted = PeftModel.from_pretrained(plain, tmp_path / "policy")
    torch.testing.assert_close(alone(adapted, ROWS[0]), ours_now, atol=1e-3, rtol=1e-3)
    adapted = PeftModel.from_pretrained(open_model(str(tmp_path / "model"), dtype="float32").model, tmp_path / "saved-0")
    ids = language.encode_prompt(Prompt("Who?"))
    target = language.encode_target("Ada")
    said = alone(adapted, [*ids, *target]).log_softmax(1)
    places = range(len(ids) - 1, len(ids) + len(target) - 1)
    assert float(said[places, target].sum()) == pytest.approx(found[texts[0]].replies[0].target_logprob, abs=1e-2)


def test_directions_are_those_of_tokens_alone() -> None:
    """What layers make of pads is nothing that a text gives them: each row beside longer ones has the directions it has alone."""
    model = made("lfm2")
    host = Host(model)
    seen: list[tuple[str, Tensor]] = []
    names = {site.product for site in host.sites(("q_proj", "in_proj"))}
    found = directions(host, [list(row) for row in ROWS], names, share=1.0, most=99)
    host.watch = lambda name, x: seen.append((name, x))
    for row in ROWS:
        held(host, [list(row)])
    host.watch = None
    host.close()
    assert set(found) == names
    for name in names:
        inputs = torch.cat([x.flatten(0, -2) for own, x in seen if own == name])
        assert len(inputs) == sum(map(len, ROWS)) >= len(found[name])  # a pad more would be a direction more
        inside = inputs @ torch.nn.functional.normalize(found[name], dim=1).t()
        torch.testing.assert_close(inside.norm(dim=1), inputs.norm(dim=1), rtol=1e-3, atol=1e-3)


def test_slots_own_the_places_of_their_rows() -> None:
    """Whichever rectangle these are in, pads too; the base model's have none."""
    rows, slots = [[1] * 2, [2] * 40, [3] * 3, [4] * 41, [5] * 2], [0, 0, 2, 2, 5]
    found = rectangles(pack(rows, slots, device=torch.device("cpu")))
    assert [one.ids[:, 0].tolist() for one in found] == [[2, 4], [1, 3, 5]]
    assert [tuple(span) for span in found[0].spans] == [(0, 0, 41), (2, 41, 82)]
    assert [tuple(span) for span in found[1].spans] == [(0, 0, 3), (2, 3, 6), (5, 6, 9)]
    assert [len(one.back) for one in found] == [81, 7]
    assert rectangles(pack(rows, [None] * 5, device=torch.device("cpu")))[0].spans == ()


def test_a_cache_without_pads_needs_no_mask() -> None:
    even, step = OwnCache.of([(None, [5, 6]), (None, [7, 8])], torch.device("cpu"))
    uneven, padded = OwnCache.of([(None, [5, 6]), (3, [7, 8, 9])], torch.device("cpu"))
    assert (even.even, uneven.even) == (True, False)
    assert step.ids.tolist() == [5, 6, 7, 8]
    assert (padded.ids.tolist(), padded.positions.tolist()) == ([5, 5, 6, 7, 8, 9], [0, 0, 1, 0, 1, 2])
    assert uneven.mask.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert [tuple(span) for span in padded.spans] == [(3, 3, 6)]


@pytest.mark.parametrize("family", ["qwen3_5_text", "gpt_oss", "lfm2", "falcon_h1"])
def test_what_a_token_holds_is_measured_on_the_model(family: str) -> None:
    """As many bytes as autograd keeps for a row of such a length, of which none is a weight; nothing of the model is changed."""
    model = made(family, max_position_embeddings=1024)
    host = Host(model)
    measured = Measured(host)
    sizes = {length: measured(length) for length in (8, 100, 128, 300)}
    assert 0 < sizes[100] <= sizes[8] * 2
    if family == "gpt_oss":  # attention's own weights, in four heads
        assert sizes[300] > sizes[128]
    assert measured._of(900) == pytest.approx(measured(900), rel=0.35)
    sites = host.sites(("q_proj", "v_proj"))
    how: dict[str, Any] = {"device": host.device, "itemsize": 4, "master": 4, "memory": 1 << 30, "longest": 100}
    small = plan(model.config.get_text_config(), sites, 8, **how, measured=measured)
    assert small.bytes_token >= 1.5 * sizes[100]
    host.close()
    assert not model.get_input_embeddings()._forward_hooks


def test_all_linear_is_every_layer_whatever_a_family_calls_them() -> None:
    """As PEFT has it, so without the head; beside names it is all the same."""
    for family in ("lfm2", "qwen3_5_text", "llama"):
        model = made(family) if family in FAMILIES else a_model(family)
        host = Host(model)
        ours = [site.name for site in host.sites(("all-linear",))]
        assert [site.name for site in host.sites(("q_proj", "all-linear"))] == ours
        host.close()
        assert len({name.rpartition(".")[2] for name in ours}) > 6
        theirs = get_peft_model(model, LoraConfig(target_modules="all-linear")).targeted_module_names
        assert sorted(ours) == sorted(theirs)
    with pytest.raises(UserError, match=r"GPT2LMHeadModel.* none of its layers is an nn.Linear"):
        Host(a_model("gpt2", n_embd=32, n_head=4, n_layer=2))


@pytest.mark.parametrize("family", ["qwen3_5_text", "deepseek_v3", "mamba2"])
def test_what_a_row_keeps_is_measured_on_the_model(family: str) -> None:
    """Its cache after so many tokens: what grows with them and what does not."""
    model = made(family)
    host = Host(model)
    measured = Measured(host)
    sizes = [measured.cache(tokens) for tokens in (8, 16, 40)]
    cache, step = OwnCache.of([(None, [5] * 40)], host.device)
    with torch.no_grad(), host.using(step, None, cache):
        host.hidden()
    assert sizes[2] == pytest.approx(cache.bytes, rel=0.05)
    assert cache.bytes > 1000
    if family == "mamba2":
        assert sizes[0] == sizes[2]
    else:
        assert sizes[0] < sizes[1] < sizes[2]
    assert answer_rows(model.config.get_text_config(), 40, 4, 10 * sizes[2], measured) == 5
    host.close()


def test_a_model_without_attention_is_asked_and_trained(tmp_path: Path) -> None:
    """Its configuration has no heads, and its cache no tokens."""
    config = AutoConfig.for_model(
        "mamba2",
        hidden_size=32,
        num_hidden_layers=2,
        num_heads=8,
        head_dim=8,
        n_groups=1,
        state_size=8,
        **{"expand": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **BYTES},
    )
    assert not hasattr(config, "num_attention_heads")
    torch.manual_seed(0)
    language = written(AutoModelForCausalLM.from_config(config).float().eval(), tmp_path)
    engine = Engine(language, slots=2, memory_gb=0.5)
    asks = (Ask("q", Prompt("Who?"), target="Ada", max_tokens=4),)
    tuning = Tuning(rank=4, targets=("all-linear",), lr=1e-2, epochs=2)
    jobs = [Job(text, (Example(text),), asks, tuning, 0) for text in ("Ada built the ferry.", "No.")]
    found = list(engine.run(jobs))
    engine.close()
    assert [one.fault for one in found] == [None, None]


@pytest.mark.parametrize("backend", ["split", "padded", "grouped"])
@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_5_text", "lfm2"])
def test_rows_are_decoded_by_their_own_adapters(family: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a model says it that has the adapter in its weights; deepseek's `kv_b_proj` runs over all that was cached, each step."""
    possible = backends(torch.device("cpu"), torch.float32, 4, trained=False)
    monkeypatch.setattr(Choices, "backend", lambda *asked: possible[backend])
    model = made(family)
    host = Host(model)
    stack = Stack(host.sites(("all-linear",)), 3, 4, device=host.device, dtype=torch.float32, choices=host.choices)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        stack.flat.normal_(std=0.3)
    stack.scale = [0.5, 1.0, 2.0]
    slots = (0, 2, 2, 2)
    asked = [Request(list(row), slot, 4, [40, 41]) for slot, row in zip(slots, (*ROWS, ROWS[0]), strict=True)]
    found = complete(host, Head(model), stack.routes(), asked)
    deltas = [{name: s * b[slot] @ stack.a[name][slot] for name, b in stack.b.items()} for slot, s in enumerate(stack.scale)]
    host.close()
    weights = {name: model.get_parameter(f"{name}.weight") for name in deltas[0]}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    for request, one in zip(asked, found, strict=True):
        assert request.slot is not None
        for name, weight in weights.items():
            weight.data.copy_(before[name] + deltas[request.slot][name])
        row = request.prompt
        said = alone(model, [*row, 40, 41]).log_softmax(1)
        assert one.target_logprob == pytest.approx(float(said[[len(row) - 1, len(row)], [40, 41]].sum()), abs=1e-2)
        assert one.ids == continued(model, row, 4)


def test_layers_that_peft_leaves_alone_in_a_family_are_left_alone() -> None:
    """The kernels of Mamba's relatives read these weights themselves; what PEFT refuses to load is not written either."""
    host = Host(made("falcon_h1"))
    targets = {site.target for site in host.sites(("all-linear",))}
    with pytest.raises(UserError, match=r"no linear layer named out_proj; it has .*in_proj"):
        host.sites(("out_proj",))
    host.close()
    assert "in_proj" in targets
    assert "out_proj" not in targets
    get_peft_model(made("falcon_h1"), LoraConfig(target_modules=sorted(targets)))


def test_what_a_models_own_code_said_is_told() -> None:
    with pytest.raises(UserError, match=r"RecurrentGemma.* its own code stops \(AttributeError: .*past_key_values"):
        Host(a_model("recurrent_gemma", block_types=["recurrent", "attention"]))
    model = made("lfm2")
    model.model.layers[0].register_forward_pre_hook(_full)
    with pytest.raises(RuntimeError, match="allocate memory"):
        Host(model)


def _full(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
    """A CPU without memory, once rows are packed."""
    if args[0].shape[0] == 1:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory")
