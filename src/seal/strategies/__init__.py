"""Ways of learning in sequence. `STRATEGIES` names them; `strategy("gate+replay")` puts one around another."""

from __future__ import annotations

from collections.abc import Callable

from seal.errors import UserError, unknown
from seal.strategies.base import Bench, Kept, Step, Strategy, Worn, merged, of_fault
from seal.strategies.gate import Gate
from seal.strategies.library import Library
from seal.strategies.merge import Merge
from seal.strategies.replay import Replay
from seal.strategies.settings import GateSettings, ReplaySettings, Settings

__all__ = [
    "AROUND",
    "STRATEGIES",
    "Bench",
    "GateSettings",
    "Kept",
    "ReplaySettings",
    "Settings",
    "Step",
    "Strategy",
    "Worn",
    "merged",
    "of_fault",
    "strategy",
]

STRATEGIES: dict[str, Callable[[Settings], Strategy]] = {
    "merge": lambda settings: Merge(),
    "replay": lambda settings: Replay(settings.replay),
    "library": lambda settings: Library(),
}
"""Those that stand by themselves."""
AROUND: dict[str, Callable[[Strategy, Settings], Strategy]] = {"gate": lambda inner, settings: Gate(inner, settings.gate)}
"""Those that decide about what another one learnt."""


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
