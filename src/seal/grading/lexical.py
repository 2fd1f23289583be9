"""Graders that compare words: no model, no network, the same verdict every time.

Recall is the default, as the paper's judge also accepts an answer that says more than was asked; since recall alone rewards
reciting, F1 and exact match stand beside it in every grade.
"""

from __future__ import annotations

from collections import Counter

from seal import text
from seal.grading import values as compared
from seal.grading.grade import Grade, Grader

RECALL_NEEDED = 0.67
"""Share of the target's tokens an answer must have to count as correct."""


def recall(question: str, target: str, answer: str) -> Grade:
    """Correct if the answer has at least 67% of the target's tokens."""
    metrics = text.measure(answer, target)
    return Grade(float(metrics["recall"] >= RECALL_NEEDED), metrics)


def f1(question: str, target: str, answer: str) -> Grade:
    """The score is the token F1 itself."""
    metrics = text.measure(answer, target)
    return Grade(metrics["f1"], metrics)


def exact(question: str, target: str, answer: str) -> Grade:
    """Correct if answer and target are the same once normalised."""
    metrics = text.measure(answer, target)
    return Grade(metrics["exact"], metrics)


def contains(question: str, target: str, answer: str) -> Grade:
    """Correct if the target's words stand in the answer, together and in order."""
    wanted, said = text.tokens(target), text.tokens(answer)
    places = range(len(said) - len(wanted) + 1) if wanted else range(0)
    found = any(said[at : at + len(wanted)] == wanted for at in places)
    return Grade(float(found), text.measure(answer, target))


def values(question: str, target: str, answer: str) -> Grade:
    """Recall with numbers and dates as values: every number of the target must be there, however it is written.

    `1,200` is met by `twelve hundred`, `10%` by `ten per cent`, `9 June 1886` by `June 9, 1886` and by `9/6/1886`.
    """
    found = any(_met(wanted, said) for wanted in compared.readings(target) for said in compared.readings(answer))
    return Grade(float(found), text.measure(answer, target))


def _met(wanted: list[str], said: list[str]) -> bool:
    needed, there = (Counter(word for word in words if word not in text.ARTICLES) for words in (wanted, said))
    if not needed:
        return text.tokens(" ".join(wanted)) == text.tokens(" ".join(said))
    missing = needed - there
    if any(compared.is_number(word) for word in missing):
        return False
    return 1 - missing.total() / needed.total() >= RECALL_NEEDED


LEXICAL: dict[str, Grader] = {"recall": recall, "f1": f1, "exact": exact, "contains": contains, "values": values}
