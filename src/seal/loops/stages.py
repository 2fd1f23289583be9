"""The stages both loops go through. Each looks into the store for what an interrupted run has already done, and does the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seal.policy.selection import Scored
from seal.policy.write import write
from seal.protocols import Domain, Engine
from seal.rewards import REWARDS, Compose
from seal.seeds import derive
from seal.stats import mean
from seal.store import Store
from seal.trials import run, unchanged
from seal.types import Outcome, Problem, Sampling, SelfEdit, Trial

Notify = Callable[[str, int, int], None]
"""Told `("edits", 16, 96)` as a stage goes on."""


def nobody(what: str, done: int, total: int) -> None:
    """A Notify that tells nobody."""


def sample_edits(
    engine: Engine,
    domain: Domain,
    store: Store,
    problems: Sequence[Problem],
    how: Sampling,
    phase: str,
    round: int,
    seed: int,
    notify: Notify,
) -> list[SelfEdit]:
    """E-step, first half: the policy writes. A batch is stored whole, and one that is stored is not drawn again."""
    total = len(problems) * how.n
    have = {edit.problem_id for edit in store.edits(phase, round)}
    # batches are fixed by the problems' order, so those that are missing are the last ones
    missing = [problem for problem in problems if problem.id not in have]
    done = total - len(missing) * how.n
    notify("edits", done, total)
    for batch in write(engine, domain, missing, how, phase=phase, round=round, seed=seed):
        store.put_edits(batch)
        done += len(batch)
        notify("edits", done, total)
    wanted = {problem.id for problem in problems}
    return [edit for edit in store.edits(phase, round) if edit.problem_id in wanted]


def try_edits(
    engine: Engine,
    domain: Domain,
    store: Store,
    problems: Sequence[Problem],
    edits: Sequence[SelfEdit],
    repeats: int,
    phase: str,
    round: int,
    seed: int,
    notify: Notify,
) -> list[Outcome]:
    """E-step, second half: every edit is learnt from the policy's weights, asked about, forgotten."""
    before = store.base(phase, round)
    for problem, answers, cost in unchanged(engine, domain, [problem for problem in problems if problem.id not in before]):
        store.put_base(phase, round, problem.id, answers, cost)
    before = store.base(phase, round)
    by_id = {problem.id: problem for problem in problems}
    trials = [
        Trial(
            f"{edit.id}/{repeat}", by_id[edit.problem_id], edit, repeat, derive(seed, round, edit.problem_id, edit.index, repeat)
        )
        for edit in edits
        for repeat in range(repeats)
    ]
    have = {outcome.trial.id for outcome in store.outcomes(phase, round)}
    done = len(have)
    notify("trials", done, len(trials))
    for outcome in run(engine, domain, [trial for trial in trials if trial.id not in have], before):
        store.put_outcome(phase, round, outcome)
        done += 1
        notify("trials", done, len(trials))
    return store.outcomes(phase, round)


def reward_edits(
    store: Store, problems: Sequence[Problem], edits: Sequence[SelfEdit], outcomes: Sequence[Outcome], reward: Compose
) -> list[list[Scored[SelfEdit]]]:
    """One group a problem, its edits with their rewards: the mean over an edit's trials, None if one of them has none."""
    of_edit: dict[str, list[Outcome]] = {}
    of_problem: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        of_problem.setdefault(outcome.trial.problem.id, []).append(outcome)
        if outcome.trial.edit is not None:
            of_edit.setdefault(outcome.trial.edit.id, []).append(outcome)
    groups: dict[str, list[Scored[SelfEdit]]] = {problem.id: [] for problem in problems}
    rewards = {}
    for edit in edits:
        own, siblings = of_edit[edit.id], of_problem[edit.problem_id]
        parts = [reward.parts(outcome, siblings) for outcome in own]
        named = {name: _over_trials([each[name] for each in parts]) for name in reward.weights}
        total = _over_trials([reward(outcome, siblings) for outcome in own])
        gain = _over_trials([REWARDS["gain"](outcome, siblings) for outcome in own])
        rewards[edit.id] = {**named, "reward": total}
        groups[edit.problem_id].append(Scored(edit, total, gain))
    store.put_rewards(rewards)
    return list(groups.values())


def _over_trials(values: Sequence[float | None]) -> float | None:
    return None if None in values else mean(values)
