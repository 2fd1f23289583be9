"""Which texts a question is about: BM25 (Robertson and Zaragoza 2009) as the library bm25s has it."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np


class Retriever:
    """An index over texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._index = bm25s.BM25()
        words = bm25s.tokenize(list(texts), return_ids=False, show_progress=False)
        self._empty = not any(words)
        if not self._empty:
            self._index.index(words, show_progress=False)

    def top(self, question: str, n: int) -> list[int]:
        """Places of the `n` texts that fit best, best first, equals in their order; fewer where fewer share a word with it."""
        (words,) = bm25s.tokenize([question], return_ids=False, show_progress=False)
        if self._empty or not words:
            return []
        scores = self._index.get_scores(words)
        return [int(place) for place in np.argsort(-scores, kind="stable")[:n] if scores[place] > 0]
