"""Decoding many rows at once gives every row what it would get alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONTEXT
from torch import Tensor

from seal.engine import Engine
from seal.engine.decode import Request, complete, sampler
from seal.models import LanguageModel, open_model
from seal.types import Ask, Job, Prompt, Sampling

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
    assert [
        one.ids for one in complete(engine.host, engine.head, None, [Request(prompt, limit=24) for prompt in PROMPTS])
    ] == free
    stops = [free[0][2], free[2][9], free[4][0], free[5][20]]  # rows leave at various times
    found = complete(engine.host, engine.head, None, [Request(prompt, limit=24) for prompt in PROMPTS], stops=stops)
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
    draws = 8000
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(3))
    pick = sampler(temperature, top_p, list(range(draws)), 2, torch.device("cpu"))
    expected = expected_shares(logits, temperature, top_p)
    for step in range(2):
        tokens = pick(logits.expand(draws, -1), torch.arange(draws), step)
        counts = torch.bincount(tokens, minlength=vocabulary).double()
        assert not counts[expected == 0].any()
        inside = expected > 0
        free = int(inside.sum()) - 1
        chi = float(((counts - draws * expected)[inside] ** 2 / (draws * expected[inside])).sum())
        assert abs(chi - free) < 4 * (2 * max(free, 1)) ** 0.5  # a chi-square has mean `free` and variance `2 free`
