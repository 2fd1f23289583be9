"""The table: what a model knows after each way of adapting it, on problems nothing was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from seal.errors import UserError
from seal.loops.stages import Notify, Stages, nobody
from seal.policy.write import read
from seal.protocols import Domain, Engine
from seal.store import Store
from seal.trials import Asks
from seal.types import Ask, Problem, Reading, Reply, Sampling, SelfEdit, Tuning

ROUND = 0


@runtime_checkable
class InContext(Protocol):
    """What the condition `in_context` needs of a domain besides `protocols.Domain`."""

    def ask_in_context(self, problem: Problem) -> Sequence[Ask]:
        """The queries with what is to be learnt before them."""
        ...


@runtime_checkable
class PassageOnly(Protocol):
    """What the condition `passage` needs of a domain besides `protocols.Domain`."""

    def passage_only(self, problem: Problem) -> Reading:
        """What is to be learnt, as it stands, as the only training row."""
        ...


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
    budget: tuple[int, int] | None = None
    """Training tokens and steps of every trial, in all conditions alike; None = what each edit's tuning says."""
    curve: tuple[int, ...] = ()
    """Most synthetic tokens a passage, point by point (`loops.curve`)."""


def evaluate(engine: Engine, domain: Domain, store: Store, plan: Evaluation, *, seed: int, notify: Notify = nobody) -> None:
    """Measures every condition that the store does not have whole yet. Each is a phase of the store, named like it.

    `seal` writes its edits with the trained policy and adapts that same model, as the paper does; all others start from the
    base model. Refuses problems that the policy was trained on, and conditions that the domain does not offer.
    """
    refuse_missing(domain, plan.conditions)
    refuse_trained(store, plan.problems)
    if "given" in plan.conditions:
        refuse_ungiven(plan.problems, plan.given or {})
    if "seal" in plan.conditions and plan.policy is None:
        raise ValueError("condition 'seal' needs a policy")
    store.put_problems(plan.problems)
    for condition in plan.conditions:
        engine.load(plan.policy if condition == "seal" else None)
        stages = Stages(engine, domain, store, condition, ROUND, seed, notify, plan.budget)
        if condition in ("base", "in_context"):
            stages.unchanged(plan.problems, ask=_asks(domain, condition))
            continue
        if condition != "seal":
            stages.unchanged(plan.problems, known=store.base("base", ROUND))
        edits = _edits(stages, plan)
        if plan.pooled:
            stages.attempt_pooled(plan.problems, edits, plan.repeats, stages.within_budget(plan.tuning, len(plan.problems)))
        else:
            stages.attempt(plan.problems, edits, plan.repeats)


def refuse_missing(domain: Domain, conditions: Sequence[str]) -> None:
    """Raises UserError, naming it, if the domain cannot be measured in one of these conditions."""
    for condition, need, method in (("in_context", InContext, "ask_in_context"), ("passage", PassageOnly, "passage_only")):
        if condition in conditions and not isinstance(domain, need):
            raise UserError(f"eval.conditions: domain {domain.name!r} has no {condition!r} (no method {method}); leave it out")


def refuse_overlap(training: Sequence[Problem], problems: Sequence[Problem]) -> None:
    """Raises UserError, naming it, if one of the problems that are to be measured is among those to be trained on."""
    trained = {problem.id for problem in training}
    for problem in problems:
        if problem.id in trained:
            raise UserError(
                f"passage {problem.title!r} ({problem.id}) would be trained on and measured too; take it out of one of the"
                " splits, or name another eval.split"
            )


def refuse_trained(store: Store, problems: Sequence[Problem]) -> None:
    """Raises UserError, naming it, if the run's policy was trained on one of these problems."""
    trained = {edit.problem_id for phase, round in store.rounds() if phase == "train" for edit in store.edits(phase, round)}
    for problem in problems:
        if problem.id in trained:
            raise UserError(
                f"passage {problem.title!r} ({problem.id}) was trained on in this run; evaluate on another split or file"
            )


def refuse_ungiven(problems: Sequence[Problem], given: Mapping[str, tuple[str, ...]]) -> None:
    """Raises UserError, naming it, if one of these problems has no given edit."""
    for problem in problems:
        if not given.get(problem.id):
            raise UserError(
                f"the given edits have none for passage {problem.title!r}; give a file that has, or leave 'given' out of"
                " eval.conditions"
            )


def _asks(domain: Domain, condition: str) -> Asks:
    if condition == "base":
        return domain.ask
    assert isinstance(domain, InContext)  # see refuse_missing
    return domain.ask_in_context


def _edits(stages: Stages, plan: Evaluation) -> list[SelfEdit]:
    domain, store = stages.domain, stages.store
    if stages.phase in ("untrained", "seal"):
        return stages.sample(plan.problems, plan.sampling)
    if stages.phase == "passage":
        edits = [_passage_edit(domain, problem) for problem in plan.problems]
    else:
        edits = [edit for problem in plan.problems for edit in _given_edits(domain, problem, (plan.given or {})[problem.id])]
    stages.keep(edits)
    return store.edits(stages.phase, ROUND)


def _passage_edit(domain: Domain, problem: Problem) -> SelfEdit:
    assert isinstance(domain, PassageOnly)  # see refuse_missing
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


def _given_edits(domain: Domain, problem: Problem, texts: Sequence[str]) -> list[SelfEdit]:
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
        for index, text in enumerate(texts)
    ]
