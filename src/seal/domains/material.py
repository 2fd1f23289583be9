"""Domains of texts: those that offer the text that a problem is about."""

from __future__ import annotations

from typing import Protocol, cast

from seal.errors import UserError
from seal.offers import InContext, PassageOnly
from seal.protocols import Domain
from seal.types import Problem


class TextDomain(Domain, InContext, PassageOnly, Protocol):
    """A domain whose problems are texts with questions."""


def text_domain(domain: Domain, wanted: str) -> TextDomain:
    """The same domain. Raises UserError if its problems are no texts; `wanted` says what they are needed for."""
    for method in ("passage_only", "ask_in_context"):
        if not callable(getattr(domain, method, None)):
            raise UserError(f"{wanted} needs a domain of texts; {domain.name!r} is none (no method {method})")
    return cast(TextDomain, domain)


def material(domain: TextDomain, problem: Problem) -> str:
    """A problem's title and text."""
    return "\n".join(example.completion for example in domain.passage_only(problem).examples)
