"""The table: what a model knows after each way of adapting it, on problems nothing was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seal.domains.knowledge import Knowledge
from seal.errors import UserError
from seal.loops.stages import Notify, nobody, sample_edits, try_edits
from seal.policy.write import read
from seal.protocols import Engine
from seal.seeds import derive
from seal.store import Store
from seal.trials import Asks, run_pooled, unchanged
from seal.types import Problem, Reply, Sampling, SelfEdit, Trial, Tuning

ROUND = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is measured."""

    conditions: tuple[str, ...]
    """Of base, passage, in_context, untrained, given, seal."""
    problems: tuple[Problem, ...]
    sampling: Sampling
    """`n` edits a problem in `untrained` and `seal`."""
    repeats: int = 1
    pooled: bool = False
    """Continued pretraining: one adapter for all problems, instead of one each."""
    tuning: Tuning = field(default_factory=Tuning)
    """Of the pooled adapter."""
    given: Mapping[str, tuple[str, ...]] | None = None
    """Texts of the given edits, by problem id."""
    policy: Path | None = None
    """The trained policy; needed by `seal`."""


def evaluate(engine: Engine, domain: Knowledge, store: Store, plan: Evaluation, *, seed: int, notify: Notify = nobody) -> None:
    """Measures every condition that the store does not have whole yet. Each is a phase of the store, named like it.

    `seal` writes its edits with the trained policy and adapts that same model, as the paper does; all others start from the
    base model. Refuses problems that the policy was trained on.
    """
    refuse_trained(store, plan.problems)
    store.put_problems(plan.problems)
    for condition in plan.conditions:
        engine.load(plan.policy if condition == "seal" else None)
        if condition in ("base", "in_context"):
            ask = domain.ask if condition == "base" else domain.ask_in_context
            _ask_unchanged(engine, domain, store, plan.problems, condition, ask, notify)
            continue
        edits = _edits(engine, domain, store, plan, condition, seed, notify)
        if plan.pooled:
            _pooled(engine, domain, store, plan, edits, condition, seed, notify)
        else:
            try_edits(engine, domain, store, plan.problems, edits, plan.repeats, condition, ROUND, seed, notify)


def refuse_trained(store: Store, problems: Sequence[Problem]) -> None:
    """Raises UserError, naming it, if the run's policy was trained on one of these problems."""
    trained = {edit.problem_id for phase, round in store.rounds() if phase == "train" for edit in store.edits(phase, round)}
    for problem in problems:
        if problem.id in trained:
            raise UserError(
                f"passage {problem.title!r} ({problem.id}) was trained on in this run; evaluate on another split or file"
            )


def _ask_unchanged(
    engine: Engine, domain: Knowledge, store: Store, problems: Sequence[Problem], phase: str, ask: Asks, notify: Notify
) -> None:
    have = store.base(phase, ROUND)
    missing = [problem for problem in problems if problem.id not in have]
    done = len(problems) - len(missing)
    for problem, answers, cost in unchanged(engine, domain, missing, ask=ask):
        store.put_base(phase, ROUND, problem.id, answers, cost)
        done += 1
        notify(phase, done, len(problems))


def _edits(
    engine: Engine, domain: Knowledge, store: Store, plan: Evaluation, condition: str, seed: int, notify: Notify
) -> list[SelfEdit]:
    if condition in ("untrained", "seal"):
        return sample_edits(engine, domain, store, plan.problems, plan.sampling, condition, ROUND, seed, notify)
    if condition == "passage":
        edits = [_passage_edit(domain, problem) for problem in plan.problems]
    else:
        edits = [edit for problem in plan.problems for edit in _given_edits(domain, problem, plan.given or {})]
    store.put_edits(edits)
    return edits


def _passage_edit(domain: Knowledge, problem: Problem) -> SelfEdit:
    reading = domain.passage_only(problem)
    return SelfEdit(
        f"passage/{ROUND}/{problem.id}/0",
        problem.id,
        "",
        ROUND,
        0,
        domain.edit_prompt(problem),
        reading.examples,
        reading.tuning,
        source="passage",
    )


def _given_edits(domain: Knowledge, problem: Problem, given: Mapping[str, tuple[str, ...]]) -> list[SelfEdit]:
    if problem.id not in given:
        raise UserError(f"the given edits have none for passage {problem.title!r}; give a file that has, or a smaller eval.limit")
    return [
        read(
            domain,
            problem,
            domain.edit_prompt(problem),
            Reply(text),
            id=f"given/{ROUND}/{problem.id}/{index}",
            index=index,
            source="given",
        )
        for index, text in enumerate(given[problem.id])
    ]


def _pooled(
    engine: Engine,
    domain: Knowledge,
    store: Store,
    plan: Evaluation,
    edits: Sequence[SelfEdit],
    phase: str,
    seed: int,
    notify: Notify,
) -> None:
    """Continued pretraining: all edits of all problems in one adapter, once a repeat."""
    by_id = {problem.id: problem for problem in plan.problems}
    before = store.base(phase, ROUND)
    for problem, answers, cost in unchanged(engine, domain, [problem for problem in plan.problems if problem.id not in before]):
        store.put_base(phase, ROUND, problem.id, answers, cost)
    before = store.base(phase, ROUND)
    have = {outcome.trial.id for outcome in store.outcomes(phase, ROUND)}
    for repeat in range(plan.repeats):
        trials = [
            Trial(f"{edit.id}/{repeat}", by_id[edit.problem_id], edit, repeat, derive(seed, "pooled", repeat)) for edit in edits
        ]
        if not all(trial.id in have for trial in trials):
            for outcome in run_pooled(
                engine, domain, trials, before, tuning=plan.tuning, seed=derive(seed, "pooled", phase, repeat)
            ):
                store.put_outcome(phase, ROUND, outcome)
        notify(phase, repeat + 1, plan.repeats)
