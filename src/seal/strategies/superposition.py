"""superposition: adapters bound with a key each and held in one set of weights (Cheung et al. 2019, arXiv 1902.05522).

Every edit is learnt by itself on the model before the stream; then its adapter is bound to those before it
(`seal.engine.superpose`; the sums over what the problems give the layers lie with the last step). A question is answered under
the key of the problem that its words fit best, as in the library, but the weights are the same for all questions. What belongs to
no problem is asked without a key, which leaves out all that was bound.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seal.protocols import Engine
from seal.strategies.base import Around, Kept, Step, Strategy, Workbench, Worn, kept_of, merged
from seal.strategies.library import nearest
from seal.strategies.remembered import answered
from seal.strategies.settings import SuperpositionSettings
from seal.types import Problem, Query


class Superposition:
    """One set of weights for all, seen through a key."""

    beside = True
    independent = True

    def __init__(self, settings: SuperpositionSettings) -> None:
        self.settings = settings

    def learn(self, step: Step, bench: Workbench) -> Kept:
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
        before = _adapters(step.before)
        _forget(step.before, before[-1:])
        last = next((path for path in (_binding(adapter) for adapter, _ in before[-1:]) if path.is_file()), None)
        new = [*(before if last is None else ()), (one.adapter, one.step)]  # a run of before there was such a file has none
        bench.engine.superpose(_with_inputs(new), _superposed(one.adapter), _binding(one.adapter), last)
        return replace(one, facts={**facts, "binding_seconds": time.perf_counter() - began})

    def wears(self, kept: Sequence[Kept], chosen: Kept | None) -> Worn:
        """All of them, under the chosen one's key; without a key, none."""
        return () if chosen is None else tuple((path, 1.0, chosen.step) for path in self.held(kept))

    def chosen(self, kept: Sequence[Kept], problem: Problem, query: Query) -> Kept | None:
        """As the library does."""
        return nearest(kept, problem, query)

    def held(self, kept: Sequence[Kept]) -> Sequence[Path]:
        """All of them as one."""
        return [_superposed(adapter) for adapter, _ in _adapters(kept)[-1:]]


def binds(one: Strategy) -> bool:
    """Whether its adapters are bound to keys: it is `Superposition`, or stands around it."""
    while isinstance(one, Around):
        one = one.inner
    return isinstance(one, Superposition)


def bind(held: Sequence[tuple[Path, int]], engine: Engine, path: Path) -> None:
    """Writes these steps' adapters as one set of weights at `path`, each bound to its step: as if there had been no others."""
    with tempfile.TemporaryDirectory(prefix="seal-") as scratch:
        engine.superpose(_with_inputs(held), path, Path(scratch) / "binding.safetensors")


def _with_inputs(held: Sequence[tuple[Path, int]]) -> list[tuple[Path, Path, int]]:
    return [(adapter, _inputs(adapter), key) for adapter, key in held]


def _adapters(kept: Sequence[Kept]) -> list[tuple[Path, int]]:
    """Those that are held, each with its key."""
    return [(one.adapter, one.step) for one in kept if one.adapter is not None and one.weight]


def _forget(kept: Sequence[Kept], last: Sequence[tuple[Path, int]]) -> None:
    """Of the earlier steps, what only the next one needs: it is large, and each has all that those before it have."""
    for one in kept:
        if one.adapter is not None and (one.adapter, one.step) not in last:
            shutil.rmtree(_superposed(one.adapter), ignore_errors=True)
            _binding(one.adapter).unlink(missing_ok=True)


def _inputs(adapter: Path) -> Path:
    return adapter.parent / "inputs.safetensors"


def _binding(adapter: Path) -> Path:
    return adapter.parent / "binding.safetensors"


def _superposed(adapter: Path) -> Path:
    return adapter.parent / "superposed"
