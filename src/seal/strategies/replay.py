"""replay: a new edit is learnt together with some examples of earlier ones (experience replay, arXiv 1811.11682) and with replies
that the model wrote before the stream began (self-synthesised rehearsal, arXiv 2403.01244)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from seal.strategies.base import Bench, Kept, Step, Worn, kept_of, merged
from seal.strategies.settings import ReplaySettings
from seal.types import Example, Problem, Prompt, Query, Sampling

SUBJECTS = (
    *("the sea", "how bread is made", "the moon", "a good night's sleep", "trees in winter", "why we count", "a railway station"),
    *(
        "music",
        "rivers",
        "the heart",
        "learning a language",
        "the weather",
        "old towns",
        "bees",
        "a fair price",
        "writing letters",
    ),
)


class Replay:
    """One set of weights, as plain merge."""

    beside = False

    def __init__(self, settings: ReplaySettings) -> None:
        self.settings = settings

    def learn(self, step: Step, bench: Bench) -> Kept:
        """The edit's examples with as many others as the settings say, whichever step it is."""
        learnt = [example for kept in step.before if kept.weight for example in kept.edit.examples]
        earlier = Random(step.seed).sample(learnt, min(self.settings.earlier, len(learnt)))
        examples = (*step.edit.examples, *earlier, *self._rehearsal(step, bench))
        return kept_of(step, bench.train(merged(step.before), step, examples))

    def wears(self, kept: Sequence[Kept], problem: Problem, query: Query | None) -> Worn:
        """All of it, whatever is asked."""
        return merged(kept)

    def _rehearsal(self, step: Step, bench: Bench) -> list[Example]:
        subjects = Random(step.seed).sample(SUBJECTS, min(self.settings.rehearsal, len(SUBJECTS)))
        if not subjects:
            return []
        prompts = [Prompt(f"Write two sentences about {subject}.\n") for subject in subjects]
        how = Sampling(1, 0.7, 0.95, self.settings.tokens)
        written = bench.wear(()).sample(prompts, how, seed=step.seed)
        pairs = zip(prompts, written, strict=True)
        return [Example(replies[0].text, prompt, "completion") for prompt, replies in pairs if replies[0].text.strip()]
