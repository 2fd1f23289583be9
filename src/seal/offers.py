"""What a domain may offer besides `protocols.Domain`, a method each. What needs a missing one is refused, or done plainly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from seal.protocols import Domain
from seal.types import Ask, Example, Problem, Prompt, Reading


@runtime_checkable
class AsksAnew(Protocol):
    """A domain that asks for each edit of a problem with another prompt."""

    def edit_prompts(self, problem: Problem, n: int, seed: int) -> Sequence[Prompt]:
        """The prompts of n edits: one each, or one for all, for every problem alike. The same seed gives the same ones."""
        ...


@runtime_checkable
class FinishesEdits(Protocol):
    """A domain whose `Reading`s have `asks`."""

    def finish_edit(self, problem: Problem, text: str, replies: Sequence[str]) -> Reading:
        """The edit whole: `replies` are what the model wrote to the reading's `asks`, in order. Raises EditFault."""
        ...


@runtime_checkable
class GoesOn(Protocol):
    """A domain whose edits are more than words, where they are written on."""

    def go_on(self, text: str, more: str) -> str:
        """An edit and what was written on in it, as the text of one edit."""
        ...


@runtime_checkable
class HoldsPlans(Protocol):
    """A domain whose edits may hold a plan."""

    def opens_plan(self, line: str) -> bool:
        """Whether a plan begins in the line. What was cut off there is not words without a plan, but a fault."""
        ...


@runtime_checkable
class Graded(Protocol):
    """A domain that says what grades its answers. A judge over the network is then asked while the next trials train, and what it
    took is told; a judge that is the policy itself is given the policy."""

    def graded_by(self) -> Callable[[str, str, str], Any]:
        """The `seal.grading` grader that `grade` goes by."""
        ...


@runtime_checkable
class Counted(Protocol):
    """A domain that measures by the model's tokens: it is given the tokenizer once the model is open."""

    def counted(self, count: Callable[[Example], int]) -> Domain:
        """The same domain, measuring so."""
        ...


@runtime_checkable
class OwnExamples(Protocol):
    """A domain whose edits end with rows that nobody wrote."""

    def own_examples(self, problem: Problem) -> Sequence[Example]:
        """The last examples of every edit of the problem: what of it is learnt whatever is written."""
        ...


@runtime_checkable
class InContext(Protocol):
    """A domain that can be measured in the condition `in_context`."""

    def ask_in_context(self, problem: Problem) -> Sequence[Ask]:
        """The queries with what is to be learnt before them."""
        ...


@runtime_checkable
class PassageOnly(Protocol):
    """A domain that can be measured in the condition `passage`."""

    def passage_only(self, problem: Problem) -> Reading:
        """What is to be learnt, as it stands, as the only training row."""
        ...


@runtime_checkable
class InSentences(Protocol):
    """A domain that can be measured in the condition `sentences`."""

    def in_sentences(self, problem: Problem) -> Reading:
        """What is to be learnt, sentence by sentence: an edit that nobody wrote."""
        ...


@runtime_checkable
class ChosenPlans(Protocol):
    """A domain that can be measured in the conditions `fixed` and `oracle`."""

    def chosen_plan(self, condition: str, problem: Problem) -> str:
        """The edit's text: the one plan that does best on all problems, or the problem's own best. UserError if unknown."""
        ...
