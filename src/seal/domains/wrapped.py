"""A domain around another: whatever a subclass does not do itself, the inner one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from inspect import getattr_static
from typing import Any

from seal.offers import Counted
from seal.protocols import Domain
from seal.types import Answer, Ask, Example, Problem, Prompt, Reading, Reply


class Wrapped:
    """The inner domain's own behaviour, its further methods (`passage_only`, ...) included."""

    def __init__(self, inner: Domain) -> None:
        self.inner = inner
        self.name = inner.name
        # from Python 3.12 on, isinstance() with a protocol does not see what __getattr__ would give
        for name in dir(inner):
            if not name.startswith("_") and not hasattr(type(self), name) and callable(getattr_static(inner, name)):
                setattr(self, name, getattr(inner, name))
        if isinstance(inner, Counted):
            setattr(self, "counted", self._counted)  # noqa: B010

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not made yet: a copy or a pickle asks
            raise AttributeError(name)
        return getattr(self.inner, name)

    def _counted(self, count: Callable[[Example], int]) -> Domain:
        """The same around the inner domain that counts: its own answer would be without what stands around it."""
        assert isinstance(self.inner, Counted)
        made = copy(self)
        Wrapped.__init__(made, self.inner.counted(count))
        return made

    def problems(self, split: str) -> Sequence[Problem]:
        """The inner domain's."""
        return self.inner.problems(split)

    def edit_prompt(self, problem: Problem) -> Prompt:
        """The inner domain's."""
        return self.inner.edit_prompt(problem)

    def read_edit(self, problem: Problem, text: str) -> Reading:
        """The inner domain's."""
        return self.inner.read_edit(problem, text)

    def ask(self, problem: Problem) -> Sequence[Ask]:
        """The inner domain's."""
        return self.inner.ask(problem)

    def grade(self, problem: Problem, replies: Sequence[Reply]) -> list[Answer]:
        """The inner domain's."""
        return self.inner.grade(problem, replies)
