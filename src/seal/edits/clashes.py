"""Claims of one edit that exclude each other: the same words with another name or number."""

from __future__ import annotations

import re
from collections.abc import Sequence

from seal.types import Example

NAME = re.compile(r"\b[A-Z][a-z]+\b")
NUMBER = re.compile(r"\b\d[\d,.]*\b")
_WORD = re.compile(r"[a-z]+")
_FEWEST = 4
"""Words besides names and numbers: with fewer, two lines alike are two facts ("Ada met Bo", "Ada met Cy")."""


def clashes(examples: Sequence[Example]) -> float:
    """Share of the examples' lines that say what an earlier line says, but for a name or a number."""
    said: dict[str, str] = {}
    lines = [line.strip() for one in examples for line in one.completion.splitlines() if line.strip()]
    found = 0
    for line in lines:
        claim = NUMBER.sub("#", NAME.sub("@", line))
        if len(_WORD.findall(claim)) >= _FEWEST:
            found += said.setdefault(claim, line) != line
    return found / max(1, len(lines))
