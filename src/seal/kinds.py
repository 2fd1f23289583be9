"""Which characters of a text carry loss: its answers, its numbers, its names or its dates. Rules for English, no model.

>>> [text[start:end] for text in ["In May 1834 Ada Lund rowed 12.5 miles."] for start, end in spans(text, "names")]
['Ada Lund']
"""

from __future__ import annotations

import re
from typing import Literal, assert_never

Kind = Literal["answers", "numbers", "names", "dates"]
Span = tuple[int, int]
"""First character, and the one after the last."""

_WORD_NUMBER = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|"
    "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|billion|dozen"
)
_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_WEEKDAY = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_YEAR = r"(?:1\d|20)\d\d"
_FUNCTION_WORDS = """
a about above after again all also although among an and another answer any are as at be because been before being below
between both but by can could did do does during each even every few first for from had has have he her here hers his how
however i if in into is it its just last later like many may more most much must my neither never no nor not now of often on
once one only or other our out over people question second she should since so some sometimes soon still such than that the
their them then there these they third this those though through thus to today together under until up upon was we were what
when where whether which while who whom whose why will with within without would yes yet you your
"""
NOT_NAMES = frozenset(_FUNCTION_WORDS.split())
_NUMBER = re.compile(rf"\b\d+(?:[.,:]\d+)*\b|\b(?:{_WORD_NUMBER})\b", re.IGNORECASE)
_DATE = re.compile(
    rf"\b\d{{1,2}}(?:st|nd|rd|th)? (?:{_MONTH})(?:,? {_YEAR})?\b"
    rf"|\b(?:{_MONTH})(?: \d{{1,2}}(?:st|nd|rd|th)?)?(?:,? {_YEAR})?\b"
    rf"|\b{_YEAR}(?:-\d\d-\d\d|s)?\b|\b(?:{_WEEKDAY})\b|\b\d{{1,2}}(?:st|nd|rd|th) century\b"
)
_WORD = re.compile(r"\b\w[\w'’-]*")
_TURN = re.compile(r"(?:(?P<first>^[ \t]*)|(?<=\s))(?P<who>Question|Answer)(?:[ \t]+\d+)?[ \t]*:[ \t]*", re.MULTILINE)


def spans(text: str, kind: Kind) -> list[Span]:
    """The characters of that kind, in order."""
    if kind == "answers":
        return answers(text)
    if kind == "numbers":
        return [found.span() for found in _NUMBER.finditer(text)]
    if kind == "dates":
        return [found.span() for found in _DATE.finditer(text)]
    if kind == "names":
        return names(text)
    assert_never(kind)


def answers(text: str) -> list[Span]:
    """What follows each `Answer:`, as far as the next question."""
    found = [span for who, span in turns(text) if who == "Answer"]
    return [(start, start + len(text[start:end].rstrip())) for start, end in found if text[start:end].strip()]


def turns(text: str) -> list[tuple[str, Span]]:
    """Each `Question:` and `Answer:`, numbered or not, by its word and the characters that follow, as far as the next one.

    It stands at the beginning of a line, or further on in a line that begins with one: `Question: Who? Answer: Ada.`
    """
    found: list[re.Match[str]] = []
    for turn in _TURN.finditer(text):
        if turn["first"] is not None or (found and text.find("\n", found[-1].end(), turn.start()) < 0):
            found.append(turn)
    ends = [*(turn.start() for turn in found[1:]), len(text)]
    return [(turn["who"], (turn.end(), end)) for turn, end in zip(found, ends, strict=False)]


def is_function_word(word: str) -> bool:
    """Whether it is no name, even with a capital: `The`, `I'm`, `Don't`."""
    return re.split("n['’]t|['’]", word.lower())[0] in NOT_NAMES


def names(text: str) -> list[Span]:
    """Runs of words with a capital that are no function words, months or weekdays: `Ada Lund`, but neither `The` nor `May`."""
    plain = _DATE.sub(lambda date: "0" * len(date[0]), text)
    found: list[Span] = []
    for word in _WORD.finditer(plain):
        start, end = word.span()
        if not word[0][0].isupper() or is_function_word(word[0]):
            continue
        if found and text[found[-1][1] : start] == " ":
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
