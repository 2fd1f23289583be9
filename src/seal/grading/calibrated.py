"""The calibrated grader: boosted trees over 22 numbers, fitted to GPT-4.1's own verdicts. No model, no network.

`scripts/fit_calibrated.py` fits it to the result files released with the paper's code and says how well it does on titles it
has not seen; the trees are plain tables in `data/calibrated.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from seal.grading.features import NAMES, Rarity, features, side, words
from seal.grading.grade import Grade, Row
from seal.home import data
from seal.text import measure, tokens

BATCH = 256
"""Rows whose numbers are held at once: few, so that all of it stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Trees:
    """Trees of one depth, every branch full: node `n` goes on to `2n + 1`, or to `2n + 2` where the number exceeds its cut."""

    start: float
    """Log-odds before any tree."""
    which: np.ndarray
    """(trees, inner nodes) index into `NAMES`."""
    cuts: np.ndarray
    """(trees, inner nodes)"""
    leaves: np.ndarray
    """(trees, leaves) what each adds to the log-odds."""
    rarity: Rarity

    def probability(self, numbers: np.ndarray) -> np.ndarray:
        """(rows, numbers) -> (rows,), the probability of `correct`."""
        columns = np.ascontiguousarray(numbers.T)
        found, end = self.leaves.T[..., None], self.which.shape[1]
        while end:  # from the lowest branches up: what each node comes to, (nodes, trees, rows)
            level = slice(end // 2, end)
            over = columns[self.which.T[level]] > self.cuts.T[level, :, None]
            found, end = np.where(over, found[1::2], found[::2]), end // 2
        odds = self.start + np.ascontiguousarray(found[0].T).sum(1)
        return 1 / (1 + np.exp(-odds))


class Calibrated:
    """The grader (implements `grade.Many`). Its probability stands among the metrics."""

    def __call__(self, question: str, target: str, answer: str) -> Grade:
        """Correct if GPT-4.1 would more likely than not say so."""
        return self.many([(question, target, answer)])[0]

    def many(self, rows: Sequence[Row]) -> list[Grade]:
        """One grade a row."""
        found = [p for at in range(0, len(rows), BATCH) for p in probabilities(rows[at : at + BATCH])]
        return [Grade(float(p >= 0.5), {**measure(row[2], row[1]), "probability": p}) for row, p in zip(rows, found, strict=True)]


calibrated = Calibrated()


def probabilities(rows: Sequence[Row], trees: Trees | None = None) -> list[float]:
    """How probably GPT-4.1 would call each answer correct. Without words it is wrong, word for word the target it is right."""
    trees = trees or read()
    flat = np.fromiter(chain.from_iterable(features(*row, trees.rarity) for row in rows), np.float64)
    found = trees.probability(flat.reshape(len(rows), len(NAMES)))
    return [_plain(row, float(p)) for row, p in zip(rows, found, strict=True)]


def _plain(row: Row, p: float) -> float:
    answer = row[2].strip()
    if not answer:
        return 0.0
    if answer == row[1].strip():
        return 1.0
    if not any(map(str.isalnum, answer)):
        return 0.0
    if len(answer) >= 2 * len(row[1]) + 8:
        return p
    said = words(answer)
    if not said:  # an article alone
        return float(tokens(answer) == tokens(row[1]))
    return 1.0 if said == side(row[1]).words else p


@lru_cache(maxsize=1)
def read() -> Trees:
    """The trees that come with the package."""
    return from_json(json.loads(path().read_text(encoding="utf-8")))


def from_json(content: dict[str, Any]) -> Trees:
    """The trees as `scripts/fit_calibrated.py` writes them. Raises ValueError if they were fitted to other numbers."""
    if tuple(content["numbers"]) != NAMES:
        raise ValueError("fitted to other numbers than features.NAMES; run scripts/fit_calibrated.py again")
    which, cuts, leaves = (np.array(content[name]) for name in ("which", "cuts", "leaves"))
    rarity = {word: float(level) for level, words in content["rarity"].items() for word in words.split()}
    return Trees(float(content["start"]), which, cuts, leaves, rarity)


def path() -> Path:
    """Where the trees lie."""
    return data() / "calibrated.json"
