"""What a text domain offers besides `protocols.Domain`: the text that its problems are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

from seal.errors import UserError
from seal.protocols import Domain
from seal.types import Ask, Problem, Reading


@runtime_checkable
class TextDomain(Domain, Protocol):
    """A domain whose problems are texts with questions."""

    def ask_in_context(self, problem: Problem) -> Sequence[Ask]:
        """The queries with the text before them."""
        ...

    def passage_only(self, problem: Problem) -> Reading:
        """The text as it stands, under its title, as the only training row."""
        ...


def text_domain(domain: Domain, wanted: str) -> TextDomain:
    """The same domain. Raises UserError if its problems are no texts; `wanted` says what they are needed for."""
    for method in ("passage_only", "ask_in_context"):
        if not callable(getattr(domain, method, None)):
            raise UserError(f"{wanted} needs a domain of texts; {domain.name!r} is none (no method {method})")
    return cast(TextDomain, domain)


def material(domain: TextDomain, problem: Problem) -> str:
    """A problem's title and text."""
    return "\n".join(example.completion for example in domain.passage_only(problem).examples)
