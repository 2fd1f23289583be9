"""replay: a new edit is learnt together with some examples of earlier ones (experience replay, arXiv 1811.11682) and with replies
that the model wrote before the stream began (self-synthesised rehearsal, arXiv 2403.01244)."""

from __future__ import annotations

from dataclasses import replace

from seal.strategies.base import Around, Kept, Step, Workbench
from seal.strategies.remembered import earlier, written
from seal.strategies.settings import ReplaySettings


class Replay(Around[ReplaySettings]):
    """Stands around another strategy."""

    draws = True

    def learn(self, step: Step, bench: Workbench) -> Kept:
        """The edit's examples with as many others as the settings say, whichever step it is."""
        how = self.settings
        learnt, step = earlier(step, how.earlier, shares=self.shares)
        again = (*learnt, *written(step, bench, how.rehearsal, how.tokens, ended=True))
        return self.inner.learn(replace(step, also=(*step.also, *again)), bench)
