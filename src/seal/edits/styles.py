"""The text formats a self-edit can have: what the policy is asked to write, and how it is read.

Prompts are the paper's base-model prompts, word for word (Zweiger et al. 2025, make_squad_data.py); a chat model gets the same
text as its user message. `atomic-facts` is ours. A new style of ours is one
more line in `STYLES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from seal.edits import reading
from seal.errors import EditFault, UserError
from seal.named import find
from seal.types import Prompt


@dataclass(frozen=True, slots=True)
class Style:
    """A text format of self-edits."""

    name: str
    task: str
    """What is asked, before the passage."""
    cue: str = ""
    """What stands after the passage, for the model to go on from."""
    prefill: str = ""
    """The end of the cue that is the beginning of the reply: a chat model finds it already written."""
    thoughts: bool = False
    """Thoughts are written first, and nothing is learnt from them."""
    reader: Callable[[str], list[str]] = reading.official
    """The text's segments, without the thoughts."""

    def prompt(self, title: str, context: str) -> Prompt:
        """Text and prefill together are exactly what the paper's code gives a base model."""
        return Prompt(text=f"{self.task}Passage:\n{title}\n{context}\n\n{self.cue}", prefill=self.prefill)

    def read(self, text: str) -> list[str]:
        """The segments of what the policy wrote, at least one. Raises EditFault `empty` or `unreadable`."""
        if not text.strip():
            raise EditFault("empty", "the model wrote nothing")
        segments = self.reader(reading.after_thoughts(text) if self.thoughts else text)
        if not any(reading.has_words(segment) for segment in segments):
            raise EditFault("unreadable", f"nothing to learn in {text.strip()[:60]!r}")
        return segments

    def cleaned(self) -> Style:
        """The same style read without list markers, headings and repetitions."""
        return replace(self, reader=lambda text: reading.clean(self.reader(text)))

    def whole(self) -> Style:
        """The same style with its lines left together: only `---` separates, as in the paper's continued pretraining."""
        return replace(self, reader=lambda text: reading.official(text, split_newlines=False))


def _implications(name: str, length: str) -> Style:
    task = f"Let's read the following passage and produce a {length}list of implications"
    return Style(name, f"{task} derived directly or indirectly from the content.\n\n", cue="Implications:\n")


STYLES: dict[str, Style] = {
    style.name: style
    for style in (
        _implications("implications", ""),
        _implications("implications-long", "long "),
        _implications("implications-very-long", "very long "),
        Style(
            "implications-chain-of-thought",
            "Let's read the following passage, think step by step, and then produce a list of implications derived directly or "
            'indirectly from the content. We should first generate a "Thought Process" and then "Implications"\n\n',
            cue="Thought Process:\n",
            thoughts=True,
        ),
        Style(
            "rewrite",
            "Let's read the following passage and rewrite it in a few different ways, each one separated by a newline.\n\n",
            cue="Rewritten passages:\n",
        ),
        Style(
            "self-qa",
            "Let's read the following passage and rewrite it in a question-answer format.\n\n",
            prefill="Question 1: ",
        ),
        Style(
            "atomic-facts",
            "Rewrite the following passage as a list of short, simple sentences. Keep every name and every number.\n\n",
            prefill="1.",
            reader=reading.facts,
        ),
        Style("none", ""),
    )
}


def style(name: str) -> Style:
    """One of ours by its name, or anybody's as `module:name`. Raises UserError if there is none."""
    found = find("style", name, STYLES, form="a seal.edits.styles.Style")
    if not isinstance(found, Style):
        raise UserError(f"style {name!r} is no Style; seal.edits.styles says what one is")
    return found
