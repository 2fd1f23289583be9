"""What an outcome is worth. Each is a plain function `(outcome, siblings) -> float | None`; None: do not learn from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seal.edits.plan import find
from seal.edits.reading import plain
from seal.errors import EditFault
from seal.protocols import Reward
from seal.rewards.needs import needs
from seal.stats import mean
from seal.text import normalise
from seal.types import Answer, Outcome

PROBE = "probe"
"""The metric that holds a probe's verdict. A probe has no score, so that no mean of scores counts it."""


def score(answers: Sequence[Answer]) -> float | None:
    """Mean score of the answers that could be graded; None if there is none."""
    return mean(answer.score for answer in answers)


def accuracy(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """Share of the queries answered right by the changed model: the paper's reward."""
    return score(outcome.after)


def gain(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """How much more the changed model answers right than the unchanged one did."""
    return gained(outcome.before, outcome.after, lambda answer: answer.score)


def f1(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """Mean token F1 with the target answers."""
    return _metric(outcome.after, "f1")


def exact(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """Share of the answers that are the target's very words."""
    return _metric(outcome.after, "exact")


def logprob(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """Gain in the target's log-probability, in nats a query: dense, and free of ties."""
    return gained(outcome.before, outcome.after, lambda answer: answer.metrics.get("logprob"))


def solved(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """1.0 if every query is answered right, else 0.0; None where that hangs on an answer that could not be graded."""
    scores = [answer.score for answer in outcome.after if PROBE not in answer.metrics]
    if any(one is not None and one < 1.0 for one in scores):
        return 0.0
    return None if None in scores or not scores else 1.0


@needs("probes")
def retained(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """Of the probes that the unchanged model answered right, the share that the changed one still does."""
    knew = {answer.query_id for answer in outcome.before if answer.metrics.get(PROBE) == 1.0}
    return mean(answer.metrics.get(PROBE) for answer in outcome.after if answer.query_id in knew)


def cost(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """Thousands of tokens that were trained on, epochs counted: what the trial computed. Weigh it below zero."""
    return outcome.cost.train_tokens / 1000 or None


@needs("edit")
def length(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """Hundreds of tokens that the policy wrote. Weigh it below zero to ask for short edits."""
    edit = outcome.trial.edit
    return None if edit is None else edit.tokens / 100


@needs("edit")
def format(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
    """Share of the edit's written lines that became training data: not unreadable, not repeated, not cut by the bounds. A plan is
    no line, and where it stands alone nothing is lost."""
    edit = outcome.trial.edit
    if edit is None:
        return None
    try:
        plan = find(edit.text)
    except EditFault:  # where edits have no plans, braces are words
        plan = None
    text = plan.words if plan else edit.text
    learnt = " \n ".join(["", *(normalise(example.completion) for example in edit.examples), ""])  # a blank around every word
    lines = [(whole, normalise(plain(line))) for line in text.splitlines() if (whole := normalise(line))]
    # the official reading keeps a line as it is written, the clean one its plain words
    used = {found for line in lines if (found := next((one for one in line if one and f" {one} " in learnt), ""))}
    return len(used) / len(lines) if lines else float(plan is not None)


REWARDS: dict[str, Reward] = {
    function.__name__: function for function in (accuracy, gain, f1, exact, logprob, solved, retained, cost, length, format)
}


def gained(before: Sequence[Answer], after: Sequence[Answer], measure: Callable[[Answer], float | None]) -> float | None:
    """How much higher a measure is after than before, as a mean over the queries that have it on both sides."""
    known = {answer.query_id: measure(answer) for answer in before}
    pairs = [(known.get(answer.query_id), measure(answer)) for answer in after]
    return mean(new - old for old, new in pairs if old is not None and new is not None)


def _metric(answers: Sequence[Answer], name: str) -> float | None:
    return mean(answer.metrics.get(name) for answer in answers)
