"""Accuracy against synthetic tokens: what each condition's edits are worth when no more than so much of them is learnt.

Longer edits win by being longer; this says by how much. For each number of tokens a passage's edits are taken one after the
other, row by row, as far as they fit; what of the passage itself is trained on is added to every point and not counted. A point's
rows come of several edits, so it is trained by the recipe's tuning and not by any one edit's plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from seal.loops.evaluate import ROUND, Evaluation
from seal.loops.stages import Stages
from seal.offers import OwnExamples
from seal.protocols import Domain, Engine, Notify, nobody
from seal.store import Store, edit_id
from seal.trials import edits_by_problem
from seal.types import Example, Problem, SelfEdit

CURVE = "tokens-"
"""Beginning of the phases' names: `tokens-128/untrained`."""
CONDITIONS = ("sentences", "untrained", "given", "seal")
"""Those with edits that can be cut."""


def curve(engine: Engine, domain: Domain, store: Store, evaluation: Evaluation, *, seed: int, notify: Notify = nobody) -> None:
    """Every point of `evaluation.curve` that the store does not have; `evaluate` has been there before with the same one."""
    for condition in evaluation.conditions:
        if condition not in CONDITIONS:
            continue
        engine.load(evaluation.policy if condition == "seal" and evaluation.learner == "policy" else None)
        written = edits_by_problem(store.edits(condition, ROUND))
        for most in evaluation.curve:
            phase = f"{CURVE}{most}/{condition}"
            stages = Stages(engine, domain, store, phase, ROUND, seed, notify, evaluation.budget)
            stages.unchanged(evaluation.problems, known=store.base(condition, ROUND))
            if not store.edits(phase, ROUND):  # put all at once
                cut = [_cut(engine, domain, one, written[one.id], most, phase) for one in evaluation.problems]
                stages.keep([replace(edit, tuning=evaluation.tuning) for edit in cut])
            problems, edits, repeats = evaluation.problems, store.edits(phase, ROUND), evaluation.repeats
            if evaluation.pooled:
                stages.attempt_pooled(problems, edits, repeats, stages.within_budget(evaluation.tuning, len(problems)))
            else:
                stages.attempt(problems, edits, repeats)


def _cut(engine: Engine, domain: Domain, problem: Problem, edits: Sequence[SelfEdit], most: int, phase: str) -> SelfEdit:
    """One edit of at most so many tokens out of several, and of one row at least. Without a usable one, their fault."""
    usable = [edit for edit in edits if edit.fault is None]
    first = (usable or edits)[0]
    own = tuple(domain.own_examples(problem)) if isinstance(domain, OwnExamples) else ()
    written = (edit.examples[: len(edit.examples) - len(own)] for edit in usable)
    rows: list[Example] = []
    tokens = 0
    for row in dict.fromkeys(chain.from_iterable(written)):
        size = engine.count(row)
        if rows and tokens + size > most:
            break
        rows.append(row)
        tokens += size
    return SelfEdit(
        edit_id(phase, ROUND, problem.id, 0),
        problem.id,
        "\n".join(row.completion for row in rows),
        ROUND,
        0,
        first.prompt,
        (*rows, *own),
        tokens=tokens,
        source=first.source,
        fault=first.fault,
    )
