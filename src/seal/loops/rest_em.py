"""ReST-EM: the outer loop of SEAL. Sample self-edits, try each, keep what helped, learn to write such, again.

    problems -> edits -> trials -> outcomes -> rewards -> kept -> policy

Every stage first looks into the store for what an interrupted run has already done, and does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from seal.policy.selection import Groups, Scored
from seal.policy.write import write
from seal.protocols import Domain, Engine
from seal.rewards import Compose, score
from seal.seeds import derive
from seal.store import Store
from seal.trials import run, unchanged
from seal.types import Outcome, Problem, Sampling, SelfEdit, Trial

PHASE = "train"

Select = Callable[[Groups[SelfEdit], int], list[SelfEdit]]
"""Groups of scored edits and a seed for ties -> the edits to learn from."""
Update = Callable[[Engine, Sequence[SelfEdit], int], list[float]]
"""Changes the policy; returns its losses."""
Notify = Callable[[str, int, int], None]
"""Told `("edits", 16, 96)` as the loop goes."""


@dataclass(frozen=True, slots=True)
class Outer:
    """The sizes of the outer loop."""

    rounds: int
    contexts: int
    """Problems a round."""
    sampling: Sampling
    """`n` is M, the edits a problem."""
    repeats: int = 1
    """Trials an edit, each with its own seed."""
    fresh: bool = True
    """New problems every round, as in the paper, until the training split is used up; False: the same ones."""


def rest_em(engine: Engine, domain: Domain, store: Store, outer: Outer, *, reward: Compose, select: Select, update: Update,
            seed: int, notify: Notify = lambda what, done, total: None) -> None:
    """Runs all rounds that the store does not have yet. The policy after each is in `store.policy_dir(round)`."""
    train = domain.problems("train")
    for round in range(1, outer.rounds + 1):
        engine.load(store.policy_dir(round - 1) if round > 1 else None)
        if store.policy_dir(round).exists():
            continue
        began = time.perf_counter()
        problems = contexts(train, outer, round, seed)
        store.put_problems(problems)
        edits = sample_edits(engine, domain, store, problems, outer.sampling, PHASE, round, seed, notify)
        outcomes = try_edits(engine, domain, store, problems, edits, outer.repeats, PHASE, round, seed, notify)
        groups = reward_edits(store, problems, edits, outcomes, reward)
        kept = select(groups, derive(seed, "ties", round))
        store.put_kept(PHASE, round, [edit.id for edit in kept])
        notify("policy", 0, 1)
        losses = update(engine, kept, derive(seed, "update", round)) if kept else []
        engine.export(store.policy_dir(round))
        measure(store, round, losses, time.perf_counter() - began)
        notify("policy", 1, 1)


def contexts(train: Sequence[Problem], outer: Outer, round: int, seed: int) -> list[Problem]:
    """This round's problems: the next ones of a seeded order, from its beginning again when it is used up."""
    order = list(train)
    Random(derive(seed, "contexts")).shuffle(order)
    start = (round - 1) * outer.contexts if outer.fresh else 0
    return [order[(start + i) % len(order)] for i in range(min(outer.contexts, len(order)))]


def sample_edits(engine: Engine, domain: Domain, store: Store, problems: Sequence[Problem], how: Sampling, phase: str,
                 round: int, seed: int, notify: Notify) -> list[SelfEdit]:
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


def try_edits(engine: Engine, domain: Domain, store: Store, problems: Sequence[Problem], edits: Sequence[SelfEdit], repeats: int,
              phase: str, round: int, seed: int, notify: Notify) -> list[Outcome]:
    """E-step, second half: every edit is learnt from the policy's weights, asked about, forgotten."""
    before = store.base(phase, round)
    for problem, answers, cost in unchanged(engine, domain, [problem for problem in problems if problem.id not in before]):
        store.put_base(phase, round, problem.id, answers, cost)
    before = store.base(phase, round)
    by_id = {problem.id: problem for problem in problems}
    trials = [
        Trial(f"{edit.id}/{repeat}", by_id[edit.problem_id], edit, repeat, derive(seed, round, edit.problem_id, edit.index, repeat))
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


def reward_edits(store: Store, problems: Sequence[Problem], edits: Sequence[SelfEdit], outcomes: Sequence[Outcome],
                 reward: Compose) -> list[list[Scored[SelfEdit]]]:
    """Each edit's reward is the mean over its trials; one trial that may not be learnt from excludes the edit."""
    by_edit: dict[str, list[Outcome]] = {}
    by_problem: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        assert outcome.trial.edit is not None
        by_edit.setdefault(outcome.trial.edit.id, []).append(outcome)
        by_problem.setdefault(outcome.trial.problem.id, []).append(outcome)
    groups = []
    for problem in problems:
        siblings = by_problem.get(problem.id, [])
        group = []
        for edit in edits:
            if edit.problem_id == problem.id:
                own = by_edit[edit.id]
                named = [{**reward.parts(outcome, siblings), "reward": reward(outcome, siblings)} for outcome in own]
                means = {name: _mean([values[name] for values in named]) for name in named[0]}
                store.put_rewards({edit.id: means})
                gains = [_gain(outcome) for outcome in own]
                group.append(Scored(edit, means["reward"], _mean(gains)))
        groups.append(group)
    return groups


def measure(store: Store, round: int, losses: Sequence[float], seconds: float) -> None:
    """A round's own numbers; those of its edits and trials are worked out from their rows."""
    store.put_metric(round, "seconds", seconds)
    if losses:
        store.put_metric(round, "policy_loss_first", losses[0])
        store.put_metric(round, "policy_loss_last", losses[-1])


def _gain(outcome: Outcome) -> float | None:
    before, after = score(outcome.before), score(outcome.after)
    return None if before is None or after is None else after - before


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
