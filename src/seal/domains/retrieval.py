"""Questions with retrieved passages before them: what a person would do instead of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from seal.domains.material import TextDomain, material
from seal.retrieval import Retriever
from seal.types import Ask, Problem, Prompt

TOP = 3
"""Passages before a question."""


class Retrieval:
    """BM25 over passages, and the domain's own questions with the best of them in the prompt."""

    def __init__(self, domain: TextDomain, passages: Sequence[Problem], fits: Callable[[Ask], bool]) -> None:
        """`fits`: whether the model's context holds an ask; the worst passages are left out until it does."""
        self._domain, self._fits = domain, fits
        self._texts = [material(domain, passage) for passage in passages]
        self._retriever = Retriever(self._texts)

    def ask(self, problem: Problem) -> list[Ask]:
        """Every query with its `TOP` passages, best first. Looked for by topic and question, as the prompt names both."""
        asks = self._domain.ask(problem)
        return [
            self._with_passages(ask, f"{problem.title} {query.question}")
            for ask, query in zip(asks, problem.queries, strict=True)
        ]

    def _with_passages(self, ask: Ask, question: str) -> Ask:
        found = self._retriever.top(question, TOP)
        for many in range(len(found), 0, -1):
            passages = "".join(f"Passage:\n{self._texts[place]}\n\n" for place in found[:many])
            whole = replace(ask, prompt=Prompt(passages + ask.prompt.text))
            if self._fits(whole):
                return whole
        return ask
