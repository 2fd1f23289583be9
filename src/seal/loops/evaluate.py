"""The table: what a model knows after each way of adapting it, on problems nothing was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seal.config.recipe import Learner
from seal.loops.refuse import refuse_changed, refuse_missing, refuse_trained, refuse_ungiven
from seal.loops.stages import Stages
from seal.offers import ChosenPlans, InContext, InSentences, PassageOnly
from seal.policy.write import Draft, read_batch, unwritten
from seal.protocols import Domain, Engine, Notify, nobody
from seal.seeds import derive
from seal.store import Store, edit_id
from seal.trials import Asks
from seal.types import Answer, Outcome, Problem, Reply, Sampling, SelfEdit, Tuning

ROUND = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is measured."""

    conditions: tuple[str, ...]
    """Of base, passage, in_context, sentences, untrained, given, fixed, oracle, seal."""
    problems: tuple[Problem, ...]
    sampling: Sampling
    """`n` edits a problem in `untrained` and `seal`; in `fixed` and `oracle` the same plan as often."""
    repeats: int = 1
    pooled: bool = False
    """Continued pretraining: one adapter for all problems, instead of one each."""
    tuning: Tuning = field(default_factory=Tuning)
    """Of the pooled adapter, and of every point of the curve."""
    given: Mapping[str, tuple[str, ...]] | None = None
    """Texts of the given edits, by problem id."""
    policy: Path | None = None
    """The trained policy; needed by `seal`."""
    rounds_on_same: int = 1
    """Passes over a problem in `untrained` and `seal`."""
    learner: Learner = "policy"
    """Whose weights learn what the trained policy writes; every other condition's edits are learnt by the base model."""
    budget: tuple[int, int] | None = None
    """Training tokens and steps of every trial, in all conditions alike; None = what each edit's tuning says."""
    curve: tuple[int, ...] = ()
    """Most synthetic tokens a passage, point by point (`loops.curve`)."""
    split: str = "test"
    """What the problems are of."""


def evaluate(engine: Engine, domain: Domain, store: Store, evaluation: Evaluation, *, seed: int, notify: Notify = nobody) -> None:
    """Measures every condition that the store does not have whole yet. Each is a phase of the store, named like it.

    `seal` writes its edits with the trained policy and adapts that same model, as the paper does, or the base model if that is
    the learner; all others start from the base model. Refuses problems that the policy was trained on or that are not those of
    the run's first life, and conditions that the domain does not offer.
    """
    refuse_missing(domain, evaluation.conditions)
    refuse_trained(store, evaluation.problems)
    if "given" in evaluation.conditions:
        refuse_ungiven(evaluation.problems, evaluation.given or {})
    if "seal" in evaluation.conditions and evaluation.policy is None:
        raise ValueError("condition 'seal' needs a policy")
    refuse_changed(store, evaluation.split, evaluation.problems, "eval.")
    store.put_problems(evaluation.problems)
    for condition in evaluation.conditions:
        writer = evaluation.policy if condition == "seal" else None
        learner = None if evaluation.learner == "base" else writer
        engine.load(writer)
        stages = Stages(engine, domain, store, condition, ROUND, seed, notify, evaluation.budget)
        if condition in ("base", "in_context"):
            stages.unchanged(evaluation.problems, ask=_asks(domain, condition))
            continue
        edits = edits_of(stages, evaluation)
        if learner != writer:
            engine.load(learner)
        if learner is None:
            stages.unchanged(evaluation.problems, known=_known(store))
        if evaluation.pooled:
            stages.attempt_pooled(
                evaluation.problems, edits, evaluation.repeats, stages.within_budget(evaluation.tuning, len(evaluation.problems))
            )
        else:
            known = _tried_from_base(store) if learner is None else ()
            stages.attempt(evaluation.problems, edits, evaluation.repeats, known=known)


def _known(store: Store) -> dict[str, tuple[Answer, ...]]:
    """What the base model answered in the conditions before: it is not asked again."""
    return {id: answers for condition in _FROM_BASE for id, answers in store.base(condition, ROUND).items()}


def _tried_from_base(store: Store) -> list[Outcome]:
    """The trials of the conditions that adapt the base model."""
    return [outcome for condition in _FROM_BASE for outcome in store.outcomes(condition, ROUND)]


_FROM_BASE = ("base", "passage", "sentences", "untrained", "given", "fixed", "oracle")


def _asks(domain: Domain, condition: str) -> Asks:
    if condition == "base":
        return domain.ask
    assert isinstance(domain, InContext)  # see refuse_missing
    return domain.ask_in_context


def edits_of(stages: Stages, evaluation: Evaluation) -> list[SelfEdit]:
    """The edits of a condition: those in the store, or written, read and put there now."""
    domain, store = stages.domain, stages.store
    if stages.phase in ("untrained", "seal"):
        return stages.sample(evaluation.problems, evaluation.sampling, evaluation.rounds_on_same)
    stored = store.edits(stages.phase, ROUND)
    if {edit.problem_id for edit in stored} >= {problem.id for problem in evaluation.problems}:
        return stored  # what tools had the model write is not drawn again, and what another version made stands
    if stages.phase in ("passage", "sentences"):
        edits = [_unwritten(domain, stages.phase, problem) for problem in evaluation.problems]
    else:
        drafts = [draft for problem in evaluation.problems for draft in _drafts(domain, evaluation, stages.phase, problem)]
        edits = read_batch(stages.engine, domain, drafts, evaluation.sampling, seed=derive(stages.seed, "tools", ROUND))
    stages.keep(edits)
    return store.edits(stages.phase, ROUND)


def _unwritten(domain: Domain, condition: str, problem: Problem) -> SelfEdit:
    if condition == "passage":
        assert isinstance(domain, PassageOnly)  # see refuse_missing
        found = domain.passage_only(problem)
    else:
        assert isinstance(domain, InSentences)
        found = domain.in_sentences(problem)
    return unwritten(domain, problem, found, id=edit_id(condition, ROUND, problem.id, 0), source=condition)


def _texts(domain: Domain, evaluation: Evaluation, condition: str, problem: Problem) -> Sequence[str]:
    if condition == "given":
        return (evaluation.given or {})[problem.id]
    assert isinstance(domain, ChosenPlans)  # see refuse_missing
    return [domain.chosen_plan(condition, problem)] * evaluation.sampling.n


def _drafts(domain: Domain, evaluation: Evaluation, condition: str, problem: Problem) -> list[Draft]:
    prompt = domain.edit_prompt(problem)
    texts = _texts(domain, evaluation, condition, problem)
    return [
        Draft(edit_id(condition, ROUND, problem.id, index), problem, prompt, Reply(text), ROUND, index, source=condition)
        for index, text in enumerate(texts)
    ]
