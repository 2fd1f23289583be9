"""The engine away from the CPU: everything it needs is where the model is, and the CPU waits for it once a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from elsewhere import NAME, Elsewhere, elsewhere
from tiny import make_tiny

from seal.bench.clock import machine, timed
from seal.bench.workload import rows
from seal.config import load
from seal.engine import Bank, Engine, Row
from seal.engine.host import Host
from seal.engine.pack import _rectangles
from seal.engine.routing import Choices
from seal.loops.build import environment
from seal.models import open_model
from seal.types import LLAMA_LINEAR, Ask, Example, Finished, Job, PolicyGradient, Preference, Prompt, Sampling, Tuning

TUNING = Tuning(rank=8, alpha=16, targets=LLAMA_LINEAR, lr=1e-2, epochs=2, batch=2)
TEXTS = ("Ada built the ferry.", "It sails at nine.", "Two hundred can stand on deck, and the captain's dog sleeps below.")
EXAMPLES = tuple(Example(text) for text in TEXTS)
ASKS = tuple(Ask(f"q{n}", Prompt(f"Question {n}?"), target="Ada", max_tokens=6, logprob=True) for n in range(3))
Opened = Callable[[str], Engine]


@pytest.fixture
def device() -> Iterator[Elsewhere]:
    with elsewhere() as device:
        yield device


@pytest.fixture
def opened(lively_path: Path) -> Iterator[Opened]:
    engines: list[Engine] = []

    def of(device: str, dtype: str = "float32") -> Engine:
        engines.append(Engine(open_model(str(lively_path), device=device, dtype=dtype), slots=3, memory_gb=0.5))
        return engines[-1]

    yield of
    for engine in engines:
        engine.close()


def outcomes(engine: Engine, jobs: Sequence[Job]) -> list[list[float]]:
    """Losses and log-probabilities of every job, by its id."""
    found: list[Finished] = sorted(engine.run(jobs), key=lambda one: one.job_id)
    assert not [one.fault for one in found if one.fault]
    return [[*one.losses, *(score for reply in one.replies for score in (reply.target_logprob, reply.logprob))] for one in found]


def near(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], within: float = 1e-4) -> None:
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert own == pytest.approx(other, abs=within)


def test_a_tensor_of_the_cpu_is_refused(device: Elsewhere) -> None:
    there = torch.ones(2, device=NAME)
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(2)
    assert (there + 1).tolist() == [2, 2]


@pytest.mark.parametrize("layers", [None, 1])
def test_jobs_train_and_answer_as_on_the_cpu(device: Elsewhere, opened: Opened, layers: int | None) -> None:
    tuning = replace(TUNING, layers=layers)
    jobs = [Job(str(n), EXAMPLES[: 1 + n % 3], ASKS, tuning, n) for n in range(5)] + [Job("untrained", (), ASKS, tuning, 0)]
    near(outcomes(opened(NAME), jobs), outcomes(opened("cpu"), jobs))


def test_in_bfloat16_too_where_all_slots_go_through_one_call(
    device: Elsewhere, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Choices, "_quickest", lambda *_: "grouped")  # whatever this machine prefers
    jobs = [Job(str(n), EXAMPLES[: 1 + n % 3], ASKS, TUNING, n) for n in range(5)]
    engine = opened(NAME, "bfloat16")
    engine.host.choices.known.clear()
    near(outcomes(engine, jobs), outcomes(opened("cpu"), jobs), within=0.3)  # -28 is held to an eighth, whatever the machine
    engine.host.choices.known.clear()
    assert device.kernels["aten::_grouped_mm"]


def test_another_family_with_biases(device: Elsewhere, tmp_path: Path) -> None:
    make_tiny(tmp_path, family="qwen2")
    found = []
    for place in (NAME, "cpu"):
        engine = Engine(open_model(str(tmp_path), device=place, dtype="float32"), slots=2, memory_gb=0.5)
        found.append(outcomes(engine, [Job(str(n), EXAMPLES, ASKS, TUNING, n) for n in range(2)]))
        engine.close()
    near(*found)


def test_replies_are_drawn_as_on_the_cpu(device: Elsewhere, opened: Opened) -> None:
    prompts, how = [Prompt("a b"), Prompt("a longer one")], Sampling(n=3, temperature=0.8, top_p=0.9, max_tokens=10)
    ours, theirs = (opened(place).sample(prompts, how, seed=1) for place in (NAME, "cpu"))
    assert [[reply.text for reply in row] for row in ours] == [[reply.text for reply in row] for row in theirs]


@pytest.mark.parametrize("objective", [None, PolicyGradient(), Preference()])
def test_the_policy_learns_is_exported_and_worn(
    device: Elsewhere, opened: Opened, tmp_path: Path, objective: PolicyGradient | Preference | None
) -> None:
    found = []
    for place in (NAME, "cpu"):
        engine, untrained = opened(place), [Job("q", (), ASKS, TUNING, 0)]
        absorbed = engine.absorb(EXAMPLES[:2], TUNING, seed=0, objective=objective)
        first = outcomes(engine, untrained)
        engine.export(tmp_path / place)
        engine.load(None)
        engine.load(tmp_path / place)
        again = outcomes(engine, untrained)
        engine.wear([(tmp_path / place, 0.5)])
        found.append([list(absorbed.losses), *first, *again, *outcomes(engine, untrained)])
    near(*found)


def test_what_is_kept_and_what_is_protected(device: Elsewhere, opened: Opened, tmp_path: Path) -> None:
    found = []
    for place in (NAME, "cpu"):
        engine, path = opened(place), tmp_path / f"{place}.safetensors"
        engine.inputs(EXAMPLES[:1], TUNING, path, share=0.9, most=8)
        job = Job("q", (EXAMPLES[1], Example(TEXTS[2], keep=True)), ASKS, TUNING, 0, protected=(path,))
        found.append(outcomes(engine, [job]))
    near(*found)


def test_superposed_adapters(device: Elsewhere, opened: Opened, tmp_path: Path) -> None:
    found = []
    for place in (NAME, "cpu"):
        engine, held = opened(place), []
        for key, example in enumerate(EXAMPLES):
            adapter, inputs = tmp_path / f"{place}-{key}", tmp_path / f"{place}-{key}.safetensors"
            list(engine.run([Job("one", (example,), (), TUNING, 0, save=adapter)]))
            engine.inputs([example], TUNING, inputs, share=0.9, most=8)
            held.append((adapter, inputs, key))
        engine.superpose(held, tmp_path / place, tmp_path / f"{place}-binding.safetensors")
        engine.wear([(tmp_path / place, 1.0, 1)])
        found.append(outcomes(engine, [Job("q", (), ASKS, TUNING, 0)]))
    near(*found)


def test_a_step_of_training_does_not_wait_for_the_device(device: Elsewhere, opened: Opened) -> None:
    host: Host = opened(NAME, "bfloat16").host
    bank = Bank(host, slots=3, rank=8, targets=LLAMA_LINEAR)
    for slot in range(3):
        bank.start(slot, TUNING, steps=4, seed=slot)
    batches = {slot: [Row.of(range(5, 12 + slot))] for slot in range(3)}
    bank.step(batches)  # measures backends
    device.waits.clear()
    losses = bank.step(batches)
    assert not device.waits
    assert all(loss > 0 for loss in losses.tolist())
    assert device.waits.total() == 1


def test_rectangles_are_brought_together_by_gathers_alone(
    device: Elsewhere, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three and one: as much is added by index, which on a GPU happens in no order."""
    engine, found, added = opened(NAME), [], []
    for one_more in (1, 10**9):
        monkeypatch.setattr("seal.engine.pack._LAUNCHED", one_more)
        bank = Bank(engine.host, slots=3, rank=8, targets=LLAMA_LINEAR)
        for slot in range(3):
            bank.start(slot, TUNING, steps=2, seed=slot)
        for _ in range(2):
            device.kernels.clear()
            losses = bank.step({slot: [Row.of(range(5, 9 + 20 * slot))] for slot in range(3)})
        found.append([losses.tolist()])
        added.append(sum(times for name, times in device.kernels.items() if "index_add" in name or "scatter" in name))
    near(*found)
    assert added[0] == added[1]


def test_away_from_the_cpu_a_rectangle_more_costs_a_launch() -> None:
    """The lengths of the official round."""
    ids = rows(64, 250, 0)
    found = {place: len(_rectangles([len(row) for row in ids], torch.device(place))) for place in ("cpu", "cuda")}
    assert found == {"cpu": 13, "cuda": 3}


def test_attention_is_not_cudnns_and_masks_are_whole_lines(
    device: Elsewhere, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, seen = torch.nn.functional.scaled_dot_product_attention, []

    def watched(*args: Any, attn_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        seen.append((torch.backends.cuda.cudnn_sdp_enabled(), 0 if attn_mask is None else attn_mask.shape[-1]))
        return plain(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    outcomes(opened(NAME), [Job("q", EXAMPLES, ASKS, TUNING, 0)])
    assert {enabled for enabled, _ in seen} == {False}
    assert torch.backends.cuda.cudnn_sdp_enabled()
    masks = {keys for _, keys in seen}
    assert len(masks) > 1
    assert not any(keys % 16 for keys in masks)


def test_a_new_token_of_every_row_is_one_wait(device: Elsewhere, opened: Opened) -> None:
    engine = opened(NAME)
    waits = []
    for limit in (4, 12):
        device.waits.clear()
        asks = tuple(Ask(f"q{n}", Prompt(f"Question {n}?"), max_tokens=limit) for n in range(3))
        outcomes_of = list(engine.run([Job("q", (), asks, TUNING, 0)]))
        assert all(reply.tokens == limit for reply in outcomes_of[0].replies)
        waits.append(device.waits.total())
    assert waits[1] - waits[0] == 8


def test_prompts_are_read_in_parts_that_no_long_one_pads(
    device: Elsewhere, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six short ones and one of eighty tokens, with places for 160."""
    monkeypatch.setattr("seal.engine.decode.PREFILL_ELSEWHERE", (160, 160))
    asks = tuple(Ask(f"q{n}", Prompt(f"{n}" * (80 if n == 3 else 4)), target="Ada", max_tokens=4) for n in range(7))
    engine, parts = opened(NAME), list[int]()
    read = engine.host.hidden

    def counted(*args: Any) -> torch.Tensor:
        assert engine.host._step is not None
        parts.extend(len(group.rect) for group in engine.host._step.groups)  # none for a new token
        return read(*args)

    monkeypatch.setattr(engine.host, "hidden", counted)
    jobs = [Job("q", (), asks, TUNING, 0)]
    near(outcomes(engine, jobs), outcomes(opened("cpu"), jobs))
    assert len(parts) > 1
    assert max(parts) <= 160


def test_it_is_the_device_in_use_that_is_waited_for_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second GPU, which is not the current one."""
    second, waited = torch.device("cuda:1"), []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"a GPU, {device}")
    monkeypatch.setattr("seal.models.open.device_named", torch.device)
    monkeypatch.setattr("seal.models.open._emulates_bfloat16", {second: False}.__getitem__)
    timed(lambda: None, second)
    timed(lambda: None, torch.device("cpu"))
    assert waited == [second, second]
    assert machine(second)["gpu"] == "a GPU, cuda:1"
    assert machine(torch.device("cpu"))["gpu"] is None
    kept = environment(load("bundled", ["model.device=cuda:1"]))
    assert (kept["gpu"], kept["dtype"], kept["edits_at_once"]) == ("a GPU, cuda:1", "bfloat16", 64)
    assert environment(load("bundled", ["model.device=cpu"]))["edits_at_once"] == 16
