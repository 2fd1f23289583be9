"""The table of an evaluation on puzzles, counted as the paper counts: correct plans of all plans, and puzzles solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from seal.config.recipe import Condition
from seal.domains.arc.domain import is_puzzle
from seal.loops.curve import CURVE
from seal.report.measured import Columns, by_edit, by_problem, phases, taken_over
from seal.report.tables import Row
from seal.stats import interval, mean, paired
from seal.store import Store
from seal.types import Answer, Outcome


@dataclass(frozen=True, slots=True)
class _Tried:
    """What one condition did, by puzzle id: of each plan the share of its repeats that were correct (in context: of the one try
    without a plan); None where that is not known."""

    correct: Mapping[str, Sequence[float | None]]
    plans: int
    faults: int
    taken_over: int = 0
    trainings: int = 0

    def rates(self) -> dict[str, float | None]:
        """Known where every plan is: where an output is missing only failures are known, and their mean would always be 0."""
        return {id: None if None in own else mean(own) for id, own in self.correct.items()}

    def solved(self) -> list[float | None]:
        return [1.0 if any(own) else None if None in own else 0.0 for own in self.correct.values()]


def of_puzzles(store: Store) -> bool:
    """Whether a run is about puzzles."""
    return any(is_puzzle(problem) for problem in store.problems().values())


def puzzle_table(store: Store) -> list[Row]:
    """One row a condition. A plan is correct if every test input is hit by one of two attempts; one with a fault is not.
    Of several repeats a plan counts as the share that is. Where a missing output leaves that open, the puzzle is in no share.

    `mean`, `low`, `high`: the share of plans that are correct, with its 95% interval, whole puzzles being resampled; `n`:
    puzzles of which that is known; `solved`: the share of puzzles that at least one of their plans solves; `minus_untrained`,
    `minus_fixed`: the difference in the share of correct plans, puzzle by puzzle (None without that condition, and for itself);
    `edits`: plans, `correct` (as far as known) and `faults` of them, `taken_over`: those with the outcome of an equal plan of
    their puzzle; `trainings`: how many different ones its plans came to, over all puzzles: a puzzle is solved by one of so many.
    """
    table = []
    for (prefix, round), named in phases(store).items():
        if prefix.startswith(CURVE):
            continue
        tried = {condition: _tried(store, phase, round) for condition, phase in named.items()}
        for condition in get_args(Condition):
            if condition in tried:
                row = _row(condition, tried)
                table.append({"condition": condition, **row, "phase": named[condition], "round": round})
    return table


def correct_plans(store: Store) -> dict[str, Columns]:
    """By phase of a condition and puzzle id: the share of its plans that are correct, as `puzzle_table` has it, or None."""
    return {
        phase: {id: [rate] for id, rate in _tried(store, phase, round).rates().items()}
        for (prefix, round), conditions in phases(store).items()
        if not prefix.startswith(CURVE)
        for phase in conditions.values()
    }


def _tried(store: Store, phase: str, round: int) -> _Tried:
    outcomes = store.outcomes(phase, round)
    if not store.edits(phase, round):  # the unchanged model is what this condition measures
        return _Tried({id: [_correct(answers)] for id, answers in store.base(phase, round).items()}, 0, 0)
    correct = {id: [_share(trials) for trials in by_edit(own).values()] for id, own in by_problem(outcomes).items()}
    plans = by_edit(outcomes).values()
    faults = sum(any(one.fault for one in trials) for trials in plans)
    taken = sum(taken_over(trials) > 0 for trials in plans)
    trained = {(one.trial.problem.id, one.trial.seed) for one in outcomes if one.fault is None}
    return _Tried(correct, len(plans), faults, taken, len(trained))


def _share(trials: Sequence[Outcome]) -> float | None:
    found = [0.0 if one.fault else _correct(one.after) for one in trials]
    return None if None in found else mean(found)


def _correct(answers: Sequence[Answer]) -> float | None:
    """One wrong answer is enough to know; without answers nothing is solved."""
    if not answers or any(answer.score not in (None, 1.0) for answer in answers):
        return 0.0
    return None if any(answer.score is None for answer in answers) else 1.0


def _row(condition: str, tried: Mapping[str, _Tried]) -> Row:
    own = tried[condition]
    rates = list(own.rates().values())
    return {
        **interval(rates)._asdict(),
        "n": sum(rate is not None for rate in rates),
        "solved": interval(own.solved())._asdict(),
        "minus_untrained": _difference(condition, "untrained", tried),
        "minus_fixed": _difference(condition, "fixed", tried),
        "edits": own.plans,
        "correct": sum(known or 0.0 for plans in own.correct.values() for known in plans),
        "faults": own.faults,
        "taken_over": own.taken_over,
        "trainings": own.trainings,
    }


def _difference(condition: str, other: str, tried: Mapping[str, _Tried]) -> Row | None:
    if other == condition or other not in tried:
        return None
    mine, theirs = tried[condition].rates(), tried[other].rates()
    both = [id for id in mine if id in theirs]
    return paired([mine[id] for id in both], [theirs[id] for id in both])._asdict()
