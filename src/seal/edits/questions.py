"""Questions about a text: how one is put, and how a model is asked to write one about each name and number of it.

Small models write few good questions of their own accord; asked about one sentence and one name or number in it they write better
ones. Names and numbers are found by a plain rule, not by a model.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from seal import kinds, text
from seal.edits.sentences import sentences
from seal.types import Prompt

SPANS = 10
"""Most names and numbers of one text that are asked about."""


def titled(question: str, title: str) -> str:
    """A question under the title, where there is one, that says what it is about."""
    return f"Topic: {title}\n{question}" if title else question


def question_prompt(question: str, title: str = "") -> Prompt:
    """The paper's answering prompt, word for word."""
    return Prompt(f"Let's answer a question directly and concisely.\nQuestion: {titled(question, title)}\nAnswer:\n")


# ---- a question to be written


class ToWrite(NamedTuple):
    """A question that a model is to write."""

    prompt: Prompt
    sentence: str
    """What it asks about."""
    answer: str
    """The name or number in it that it asks for."""
    opening: str
    """Its first word or words, which go with what is asked for."""

    def read(self, reply: str) -> str | None:
        """The question, out of what the model wrote to the prompt; None if it is none."""
        written, mark, _ = reply.split("\n")[0].partition("?")
        return " ".join(f"{self.opening}{written}?".split()) if mark else None


def to_write(title: str, body: str) -> list[ToWrite]:
    """A question for each name and number of a text, from its sentence: for a name one that opens with Who, and one with What."""
    return [
        ToWrite(_asked_for(title, one, opening), one.sentence, one.text, opening)
        for one in spans(body, title)[:SPANS]
        for opening in _openings(one.text)
    ]


def strange_words(title: str, body: str) -> frozenset[str]:
    """What the worked example is about and the text is not: a question with one of these words was not asked of the text."""
    return _EXAMPLE_WORDS - set(text.tokens(f"{title} {body}"))


def _asked_for(title: str, one: Span, opening: str) -> Prompt:
    return Prompt(
        f"{_SHOWN.format(title=title)}Sentence: {one.sentence}\nAnswer: {one.text}",
        prefill=f"Question: {opening}",
    )


_SHOWN = """Write a question about {title} that the sentence answers.

Sentence: Hollin Weir was built in 1841 by the engineer Mara Dunn.
Answer: Mara Dunn
Question: Who built Hollin Weir?

Sentence: It holds back the river Sele and turns 14 mill wheels.
Answer: 14
Question: How many mill wheels does Hollin Weir turn?

Sentence: In 1902 a flood carried off the toll house.
Answer: 1902
Question: In which year did a flood carry off the toll house of Hollin Weir?

"""
_EXAMPLE_WORDS = frozenset(("hollin", "weir", "mara", "dunn", "sele", "mill", "wheels", "flood", "toll"))
"""What the worked example is about."""
_YEAR = re.compile(r"1\d\d\d|20\d\d")
_TIME = re.compile(r"\d\d?:\d\d|\d{4}-\d\d-\d\d")


def _openings(span: str) -> tuple[str, ...]:
    if _YEAR.fullmatch(span):
        return ("In which year",)
    if _TIME.fullmatch(span):
        return ("When",)
    return ("How many",) if span[0].isdigit() else ("Who", "What")


# ---- names and numbers

_NUMBER = r"(?<!\d)(?<!\d[.,:/^–-])(?:\d{1,3}(?: \d{3})+(?!\d)|\d)(?:[\d.,:/^–-]*\d)?(?!\w|[.,:/^–-]\d)"
"""With the marks within it, as times and dates have them, or thousands set apart; no part of `1990s`."""
_TITLE = rf"(?:{text.TITLES}|[A-Z])\.\s*(?!(?i:{'|'.join(sorted(kinds.NOT_NAMES))})\b(?!\.))"
"""Or an initial, which ends a sentence where a function word is next."""
_WORD = rf"(?:(?:[A-Z]\.){{2,}}|(?:{_TITLE})*[A-Z][\w'’-]*)"
_NAME = rf"(?!I\b(?!\.\s)){_WORD}(?:\s+(?:(?:of|the|de|van|von)\s+)*{_WORD})*"
_FIRST = rf"{_TITLE}{_WORD}(?:\s+{_WORD})*|{_WORD}(?:\s+{_WORD})+"
_SPAN = re.compile(rf"{_NUMBER}|(?<=[a-z],\s)(?:{_NAME})|(?<=[a-z]\s)(?:{_NAME})|^(?:{_FIRST})")
"""In a sentence's `plain_letters`."""


class Span(NamedTuple):
    """A name or number in its sentence."""

    sentence: str
    text: str
    start: int
    """Where it begins: `4` may stand in a year before it."""


def spans(body: str, title: str = "") -> list[Span]:
    """Every number and every capitalised name (at a sentence's beginning: of two words or more, or with a title, and without the
    function words before it); none twice, none that the title holds."""
    found: dict[str, Span] = {}
    for sentence in sentences(body):
        for match in _SPAN.finditer(text.plain_letters(sentence)):
            start, end = match.span()
            start += _leading(sentence[:end]) if start == 0 else 0
            span = sentence[start:end]
            if span not in title:  # nor is one of function words alone
                found.setdefault(span, Span(sentence, span, start))
    return list(found.values())


def _leading(begun: str) -> int:
    """How many characters at a sentence's beginning are function words and the spaces after them."""
    leading = 0
    for word in begun.split(" "):
        if not kinds.is_function_word(word):
            break
        leading += len(word) + 1
    return leading
