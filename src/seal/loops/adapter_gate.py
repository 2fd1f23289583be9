"""The gate before the finished adapter: what passed one by one may still do harm together.

Its bounds are those of every edit (`gate.judge`). The questions are those that chose the edits, of the passages that are in it,
and all the probes. An adapter that harms too much is made smaller by bisection until the probes hold, or refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seal.domains.knowledge import Knowledge
from seal.domains.probes import Probed
from seal.loops.gate import Verdict, harm, judge
from seal.loops.stages import Stages
from seal.protocols import Engine, Notify
from seal.rewards import REWARDS
from seal.store import Store, keys
from seal.strategies.gate import largest
from seal.types import Answer, Outcome, Problem, Trial

HALVINGS = 3
"""So a weight is a whole number of eighths."""
SMALLEST = 2.0**-HALVINGS
"""The weight that is tried last where each is too much."""


@dataclass(frozen=True, slots=True)
class AdapterGate:
    """The finished adapter's gate in one round of an adaptation."""

    engine: Engine
    domain: Knowledge
    store: Store
    round: int
    seed: int
    choosing: Sequence[Problem]
    """The passages in the adapter, with the questions that chose."""
    known: Problem
    """All the probes."""
    retained: float
    """The bound."""
    notify: Notify

    def decide(self, adapter: Path) -> tuple[float, Verdict]:
        """The largest weight at which the probes hold, and the verdict there; the verdict says if the adapter is refused.

        Where they hold at none the weight is 0, and the verdict is that of the smallest one tried, its harm named first: that is
        why no weight was found.
        """
        found = self.store.get_state(keys.ADAPT_FINISHED, {})
        if str(self.round) not in found:
            weight = largest(lambda weight: float(self._harms(adapter, weight)), 0.0, HALVINGS)
            whole = self._verdict(adapter, 1.0)
            taken = self._verdict(adapter, weight or SMALLEST)
            if not weight:
                taken = replace(taken, refused=harm(taken.retained, self.retained) or taken.refused)
            found[str(self.round)] = {"weight": weight, "whole": asdict(whole), "taken": asdict(taken)}
            self.store.set_state(keys.ADAPT_FINISHED, found)
        mine = found[str(self.round)]
        return mine["weight"], Verdict(**mine["taken"])

    def _harms(self, adapter: Path, weight: float) -> bool:
        left = REWARDS["retained"](_outcome(self._probes(None), self._probes((adapter, weight))), ())
        return left is not None and left < self.retained

    def _verdict(self, adapter: Path, weight: float) -> Verdict:
        before, after = ((*self._questions(worn), *self._probes(worn)) for worn in (None, (adapter, weight)))
        return judge([_outcome(before, after)], self.retained)

    def _probes(self, worn: tuple[Path, float] | None) -> tuple[Answer, ...]:
        return self._ask(probes_phase(worn and worn[1]), Probed(self.domain, self.known), [self.known], worn)

    def _questions(self, worn: tuple[Path, float] | None) -> tuple[Answer, ...]:
        return self._ask(f"choosing.{_shown(worn and worn[1])}", self.domain, self.choosing, worn)

    def _ask(self, phase: str, domain: Any, problems: Sequence[Problem], worn: tuple[Path, float] | None) -> tuple[Answer, ...]:
        """Asked once, then taken from the store."""
        have = self.store.base(phase, self.round)
        if any(problem.id not in have for problem in problems):
            self.engine.wear([] if worn is None else [worn])
        found = Stages(self.engine, domain, self.store, phase, self.round, self.seed, self.notify).unchanged(problems)
        return tuple(answer for problem in problems for answer in found[problem.id])


def probes_phase(weight: float | None) -> str:
    """The phase in which all probes are asked: of the adapter at this weight, or (None) of the plain model."""
    return f"probes.{_shown(weight)}"


def _shown(weight: float | None) -> str:
    return "plain" if weight is None else f"{weight:g}"


def _outcome(before: tuple[Answer, ...], after: tuple[Answer, ...]) -> Outcome:
    return Outcome(Trial("adapter", Problem("adapter", "", "", ()), None), before, after)


def refusal(verdict: Verdict, weight: float) -> str | None:
    """Why the finished adapter is refused, if it is."""
    if verdict.refused is None:
        return None
    where = f"even at {SMALLEST:g} of its weight: " if weight == 0 else f"at {weight:g} of its weight: " if weight < 1 else ""
    return f"the finished adapter is refused: {where}{verdict.refused}"
