"""Successive halving: the plan and its decisions as pure functions, then on a tiny model, whenever it is stopped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import Watched, a_domain, changed, interrupted_until_done, rows, train

from seal.config.recipe import OuterTable
from seal.edits.styles import STYLES
from seal.engine import Engine
from seal.policy.halving import next_trials, rungs
from seal.policy.selection import Scored, best_of_group
from seal.stats import question_noise
from seal.store import Store

SCRIPT = Path(__file__).parents[1] / "scripts" / "halving_simulation.py"
OFFICIAL = Path(__file__).parents[2] / "shared" / "data" / "official" / "train"

# ---- the plan


@given(st.integers(1, 40), st.integers(1, 12))
def test_the_plan_narrows_to_two_and_takes_no_more_than_uniform_repeats_would(edits: int, repeats: int) -> None:
    plan = rungs(edits, repeats)
    sizes, each = zip(*plan, strict=True)
    assert sizes[0] == edits
    assert list(sizes) == sorted(set(sizes), reverse=True)
    assert min(each) >= 1
    assert sum(size * trials for size, trials in plan) <= edits * repeats
    if repeats > 1:
        assert sizes[-1] <= 2


def test_plans_by_hand() -> None:
    assert rungs(5, 2) == [(5, 1), (3, 1), (2, 1)]
    assert rungs(5, 3) == [(5, 1), (3, 2), (2, 2)]
    assert rungs(4, 2) == [(4, 1), (2, 2)]
    assert rungs(2, 3) == [(2, 3)]
    assert rungs(1, 3) == [(1, 3)]
    assert rungs(0, 3) == []


# ---- its decisions


def run_through(
    earned: Sequence[Sequence[float | None]], repeats: int, order: Sequence[int] = ()
) -> list[dict[int, float | None]]:
    """All trials, each earning what `earned[edit][repeat]` says."""
    tried: list[dict[int, float | None]] = [{} for _ in earned]
    while wanted := next_trials(tried, repeats):
        edit, repeat = wanted[order[len(tried[0]) % len(order)] % len(wanted)] if order else wanted[0]
        tried[edit][repeat] = earned[edit][repeat]
    return tried


def test_the_better_half_goes_on_by_the_mean_of_its_trials() -> None:
    earned = [[0.9, 0.0, 0.0], [0.5, 0.5, 0.5], [0.8, 0.7, 0.0], [0.1, 1.0, 1.0], [0.2, 1.0, 1.0]]
    tried = run_through(earned, 2)
    # after one trial each: edits 0, 1, 2; after two: 1 and 2, for 0 has fallen to 0.45
    assert [len(values) for values in tried] == [2, 3, 3, 1, 1]


def test_an_edit_that_earned_nothing_is_dropped_and_the_earlier_of_equals_stays() -> None:
    assert [len(values) for values in run_through([[None] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3], 2)] == [1, 3, 3, 2, 1]


@given(
    st.lists(st.lists(st.none() | st.integers(0, 5), min_size=24, max_size=24), min_size=1, max_size=7),
    st.integers(1, 3),
    st.data(),
)
def test_the_trials_do_not_depend_on_the_order_they_end_in(earned: Any, repeats: int, data: st.DataObject) -> None:
    order = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=5))
    assert run_through(earned, repeats, order) == run_through(earned, repeats)


@given(st.lists(st.lists(st.integers(0, 5), min_size=24, max_size=24), min_size=1, max_size=7), st.integers(1, 3))
def test_trials_are_the_first_ones_of_each_edit_and_as_many_as_planned(earned: Any, repeats: int) -> None:
    tried = run_through(earned, repeats)
    assert all(sorted(values) == list(range(len(values))) for values in tried)
    assert sum(map(len, tried)) == sum(size * each for size, each in rungs(len(earned), repeats))


def test_a_lucky_edit_that_was_dropped_is_not_selected() -> None:
    group = [Scored("lucky", 0.9, trials=1), Scored("second", 0.4, trials=3), Scored("best", 0.5, trials=3)]
    assert best_of_group([group]) == ["best"]
    failed = [Scored("failed", None, trials=3), Scored("also", None, trials=3)]
    assert best_of_group([[*group, *failed]]) == ["best"]
    assert best_of_group([[*group[:1], *failed, Scored("unreadable", None)]]) == []  # not the one that both finalists beat


# ---- on a model

HALVING = OuterTable(rounds=1, contexts=2, edits=4, repeats=2, allocation="halving")


def test_groups_are_tried_together_and_their_contenders_most(engine: Engine, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    calls: list[int] = []

    class Counting(Watched):
        def run(self, jobs: Any) -> Any:
            jobs = list(jobs)
            calls.append(len(jobs))
            return super().run(jobs)

    with Store.create(tmp_path / "runs", "x", "", {}) as store:
        train(Counting(engine), a_domain(tmp_path), store, HALVING, notify=lambda *what: told.append(what))  # type: ignore[arg-type]
        outcomes = store.outcomes("train", 1)
        kept = store.kept("train", 1)
        noise = store.metrics()[1]["noise"]
    counts: dict[str, list[int]] = {}
    for edit in dict.fromkeys(one.trial.edit for one in outcomes):
        assert edit is not None
        counts.setdefault(edit.problem_id, []).append(sum(one.trial.edit == edit for one in outcomes))
    assert [sorted(each) for each in counts.values()] == [[1, 1, 3, 3]] * 2
    assert calls[1:] == [8, 8]  # both groups' trials at once, rung by rung, after the base answers
    assert all(sum(f"{id}/{repeat}" in {one.trial.id for one in outcomes} for repeat in range(3)) == 3 for id in kept)
    assert ("trials", 16, 16) in told
    assert 0 <= noise <= 1


@pytest.mark.parametrize("reader", [STYLES["atomic-facts"].reader, lambda text: [f"It has {len(text) % 2} doors."]])
def test_stopped_again_and_again_it_tries_the_same(reader: Any, engine: Engine, tmp_path: Path) -> None:
    """Also where two of four edits are equal at least."""
    domain = a_domain(tmp_path, style=replace(STYLES["atomic-facts"], reader=reader))
    with Store.create(tmp_path / "runs", "whole", "", {}) as whole:
        train(engine, domain, whole, HALVING)
    with Store.create(tmp_path / "runs", "stopped", "", {}) as stopped:
        interrupted_until_done(lambda: train(engine, domain, stopped, HALVING), commits=9)
        mine, theirs = rows(stopped), rows(whole)
        for table in theirs:
            assert mine[table] == theirs[table], table


def test_an_edit_that_cannot_be_read_takes_nobodys_trials(engine: Engine, tmp_path: Path) -> None:
    seen: list[str] = []

    def all_but_the_first(text: str) -> list[str]:
        seen.append(text)
        return ["..."] if len(seen) == 1 else [f"It has {len(seen)} doors."]

    domain = a_domain(tmp_path, style=replace(STYLES["atomic-facts"], reader=all_but_the_first))
    with Store.create(tmp_path / "runs", "x", "", {}) as store:
        train(engine, domain, store, changed(HALVING, contexts=1))
        outcomes = store.outcomes("train", 1)
    assert [one.trial.edit.index for one in outcomes if one.fault] == [0]  # type: ignore[union-attr]
    assert len(outcomes) == 1 + sum(size * each for size, each in rungs(3, 2))


def test_equal_edits_take_one_place_and_share_its_trials(engine: Engine, tmp_path: Path) -> None:
    seen: list[str] = []

    def the_first_two_alike(text: str) -> list[str]:
        seen.append(text)
        return [f"It has {max(2, len(seen))} doors."]

    domain, watched = a_domain(tmp_path, style=replace(STYLES["atomic-facts"], reader=the_first_two_alike)), Watched(engine)
    with Store.create(tmp_path / "runs", "x", "", {}) as store:
        train(watched, domain, store, changed(HALVING, contexts=1))  # type: ignore[arg-type]
        outcomes = store.outcomes("train", 1)
    answers: list[dict[int, Any]] = [{}, {}, {}, {}]
    for one in outcomes:
        answers[one.trial.edit.index][one.trial.repeat] = one.after  # type: ignore[union-attr]
    assert answers[0] == answers[1]
    assert sorted(len(own) for own in answers[1:]) == [1, 2, 2]  # the plan of three
    assert sum(bool(job.examples) for job in watched.jobs) == 5


# ---- the simulation


def script() -> ModuleType:
    spec = spec_from_file_location("halving_simulation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_fit_finds_the_variances_scores_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.1, (3000, 5, 1)) + rng.normal(0, 0.2, (3000, 5, 3))
    found = script().fit(scores.tolist(), [5])
    assert (found.between, found.within) == pytest.approx((0.1, 0.2), abs=0.01)


def test_halving_picks_the_best_more_often_where_noise_is_large() -> None:
    simulation = script()
    found = simulation.Fit(between=0.075, within=0.19, share=0.68, questions=[5])
    row = simulation.simulate(found, edits=5, repeats=4, groups=3000, grid=False, seed=0)
    assert row["best_low"] > 0
    assert row["worth_low"] > 0
    silent = simulation.simulate(replace(found, within=0.0), edits=5, repeats=2, groups=50, grid=False, seed=0)
    assert silent["best_uniform"] == silent["best_halving"] == 1.0


@pytest.mark.shared
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="no data folder beside the checkout")
def test_the_released_scores_are_two_thirds_noise() -> None:
    simulation = script()
    found = simulation.fit(*simulation.scores_of(OFFICIAL / "rank_iter0.json"))
    assert found.share == pytest.approx(0.68, abs=0.01)
    assert (found.between, found.within) == pytest.approx((0.075, 0.192), abs=0.002)
    assert question_noise(simulation.of_questions(OFFICIAL / "rank_iter0.json")) == pytest.approx(0.73, abs=0.01)
