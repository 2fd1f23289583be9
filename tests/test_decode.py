"""Decoding many rows at once gives every row what it would get alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import CONTEXT, make_tiny
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from seal.engine import Engine
from seal.engine.decode import Continued, Request, _trees, complete, prepacked
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.pack import Tree
from seal.engine.routing import Routes
from seal.engine.sampling import sampler
from seal.engine.stack import Stack
from seal.models import LanguageModel, open_model
from seal.types import LLAMA_LINEAR, Ask, Job, Prompt, Sampling

PROMPTS = ([5], [7, 8, 9, 200, 31], list(range(40, 71)), [100, 3], [11] * 12, [250, 17, 60])


@pytest.fixture(scope="module")
def plain(lively_path: Path) -> LanguageModel:
    """Never held by an engine."""
    return open_model(str(lively_path), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def engine(lively_path: Path) -> Iterator[Engine]:
    engine = Engine(open_model(str(lively_path), device="cpu", dtype="float32"), slots=3, memory_gb=0.5)
    yield engine
    engine.close()


def generated(plain: LanguageModel, prompt: list[int], limit: int, stops: Sequence[int] = ()) -> list[int]:
    """What transformers' generate adds, without the stop token."""
    found = plain.model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=list(stops) or None,
        pad_token_id=0,
    )
    new: list[int] = found[0, len(prompt) :].tolist()
    return new[:-1] if new[-1] in stops else new


def logprob_of(plain: LanguageModel, prompt: list[int], target: list[int]) -> float:
    with torch.no_grad():
        scores = plain.model(input_ids=torch.tensor([prompt + target])).logits[0].log_softmax(1)
    return sum(float(scores[len(prompt) - 1 + place, token]) for place, token in enumerate(target))


# ---- greedy


def test_greedy_answers_are_those_of_generate(engine: Engine, plain: LanguageModel) -> None:
    free = [generated(plain, prompt, 24) for prompt in PROMPTS]
    assert len({tuple(row) for row in free}) == len(PROMPTS)
    requests = [Request(prompt, limit=24) for prompt in PROMPTS]
    assert [one.ids for one in complete(engine.host, engine.head, None, requests)] == free
    with prepacked(engine.host, engine.head):
        assert [one.ids for one in complete(engine.host, engine.head, None, requests)] == free
    stops = [free[0][2], free[2][9], free[4][0], free[5][20]]  # rows leave at various times
    found = complete(engine.host, engine.head, None, requests, stops=stops)
    assert [one.ids for one in found] == [generated(plain, prompt, 24, stops) for prompt in PROMPTS]
    assert [one.ended for one in found] == [any(token in stops for token in row) for row in free]
    assert {len(one.ids) for one in found} > {0, 24} or len({len(one.ids) for one in found}) > 2


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.integers(0, 4)), min_size=1, max_size=8))
def test_rows_of_one_batch_have_limits_of_their_own(
    engine: Engine, plain: LanguageModel, found: list[tuple[int, int, int]]
) -> None:
    requests = [
        Request(PROMPTS[prompt], limit=limit, target=list(range(90, 90 + target)) or None) for prompt, limit, target in found
    ]
    for request, one in zip(requests, complete(engine.host, engine.head, None, requests), strict=True):
        assert one.ids == (generated(plain, request.prompt, request.limit) if request.limit else [])
        if request.target is None:
            assert one.target_logprob is None
        else:
            assert one.target_logprob == pytest.approx(logprob_of(plain, request.prompt, request.target), abs=1e-4)


@pytest.mark.parametrize(
    ("prompts", "limits"),
    [([400, 5], [0, 450]), ([300, 5, 5, 5, 5], [2, 380, 380, 380, 380])],
    ids=["a long one only scored", "a long one done early"],
)
def test_a_row_may_outlive_a_longer_prompt(engine: Engine, plain: LanguageModel, prompts: list[int], limits: list[int]) -> None:
    """The cache is as large as its longest row gets, and the rows that are done count no more."""
    requests = [
        Request([3 + (place * 7 + row) % 250 for place in range(length)], limit=limit, target=[9])
        for row, (length, limit) in enumerate(zip(prompts, limits, strict=True))
    ]
    found = complete(engine.host, engine.head, None, requests)
    assert [len(one.ids) for one in found] == limits
    assert found[-1].ids[:40] == generated(plain, requests[-1].prompt, 40)


def test_asks_through_the_engine_are_decoded_and_scored(engine: Engine, plain: LanguageModel) -> None:
    asks = tuple(Ask(f"q{n}", Prompt("Who?" * n), "Ada" if n % 2 else None, max_tokens=3 * n, view=f"v{n}") for n in range(4))
    (found,) = engine.run([Job("unchanged", (), asks)])
    for ask, reply in zip(asks, found.replies, strict=True):
        prompt = plain.encode_prompt(ask.prompt)
        assert (reply.query_id, reply.view) == (ask.query_id, ask.view)
        if ask.max_tokens:
            ids = generated(plain, prompt, ask.max_tokens, plain.stop_ids)
            assert (reply.text, reply.tokens, reply.ended) == (plain.decode(ids), len(ids), len(ids) < ask.max_tokens)
        else:
            assert (reply.text, reply.tokens) == ("", 0)
        if ask.target:
            assert reply.target_logprob == pytest.approx(logprob_of(plain, prompt, plain.encode_target("Ada")), abs=1e-4)


def test_nothing_asked_is_nothing_answered(engine: Engine) -> None:
    (found,) = engine.run([Job("silent", (), ())])
    assert found.replies == ()
    assert found.fault is None
    assert list(engine.run([])) == []


# ---- sampling


def texts(engine: Engine, prompts: Sequence[str], how: Sampling, seed: int = 1) -> list[list[str]]:
    return [[reply.text for reply in own] for own in engine.sample([Prompt(text) for text in prompts], how, seed=seed)]


def test_a_sample_depends_on_its_seed_and_not_on_its_neighbours(engine: Engine) -> None:
    how = Sampling(n=3, max_tokens=16)
    found = texts(engine, ["Write.", "Write of the sea, at length.", "And?"], how)
    assert texts(engine, ["Write."], how) == found[:1]
    assert texts(engine, ["Write."], Sampling(n=1, max_tokens=16)) == [found[0][:1]]
    assert texts(engine, ["Write.", "Another."], how)[0] == found[0]
    assert texts(engine, ["Write."], how, seed=2) != found[:1]
    assert len({text for own in found for text in own}) == 9


def test_samples_do_not_depend_on_how_they_are_cut_into_batches(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    how, prompts = Sampling(n=3, max_tokens=16), ["Write.", "Write of the sea, at length.", "And?"]
    whole, batches = texts(engine, prompts, how), watched(monkeypatch, room=4)
    monkeypatch.setattr("seal.engine.engine.answer_rows", lambda *_: 5)
    assert texts(engine, prompts, how) == whole
    assert batches == [5, 2, 2, 2, 2, 1]  # one that does not fit is halved, and those after it are no larger


def test_answers_that_do_not_fit_a_gpu_together_are_halved(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("q", (), tuple(Ask(f"q{n}", Prompt("Who?" * n), max_tokens=5) for n in range(5)))
    (whole,) = engine.run([job])
    batches = watched(monkeypatch, room=2)
    (halved,) = engine.run([job])
    assert halved.replies == whole.replies
    assert batches == [5, 2, 2, 1]
    watched(monkeypatch, room=0)
    with pytest.raises(torch.OutOfMemoryError):
        list(engine.run([job]))


def watched(monkeypatch: pytest.MonkeyPatch, room: int) -> list[int]:
    """Rows of every batch from now on; one of more than `room` rows runs out of memory once its prompts are read."""
    batches: list[int] = []

    def tight(host: Host, head: Head, routes: Routes | None, requests: Sequence[Request], **how: Any) -> list[Continued]:
        batches.append(len(requests))
        found = complete(host, head, routes, requests, **how)
        if len(requests) > room:
            raise torch.OutOfMemoryError
        return found

    monkeypatch.setattr("seal.engine.engine.complete", tight)
    return batches


def test_a_row_that_blew_up_is_drawn_somehow_and_its_neighbours_as_ever() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    pick = sampler(1.0, 0.9, [1, 2, 3], 1, torch.device("cpu"))
    healthy = pick(logits, torch.arange(3), 0)
    for spoilt in (float("nan"), float("inf"), -float("inf")):
        logits[1] = spoilt
        found = pick(logits, torch.arange(3), 0)
        assert 0 <= int(found[1]) < 50
        assert torch.equal(found[[0, 2]], healthy[[0, 2]])


def test_temperature_zero_is_greedy(engine: Engine, plain: LanguageModel) -> None:
    ids = generated(plain, plain.encode_prompt(Prompt("Write.")), 16, plain.stop_ids)
    assert texts(engine, ["Write."], Sampling(n=2, temperature=0, max_tokens=16)) == [[plain.decode(ids)] * 2]


def test_a_sample_ends_with_the_context(engine: Engine, plain: LanguageModel) -> None:
    overhead = len(plain.encode_prompt(Prompt("")))
    for room, expected in ((5, 5), (0, 0), (-3, 0)):
        ((reply,),) = engine.sample([Prompt("x" * (CONTEXT - overhead - room))], Sampling(max_tokens=9), seed=0)
        assert reply.tokens <= expected
    ((short,), (long,)) = engine.sample([Prompt("x"), Prompt("x" * (CONTEXT - overhead - 2))], Sampling(max_tokens=40), seed=0)
    assert long.tokens <= 2
    assert short.tokens == 40 or short.ended


def test_an_empty_prompt_goes_on_from_the_end_of_text_and_from_no_neighbour(tmp_path: Path) -> None:
    """A base model whose tokenizer puts nothing before the text."""
    engine = Engine(open_model(str(make_tiny(tmp_path, chat=False)), device="cpu", dtype="float32"), slots=1, memory_gb=0.5)
    how = Sampling(temperature=0, max_tokens=8)
    (asked,) = engine.run([Job("asked", (), (Ask("q", Prompt(""), max_tokens=8),))])
    assert texts(engine, ["hello", ""], how)[1] == texts(engine, ["world", ""], how)[1] == [asked.replies[0].text]
    assert texts(engine, ["", "hello"], how)[0] == [asked.replies[0].text]
    engine.close()


def expected_shares(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """By the definition of Holtzman et al. 2020: the smallest set of the likeliest tokens whose mass reaches p."""
    probs = (logits.double() / temperature).softmax(0)
    order = probs.argsort(descending=True)
    inside, mass = [], 0.0
    for token in order.tolist():
        inside.append(token)
        mass += float(probs[token])
        if mass >= top_p:
            break
    kept = torch.zeros_like(probs)
    kept[inside] = probs[inside]
    return kept / kept.sum()


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (1.0, 0.8), (0.5, 0.95), (2.0, 0.6), (1.0, 0.01)])
@pytest.mark.parametrize("vocabulary", [7, 400])
def test_tokens_are_drawn_as_often_as_softmax_and_nucleus_say(temperature: float, top_p: float, vocabulary: int) -> None:
    draws = 3000
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(3))
    pick = sampler(temperature, top_p, list(range(draws)), 2, torch.device("cpu"))
    expected = expected_shares(logits, temperature, top_p)
    for step in range(2):
        tokens = torch.cat([pick(logits.expand(len(rows), -1), rows, step) for rows in torch.arange(draws).split(500)])
        counts = torch.bincount(tokens, minlength=vocabulary).double()
        assert not counts[expected == 0].any()
        inside = expected > 0
        free = int(inside.sum()) - 1
        chi = float(((counts - draws * expected)[inside] ** 2 / (draws * expected[inside])).sum())
        assert abs(chi - free) < 4 * (2 * max(free, 1)) ** 0.5  # a chi-square has mean `free` and variance `2 free`


@pytest.mark.parametrize("top_p", [0.3, 0.95, 1.0])
def test_a_draw_is_the_one_that_a_sorted_vocabulary_gives(top_p: float) -> None:
    """Flat rows, peaked rows and rows with ties, each against cumulated sorted probabilities."""
    generator = torch.Generator().manual_seed(5)
    spread = torch.tensor([0.0, 0.01, 1.0, 4.0, 30.0, 300.0]).repeat_interleave(20)[:, None]
    logits = torch.randn(120, 3000, generator=generator) * spread
    pick = sampler(1.0, top_p, list(range(120)), 1, torch.device("cpu"))
    probs, order = logits.softmax(1).double().sort(dim=1, descending=True)
    before = probs.cumsum(1) - probs
    mass = torch.where(before < top_p, probs, 0.0).cumsum(1)
    draws = torch.stack([torch.rand(1, generator=torch.Generator().manual_seed(row), dtype=torch.float64) for row in range(120)])
    place = torch.searchsorted(mass, draws * mass[:, -1:], right=True)
    found = pick(logits, torch.arange(120), 0)
    flat = int((spread == 0).sum())  # all alike: any order is right, the draw's place is not known
    assert torch.equal(found[flat:], order.gather(1, place)[flat:, 0])
    assert len(set(found[:flat].tolist())) == flat


def test_a_nucleus_ends_with_the_token_that_reaches_it() -> None:
    """Two tokens of one half each and a threshold of one half: the first is enough."""
    pick = sampler(1.0, 0.5, list(range(100)), 1, torch.device("cpu"))
    assert len(set(pick(torch.zeros(100, 2), torch.arange(100), 0).tolist())) == 1


# ---- the quick ways and the plain ones


def loud_stack(host: Host, scale: list[float]) -> Stack:
    """Adapters that change what is said."""
    stack = Stack(host.sites(LLAMA_LINEAR), len(scale), 4, device=host.device, dtype=torch.float32, choices=host.choices)
    stack.flat.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    stack.scale = scale
    return stack


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapters"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_compact_step_says_what_the_model_says(
    family: Literal["llama", "qwen2"], adapted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden states of every step, with rows of several lengths that leave at several times."""
    engine = Engine(open_model(str(make_tiny(tmp_path, family=family)), device="cpu", dtype="float32"), slots=2)
    routes = None
    if adapted:
        routes = loud_stack(engine.host, [1.0, 0.5]).routes()
    slots = [0, 0, 0, 1, 1, 1] if adapted else [None] * 6
    requests = [Request(prompt, slot, 3 + 4 * n) for n, (prompt, slot) in enumerate(zip(PROMPTS, slots, strict=True))]
    assert engine.host._compact is not None
    said: list[list[Tensor]] = [[], []]
    forced = [int(token) for token in torch.randint(0, 250, (30,), generator=torch.Generator().manual_seed(2))]
    for way, seen in zip((engine.host._compact, None), said, strict=True):
        monkeypatch.setattr(engine.host, "_compact", way)

        def pick(logits: Tensor, rows: Tensor, step: int, seen: list[Tensor] = seen) -> Tensor:
            seen.append(logits)
            return torch.full((len(rows),), forced[step])

        with prepacked(engine.host, engine.head, way is not None):
            complete(engine.host, engine.head, routes, requests, pick=pick)
    assert len(said[0]) == len(said[1]) == 23
    assert len({len(logits) for logits in said[0]}) > 2  # rows left
    for quick, plain in zip(*said, strict=True):
        torch.testing.assert_close(quick, plain, rtol=1e-5, atol=1e-5)
    engine.close()


def test_an_unknown_make_of_model_decodes_by_its_own_modules(lively_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder layer that looks like Llama's and computes something else is not cut short."""
    monkeypatch.setattr(LlamaDecoderLayer, "forward", _louder(LlamaDecoderLayer.forward))
    engine = Engine(open_model(str(lively_path), device="cpu", dtype="float32"), slots=1)
    assert engine.host._fused
    assert engine.host._compact is None
    engine.close()


def _louder(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: 1.5 * forward(*args, **kwargs)


@pytest.mark.parametrize("at_once", [(1, 4096), (40, 4096), (1024, 70)])
def test_prompts_are_read_in_parts(
    engine: Engine, plain: LanguageModel, at_once: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seal.engine.decode.PREFILL", at_once)
    requests = [Request(prompt, limit=6, target=[90, 91]) for prompt in (*PROMPTS, PROMPTS[2], PROMPTS[0])]
    for request, one in zip(requests, complete(engine.host, engine.head, None, requests), strict=True):
        assert one.ids == generated(plain, request.prompt, 6)
        assert one.target_logprob == pytest.approx(logprob_of(plain, request.prompt, [90, 91]), abs=1e-4)


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), limit=st.integers(1, 300), wide=st.integers(1, 600))
@example(lengths=[36] * 150 + [2000] + [36] * 150, limit=16 << 10, wide=16 << 10)
def test_a_part_is_as_long_as_fits_with_its_pads_and_without(lengths: list[int], limit: int, wide: int) -> None:
    rows = [(None, (place,) * length) for place, length in enumerate(lengths)]

    def fits(each: Sequence[int]) -> bool:
        return sum(each) <= limit and len(each) * max(each) <= wide

    parts = [[len(row) for row in tree.places] for tree in _trees(rows, limit, wide)]
    assert [length for part in parts for length in part] == lengths
    assert all(fits(part) or len(part) == 1 for part in parts)
    assert not any(fits([*part, following[0]]) for part, following in itertools.pairwise(parts))


ROWS = st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 2), min_size=1, max_size=6)), min_size=1, max_size=12)


@given(ROWS, st.booleans())
def test_a_tree_has_each_beginning_of_a_slots_rows_once(found: list[tuple[int, list[int]]], adapted: bool) -> None:
    rows = [(slot if adapted else None, tuple(ids)) for slot, ids in sorted(found)]
    tree = Tree()
    for slot, ids in rows:
        tree.add(ids, slot)
    step = tree.step(torch.device("cpu"))
    beginnings = {(slot, ids[: end + 1]) for slot, ids in rows for end in range(len(ids))}
    assert len(tree) == len(step.ids) == len(beginnings)
    (group,), width = step.groups, max(len(ids) for _, ids in rows)
    assert group.shape == (len(rows), width)
    for places, line, (slot, ids) in zip(tree.places, group.rect.view(group.shape), rows, strict=True):
        assert tuple(step.ids[places].tolist()) == ids
        assert step.positions[places].tolist() == list(range(len(ids)))
        assert line.tolist() == [*places, *[places[-1]] * (width - len(ids))]
        if slot is not None:
            (span,) = [span for span in step.spans if span.slot == slot]
            assert all(span.start <= place < span.end for place in places)
    assert torch.equal(group.rect[group.back], torch.arange(len(tree)))
    assert sum(span.end - span.start for span in step.spans) == (len(tree) if step.spans else 0)


def test_rows_that_begin_alike_answer_what_each_answers_alone(engine: Engine, plain: LanguageModel) -> None:
    """Some begin like another one, one is another's beginning, one is asked twice; limits and targets of their own."""
    head = list(range(40, 71))
    prompts = [[*head, 5], [*head, 7, 8], head, [*head, 7, 9, 200], head[:12], [3, *head], [*head, 5]]
    requests = [
        Request(prompt, limit=place % 4 * 4, target=[90 + place % 3] * (place % 3) or None)
        for place, prompt in enumerate(prompts)
    ]
    for request, one in zip(requests, complete(engine.host, engine.head, None, requests), strict=True):
        assert one.ids == (generated(plain, request.prompt, request.limit) if request.limit else [])
        if request.target:
            assert one.target_logprob == pytest.approx(logprob_of(plain, request.prompt, request.target), abs=1e-4)


def test_a_beginning_that_two_adapters_share_is_read_by_each(engine: Engine) -> None:
    stack = loud_stack(engine.host, [1.0, 0.5, 0.7])
    prompts = [(slot, [*PROMPTS[2], *end]) for slot in range(3) for end in ([5], [7, 8], [])]
    requests = [Request(prompt, slot, 8, [90]) for slot, prompt in prompts]
    together = complete(engine.host, engine.head, stack.routes(), requests)
    for request, one in zip(requests, together, strict=True):
        (alone,) = complete(engine.host, engine.head, stack.routes(), [request])
        assert one.ids == alone.ids
        assert one.target_logprob == pytest.approx(alone.target_logprob, abs=1e-4)
    assert len({tuple(one.ids) for one in together}) > 3


def test_what_is_asked_twice_is_read_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request(PROMPTS[n], limit=limit) for n, limit in ((2, 5), (0, 9), (2, 12), (2, 0), (0, 3))]
    read: list[int] = []
    hidden = engine.host.hidden

    def counted(*args: Any) -> Tensor:
        found = hidden(*args)
        read.append(len(found))
        return found

    alone = [complete(engine.host, engine.head, None, [request])[0].ids for request in requests]
    monkeypatch.setattr(engine.host, "hidden", counted)
    assert [one.ids for one in complete(engine.host, engine.head, None, requests)] == alone
    assert read[0] == len(PROMPTS[0]) + len(PROMPTS[2])


def test_without_room_for_copies_of_the_weights_they_are_not_made(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = engine.host.copy_bytes() + engine.head.prepacked_bytes()
    assert copies > 4 * sum(linear.weight.numel() for linear in engine.host.linears.values())
    for memory, expected in ((2 * copies, (True, copies)), (2 * copies - 1, (False, 2 * copies - 1))):
        monkeypatch.setattr(engine, "memory", memory)
        assert engine._room() == expected
