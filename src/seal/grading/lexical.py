"""Graders that compare words: no model, no network, the same verdict every time.

A grader is a plain function of question, target and answer. Recall is the default, as the paper's judge also accepts an
answer that says more than was asked; since recall alone rewards reciting, F1 and exact match stand beside it in every grade.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seal import text
from seal.errors import unknown

RECALL_NEEDED = 0.67
"""Share of the target's tokens an answer must have to count as correct."""


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict on one answer."""

    score: float | None
    """1.0 correct, 0.0 wrong, or between; None: could not be graded."""
    metrics: dict[str, float]
    """`f1`, `exact` and `recall`, whatever the score is made of."""


Grader = Callable[[str, str, str], Grade]
"""(question, target, answer) -> Grade."""


def recall(question: str, target: str, answer: str) -> Grade:
    """Correct if the answer has at least 67% of the target's tokens."""
    metrics = measure(target, answer)
    return Grade(float(metrics["recall"] >= RECALL_NEEDED), metrics)


def f1(question: str, target: str, answer: str) -> Grade:
    """The score is the token F1 itself."""
    metrics = measure(target, answer)
    return Grade(metrics["f1"], metrics)


def exact(question: str, target: str, answer: str) -> Grade:
    """Correct if answer and target are the same once normalised."""
    metrics = measure(target, answer)
    return Grade(metrics["exact"], metrics)


def contains(question: str, target: str, answer: str) -> Grade:
    """Correct if the target's words stand in the answer, together and in order."""
    wanted, said = text.tokens(target), text.tokens(answer)
    places = range(len(said) - len(wanted) + 1) if wanted else range(0)
    found = any(said[at : at + len(wanted)] == wanted for at in places)
    return Grade(float(found), measure(target, answer))


def measure(target: str, answer: str) -> dict[str, float]:
    """F1, exact match and recall of an answer."""
    return {"f1": text.f1(answer, target), "exact": text.exact(answer, target), "recall": text.recall(answer, target)}


GRADERS: dict[str, Grader] = {"recall": recall, "f1": f1, "exact": exact, "contains": contains}


def grader(name: str) -> Grader:
    """The grader of that name. Raises UserError with the nearest known name."""
    if name not in GRADERS:
        raise unknown("grader", name, GRADERS)
    return GRADERS[name]
