"""How weights lie for a training: every way says the same, the quickest is taken if it is worth it, and copies are counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seal.engine import Engine, layouts
from seal.engine.decode import prepacked
from seal.engine.layouts import ANSWERING, AS_THEY_LIE, Ahead, Back, Layout, quickest
from seal.engine.prepacked import can_prepack, prepack
from seal.engine.routing import Choices, Product
from seal.models import open_model
from seal.types import Ask, Example, Job, Prompt, Sampling, Tuning

CPU = torch.device("cpu")
packs = pytest.mark.skipif(not can_prepack(CPU, torch.float32), reason="torch has no such products here")
sizes = st.integers(1, 40)


def a_product(inputs: int, outputs: int, *, bias: bool = False, tall: bool = False) -> Product:
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(inputs))
    return Product("p", weight, torch.arange(float(outputs)) if bias else None, {"p": slice(0, outputs)}, tall)


@pytest.fixture
def engine(tiny_path: Path) -> Iterator[Engine]:
    made = Engine(open_model(str(tiny_path), device="cpu"), slots=2, memory_gb=1)
    made.host.choices = Choices(CPU, torch.float32)  # not the process's own
    yield made
    made.close()


@packs
@given(sizes, sizes, sizes, st.booleans(), st.booleans())
def test_every_layout_gives_the_same_products(rows: int, inputs: int, outputs: int, bias: bool, tall: bool) -> None:
    product = a_product(inputs, outputs, bias=bias, tall=tall)
    x, dy = torch.randn(rows, inputs), torch.randn(rows, outputs)
    for ahead in get_args(Ahead):
        for back in get_args(Back):
            laid = Layout(ahead, back).of(product)
            torch.testing.assert_close(laid(x), product(x), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(laid.back(dy), dy @ product.weight, rtol=1e-4, atol=1e-4)
            copies = [copy for copy in (laid.copy, laid.copy_back) if copy is not None]
            assert len(copies) == Layout(ahead, back).copies


@packs
@pytest.mark.parametrize(
    ("forward", "backward", "chosen"),
    [
        ({"plain": 1.0, "tall": 0.9, "transposed": 0.8, "packed": 0.7}, {"plain": 1.0, "packed": 0.9}, ("packed", "packed")),
        ({"plain": 1.0, "tall": 1.2, "transposed": 0.8, "packed": 0.9}, {"plain": 1.0, "packed": 0.96}, ("transposed", "plain")),
        ({"plain": 1.0, "tall": 0.97, "transposed": 0.96, "packed": 0.99}, {"plain": 1.0, "packed": 2.0}, ("plain", "plain")),
    ],
)
def test_a_way_that_is_not_plain_has_to_be_worth_it(
    monkeypatch: pytest.MonkeyPatch, forward: dict[str, float], backward: dict[str, float], chosen: tuple[str, str]
) -> None:
    monkeypatch.setattr(layouts, "_times", lambda ways, multiply: forward if "tall" in ways else backward)
    assert quickest([a_product(8, 4)], 16, room=True) == chosen


def test_without_room_no_copy_is_tried_and_every_shape_is(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, Any]] = []

    def times(ways: dict[str, Any], multiply: Any) -> dict[str, float]:
        tried.append(ways)
        return {way: float(at) for at, way in enumerate(ways)}

    monkeypatch.setattr(layouts, "_times", times)
    several = [a_product(8, 4), a_product(8, 4), a_product(4, 8)]
    assert quickest(several, 16, room=False) == ("plain", "plain")
    assert [list(ways) for ways in tried] == [["plain", "tall"], ["plain"]]
    assert len(tried[0]["plain"]) == 3
    monkeypatch.setattr(layouts, "SMALL", 0)
    quickest([*several, a_product(8, 4)], 16, room=False)
    assert [one.weight.shape for one in tried[2]["plain"]] == [(4, 8), (8, 4)]  # one of each shape


def test_what_was_measured_is_kept_and_taken_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    host, asked = engine.host, list[tuple[int, bool]]()

    def measured(products: Any, tokens: int, *, room: bool) -> Layout:
        asked.append((tokens, room))
        return Layout("plain" if tokens > 100 else "transposed")

    monkeypatch.setattr("seal.engine.host.quickest", measured)
    assert host.layout(50) == AS_THEY_LIE  # so small a model is not measured
    monkeypatch.setattr("seal.engine.host.SMALL", 0)
    assert [host.layout(tokens) for tokens in (50, 64, 33)] == [("transposed", "plain")] * 3
    assert host.layout(5000) == host.layout(900) == ("plain", "plain")
    host.layout(50, room=False)
    assert asked == [(64, True), (1024, True), (64, False)]
    known = dict(host.choices.known)
    host.choices.known.clear()
    engine.remember_routing(known, None)  # a run that is resumed
    assert host.layout(64) == ("transposed", "plain")
    assert len(asked) == 3


@packs
def test_answers_use_the_copies_that_are_there(engine: Engine) -> None:
    host = engine.host
    name = next(iter(host._products.values())).name
    with host.laid(Layout("transposed", "plain")):
        there = host._laid[name].copy
        with host.laid(ANSWERING):
            assert host._laid[name].copy is there
    with host.laid(Layout("plain", "packed")), host.laid(ANSWERING):  # that one has none to answer with
        assert host._laid[name].copy is not None
    assert not host._laid
    first, second = (host.reading(host.copied(layout)) for layout in (Layout("transposed"), ANSWERING))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # before what began within it: generators that somebody leaves in another order
    second.__exit__(None, None, None)
    assert not host._laid


@packs
def test_the_batches_of_a_call_share_one_copy_of_the_weights(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[tuple[str, torch.Size]]()
    for name in ("head", "layouts"):

        def counted(weight: torch.Tensor, name: str = name) -> torch.Tensor:
            made.append((name, weight.shape))
            return prepack(weight)

        monkeypatch.setattr(f"seal.engine.{name}.prepack", counted)
    monkeypatch.setattr("seal.engine.engine.answer_rows", lambda *_: 2)
    once = ["head"] + ["layouts"] * len(engine.host._each())
    prompts = [Prompt(text) for text in ("one", "two", "three")]
    engine.sample(prompts, Sampling(max_tokens=2), seed=0)
    assert sorted(name for name, _ in made) == once
    ways = [Ask("q", prompt, None, 2, temperature=heat) for prompt in prompts for heat in (0.0, 1.0)]
    list(engine.run([Job("drawn and not", (), tuple(ways))]))
    assert sorted(name for name, _ in made) == sorted(2 * once)
    list(engine.run([Job("scored alone", (), (Ask("q", prompts[0], "a target", 0),))]))
    assert len(made) == 2 * len(once)
    with prepacked(engine.host, engine.head):
        engine.sample(prompts, Sampling(max_tokens=2), seed=0)
    assert len(made) == 3 * len(once)
    assert engine.head._prepacked is None
    assert not engine.host._laid


@packs
def test_a_plan_counts_the_copies_that_are_made(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, kept = list[tuple[int, bool]](), list[int]()
    below = engine.host.below

    def layout(tokens: int, *, room: bool) -> Layout:
        asked.append((tokens, room))
        return Layout("transposed")

    monkeypatch.setattr(engine.host, "layout", layout)
    monkeypatch.setattr(engine.host, "below", lambda size: kept.append(size) or below(size))
    row, tuning = Example("a row to learn"), Tuning(rank=4, epochs=1, targets=("q_proj",))
    size = len(engine.language.encode_example(row)[0])
    jobs = [Job(name, (row,), (Ask("q", Prompt("why?"), None, 2),), tuning) for name in "ab"]
    assert all(done.fault is None for done in engine.run(jobs))
    whole = engine.plan(4, ("q_proj",), longest=size, slots=2)
    assert whole.bytes_copies == 2 * engine.host.copy_bytes()
    assert kept == [whole.bytes - engine.host.copy_bytes()]
    list(engine.run(jobs[:1]))  # alone: whatever its steps have
    engine.absorb([row] * 3, tuning, seed=0)
    assert asked == [(2 * size, True), (64, True), (size, True)]
