"""Rewards by name, with weights: `{"accuracy": 1.0, "mymodule:brevity": 0.1}`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence

from seal.errors import UserError, unknown
from seal.protocols import Reward
from seal.rewards.basic import REWARDS
from seal.types import Outcome


def find(name: str) -> Reward:
    """A reward of ours by its name, or anybody's as `module:function`. Raises UserError if there is none."""
    if ":" not in name:
        if name not in REWARDS:
            raise unknown("reward", name, REWARDS)
        return REWARDS[name]
    module, _, function = name.partition(":")
    try:
        found: Reward = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: no module name at all
        raise UserError(f"reward {name!r}: {error}; it must be an importable module and a function in it") from None
    if not callable(found):
        raise UserError(f"reward {name!r} is not a function; it must be an importable module and a function in it")
    return found


class Compose:
    """The weighted sum of rewards. A part with weight 0 is only measured; a part that is None makes the sum None."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        self._functions = {name: find(name) for name in weights}

    def parts(self, outcome: Outcome, siblings: Sequence[Outcome]) -> dict[str, float | None]:
        """Every reward by itself, unweighted."""
        if outcome.fault is not None:
            return dict.fromkeys(self._functions)
        return {name: _finite(function(outcome, siblings)) for name, function in self._functions.items()}

    def __call__(self, outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
        total = 0.0
        for name, value in self.parts(outcome, siblings).items():
            if self.weights[name]:
                if value is None:
                    return None
                total += self.weights[name] * value
        return None if outcome.fault is not None else total


def _finite(value: float | None) -> float | None:
    """None for NaN and infinities: they cannot be compared with other rewards, and JSON and SQLite have no NaN."""
    return value if value is not None and math.isfinite(value) else None
