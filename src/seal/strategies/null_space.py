"""null-space: a step does not act on the directions that earlier knowledge uses (AlphaEdit, arXiv 2410.02355, for LoRA).

The principal directions of every adapted layer's inputs are taken while the model before the step reads the guards, its own
sentences and examples of earlier edits; while it learns, LoRA's A is kept orthogonal to them.
"""

from __future__ import annotations

import time
from dataclasses import replace

from seal.strategies.base import Around, Bench, Kept, Step, Strategy
from seal.strategies.rehearsal import answered, earlier, written
from seal.strategies.settings import NullSpaceSettings


class NullSpace(Around):
    """Stands around another strategy."""

    def __init__(self, inner: Strategy, settings: NullSpaceSettings) -> None:
        super().__init__(inner)
        self.settings = settings

    def learn(self, step: Step, bench: Bench) -> Kept:
        """The edit's examples, in what is left free. The facts say how many directions a layer may not use, and the seconds."""
        how, began = self.settings, time.perf_counter()
        own = (*answered(step, bench, how.guards, how.tokens), *written(step, bench, how.rehearsal, how.tokens))
        texts = (*own, *earlier(step, how.earlier))
        if not texts:
            return self.inner.learn(step, bench)
        path = step.folder / "protected.safetensors"
        worn = self.inner.wears(step.before, step.problem, None)
        facts = bench.wear(worn).inputs(texts, step.edit.tuning, path, share=how.share, most=how.most)
        facts["input_seconds"] = time.perf_counter() - began
        one = self.inner.learn(replace(step, protected=path), bench)
        path.unlink()  # it is in the adapter now, and larger than it
        return replace(one, facts={**one.facts, **facts})
