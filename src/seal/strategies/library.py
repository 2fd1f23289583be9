"""library: one adapter a problem, never merged; each question is answered with the one whose problem its words fit best (BM25).

No forgetting by construction: an adapter never changes after its step. What can go wrong is the choice, which is counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from seal.retrieval import Retriever, telling
from seal.strategies.base import Kept, Step, Workbench, Worn, kept_of, merged
from seal.types import Problem, Query


class Library:
    """Every adapter stands by itself on the base model (or the policy)."""

    beside = True
    independent = True

    def learn(self, step: Step, bench: Workbench) -> Kept:
        """The edit's examples, on the model as it was before the stream."""
        return kept_of(step, bench.train((), step))

    def wears(self, kept: Sequence[Kept], chosen: Kept | None) -> Worn:
        """The chosen one's adapter, or none."""
        return () if chosen is None else merged([chosen])

    def chosen(self, kept: Sequence[Kept], problem: Problem, query: Query) -> Kept | None:
        """The one whose problem is nearest to the question's topic and words; none if they share no word with any."""
        return nearest(kept, problem, query)

    def held(self, kept: Sequence[Kept]) -> Sequence[Path]:
        """All of them."""
        return [path for path, *_ in merged(kept)]


def nearest(kept: Sequence[Kept], problem: Problem, query: Query) -> Kept | None:
    """Of those that hold an adapter, the one whose title and text fit the question best (BM25), among those that it is about.

    It is about a problem if it has a word of the title, or more than half of its words stand in title and text; None if it is
    about none of them, so that a question of something else altogether is put to the model without an adapter.
    """
    held = [one for one in kept if one.adapter is not None and one.weight]
    if not held:
        return None
    asked = f"{problem.title} {query.question}"
    words = telling(asked)
    places = _index(tuple(_text(one.problem) for one in held)).top(asked, len(held))
    return next((held[place] for place in places if _is_about(words, held[place].problem)), None)


def _is_about(words: frozenset[str], problem: Problem) -> bool:
    return bool(words & _telling(problem.title)) or 2 * len(words & _telling(_text(problem))) > len(words)


@lru_cache(1024)
def _text(problem: Problem) -> str:
    """The title and every text in the payload, without JSON's own signs: with them a line's first word would begin with an n."""
    try:
        content = json.loads(problem.payload)
    except ValueError:  # a domain's payload is its own affair; one that is no JSON is a text
        content = problem.payload
    return "\n".join([problem.title, *_texts(content)])


def _texts(found: object) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, (list, dict)):
        for one in found.values() if isinstance(found, dict) else found:
            yield from _texts(one)


@lru_cache(4)
def _index(texts: tuple[str, ...]) -> Retriever:
    return Retriever(texts)


@lru_cache(1024)
def _telling(text: str) -> frozenset[str]:
    return telling(text)
