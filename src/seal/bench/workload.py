"""What is trained on and asked: the lengths of the official round (50 passages, 250 edits), filled with random tokens.

Speed does not depend on what the tokens say, and lengths are facts that can be carried where the passages cannot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from seal.home import data

EPOCHS = 10
"""Of an edit's training in the official round."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts of the official round, by the embedded model's tokenizer."""

    edits: tuple[tuple[int, ...], ...]
    """Of each edit's training rows; the last is the passage."""
    questions: tuple[tuple[tuple[int, int, int], ...], ...]
    """Of each passage's questions: the prompt, the target, what an adapted model answered."""
    alike: tuple[int, ...]
    """With how many tokens all prompts of a passage begin alike: what introduces a question, and the title."""


def lengths() -> Lengths:
    """Those that come with the package."""
    content = json.loads((data() / "bench" / "lengths.json").read_text())
    return Lengths(
        tuple(tuple(edit) for edit in content["edits"]),
        tuple(tuple((q[0], q[1], q[2]) for q in passage) for passage in content["questions"]),
        tuple(content["alike"]),
    )


def rows(n: int, vocabulary: int, seed: int, *, longest: int = 2048) -> list[tuple[int, ...]]:
    """`n` training rows as they follow each other in the round: edits drawn by the seed, each one's rows shuffled."""
    random = Random(seed)
    edits = list(lengths().edits)
    random.shuffle(edits)
    drawn = [length for edit in edits for length in random.sample(edit, len(edit))][:n]
    return [tuple(random.randrange(vocabulary) for _ in range(min(max(2, length), longest))) for length in drawn]


def questions(adapters: int, vocabulary: int, seed: int) -> list[list[tuple[list[int], int]]]:
    """For each adapter its passage's questions: the prompt's tokens, and how many tokens the answer has."""
    random, found = Random(seed), lengths()

    def drawn(n: int) -> list[int]:
        return [random.randrange(vocabulary) for _ in range(n)]

    asked = []
    for passage, alike in random.choices(list(zip(found.questions, found.alike, strict=True)), k=adapters):
        begin = drawn(alike)
        asked.append([(begin + drawn(prompt - alike), max(1, min(64, answer))) for prompt, _, answer in passage])
    return asked


def efficiency(slots: int) -> float:
    """Share of a bank's places that are busy over the whole round: 3 trials an edit, EPOCHS epochs, longest first, refilled."""
    jobs = sorted((EPOCHS * len(edit) for edit in lengths().edits for _ in range(3)), reverse=True)
    ends = [0] * slots
    for job in jobs:
        at = ends.index(min(ends))
        ends[at] += job
    return sum(jobs) / (slots * max(ends))
