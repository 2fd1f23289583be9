"""Passes over the same problem: the model adapted to an edit writes on in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import INNER, OUTER, Watched, a_domain, changed, interrupted_until_done, rows, train

from seal.config.recipe import EditTable
from seal.domains.knowledge import Knowledge
from seal.edits.styles import STYLES
from seal.engine import Engine
from seal.loops.evaluate import Evaluation, evaluate
from seal.loops.stages import Stages
from seal.models import open_model
from seal.store import Store
from seal.types import Ask, Example, Job, Prompt, Sampling, Tuning

TWICE = changed(OUTER, rounds=1, rounds_on_same=2)


# ---- asks that are drawn


def drawn(engine: Engine, *asks: Ask, examples: tuple[Example, ...] = (), tuning: Tuning = INNER) -> list[str]:
    (finished,) = engine.run([Job("one", examples, asks, tuning, seed=1)])
    return [reply.text for reply in finished.replies]


def test_an_ask_can_be_drawn_and_its_neighbours_stay_greedy(engine: Engine) -> None:
    greedy = Ask("g", Prompt("Once"), max_tokens=12)
    hot = [Ask(f"h{seed}", Prompt("Once"), max_tokens=12, temperature=1.0, top_p=0.95, seed=seed) for seed in (1, 2, 1)]
    said = drawn(engine, hot[0], greedy, hot[1], hot[2])
    assert said[1] == drawn(engine, greedy)[0]
    assert said[0] == said[3]
    assert len({said[0], said[1], said[2]}) == 3


def test_a_drawn_reply_is_the_adapted_models(engine: Engine) -> None:
    learnt = (Example("zzzzzzzzzzzzzzzz", Prompt("Say"), loss="completion"),)
    ask = Ask("a", Prompt("Say"), max_tokens=8, temperature=0.2, top_p=0.9, seed=3)
    assert drawn(engine, ask, examples=learnt, tuning=Tuning(rank=8, alpha=16, lr=2e-2, epochs=40)) == ["z" * 8]
    assert drawn(engine, ask) != ["z" * 8]


@pytest.mark.parametrize("examples", [(), (Example("zzz"),)])
def test_a_drawn_reply_ends_where_the_context_does(examples: tuple[Example, ...], engine: Engine) -> None:
    """A greedy one is an answer, and one that may be cut there is a fault."""
    prompt = Prompt("x" * 480)
    room = engine.language.context - len(engine.language.encode_prompt(prompt))
    assert 0 < room < 64
    ask = Ask("a", prompt, max_tokens=64, temperature=1.0, seed=3)
    (found,) = engine.run([Job("one", examples, (ask,), INNER, seed=1)])
    assert found.fault is None
    assert found.replies[0].tokens <= room
    for other in (replace(ask, temperature=0.0), replace(ask, prompt=Prompt("x" * 600))):
        (found,) = engine.run([Job("one", examples, (other,), INNER, seed=1)])
        assert found.fault is not None
        assert found.fault.kind == "too_long"


# ---- passes


def test_a_second_pass_goes_on_with_the_first(engine: Engine, domain: Knowledge, store: Store) -> None:
    train(engine, domain, store, TWICE, edit=EditTable(max_tokens=120))
    first, second = store.edits("train.1", 1), store.edits("train", 1)
    assert [(one.problem_id, one.index) for one in first] == [(one.problem_id, one.index) for one in second]
    longer = 0
    as_before = sum(one.text.rstrip() == other.text.rstrip() for one, other in zip(first, second, strict=True))
    assert store.metrics()[1]["unwritten"] == as_before
    for one, other in zip(first, second, strict=True):
        assert other.prompt == one.prompt
        if one.fault is None:
            assert other.text.startswith(one.text.rstrip())
            assert set(one.examples) <= set(other.examples)
            longer += len(other.examples) > len(one.examples)
    assert longer
    assert [outcome.trial.edit for outcome in store.outcomes("train", 1)] == second
    assert store.outcomes("train.1", 1) == []
    assert set(store.kept("train", 1)) <= {one.id for one in second}


def test_what_is_written_on_depends_on_what_was_learnt(engine: Engine, domain: Knowledge, store: Store) -> None:
    problems = list(domain.problems("train")[:1])
    store.put_problems(problems)
    how = Sampling(n=3, max_tokens=120)
    learnt = Stages(engine, domain, store, "a", 1, 3).sample(problems, how, 2)
    strong = a_domain(store.path, tuning=replace(INNER, lr=5e-2, epochs=20))
    other = Stages(engine, strong, store, "b", 1, 3).sample(problems, how, 2)
    assert [edit.text for edit in store.edits("a.1", 1)] == [edit.text for edit in store.edits("b.1", 1)]
    assert [edit.text for edit in learnt] != [edit.text for edit in other]
    same = Stages(engine, domain, store, "c", 1, 3).sample(problems, how, 2)  # the condition is in no seed
    assert [edit.text for edit in same] == [edit.text for edit in learnt]


def test_an_interrupted_pass_goes_on(engine: Engine, domain: Knowledge, store: Store, tmp_path: Path) -> None:
    with Store.create(tmp_path / "whole", "whole", "", {}) as whole:
        train(engine, domain, whole, TWICE)
        expected = rows(whole)
    interrupted_until_done(lambda: train(engine, domain, store, TWICE), commits=12)
    found = rows(store)
    assert {table: found[table] for table in expected} == expected


def test_evaluation_writes_as_often(engine: Engine, domain: Knowledge, store: Store) -> None:
    problems = tuple(domain.problems("test")[:1])
    plan = Evaluation(("base", "untrained"), problems, Sampling(n=1, max_tokens=16), rounds_on_same=3)
    evaluate(engine, domain, store, plan, seed=0)
    assert [phase for phase, _ in store.rounds()] == ["base", "untrained", "untrained.1", "untrained.2"]


def test_an_edit_that_cannot_be_learnt_stays_as_it_is(engine: Engine, store: Store, tmp_path: Path) -> None:
    domain = a_domain(tmp_path, style=replace(STYLES["atomic-facts"], reader=lambda text: ["..."]))
    problems = list(domain.problems("train")[:1])
    store.put_problems(problems)
    watched = Watched(engine)
    stages = Stages(watched, domain, store, "train", 1, 3)  # type: ignore[arg-type]
    (first,) = replace(stages, phase="train.1").sample(problems, Sampling(n=1, max_tokens=1))
    (second,) = stages.sample(problems, Sampling(n=1, max_tokens=1), 2)
    assert first.fault is not None
    assert (second.text, second.fault, second.id) == (first.text, first.fault, f"train/1/{problems[0].id}/0")
    assert watched.jobs == []
    assert store.metrics()[1] == {"unwritten": 0}


@pytest.mark.embedded
def test_the_real_model_says_more_in_a_second_pass(embedded_path: Path, tmp_path: Path) -> None:
    engine = Engine(open_model(str(embedded_path)), slots=1)
    domain = a_domain(tmp_path, tuning=Tuning(rank=8, alpha=16, lr=1e-3, epochs=1))
    problems = list(domain.problems("train")[:1])
    with Store.create(tmp_path, "real", "", {}) as store:
        store.put_problems(problems)
        (edit,) = Stages(engine, domain, store, "train", 1, 0).sample(problems, Sampling(n=1, temperature=0.7, max_tokens=32), 2)
        (first,) = store.edits("train.1", 1)
    engine.close()
    assert edit.fault is None
    assert edit.tokens > first.tokens
