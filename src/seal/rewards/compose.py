"""Rewards by name, with weights: `{"accuracy": 1.0, "mymodule:brevity": 0.1}`."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

from seal import named
from seal.errors import SealError, UserError
from seal.named import refuse_class, refuse_other_arguments
from seal.protocols import Reward
from seal.rewards.basic import REWARDS
from seal.rewards.needs import needs_of
from seal.rewards.proxy import RATERS, Rater, Rating
from seal.types import Outcome

TOTAL = "reward"
"""The name under which a run keeps the weighted sum, beside the rewards it is made of."""


def find(name: str) -> Reward | Rater:
    """A reward of ours by its name, or anybody's as `module:function` or `module:rater`. Raises UserError if there is none, or if
    it cannot be called as one."""
    found: Reward | Rater = named.find("reward", name, {**REWARDS, **RATERS})
    refuse_class(f"reward {name!r}", found)  # a rater's has `rate` too, and nobody to call it on
    if isinstance(found, Rater):
        refuse_other_arguments(f"`rate` of reward {name!r}", found.rate, "engine", "domain", "problem", "edits")
    else:
        refuse_other_arguments(f"reward {name!r}", found, "outcome", "siblings")
    return found


Ratings = Mapping[str, Mapping[str, float | None]]
"""What raters said, by edit id and the rater's name."""


class Compose:
    """The weighted sum of rewards. A part with weight 0 is only measured; a part that is None makes the sum None."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """Raises UserError for a reward that does not exist."""
        self.weights = dict(weights)
        self._functions: dict[str, Reward] = {}
        self.raters: dict[str, Rater] = {}
        """Those that ask a model about the edit. Without `rated` they have no value, and only weight 0 goes."""
        needed = set()
        for name in weights:
            found = find(name)
            if isinstance(found, Rater):
                self.raters[name] = found
                self._functions[name] = _unrated
            else:
                self._functions[name] = found
                needed.add(needs_of(name, found))
        self.needs_trials = not needed <= {"edit"}
        """False: every reward here rates the edit alone."""
        self.needs_questions = self.needs_trials or any(getattr(rater, "asks", False) for rater in self.raters.values())
        """False: a problem may have no questions at all."""
        self.needs_probes = "probes" in needed

    def rated(self, ratings: Ratings) -> Compose:
        """The same rewards, knowing what the raters said."""
        made = copy(self)
        made._functions = {**self._functions, **{name: _said(name, ratings) for name in self.raters}}
        return made

    def parts(self, outcome: Outcome, siblings: Sequence[Outcome]) -> dict[str, float | None]:
        """Every reward by itself, unweighted."""
        if outcome.fault is not None:
            return dict.fromkeys(self._functions)
        return {name: _finite(name, function(outcome, siblings)) for name, function in self._functions.items()}

    def __call__(self, outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
        return self.total(outcome, self.parts(outcome, siblings))

    def total(self, outcome: Outcome, parts: Mapping[str, float | None]) -> float | None:
        """What an outcome's `parts`, once they are worked out, add up to. Raises SealError for a weighted rater that was not
        asked: its None would be every edit's, and look like edits that are not to be learnt from."""
        for name in self.raters:
            if self.weights[name] and self._functions[name] is _unrated:
                raise SealError(
                    f"reward {name!r} is what a rater says of an edit, and it was not asked here; leave it out of [reward], or"
                    " ask it and use `reward.rated(...)`"
                )
        total = 0.0
        for name, value in parts.items():
            if self.weights[name]:
                if value is None:
                    return None
                total += self.weights[name] * value
        return None if outcome.fault is not None else total


def _unrated(outcome: Outcome, siblings: Sequence[Outcome]) -> None:
    """The value of a rater that nobody asked."""


def _said(name: str, ratings: Ratings) -> Reward:
    def value(outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
        edit = outcome.trial.edit
        return None if edit is None else ratings.get(edit.id, {}).get(name)

    return value


def checked(name: str, said: Sequence[Rating], edits: int) -> list[Rating]:
    """What a rater said of so many edits. Raises UserError, naming it, for anything but a `Rating` of each."""
    if not isinstance(said, Sequence) or len(said) != edits or not all(isinstance(one, Rating) for one in said):
        raise UserError(f"reward {name!r} gave {reprlib.repr(said)}; it must give a list of one Rating an edit, {edits} here")
    return [replace(one, value=_finite(name, one.value)) for one in said]


def _finite(name: str, value: float | None) -> float | None:
    """None for NaN and infinities: they cannot be compared with other rewards, and JSON and SQLite have no NaN. Raises UserError,
    naming the reward, for what is no number."""
    try:
        return value if value is not None and math.isfinite(value) else None
    except (TypeError, OverflowError):
        raise UserError(f"reward {name!r} gave {reprlib.repr(value)}; it must give a number or None") from None
