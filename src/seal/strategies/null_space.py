"""null-space: a step does not act on the directions that earlier knowledge uses (AlphaEdit, arXiv 2410.02355, for LoRA).

The principal directions of every adapted layer's inputs are taken while the model of before the stream reads the guards and its
own sentences (once: what is protected stays as it is), and while the model of before the step reads examples of earlier edits.
While it learns, LoRA's A is kept orthogonal to them all.
"""

from __future__ import annotations

import time
from dataclasses import replace

from seal.strategies.base import Around, Kept, Step, Workbench
from seal.strategies.remembered import earlier, known
from seal.strategies.settings import NullSpaceSettings


class NullSpace(Around[NullSpaceSettings]):
    """Stands around another strategy."""

    draws = True

    def learn(self, step: Step, bench: Workbench) -> Kept:
        """The edit's examples, in what is left free. The facts say how many directions a layer may not use, and the seconds."""
        how, began, tuning = self.settings, time.perf_counter(), step.edit.tuning
        path, facts = bench.inputs_before(known(bench, how.rehearsal, how.tokens), tuning, share=how.share, most=how.most)
        away = [path]
        learnt, step = earlier(step, how.earlier, shares=self.shares)
        if learnt:
            away.append(step.folder / "earlier.safetensors")
            worn = self.inner.wears(step.before, None)
            told = bench.wear(worn).inputs(learnt, tuning, away[-1], share=how.share, most=how.most_earlier)
            facts = {**facts, "directions of earlier edits": told["directions"]}
        facts = {**facts, "input_seconds": time.perf_counter() - began}
        one = self.inner.learn(replace(step, protected=tuple(away)), bench)
        for extra in away[1:]:
            extra.unlink()  # it is in the adapter now, and larger than it
        return replace(one, facts={**one.facts, **facts})
