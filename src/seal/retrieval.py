"""Which texts a question is about: BM25 (Robertson and Zaragoza 2009) as the library bm25s has it."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np

# what makes a sentence a question, which says nothing of what it is about
_ASKING = frozenset(["what", "which", "who", "whom", "whose", "when", "where", "why", "how", "many", "much", "do", "does", "did"])


def telling(text: str) -> frozenset[str]:
    """The words of a text that say what it is about: lower case, without English stop words and question words."""
    (words,) = bm25s.tokenize([text], return_ids=False, show_progress=False)
    return frozenset(words) - _ASKING


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
