"""What a grader is: question, target and answer in, a verdict out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Row = tuple[str, str, str]
"""Question, target, answer."""


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict on one answer."""

    score: float | None
    """1.0 correct, 0.0 wrong, or between; None: could not be graded."""
    metrics: dict[str, float]
    """`f1`, `exact` and `recall`, whatever the score is made of."""


Grader = Callable[[str, str, str], Grade]
"""(question, target, answer) -> Grade. A plain function is one. One that is given the question with its topic before it, as the
model is, says `topic = True`."""


@runtime_checkable
class Many(Protocol):
    """A grader that is quicker with many answers at once."""

    def many(self, rows: Sequence[Row]) -> list[Grade]:
        """One grade a row, in the rows' order."""
        ...


def grade_all(grader: Grader, rows: Sequence[Row]) -> list[Grade]:
    """One grade a row, in the rows' order; all at once where the grader can."""
    return grader.many(rows) if isinstance(grader, Many) else [grader(*row) for row in rows]


def wants_topic(grader: Grader) -> bool:
    """Whether a grader is given the question with its topic before it."""
    return bool(getattr(grader, "topic", False))


def correct(score: float | None) -> bool | None:
    """Whether a score counts as correct: 0.5 or more does; None stays None."""
    return None if score is None else score >= 0.5
