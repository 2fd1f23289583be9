"""Equal edits of a problem are one training: it is made once, and its outcome is each one's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import INNER, REWARD, Watched, an_engine, rows, stop_after

from seal.domains.knowledge import Knowledge
from seal.loops.stages import Stages, firsts, reward_edits
from seal.policy.write import read
from seal.report.measured import edit_scores, taken_over, trainings
from seal.report.render import with_taken_over
from seal.rewards import Compose
from seal.store import Store
from seal.trials import run
from seal.types import Outcome, Problem, Reply, SelfEdit

TEXTS = ("Ada built it.", "It is of wood.", "Ada built it.", "", "Ada built it.")
"""Of a problem: the first, third and last are one edit, the fourth cannot be read."""


class Killed(Exception):
    """Stands for a process that is gone."""


@pytest.fixture
def engine(tiny_path: Path) -> Watched:
    return Watched(an_engine(tiny_path))


def the_edits(domain: Knowledge, problems: list[Problem]) -> list[SelfEdit]:
    return [
        read(domain, problem, domain.edit_prompt(problem), Reply(text), id=f"train/1/{problem.id}/{index}", round=1, index=index)
        for problem in problems
        for index, text in enumerate(TEXTS)
    ]


def attempt(engine: Watched, domain: Knowledge, store: Store, repeats: int = 2) -> tuple[list[SelfEdit], list[Outcome]]:
    problems = list(domain.problems("train")[:2])
    store.put_problems(problems)
    edits = the_edits(domain, problems)
    stages = Stages(engine, domain, store, "train", 1, 3)
    stages.keep(edits)
    return edits, stages.attempt(problems, edits, repeats)


def test_what_equal_edits_earn_is_what_trying_each_of_them_gives(engine: Watched, domain: Knowledge, store: Store) -> None:
    edits, outcomes = attempt(engine, domain, store)
    assert len(outcomes) == 2 * len(TEXTS) * 2
    trained = [job for job in engine.jobs if job.examples]
    assert len(trained) == 2 * 2 * 2  # problems, different edits, repeats
    before = store.base("train", 1)
    for outcome in outcomes:
        (alone,) = run(engine, domain, [outcome.trial], before)
        assert (outcome.after, outcome.losses, outcome.fault) == (alone.after, alone.losses, alone.fault)
        assert outcome.cost.train_tokens == alone.cost.train_tokens
    first = firsts(edits)
    spent = [one for one in outcomes if one.trial.edit and first[one.trial.edit.id].id == one.trial.edit.id]
    assert sum(one.cost.train_seconds for one in outcomes) == sum(one.cost.train_seconds for one in spent)
    assert [len(trainings(outcomes)), len(outcomes)] == [len(trained) + 2 * 2, 20]  # a fault is no training, and each its own
    assert taken_over(outcomes) == 2 * 2 * 2


def test_a_trial_of_another_phase_is_taken_over_if_it_is_the_same_training(
    engine: Watched, domain: Knowledge, store: Store
) -> None:
    _, tried = attempt(engine, domain, store)
    engine.jobs.clear()
    problems = list(domain.problems("train")[:2])
    stages = Stages(engine, domain, store, "again", 1, 3)
    edits = [replace(edit, id=edit.id.replace("train", "again", 1)) for edit in the_edits(domain, problems)]
    edits[0] = replace(edits[0], tuning=replace(edits[0].tuning, epochs=3))  # the same seed, another training
    stages.keep(edits)
    outcomes = stages.attempt(problems, edits, 2, known=tried)
    assert [job.id for job in engine.jobs if job.examples] == [
        f"again/1/{problems[0].id}/{index}/{repeat}" for index in (0, 2) for repeat in (0, 1)
    ]  # the third is now the first of its kind
    same = {one.trial.id: one.after for one in tried if one.trial.problem.id == problems[1].id}
    found = {one.trial.id.replace("again", "train", 1): one.after for one in outcomes if one.trial.problem.id == problems[1].id}
    assert found == same
    assert sum(one.fault is not None for one in outcomes) == 4


def test_repeats_of_an_edit_stay_trials_with_seeds_of_their_own(engine: Watched, domain: Knowledge, store: Store) -> None:
    _, outcomes = attempt(engine, domain, store)
    seeds: dict[str, list[int]] = {}
    for one in outcomes:
        seeds.setdefault(one.trial.problem.id + (one.trial.edit.text if one.trial.edit else ""), []).append(one.trial.seed)
    assert {len(own) for own in seeds.values()} == {2, 6}
    assert all(len(set(own)) == 2 for own in seeds.values())


def test_the_same_text_asks_for_another_training_under_another_tuning(domain: Knowledge) -> None:
    edits = the_edits(domain, list(domain.problems("train")[:2]))
    assert [firsts(edits)[edit.id].index for edit in edits] == [0, 1, 0, 3, 0] * 2
    other = [edits[0], replace(edits[2], tuning=replace(INNER, epochs=3))]
    assert [firsts(other)[edit.id].index for edit in other] == [0, 2]


def test_a_run_killed_between_equal_edits_is_the_run_that_never_was(
    engine: Watched, domain: Knowledge, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(engine, domain, store)
    whole = rows(store)

    def die() -> None:
        raise Killed

    with Store.create(tmp_path / "runs", "killed", "", {}) as other:
        for commits in range(2, 12, 3):
            with monkeypatch.context() as patch:
                stop_after(commits, die, patch.setattr)
                with pytest.raises(Killed):
                    attempt(engine, domain, other)
        engine.jobs.clear()
        attempt(engine, domain, other)
        assert rows(other) == whole
        assert 0 < len(engine.jobs) < 8


def test_the_noise_counts_equal_edits_once(engine: Watched, domain: Knowledge, store: Store) -> None:
    edits, outcomes = attempt(engine, domain, store)
    problems = list(domain.problems("train")[:2])
    groups = reward_edits(store, problems, edits, outcomes, Compose(REWARD))
    assert [len({one.training for one in group}) for group in groups] == [3, 3]  # so that equal ones can be known in a selection
    noise = store.metrics()[1]
    with Store.create(store.path.parent, "once", "", {}) as once:
        once.put_problems(problems)
        own = [edit for edit in edits if edit.index in (0, 1, 3)]
        stages = Stages(engine, domain, once, "train", 1, 3)
        stages.keep(own)
        reward_edits(once, problems, own, stages.attempt(problems, own, 2), Compose(REWARD))
        assert noise == once.metrics()[1]
        assert edit_scores(outcomes) == edit_scores(once.outcomes("train", 1))


def test_a_table_says_how_many_trials_took_an_outcome_over() -> None:
    assert with_taken_over(8, 0) == "8"
    assert with_taken_over(20, 8) == "20 (8 taken over)"
