"""leash: while an edit is learnt, what the model says elsewhere is held to what it said before (self-distillation, as in SDFT,
arXiv 2402.13669; learning without forgetting, arXiv 1606.09282).

Held are the model's own answers to the guards and its own sentences: the KL divergence, over the whole vocabulary, from the model
before the edit is part of the loss.
"""

from __future__ import annotations

from dataclasses import replace

from seal.strategies.base import Around, Kept, Step, Workbench
from seal.strategies.remembered import answered, written
from seal.strategies.settings import LeashSettings


class Leash(Around[LeashSettings]):
    """Stands around another strategy."""

    def learn(self, step: Step, bench: Workbench) -> Kept:
        """The edit's examples, with as much held as the settings say, whichever step it is."""
        how = self.settings
        texts = (*answered(step, bench, how.guards, how.tokens), *written(step, bench, how.rehearsal, how.tokens))
        held = tuple(replace(one, keep=True, weight=how.weight) for one in texts)
        return self.inner.learn(replace(step, also=(*step.also, *held)), bench)
