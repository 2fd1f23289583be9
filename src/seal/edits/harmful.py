"""Edits that a model had better not learn, made of good ones: what a gate has to refuse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from seal.edits.clashes import NAME
from seal.seeds import derive
from seal.types import Example

_NUMBER = re.compile(r"\b\d+\b")


def harmful(examples: Sequence[Example], kind: str, *, seed: int) -> tuple[Example, ...]:
    """The examples made harmful; a first line that names the topic stays."""
    found = []
    for number, one in enumerate(examples):
        head, line, body = one.completion.partition("\n")
        own = derive(seed, kind, number)
        text = _KINDS[kind](body if line else head, seed=own)
        found.append(replace(one, completion=f"{head}{line}{text}" if line else text))
    return tuple(found)


def scrambled(text: str, *, seed: int) -> str:
    """Every line's words in another order, drawn by the seed: the words are right and nothing is said."""
    lines = []
    for number, line in enumerate(text.splitlines()):
        words = line.split()
        Random(derive(seed, "scrambled", number)).shuffle(words)
        lines.append(" ".join(words))
    return "\n".join(lines)


def contradictory(text: str, *, seed: int) -> str:
    """Each line, then the same with its numbers changed and its names exchanged for others of the text: two claims that exclude
    each other. A line with neither stays alone."""
    names = list(dict.fromkeys(NAME.findall(text)))
    draw, lines = Random(derive(seed, "contradictory")), []
    for line in text.splitlines():
        changed = _NUMBER.sub(lambda found: str(int(found[0]) + draw.randint(1, 90)), line)
        changed = NAME.sub(lambda found: draw.choice([one for one in names if one != found[0]] or [found[0]]), changed)
        lines += [line, changed] if changed != line else [line]
    return "\n".join(lines)


_KINDS = {"scrambled": scrambled, "contradictory": contradictory}
