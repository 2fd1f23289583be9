"""Ways of learning in sequence. `STRATEGIES` names them; `strategy("gate+replay")` puts one around another."""

from __future__ import annotations

from collections.abc import Callable

from seal.errors import UserError, unknown
from seal.strategies.base import Kept, Step, Strategy, Workbench, Worn, merged, of_fault
from seal.strategies.gate import Gate
from seal.strategies.leash import Leash
from seal.strategies.library import Library
from seal.strategies.merge import Merge
from seal.strategies.null_space import NullSpace
from seal.strategies.replay import Replay
from seal.strategies.settings import (
    GateSettings,
    LeashSettings,
    NullSpaceSettings,
    ReplaySettings,
    Settings,
    SuperpositionSettings,
)
from seal.strategies.superposition import Superposition, bind, binds

__all__ = [
    "AROUND",
    "STRATEGIES",
    "GateSettings",
    "Kept",
    "LeashSettings",
    "NullSpaceSettings",
    "ReplaySettings",
    "Settings",
    "Step",
    "Strategy",
    "SuperpositionSettings",
    "Workbench",
    "Worn",
    "bind",
    "binds",
    "merged",
    "of_fault",
    "strategy",
]

STRATEGIES: dict[str, Callable[[Settings], Strategy]] = {
    "merge": lambda settings: Merge(),
    "library": lambda settings: Library(),
    "superposition": lambda settings: Superposition(settings.superposition),
}
"""Those that stand by themselves."""
AROUND: dict[str, Callable[[Strategy, Settings], Strategy]] = {
    "gate": lambda inner, settings: Gate(inner, settings.gate),
    "replay": lambda inner, settings: Replay(inner, settings.replay),
    "leash": lambda inner, settings: Leash(inner, settings.leash),
    "null-space": lambda inner, settings: NullSpace(inner, settings.null_space),
}
"""Those that stand around another: they add to what it learns, keep it off what was known, or decide about what it learnt."""


def strategy(name: str, settings: Settings = Settings()) -> Strategy:
    """The strategy a recipe names: one, or some around another, the outermost first, as in `gate+replay`; alone, it is around
    plain merge. Raises UserError with the nearest name."""
    *outer, last = name.split("+")
    if last in AROUND:
        outer, last = [*outer, last], "merge"
    if last not in STRATEGIES:
        raise unknown("strategy", last, [*STRATEGIES, *AROUND])
    made = STRATEGIES[last](settings)
    for one in reversed(outer):
        if one not in AROUND:
            raise UserError(f"strategy {name!r}: {one!r} cannot stand around another; those that can: {', '.join(AROUND)}")
        made = AROUND[one](made, settings)
    return made
