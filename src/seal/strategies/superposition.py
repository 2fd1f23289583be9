"""superposition: adapters bound with a key each and held in one set of weights (Cheung et al. 2019, arXiv 1902.05522).

Every edit is learnt by itself on the model before the stream; then all adapters so far are bound anew and added up
(`seal.engine.superpose`). A question is answered under the key of the problem that its words fit best, as in the library, but the
weights are the same for all questions. What belongs to no problem is asked without a key, which leaves out all that was bound.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seal.strategies.base import Bench, Kept, Step, Worn, kept_of, merged
from seal.strategies.library import nearest
from seal.strategies.remembered import answered
from seal.strategies.settings import SuperpositionSettings
from seal.types import Problem, Query


class Superposition:
    """One set of weights for all, seen through a key."""

    beside = True

    def __init__(self, settings: SuperpositionSettings) -> None:
        self.settings = settings

    def learn(self, step: Step, bench: Bench) -> Kept:
        """The edit's examples, on the model as it was before the stream; then it is added to those before it."""
        one = kept_of(step, bench.train((), step))
        if one.adapter is None:
            return one
        began = time.perf_counter()
        how = self.settings
        texts = (*step.edit.examples, *answered(step, bench, how.guards, how.tokens))
        # read with the adapter, as a question will be: what it does in one layer changes what the next is given
        reader = bench.wear(merged([one]))
        facts = reader.inputs(texts, step.edit.tuning, _inputs(one.adapter), share=how.share, most=how.most)
        held = [(kept.adapter, _inputs(kept.adapter), kept.step) for kept in _held([*step.before, one]) if kept.adapter]
        bench.engine.superpose(held, _superposed(one.adapter))
        return replace(one, facts={**facts, "binding_seconds": time.perf_counter() - began})

    def wears(self, kept: Sequence[Kept], problem: Problem, query: Query | None) -> Worn:
        """All of them, under one's key; without a key, none."""
        one = None if query is None else self.chosen(kept, problem, query)
        last = _held(kept)[-1].adapter if one else None
        return ((_superposed(last), 1.0, one.step),) if one and last else ()

    def chosen(self, kept: Sequence[Kept], problem: Problem, query: Query) -> Kept | None:
        """As the library does."""
        return nearest(kept, problem, query)


def _held(kept: Sequence[Kept]) -> list[Kept]:
    return [one for one in kept if one.adapter is not None and one.weight]


def _inputs(adapter: Path) -> Path:
    return adapter.parent / "inputs.safetensors"


def _superposed(adapter: Path) -> Path:
    return adapter.parent / "superposed"
