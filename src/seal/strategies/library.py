"""library: one adapter a problem, never merged; each question is answered with the one whose problem its words fit best (BM25).

No forgetting by construction: an adapter never changes after its step. What can go wrong is the choice, which is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from seal.retrieval import Retriever
from seal.strategies.base import Bench, Kept, Step, Worn, kept_of
from seal.types import Problem, Query


class Library:
    """Every adapter stands by itself on the base model (or the policy)."""

    beside = True

    def learn(self, step: Step, bench: Bench) -> Kept:
        """The edit's examples, on the model as it was before the stream."""
        return kept_of(step, bench.train((), step, step.edit.examples))

    def wears(self, kept: Sequence[Kept], problem: Problem, query: Query | None) -> Worn:
        """The one adapter that the question's topic and words are nearest to; none if they share no word with any."""
        held = [(one, one.adapter) for one in kept if one.adapter is not None and one.weight]
        if query is None or not held:
            return ()
        index = _index(tuple(f"{one.problem.title}\n{one.problem.payload}" for one, _ in held))
        places = index.top(f"{problem.title} {query.question}", 1)
        return tuple((held[place][1], held[place][0].weight) for place in places)


@lru_cache(4)
def _index(texts: tuple[str, ...]) -> Retriever:
    return Retriever(texts)
