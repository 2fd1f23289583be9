"""What a reward needs to be worked out. Where no reward of a recipe needs more than the edit, no trial is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args

from seal.errors import UserError

Needs = Literal["edit", "trial", "probes"]
"""The edit alone; its trials (what a reward that says nothing needs); its trials, asked the probes too."""

F = TypeVar("F", bound=Callable[..., Any])


def needs(what: Needs) -> Callable[[F], F]:
    """Marks a reward with what it needs; the same as writing `reward.needs = what`."""

    def mark(function: F) -> F:
        function.needs = what  # type: ignore[attr-defined]
        return function

    return mark


def needs_of(name: str, reward: object) -> Needs:
    """What a reward says it needs. Raises UserError, naming the reward, for a word nobody knows."""
    said: Needs = getattr(reward, "needs", "trial")
    if said not in get_args(Needs):
        raise UserError(f"reward {name!r} needs {said!r}; `needs` must be one of {', '.join(get_args(Needs))}")
    return said
