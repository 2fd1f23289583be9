"""The tools a plan of a text edit may call. Each makes training rows of a passage, or of what the policy wrote about it.

A tool returns plain texts, each learnt as a document under the passage's title, or whole `Example`s.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from seal import text
from seal.edits.questions import question_prompt, strange_words, to_write
from seal.edits.sentences import sentences as sentences_of
from seal.edits.tools import Toolbox
from seal.kinds import spans, turns
from seal.types import Example, Prompt

TEXT_TOOLS = Toolbox("text tool")
"""Those that come with seal, by name."""

Rows = list[str | Example]
"""Texts to learn under the title, or rows as they are."""
Asking = Generator[list[Prompt], list[str], Rows]
"""A tool that needs the model: it yields its prompts once, and is sent what the model wrote to each."""

GAP = "_____"


@dataclass(frozen=True, slots=True)
class Source:
    """What a text tool works on."""

    title: str
    passage: str
    written: tuple[str, ...] = ()
    """The segments of what the policy wrote beside its plan."""


@TEXT_TOOLS.register
def sentences(source: Source, /) -> Rows:
    """Learn every sentence of the passage by itself."""
    return [*sentences_of(source.passage)]


@TEXT_TOOLS.register
def cloze(source: Source, /, gaps: Annotated[int, Field(ge=1, le=4)] = 1) -> Rows:
    """Learn to fill gaps: from each sentence of the passage, so many names and numbers are left out, one at a time."""
    rows: Rows = []
    for sentence in sentences_of(source.passage):
        found = sorted(set(spans(sentence, "names") + spans(sentence, "numbers")))
        for start, end in found[:gaps]:
            gapped = f"{sentence[:start]}{GAP}{sentence[end:]}"
            prompt = Prompt(f"What belongs in the gap?\nTopic: {source.title}\n{gapped}\nAnswer:\n")
            rows.append(Example(sentence[start:end], prompt, loss="completion"))
    return rows


@TEXT_TOOLS.register
def reverse(source: Source, /) -> Rows:
    """Learn each "Question: ... Answer: ..." you wrote the other way round too: the answer first, then its question."""
    written = "\n".join(source.written)  # where every line is a segment, the two are in different ones
    said = [(who, written[start:end].rstrip()) for who, (start, end) in turns(written)]
    pairs = [
        (question, answer.partition("\n")[0].rstrip())
        for (one, question), (other, answer) in pairwise(said)
        if (one, other) == ("Question", "Answer") and "\n" not in question
    ]
    return [f"Answer: {answer}\nQuestion: {question}" for question, answer in pairs if question and answer]


@TEXT_TOOLS.register
def questions(source: Source, /, most: Annotated[int, Field(ge=1, le=20)] = 10) -> Asking:
    """Write questions about names and numbers of the passage, so many at most, and learn to answer each with its sentence."""
    asked = to_write(source.title, source.passage)[:most]
    replies = yield [one.prompt for one in asked]
    strange = strange_words(source.title, source.passage)
    written = [(one.read(reply), one.sentence) for one, reply in zip(asked, replies, strict=True)]
    return [
        Example(sentence, question_prompt(question, source.title), loss="completion")
        for question, sentence in dict.fromkeys(written)
        if question and not strange.intersection(text.tokens(question))
    ]


@TEXT_TOOLS.register
def paraphrase(source: Source, /, times: Annotated[int, Field(ge=1, le=4)] = 1) -> Asking:
    """Write the passage so many times in other words, and learn those too."""
    asked = "Rewrite the following passage in other words. Keep every name and every number.\n\n"
    replies = yield [Prompt(f"{asked}Passage:\n{source.title}\n{source.passage}\n\nRewritten passage:\n")] * times
    return [reply.strip() for reply in replies if reply.strip()]
