"""BM25 finds the passage a question is about."""

from __future__ import annotations

import pytest

from seal.retrieval import Retriever

TEXTS = ["The ferry crosses the Sele.", "Ada built the mill.", "The ferry costs four marks.", "Ada built the mill."]


@pytest.mark.parametrize(
    ("question", "n", "places"),
    [
        ("What does the ferry cost in marks?", 1, [2]),
        ("What does the ferry cost in marks?", 3, [2, 0]),  # the others share no word with it
        ("Who built the mill?", 2, [1, 3]),  # equals in their order
        ("Quite another thing", 3, []),
        ("", 3, []),
        ("FERRY", 9, [0, 2]),
    ],
)
def test_the_best_first(question, n, places):
    assert Retriever(TEXTS).top(question, n) == places


@pytest.mark.parametrize("texts", [[], [""], ["the", "a"]])
def test_texts_without_words_are_never_found(texts):
    assert Retriever(texts).top("the ferry", 3) == []


def test_texts_of_a_thousand_passages_are_told_apart():
    texts = [f"Passage number {place} is about the village of v{place}." for place in range(1000)]
    assert Retriever(texts).top("What is the village v437?", 1) == [437]
