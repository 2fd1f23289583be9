"""merge: every edit is learnt on the merged weights and merged into them (the paper, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seal.strategies.base import Kept, Step, Workbench, Worn, kept_of, merged
from seal.types import Problem, Query


class Merge:
    """The paper's own way, and the base of the strategies that keep one set of weights."""

    beside = False
    independent = False

    def learn(self, step: Step, bench: Workbench) -> Kept:
        """The edit's examples, on top of all that was merged."""
        return kept_of(step, bench.train(merged(step.before), step))

    def wears(self, kept: Sequence[Kept], chosen: Kept | None) -> Worn:
        """All of it, whatever is asked."""
        return merged(kept)

    def chosen(self, kept: Sequence[Kept], problem: Problem, query: Query) -> Kept | None:
        """There is no choice."""
        return None

    def held(self, kept: Sequence[Kept]) -> Sequence[Path]:
        """None: all of it is in the weights."""
        return ()
