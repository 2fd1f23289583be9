"""The engine's promises: exact gradients, slots that share nothing, adapters that others can load, a base left as it was."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import make_tiny
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from seal.bench.backends import apart
from seal.engine import Bank, Engine, Row
from seal.engine.export import load_adapter
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.optimiser import AdamW
from seal.engine.pack import Span, Step, Tree, pack, targets
from seal.engine.routing import Backend, Choices, Grouped, Padded, Product, Route, Shape, Shares, Split, routed, share
from seal.engine.stack import Site
from seal.errors import UserError
from seal.models import LanguageModel, open_model
from seal.models.adapter import FILE, WEIGHTS, About, publish
from seal.types import LLAMA_LINEAR, Ask, Example, Finished, Job, Prompt, Tuning

TUNING = Tuning(rank=4, alpha=8, targets=LLAMA_LINEAR, lr=1e-2, epochs=2, batch=2)
TEXTS = ("Ada built the ferry.", "It sails at nine.", "Two hundred can stand on deck, and the captain's dog sleeps below.")


def opened(path: Path) -> LanguageModel:
    return open_model(str(path), device="cpu", dtype="float32")


@pytest.fixture
def language(lively_path: Path) -> LanguageModel:
    return opened(lively_path)


@pytest.fixture(params=["one_by_one", "at_once"])
def updated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By both of the optimiser's ways."""
    plain = AdamW.__init__

    def made(self: AdamW, flat: Tensor) -> None:
        plain(self, flat)
        self.at_once = request.param == "at_once"

    monkeypatch.setattr(AdamW, "__init__", made)


@pytest.fixture(params=[Split(), Grouped()], ids=["split", "grouped"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Each that trains, whichever the clock would take."""
    chosen: Backend = request.param
    monkeypatch.setattr(Choices, "backend", lambda *_: chosen)
    return chosen


@pytest.fixture
def engine(language: LanguageModel) -> Iterator[Engine]:
    engine = Engine(language, slots=3, memory_gb=0.5)
    yield engine
    engine.close()


def a_job(id: str, texts: Sequence[str] = TEXTS, asks: int = 2, seed: int = 0, tuning: Tuning = TUNING, **more: Path) -> Job:
    asked = tuple(Ask(f"q{n}", Prompt(f"Question {n}?"), target="Ada", max_tokens=6) for n in range(asks))
    return Job(id, tuple(Example(text) for text in texts), asked, tuning, seed, **more)


def run(engine: Engine, jobs: Sequence[Job]) -> dict[str, Finished]:
    found = list(engine.run(jobs))
    assert sorted(one.job_id for one in found) == sorted(job.id for job in jobs)
    return {one.job_id: one for one in found}


def rows(*lengths: int, seed: int = 0) -> list[Row]:
    generator = torch.Generator().manual_seed(seed)
    every = [tuple(torch.randint(3, 250, (length,), generator=generator).tolist()) for length in lengths]
    return [Row(ids, ids) for ids in every]


def logits_of(model: torch.nn.Module, text: str, language: LanguageModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([language.encode_prompt(Prompt(text))])).logits[0]


def logprob_of(model: torch.nn.Module, prompt: list[int], target: list[int]) -> float:
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([prompt + target])).logits[0].log_softmax(1)
    return sum(float(scores[len(prompt) - 1 + place, token]) for place, token in enumerate(target))


# ---- gradients


def sharing(spans: tuple[Span, ...], scale: list[float]) -> Shares:
    """Shares of spans in any order with gaps, as the reference backend takes them."""
    tokens = torch.zeros(11, 1, dtype=torch.float64)
    for slot, start, end in spans:
        tokens[start:end] = scale[slot]
    return Shares(spans, torch.zeros(3, dtype=torch.int32), tokens, tuple(scale[span.slot] for span in spans))


@pytest.mark.parametrize(
    "spans",
    [
        (Span(0, 0, 3), Span(1, 3, 4), Span(2, 4, 11)),
        (Span(2, 0, 2), Span(0, 5, 11)),  # slot 1 idle, three tokens of the base model alone
        (Span(1, 0, 4), Span(0, 4, 5), Span(1, 5, 11)),  # a slot in two pieces
        (),
    ],
    ids=["ragged", "idle", "pieces", "none"],
)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("tall", [True, False])
def test_the_routed_linear_has_the_gradients_of_autograd(spans: tuple[Span, ...], biased: bool, tall: bool) -> None:
    """A product of three layers (3, 2 and 4 outputs); the first and the last have adapters."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, weight, a, b, seen = draw(11, 5), draw(9, 5), draw(3, 4, 5), (draw(3, 3, 2), draw(3, 4, 2)), draw(11, 9)
    bias, scale, columns = draw(9) if biased else None, [2.0, 0.5, 3.0], (slice(0, 3), slice(5, 9))
    before_a, before_b = draw(3, 4, 5), (draw(3, 3, 2), draw(3, 4, 2))
    grad_a, grad_b = before_a.clone(), tuple(one.clone() for one in before_b)
    product = Product("qkv", weight, bias, {}, tall)
    anchor = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    ours = x.clone().requires_grad_()
    shares = sharing(spans, scale)
    y = routed(ours, product, Route(a, b, columns, grad_a, grad_b), shares, Split(), anchor)
    (y * seen).sum().backward()

    leaves = [tensor.clone().requires_grad_() for tensor in (x, a, *b)]
    their_x, their_a, *their_b = leaves
    parts = torch.zeros(11, 9, dtype=torch.float64)
    for slot, start, end in spans:
        narrow = (scale[slot] * (their_x[start:end] @ their_a[slot].T)).chunk(2, 1)
        first, last = (u @ b_[slot].T for u, b_ in zip(narrow, their_b, strict=True))
        update = torch.cat([first, torch.zeros(end - start, 2, dtype=torch.float64), last], 1)
        parts = torch.cat([parts[:start], parts[start:end] + update, parts[end:]])
    expected = torch.nn.functional.linear(their_x, weight, bias) + parts
    dx, da, *db = torch.autograd.grad((expected * seen).sum(), leaves, allow_unused=True)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(ours.grad, dx)
    torch.testing.assert_close(grad_a - before_a, torch.zeros_like(a) if da is None else da)  # added to what was there
    for grad, before, found in zip(grad_b, before_b, db, strict=True):
        torch.testing.assert_close(grad - before, torch.zeros_like(before) if found is None else found)
    with torch.no_grad():
        torch.testing.assert_close(routed(x, product, Route(a, b, columns), shares, Split(), anchor), expected)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any), st.integers(0, 99))
def test_all_backends_do_what_the_reference_does(lengths: list[int], seed: int) -> None:
    sites = [Site("q", 12, 20, 0, "q"), Site("v", 12, 12, 0, "q", 28)]  # k, between them, has no adapter
    found = apart(sites, lengths, 4, device=torch.device("cpu"), dtype=torch.float32, seed=seed)
    assert found.keys() == {"split", "grouped", "padded"}
    assert all(one < 1e-4 for one in found.values())


def test_a_backend_that_does_something_else_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that leaves a gradient where a slot is idle: a number, or none."""
    sites, ours = [Site("q", 16, 16, 0, "q")], Grouped.backward

    def found() -> float:
        return apart(sites, [5, 0, 1], 8, device=torch.device("cpu"), dtype=torch.bfloat16)["grouped"]

    assert found() < 0.02
    for left in (1.0, torch.nan):

        def backward(self: Grouped, *given: Any, left: float = left) -> None:
            ours(self, *given)
            given[4].grad_a[1] = left * given[4].grad_a.abs().max()

        monkeypatch.setattr(Grouped, "backward", backward)
        assert not found() < 0.02


@pytest.mark.parametrize(("longest", "padded"), [(16, True), (17, False)])
def test_slots_are_padded_up_to_four_places_a_token(longest: int, padded: bool) -> None:
    """Six with two tokens beside one with many: more would be a rectangle as wide as the long one for all."""
    ends = list(itertools.accumulate((longest, 2, 2, 2, 2, 2, 2)))
    spans = [Span(slot, *span) for slot, span in enumerate(itertools.pairwise((0, *ends)))]
    shares = share(spans, [1.0] * 7, device=torch.device("cpu"), dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    a, b, x = (torch.randn(*size, generator=generator) for size in ((7, 4, 12), (7, 20, 4), (ends[-1], 12)))
    found = []
    for backend in (Split(), Padded()):
        y = torch.zeros(ends[-1], 20)
        backend.forward(x, y, Route(a, (b,), (slice(0, 20),)), shares)
        found.append(y)
    torch.testing.assert_close(*found)
    assert ("square" in vars(shares)) == padded


def test_a_slot_that_blew_up_stays_by_itself_where_all_are_padded() -> None:
    spans = [Span(0, 0, 1), Span(2, 1, 4), Span(3, 4, 6)]
    shares = share(spans, [1.0] * 4, device=torch.device("cpu"), dtype=torch.float32)
    route = Route(torch.randn(4, 4, 12), (torch.randn(4, 20, 4),), (slice(0, 20),))
    x = torch.randn(6, 12)
    results = []
    for spoilt in (False, True):
        if spoilt:
            route.a[2] = torch.nan
        y = torch.zeros(6, 20)
        Padded().forward(x, y, route, shares)
        results.append(y)
    assert results[1][1:4].isnan().all()
    assert torch.equal(results[1][[0, 4, 5]], results[0][[0, 4, 5]])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(2, 40)), min_size=1, max_size=9), st.integers(0, 99))
def test_packed_losses_are_those_of_each_row_alone(tiny_path: Path, found: list[tuple[int, int]], seed: int) -> None:
    slots = sorted(slot for slot, _ in found)
    drawn = rows(*(length for _, length in found), seed=seed)
    totals = {slot: sum(len(row.ids) - 1 for row, own in zip(drawn, slots, strict=True) if own == slot) for slot in slots}
    plain = opened(tiny_path).model
    expected = torch.zeros(5)
    for row, slot in zip(drawn, slots, strict=True):
        ids = torch.tensor([row.ids])
        expected[slot] += float(plain(input_ids=ids, labels=ids).loss) * (len(row.ids) - 1) / totals[slot]
    host = Host(plain)
    step = pack([row.ids for row in drawn], slots, device=host.device)
    with torch.no_grad(), host.using(step, None):
        total, each = Head(plain).loss(host.hidden(), targets(drawn, slots, totals, device=host.device), 5)
    host.close()
    torch.testing.assert_close(each, expected, atol=1e-5, rtol=1e-5)
    assert float(total) == pytest.approx(float(expected.sum()), abs=1e-4)


# ---- slots share nothing


def test_packed_sequences_do_not_see_each_other(engine: Engine) -> None:
    first, second, other, third = (row.ids for row in rows(30, 7, 7, 25))
    for lay in (_packed, _overlaid):
        found = []
        for middle in (second, other):
            with torch.no_grad(), engine.host.using(lay(first, middle, third), None):
                found.append(engine.host.hidden())
        assert torch.equal(found[0][:30], found[1][:30])
        assert torch.equal(found[0][37:], found[1][37:])
        assert not torch.equal(found[0][30:37], found[1][30:37])


def _packed(*found: Sequence[int]) -> Step:
    return pack(found, [None] * len(found), device=torch.device("cpu"))


def _overlaid(*found: Sequence[int]) -> Step:
    tree = Tree()
    for ids in found:
        tree.add(ids, None)
    return tree.step(torch.device("cpu"))


@pytest.mark.usefixtures("backend", "updated")
def test_another_slots_data_changes_no_bit(language: LanguageModel) -> None:
    def train(middle: int) -> tuple[Tensor, Tensor]:
        bank = Bank(language.model, slots=3, rank=4, targets=LLAMA_LINEAR)
        for slot in range(3):
            bank.start(slot, TUNING, steps=5, seed=slot)
        losses = [bank.step({0: rows(9, 20), 1: rows(14, 3, seed=middle), 2: rows(17, seed=3)}) for _ in range(5)]
        bank.close()
        return bank.stack.flat, torch.stack(losses)

    (one, losses), (other, other_losses) = train(1), train(2)
    for slot, same in ((0, True), (1, False), (2, True)):
        assert torch.equal(one[slot], other[slot]) is same
        assert torch.equal(losses[:, slot], other_losses[:, slot]) is same


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_trial_that_blows_up_is_a_fault_and_its_neighbours_do_not_notice(engine: Engine, tmp_path: Path, place: int) -> None:
    # rows of several lengths, so that there are pads; the loss of the second step, the last, is not a number
    lengths = ((12, 40, 20, 8), (8, 20, 40, 12), (40, 12, 8, 20))

    def trial(name: str, slot: int, tuning: Tuning = TUNING) -> Job:
        one = replace(tuning, epochs=1)
        return a_job(
            f"{slot}", ["x" * length for length in lengths[slot]], seed=slot, tuning=one, save=tmp_path / name / str(slot)
        )

    healthy = run(engine, [trial("healthy", slot) for slot in range(3)])
    harmed = run(
        engine, [trial("harmed", slot, replace(TUNING, lr=float("inf")) if slot == place else TUNING) for slot in range(3)]
    )
    fault = harmed[str(place)].fault
    assert fault is not None
    assert fault.kind == "nan"
    assert harmed[str(place)].replies == ()
    for slot in {0, 1, 2} - {place}:
        mine, theirs = (load_file(tmp_path / name / str(slot) / "adapter_model.safetensors") for name in ("harmed", "healthy"))
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        assert harmed[str(slot)].losses == healthy[str(slot)].losses
        assert [reply.text for reply in harmed[str(slot)].replies] == [reply.text for reply in healthy[str(slot)].replies]


@pytest.mark.usefixtures("backend")
def test_an_adapter_broken_by_its_last_step_is_a_fault(engine: Engine) -> None:
    once = Tuning(rank=4, alpha=8, lr=float("inf"), epochs=1, batch=9)
    found = run(engine, [a_job("broken", tuning=once), a_job("whole")])
    assert found["broken"].fault is not None
    assert found["broken"].fault.kind == "nan"
    assert found["whole"].fault is None


def test_an_adapter_whose_scores_are_not_numbers_is_a_fault(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where float16 overflows: its weights are numbers, what the model says with it is not. The other's answers stay."""
    logprobs = engine.head.logprobs

    def overflows(hidden: Tensor, labels: Tensor) -> Tensor:
        scores = logprobs(hidden, labels)
        scores[-1] = torch.nan  # of the last adapter's last target
        return scores

    monkeypatch.setattr(engine.head, "logprobs", overflows)
    found = run(engine, [a_job("a"), a_job("b")])
    (broken,) = [one for one in found.values() if one.fault is not None]
    assert broken.fault is not None
    assert broken.fault.kind == "nan"
    assert broken.replies == ()
    assert broken.losses
    assert sorted(len(one.replies) for one in found.values()) == [0, 2]


@pytest.mark.parametrize("slots", [2, 5])
def test_results_do_not_depend_on_the_number_of_slots(lively_path: Path, slots: int) -> None:
    jobs = [
        a_job(f"{n}", TEXTS[: 1 + n % 3], asks=n % 3, seed=n, tuning=replace(TUNING, rank=2 + n % 3, epochs=1 + n % 2))
        for n in range(6)
    ]
    found = []
    for number in (1, slots):
        engine = Engine(opened(lively_path), slots=number, memory_gb=0.5)
        found.append(run(engine, jobs))
        engine.close()
    alone, together = found
    for id in alone:
        same_trial(alone[id], together[id])


def same_trial(one: Finished, other: Finished) -> None:
    assert one.fault is None
    assert other.fault is None
    assert one.losses == pytest.approx(other.losses, abs=1e-5)
    assert (one.cost.train_tokens, one.cost.train_steps) == (other.cost.train_tokens, other.cost.train_steps)
    for mine, theirs in zip(one.replies, other.replies, strict=True):
        assert replace(mine, target_logprob=None) == replace(theirs, target_logprob=None)
        assert mine.target_logprob == pytest.approx(theirs.target_logprob, abs=1e-3)


def test_with_one_slot_no_bit_depends_on_the_other_jobs(tmp_path: Path) -> None:
    """So a resumed run, which has fewer jobs left, has the rows of one that was never stopped."""
    wide = make_tiny(tmp_path / "wide", hidden=256)  # products of this size do depend on how many rows they have
    engine = Engine(opened(wide), slots=1, memory_gb=0.5)
    jobs = [a_job("a", ()), a_job("b", (), asks=1), a_job("c"), a_job("d", TEXTS[:1]), a_job("e", (), asks=4)]
    together = run(engine, jobs)
    for job in jobs:
        alone = run(engine, [job])[job.id]
        assert (alone.replies, alone.losses) == (together[job.id].replies, together[job.id].losses)
    engine.close()


def test_a_step_that_does_not_fit_a_gpu_is_taken_in_smaller_parts(
    language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bank does that had the smaller budget from the beginning, whatever the broken part had already added. Half of what was
    tried is tried next, not half of what was allowed."""
    weights = []
    for budget, room in ((4096, 60), (45, 4096)):
        tried: list[int] = []
        bank = Bank(language.model, slots=3, rank=4, targets=LLAMA_LINEAR, step_tokens=budget)
        whole = bank._backward

        def tight(part, totals, routes, all_rows, whole=whole, room=room, tried=tried):  # type: ignore[no-untyped-def]
            losses = whole(part, totals, routes, all_rows)
            tried.append(sum(len(row.ids) for _, row in part))
            if tried[-1] > room:
                raise torch.OutOfMemoryError
            return losses

        monkeypatch.setattr(bank, "_backward", tight)
        for slot in range(3):
            bank.start(slot, TUNING, steps=3, seed=slot)
        for _ in range(3):
            bank.step({0: rows(9, 20), 1: rows(14, 30, seed=1), 2: rows(17, seed=3)})
        assert bank.step_tokens == 45
        assert tried == [90] * (budget > 90) + [43, 30, 17] * 3
        weights.append(bank.stack.flat.clone())
        bank.close()
    assert torch.equal(*weights)
    bank = Bank(language.model, slots=1, rank=4)
    bank.start(0, Tuning(rank=4), steps=1, seed=0)
    monkeypatch.setattr(bank, "_backward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(torch.OutOfMemoryError):  # a single row that does not fit
        bank.step({0: rows(20)})
    bank.close()


def test_backends_are_told_once_measured_and_taken_as_they_were(language: LanguageModel) -> None:
    told: list[dict[str, str]] = []
    engine = Engine(language, slots=2, memory_gb=0.5)
    engine.host.choices.known.clear()
    engine.remember_routing({}, lambda known: told.append(dict(known)))
    run(engine, [a_job("a"), a_job("b")])
    assert told[-1] == engine.host.choices.known
    assert set(told[-1].values()) <= {"split", "grouped", "padded"}
    assert {name for key, name in told[-1].items() if ", forward" not in key} <= {"split", "grouped"}
    assert any(", forward" in key for key in told[-1])
    assert all(key.endswith(", cpu float32") for key in told[-1])
    other = dict.fromkeys(told[-1], "split")
    told.clear()
    engine.remember_routing(other, lambda known: told.append(dict(known)))
    run(engine, [a_job("a"), a_job("b")])
    assert (told, engine.host.choices.known) == ([], other)
    told.clear()
    engine.remember_routing({}, lambda known: told.append(dict(known)))  # another run in this process uses what it measured
    run(engine, [a_job("a"), a_job("b")])
    assert told[-1] == other
    engine.close()
    assert engine.host.choices.measured is None
    engine.host.choices.known.clear()


def test_what_was_measured_elsewhere_is_kept_beside_and_not_taken() -> None:
    """A run begun on a CPU, gone on with on a GPU, then on the CPU again."""
    known: dict[str, str] = {}
    for place, dtype, found in (("cpu", torch.float32, "a"), ("cuda", torch.float32, "b"), ("cpu", torch.bfloat16, "c")):
        here = Choices(torch.device(place), dtype)
        here.remember(known, known.update)
        assert here.kept("a shape", ("a", "b", "c"), lambda found=found: found) == found
    again = Choices(torch.device("cpu"), torch.float32)
    again.remember(known, None)
    assert again.kept("a shape", ("a", "b", "c"), lambda: "measured anew") == "a"


def test_backends_are_measured_with_what_is_in_a_part_of_a_step(language: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows of which two go together: neither all slots nor all tokens are in one product."""
    seen: set[tuple[int, int, int]] = set()

    def backend(self: Choices, shape: Shape) -> Backend:
        seen.add((shape.slots, shape.busy, shape.tokens))
        return Split()

    monkeypatch.setattr(Choices, "backend", backend)
    bank = Bank(language.model, slots=3, rank=4, targets=LLAMA_LINEAR, step_tokens=60)
    for slot in range(3):
        bank.start(slot, TUNING, steps=1, seed=slot)
    bank.step({0: rows(50), 1: rows(20), 2: rows(20)})
    bank.close()
    assert seen == {(3, 1, 64), (3, 2, 32)}


def test_backends_are_measured_with_the_gradients_that_a_bank_has(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def backward(self: Split, dy: Tensor, x: Tensor, u: Tensor, dx: Tensor | None, route: Route, shares: Shares) -> None:
        assert route.grad_a is not None
        seen.add((len(x), len(shares.spans), route.a.dtype, route.grad_a.dtype, route.grad_b[0].dtype))

    monkeypatch.setattr(Split, "backward", backward)
    chosen = Choices(torch.device("cpu"), torch.bfloat16)
    for busy in (1, 2, 4):
        chosen.backend(Shape(4, busy, 8, 16, (16,), 8))
    assert seen == {(8 * busy, busy, torch.bfloat16, torch.float32, torch.float32) for busy in (2, 4)}
    assert [key.partition(" x")[0] for key in chosen.known] == ["2 of 4 slots", "4 slots"]


@pytest.mark.parametrize(("inputs", "outputs"), [(37, (16,)), (16, (37,)), (16, (16, 6))])
def test_a_backend_that_refuses_a_shape_has_lost(inputs: int, outputs: tuple[int, ...]) -> None:
    chosen = Choices(torch.device("cpu"), torch.float32)
    assert isinstance(chosen.backend(Shape(2, 2, 8, inputs, outputs, 4)), Split)


def test_a_model_of_odd_widths_trains_several_slots_at_once() -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2
    )
    bank = Bank(LlamaForCausalLM(config), slots=2, rank=4, targets=LLAMA_LINEAR)
    for slot in range(2):
        bank.start(slot, TUNING, steps=1, seed=slot)
    losses = bank.step({slot: [Row.of(range(3, 12))] for slot in range(2)})
    assert losses[0] == pytest.approx(losses[1].item(), rel=1e-5)  # adapters that have learnt nothing yet say what the model says
    bank.close()


def test_a_device_that_is_full_is_no_backend_that_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grouped, "forward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(torch.OutOfMemoryError):
        Choices(torch.device("cpu"), torch.float32).backend(Shape(2, 2, 8, 16, (16,), 4))


def test_a_step_that_fails_before_it_begins_leaves_nothing_behind(
    language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = Bank(language.model, slots=2, rank=4)
    bank.start(0, Tuning(rank=4), steps=1, seed=0)
    monkeypatch.setattr(Choices, "backend", lambda *_: (_ for _ in ()).throw(RuntimeError("no backend")))
    with pytest.raises(RuntimeError, match="no backend"):
        bank.step({0: rows(9)})
    with pytest.raises(RuntimeError, match="the model is held by a SEAL engine"):  # not run as a part of that step
        language.model(input_ids=torch.tensor([[3, 4, 5]]))
    bank.close()


def test_slots_without_tokens_have_no_gradient_whatever_the_grouped_product_leaves_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU whose kernel writes nothing for an empty group."""
    plain = torch.nn.functional.grouped_mm

    def dirty(left: Tensor, right: Tensor, *, offs: Tensor) -> Tensor:
        found: Tensor = plain(left, right, offs=offs)
        if right.dim() == 2:
            found[torch.diff(offs, prepend=offs.new_zeros(1)) == 0] = torch.nan
        return found

    monkeypatch.setattr(torch.nn.functional, "grouped_mm", dirty)
    shares = share([Span(1, 0, 4), Span(3, 4, 6)], [1.0] * 5, device=torch.device("cpu"), dtype=torch.float32)
    grads = []
    for backend in (Split(), Grouped()):
        generator = torch.Generator().manual_seed(0)
        a, b, x, dy = (torch.randn(*size, generator=generator) for size in ((5, 4, 12), (5, 20, 4), (6, 12), (6, 20)))
        route = Route(a, (b,), (slice(0, 20),), torch.zeros_like(a), (torch.zeros_like(b),))
        backend.backward(dy, x, backend.forward(x, torch.zeros(6, 20), route, shares), None, route, shares)
        grads.append((route.grad_a, *route.grad_b))
    torch.testing.assert_close(*grads)


def test_backends_scale_alike_where_alpha_over_rank_is_no_bfloat16() -> None:
    """16/12, rounded, is a fifth of a percent more; on the mean over many numbers of one sign their own rounding is far less."""
    shares = share([Span(0, 0, 40), Span(1, 40, 96)], [16 / 12] * 2, device=torch.device("cpu"), dtype=torch.bfloat16)
    found = []
    for backend in (Split(), Grouped(), Padded()):
        generator = torch.Generator().manual_seed(0)
        sizes = ((2, 16, 64), (2, 128, 16), (96, 64), (96, 128))
        a, b, x, dy = (torch.rand(*size, generator=generator).bfloat16() for size in sizes)
        route = Route(a, (b,), (slice(0, 128),), torch.zeros(2, 16, 64), (torch.zeros(2, 128, 16),))
        y, dx = torch.zeros(96, 128).bfloat16(), torch.zeros(96, 64).bfloat16()
        u = backend.forward(x, y, route, shares)
        backend.backward(dy, x, u, dx, route, shares)
        assert route.grad_a is not None
        found.append(torch.stack([one.double().mean() for one in (u, y, dx, route.grad_a, route.grad_b[0])]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=5e-4, atol=0)


def test_a_refilled_slot_starts_fresh(language: LanguageModel) -> None:
    engine = Engine(language, slots=1, memory_gb=0.5)
    big = a_job("big", tuning=replace(TUNING, rank=8, epochs=4))
    after = run(engine, [big, a_job("small")])["small"]
    alone = run(engine, [a_job("small")])["small"]
    engine.close()
    same_trial(after, alone)


def test_a_fresh_adapter_depends_on_its_seed_alone(language: LanguageModel) -> None:
    found = []
    for slots, rank, slot in ((1, 4, 0), (3, 9, 2)):
        bank = Bank(language.model, slots=slots, rank=rank, targets=LLAMA_LINEAR)
        bank.start(slot, TUNING, steps=1, seed=5)
        found.append(bank.stack.factors(slot, TUNING.rank))
        for name, a in bank.stack.a.items():
            bound = a.shape[2] ** -0.5
            assert a[slot, :4].abs().max() <= bound
            assert a[slot, :4].std() == pytest.approx(bound / 3**0.5, rel=0.25)  # PEFT's: uniform
            assert not a[slot, 4:].any()
            assert not bank.stack.b[name][slot].any()
        bank.close()
    assert all(torch.equal(one, found[1][name][0]) for name, (one, _) in found[0].items())


# ---- the base model stays what it was


def test_a_run_leaves_no_trace_in_the_model(language: LanguageModel) -> None:
    model = language.model
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    before = logits_of(model, "Who built it?", language)
    engine = Engine(language, slots=2, memory_gb=0.5)
    with pytest.raises(RuntimeError, match="close"):
        logits_of(model, "Who built it?", language)
    run(engine, [a_job("a"), a_job("b", TEXTS[:1]), a_job("unchanged", ())])
    engine.close()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert list(model.state_dict()) == list(weights)
    assert torch.equal(logits_of(model, "Who built it?", language), before)
    assert not any("forward" in vars(module) for module in model.modules())


def test_load_goes_back_to_the_base_bit_for_bit(engine: Engine, language: LanguageModel) -> None:
    weights = {name: weight.clone() for name, weight in language.model.state_dict().items()}
    engine.absorb([Example(TEXTS[0])], TUNING, seed=0)
    assert any(not torch.equal(weight, weights[name]) for name, weight in language.model.state_dict().items())
    engine.load(None)
    assert all(torch.equal(weight, weights[name]) for name, weight in language.model.state_dict().items())


def test_what_the_policy_cannot_learn_from_is_left_out_and_counted(engine: Engine) -> None:
    """Of exactly the context: with an end-of-text behind it, it is too long. The rest is learnt all the same."""
    tuning = replace(TUNING, epochs=1, batch=1, pad_loss="eos")
    exact = Example("x" * engine.language.context)
    absorbed = engine.absorb([Example("Ada"), exact], tuning, seed=0)
    assert (len(absorbed.losses), absorbed.left_out) == (1, 1)
    assert engine.absorb([exact, exact], tuning, seed=0).left_out == 2
    engine.load(None)


# ---- adapters are PEFT's


def test_a_saved_adapter_answers_alike_in_peft(engine: Engine, lively_path: Path, tmp_path: Path) -> None:
    language = opened(lively_path)  # untouched
    prompt, target = language.encode_prompt(Prompt("Question 0?")), language.encode_target("Ada")
    base = logprob_of(language.model, prompt, target)
    found = run(engine, [a_job("kept", save=tmp_path / "kept"), a_job("other", TEXTS[:1]), a_job("third", TEXTS[1:])])
    reply = found["kept"].replies[0]
    adapted = PeftModel.from_pretrained(language.model, tmp_path / "kept")
    assert reply.target_logprob == pytest.approx(logprob_of(adapted, prompt, target), abs=1e-4)
    assert abs(reply.target_logprob - base) > 0.1
    named = json.loads((tmp_path / "kept" / "adapter_config.json").read_text())["target_modules"]
    assert named == sorted(named)  # whatever the order of a process's sets
    ids = adapted.generate(
        input_ids=torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=list(language.stop_ids)
    )
    assert reply.text == language.decode(ids[0, len(prompt) :].tolist())


@pytest.mark.usefixtures("backend")
def test_a_banks_saved_adapter_says_in_peft_what_it_said_in_the_bank(lively_path: Path, tmp_path: Path) -> None:
    """Every logit."""
    language, text = opened(lively_path), "Question 0?"
    base = logits_of(language.model, text, language)
    bank = Bank(language.model, slots=2, rank=8, targets=LLAMA_LINEAR)
    tunings = (TUNING, replace(TUNING, rank=6, targets=("q_proj", "v_proj"), layers=1))
    for slot, tuning in enumerate(tunings):
        bank.start(slot, tuning, steps=4, seed=slot)
    for _ in range(4):
        bank.step({0: rows(9, 20), 1: rows(14)})
    ids = language.encode_prompt(Prompt(text))
    with torch.no_grad(), bank.host.using(pack([ids, ids], [0, 1], device=torch.device("cpu")), bank.stack.routes()):
        ours = bank.head.logits(bank.host.hidden()).chunk(2)
    for slot in range(2):
        bank.save(slot, tmp_path / str(slot))
    bank.close()
    for slot in range(2):
        adapted = PeftModel.from_pretrained(opened(lively_path).model, tmp_path / str(slot))
        torch.testing.assert_close(ours[slot], logits_of(adapted, text, language), atol=1e-5, rtol=1e-5)
        assert (ours[slot] - base).abs().max() > 0.01


def test_the_policy_after_two_updates_is_one_peft_adapter(engine: Engine, lively_path: Path, tmp_path: Path) -> None:
    for round, (rank, layers) in enumerate(((4, None), (3, 1))):
        tuning = replace(TUNING, rank=rank, layers=layers)
        losses = engine.absorb([Example(text, Prompt("Write.")) for text in TEXTS], tuning, seed=round).losses
        assert len(losses) == 4
    engine.export(tmp_path / "policy")
    engine.close()
    ours = logits_of(engine.language.model, "Who built it?", engine.language)
    base = opened(lively_path)
    before = logits_of(base.model, "Who built it?", base)
    adapted = PeftModel.from_pretrained(base.model, tmp_path / "policy")
    beside = logits_of(adapted, "Who built it?", base)
    merged = logits_of(adapted.merge_and_unload(), "Who built it?", base)
    torch.testing.assert_close(beside, ours, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged, ours, atol=1e-5, rtol=1e-5)
    assert (ours - before).abs().max() > 0.1
    fresh = Engine(opened(lively_path), slots=1, memory_gb=0.5)
    fresh.load(tmp_path / "policy")
    for name, weight in engine.language.model.state_dict().items():
        assert torch.equal(weight, fresh.language.model.state_dict()[name]), name
    fresh.close()
    engine.host = Host(engine.language.model)  # for the fixture to close


def test_a_policy_has_no_more_rank_than_its_layers(engine: Engine, lively_path: Path, tmp_path: Path) -> None:
    """Five rounds of rank 16 on layers of 32 and 64 numbers: side by side they would be 80."""
    plain = {name: weight.clone() for name, weight in engine.language.model.state_dict().items()}
    added = []
    add = engine.weights.add
    engine.weights.add = lambda factors: (added.append(factors), add(factors))  # type: ignore[method-assign,assignment,func-returns-value]
    tuning, narrow = replace(TUNING, rank=16, targets=LLAMA_LINEAR), []
    for round in range(5):
        engine.absorb([Example(text, Prompt("Write.")) for text in TEXTS], tuning, seed=round)
        engine.export(tmp_path / str(round))
        narrow.append(load_adapter(tmp_path / str(round)))
        fresh = Engine(opened(lively_path), slots=1, memory_gb=0.5)
        fresh.load(tmp_path / str(round))
        for name, weight in engine.language.model.state_dict().items():
            assert torch.equal(weight, fresh.language.model.state_dict()[name]), (round, name)
        fresh.close()
    assert {a.shape[0] for a, _ in narrow[1].values()} == {32}
    for name, (a, b) in narrow[4].items():
        assert a.shape[0] == max(min(one.shape[1], two.shape[0]) for one, two in narrow[4].values()), name
        whole = sum(two @ one for one, two in (factors[name] for factors in added))
        torch.testing.assert_close(b @ a, whole, atol=1e-6, rtol=1e-4)
        weight = engine.language.model.get_submodule(name).weight
        torch.testing.assert_close(weight, plain[f"{name}.weight"] + whole, atol=1e-6, rtol=1e-4)


def test_repeats_of_a_trial_share_their_rows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    encode = LanguageModel.encode_example
    monkeypatch.setattr(LanguageModel, "encode_example", lambda self, one: (seen.append(one), encode(self, one))[1])
    jobs = [a_job(f"{at}{seed}", TEXTS[at : at + 1], seed=seed) for at in (0, 1) for seed in (0, 1)]
    assert {one.job_id for one in engine.run(jobs) if one.fault is None} == {job.id for job in jobs}
    assert sorted(one.completion for one in seen) == sorted(TEXTS[:2])


def test_nothing_but_an_adapter_is_replaced(engine: Engine, tmp_path: Path) -> None:
    place = tmp_path / "place"
    for _ in range(2):
        engine.export(place)
    (tmp_path / "empty").mkdir()
    engine.export(tmp_path / "empty")
    assert load_adapter(tmp_path / "empty").keys() == load_adapter(place).keys()

    (place / "notes.md").write_text("mine")
    (tmp_path / "old.toml").write_text("mine")
    for taken, words in ((place, "has what would be deleted: notes.md"), (tmp_path / "old.toml", "is no folder")):
        with pytest.raises(UserError, match=words):
            engine.export(taken)
        with pytest.raises(UserError, match=words):
            next(engine.run([replace(a_job("one"), save=taken)]))
    assert (place / "notes.md").read_text() == (tmp_path / "old.toml").read_text() == "mine"


def kept_by_peft(base: Path, place: Path, config: PeftConfig) -> PeftModel:
    """An adapter of other weights than it begins with, as PEFT writes it."""
    model = get_peft_model(opened(base).model, config)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.1
    model.save_pretrained(place)
    return model


def a_lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "o_proj"], "task_type": "CAUSAL_LM"} | settings)


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"init_lora_weights": "orthogonal"}], ids=["plain", "rslora", "orthogonal"]
)
def test_a_plain_lora_of_pefts_own_is_a_policy(
    engine: Engine, lively_path: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    adapted = kept_by_peft(lively_path, tmp_path, a_lora(**settings))
    wanted = logits_of(adapted, "Who?", engine.language)
    engine.load(tmp_path)
    engine.close()
    torch.testing.assert_close(logits_of(engine.language.model, "Who?", engine.language), wanted, atol=1e-5, rtol=1e-5)
    engine.host = Host(engine.language.model)  # for the fixture to close


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (AdaLoraConfig(target_modules=["q_proj"], total_step=9, task_type="CAUSAL_LM"), "peft_type ADALORA"),
        (IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]), "peft_type IA3"),
        (a_lora(use_dora=True), "use_dora"),
        (a_lora(rank_pattern={"o_proj": 2}), "rank_pattern"),
        (a_lora(modules_to_save=["norm"]), "modules_to_save"),
        (a_lora(layer_replication=[[0, 2], [1, 2]]), "layer_replication"),
        (a_lora(alora_invocation_tokens=[3]), "alora_invocation_tokens"),
        (a_lora(init_lora_weights="pissa"), "init_lora_weights pissa"),
        (a_lora(init_lora_weights="olora"), "init_lora_weights olora"),
        (a_lora(bias="all"), r"model\.layers\.0\.self_attn\.k_proj\.bias"),
        (a_lora(lora_bias=True), r"o_proj\.lora_B\.bias"),
        (a_lora(target_modules=["q_proj", "embed_tokens"]), "embed_tokens"),
        (a_lora(trainable_token_indices=[3]), "embed_tokens"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_is_more_than_plain_lora_is_refused_with_what_it_has(
    tmp_path: Path, config: PeftConfig, says: str
) -> None:
    """And not loaded as a part of itself, or as nothing."""
    kept_by_peft(make_tiny(tmp_path / "base", family="qwen2"), tmp_path / "adapter", config)
    with pytest.raises(UserError, match=f"adapter: an adapter with .*{says}.*; only plain LoRA .* merge it into its model"):
        load_adapter(tmp_path / "adapter")


def test_an_adapter_that_is_broken_is_refused(engine: Engine, tmp_path: Path) -> None:
    for name in ("halved", "empty", "strange", "list"):
        engine.export(tmp_path / name)
    tensors = load_file(tmp_path / "halved" / "adapter_model.safetensors")
    halves = {key: tensor for key, tensor in tensors.items() if "lora_A" in key}
    save_file(halves, tmp_path / "halved" / "adapter_model.safetensors")
    save_file({}, tmp_path / "empty" / "adapter_model.safetensors")
    (tmp_path / "strange" / "adapter_config.json").write_text('{"peft_type": "NEWEST"}')
    (tmp_path / "list" / "adapter_config.json").write_text("[1]")
    for name, says in (
        ("halved", r"an adapter with base_model\.model\.model\.layers\.0\.self_attn\.q_proj\.lora_A\.weight; only"),
        ("empty", "an adapter with no tensors; only"),
        ("strange", "an adapter with peft_type NEWEST; only"),
        ("list", "no PEFT adapter with safetensors is there"),
    ):
        with pytest.raises(UserError, match=f"{name}: {says}"):
            load_adapter(tmp_path / name)


def test_what_a_killed_export_left_is_gone_after_a_day(engine: Engine, tmp_path: Path) -> None:
    """Of a younger one nobody knows whether it is being written."""
    policy, out = tmp_path / "policy", tmp_path / "out"
    for place in (policy, out, out / FILE):
        for age, name in ((2, "old"), (0, "young")):
            left = place.with_name(f".{place.name}-{name}.partial")
            left.joinpath("adapter").mkdir(parents=True)
            os.utime(left, (time.time() - age * 86_400,) * 2)
    mine = out / ".partial"
    mine.mkdir()
    engine.export(policy)
    publish(policy, out, About("smollm2-135m"))
    left = [".out-old.partial", ".out-young.partial", ".policy-young.partial"]  # nothing was made at `out` itself
    assert sorted(one.name for one in tmp_path.iterdir()) == [*left, "out", "policy"]
    assert sorted(one.name for one in out.iterdir()) == sorted((mine.name, f".{FILE}-young.partial", *WEIGHTS, FILE))


def test_an_empty_policy_is_an_adapter_too(engine: Engine, lively_path: Path, tmp_path: Path) -> None:
    engine.export(tmp_path / "policy")
    base = opened(lively_path)
    before = logits_of(base.model, "Who?", base)
    assert torch.equal(logits_of(PeftModel.from_pretrained(base.model, tmp_path / "policy"), "Who?", base), before)
    engine.load(tmp_path / "policy")


# ---- precision


def test_a_bfloat16_model_trains_adapters_in_float32(tiny_path: Path, tmp_path: Path) -> None:
    """Losses fall as in float32, up to what bfloat16 can tell apart; the adapter's own numbers are float32."""
    found = []
    for dtype in ("float32", "bfloat16"):
        engine = Engine(open_model(str(tiny_path), device="cpu", dtype=dtype), slots=2, memory_gb=0.5)
        one = a_job("one", tuning=replace(TUNING, epochs=8), save=tmp_path / dtype)
        found.append(run(engine, [one, a_job("other")])["one"])
        engine.close()
        assert {weight.dtype for weight in load_file(tmp_path / dtype / "adapter_model.safetensors").values()} == {torch.float32}
    assert found[1].losses == pytest.approx(found[0].losses, rel=0.01)
    assert found[1].losses[-1] < found[1].losses[0] - 0.1


# ---- layers that nothing changes


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_layers_below_the_lowest_adapter_run_once_a_row_with_the_same_result(tmp_path: Path, family: str) -> None:
    model = opened(make_tiny(tmp_path / "model", layers=4, family=family)).model  # type: ignore[arg-type]
    drawn = rows(9, 4, 13, 7, 21, 5, seed=3)
    tuning = Tuning(rank=4, targets=LLAMA_LINEAR, layers=2, lr=1e-2)
    weights, ran = [], []
    for reuse in (True, False):
        host = Host(model)
        if not reuse:
            host._divides = dict.fromkeys(range(5), False)
        bank = Bank(host, slots=2, rank=4, targets=LLAMA_LINEAR, layers=2)
        whole, lowest = 0, host.inner.layers[0]

        def count(*_: object) -> None:
            nonlocal whole
            whole += 1

        hook = lowest.register_forward_hook(count)
        for slot in (0, 1):
            bank.start(slot, tuning, steps=9, seed=slot)
        for step in range(9):
            bank.step({0: [drawn[step % 3]], 1: [drawn[3 + step % 3]]})
        hook.remove()
        kept = [states for own in bank._lower.values() for states in own.values()]
        assert [states.untyped_storage().nbytes() for states in kept] == [states.nbytes for states in kept]
        weights.append(bank.stack.flat.clone())
        ran.append(whole)
        bank.close()
    assert torch.equal(*weights)
    assert ran[0] <= 6 < ran[1] == 9  # three packs of new rows and the model's own question, against every step
