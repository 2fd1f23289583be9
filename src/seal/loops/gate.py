"""The acceptance gate: which self-edits may go into an adapter that somebody will use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal.rewards import REWARDS
from seal.stats import mean, steady
from seal.types import Outcome

WORSE = "fewer questions answered right than without it"
NOTHING = "it gains nothing: no more questions right, no right answer likelier"
HARM = "it harms what the model knew"
UNKNOWN = "no question about the passage could be graded"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an edit did, as a mean over its trials, and why it is refused; None where that could not be measured."""

    gain: float | None
    """Score after minus score before, on the questions that choose."""
    logprob: float | None
    """Gain in the right answers' log-probability, nats a question."""
    retained: float | None
    """Of the probes that the model answered right before, the share it still does."""
    refused: str | None
    """None: accepted."""


def judge(outcomes: Sequence[Outcome], retained: float) -> Verdict:
    """The verdict on one edit from its trials. It is accepted if

    1. it answers no fewer questions right than the unchanged model,
    2. and either more of them, or the right answers became likelier,
    3. and at least the share `retained` of the probes that the model knew are still answered right.
    """
    fault = next((one.fault for one in outcomes if one.fault), None)
    if fault is not None:
        return Verdict(None, None, None, f"{fault.kind}: {fault.message}")
    gain, logprob, kept = (_mean(name, outcomes) for name in ("gain", "logprob", "retained"))
    return Verdict(gain, logprob, kept, _refusal(gain, logprob, kept, retained))


def _mean(name: str, outcomes: Sequence[Outcome]) -> float | None:
    found = mean(REWARDS[name](one, ()) for one in outcomes)
    return None if found is None else steady(found)


def _refusal(gain: float | None, logprob: float | None, kept: float | None, retained: float) -> str | None:
    if gain is None:
        return UNKNOWN
    if gain < 0:
        return WORSE
    if gain == 0 and (logprob is None or logprob <= 0):
        return NOTHING
    return harm(kept, retained)


def harm(kept: float | None, retained: float) -> str | None:
    """Why something is refused that leaves the share `kept` of the probes (None: not measured) where `retained` must be left."""
    if kept is None or kept >= retained:
        return None
    return f"{HARM}: {kept:.0%} of it is left, and {retained:.0%} must be"
