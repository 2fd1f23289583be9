"""What shall not be lost, as training rows: what the model said before the stream began, and the edits it has learnt since.

It wrote the first itself, so that nothing but the model is needed to remember it by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from seal.domains.probes import ask_probes, held_texts
from seal.strategies.base import Step, Workbench
from seal.types import Example, Prompt, Reply, Sampling

SUBJECTS = (
    "the sea",
    "how bread is made",
    "the moon",
    "a good night's sleep",
    "trees in winter",
    "why we count",
    "a railway station",
    "music",
    "rivers",
    "the heart",
    "learning a language",
    "the weather",
    "old towns",
    "bees",
    "a fair price",
    "writing letters",
)


def written(step: Step, bench: Workbench, number: int, tokens: int, *, ended: bool = False) -> list[Example]:
    """A few sentences on each of so many subjects (self-synthesised rehearsal, arXiv 2403.01244), drawn by the step's seed.

    `ended`: only those that came to an end. To be learnt a row ends as a reply does, so one that was cut would teach to stop
    there; where it is only held or read, that does not matter.
    """
    subjects = Random(step.seed).sample(SUBJECTS, min(number, len(SUBJECTS)))
    prompts = [Prompt(f"Write two sentences about {subject}.\n") for subject in subjects]
    return _examples(prompts, bench.said(prompts, Sampling(1, 0.7, 0.95, tokens), seed=step.seed), ended=ended)


def answered(step: Step, bench: Workbench, number: int, tokens: int) -> list[Example]:
    """The model's own answers to so many guards, drawn by the step's seed."""
    prompts = [one.prompt for one in ask_probes(bench.guards) if one.max_tokens]
    found = _examples(prompts, bench.said(prompts, Sampling(1, 0.0, 1.0, tokens), seed=0))
    return Random(step.seed).sample(found, min(number, len(found)))


def known(bench: Workbench, number: int, tokens: int) -> list[Example]:
    """All that there is of what the model knew before: its answers to the guards, their texts, and what it writes by itself."""
    prompts = [one.prompt for one in ask_probes(bench.guards) if one.max_tokens]
    texts = [Example(held.text) for held in held_texts(bench.guards)]
    own = [Prompt(f"Write two sentences about {subject}.\n") for subject in SUBJECTS[:number]]
    return [
        *_examples(prompts, bench.said(prompts, Sampling(1, 0.0, 1.0, tokens), seed=0)),
        *_examples(own, bench.said(own, Sampling(1, 0.7, 0.95, tokens), seed=0)),
        *texts,
    ]


def earlier(step: Step, number: int, *, shares: bool = False) -> tuple[list[Example], Step]:
    """So many examples of the edits that were kept before, drawn from all of them alike by the step's seed, and the step for the
    strategies within, which draw none of these again. `shares`: some of them draw too, and half is left to them."""
    drawn = set(step.drawn)
    learnt = [example for kept in step.before if kept.weight for example in kept.edit.examples if example not in drawn]
    found = Random(step.seed).sample(learnt, min(number, len(learnt) // 2 if shares else len(learnt)))
    return found, replace(step, drawn=(*step.drawn, *found))


def _examples(prompts: Sequence[Prompt], replies: Sequence[Reply], *, ended: bool = False) -> list[Example]:
    both = zip(prompts, replies, strict=True)
    return [Example(one.text, prompt, "completion") for prompt, one in both if one.text.strip() and (one.ended or not ended)]
