"""What the calibrated grader looks at in a question, its target and an answer: 22 numbers, in some tens of microseconds.

All is counted over the words of `values.words` (numbers and dates as values), most of it over their stems. Which numbers these
are was decided on the training titles alone: of 65 that were tried, the others added nothing there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from typing import NamedTuple

from seal.grading import values
from seal.text import ARTICLES

NAMES = (
    "target capitals",
    "target letters",
    "target in question",
    "recall",
    "recall stems",
    "recall content",
    "recall new",
    "rarity new",
    "rarest missing",
    "letters new",
    "letters worst",
    "last word",
    "longest run",
    "numbers missing",
    "where",
    "recall first sentence",
    "precision first sentence",
    "runs on",
    "question said",
    "foreign capitals",
    "foreign rarity",
    "foreign rarest",
)
"""What each number of `features` is. `new`: content words of the target that the question does not have; `foreign`: those of
the answer that neither has."""

Rarity = Mapping[str, float]
"""How rare a stem is, 0 to 1; what is not in it is rarest, 1."""

_STOP_WORDS = """
a an the of to in on at by for with from into as is are was were be been being am it its this that these those there their
they them he she his her him and or but not no nor so than then also which who whom whose what when where why how has have
had do does did done can could will would may might must shall should s t i you your we our us such some any each other about
over after before between during through because due while if only more most very both all one many much
"""
STOP = frozenset(_STOP_WORDS.split())
_ENDINGS = """
ization isation ational ations ation ments ment ities ity ness ances ance ences ence ically ical ians ian ings ing ions ion
ives ive ists ist isms ism ally ably able ible ized ised izes ises ize ise ied ies ers er ors or ous est edly ed als al ly es
s e y
"""
_SUFFIXES = _ENDINGS.split()
"""The first that a word has is taken off."""
_CAPITAL = re.compile(r"[A-Z](?<!\w[A-Z])[^\W_]+")
_RUNS_ON = re.compile(r"\n\s*(?:Q|Question|Passage|Topic|Answer|A|Context|User|Let's)\b|\bYou are an? |\bHuman:|\n\s*\n")
_SENTENCE_END = re.compile(r"[.!?\n](?:(?<=\n)|\s+(?=[A-Z0-9]))")


class Side(NamedTuple):
    """A question or a target, looked at once."""

    words: list[str]
    stems: tuple[str, ...]
    known: frozenset[str]
    """The stems as a set."""
    content: tuple[str, ...]
    """Stems of other than stop words; all of them where there are none."""


class Asked(NamedTuple):
    """A question with its target, looked at once: what does not depend on the answer."""

    question: Side
    target: Side
    new: tuple[str, ...]
    """Content words of the target that the question does not have; all of them where it has all."""
    needed: frozenset[str]
    """The same as a set."""
    places: Mapping[str, list[int]]
    """Where each stem stands in the target."""
    numbers: frozenset[str]
    """Of the target."""
    explained: frozenset[str]
    """Words that need no explanation in an answer: the question's, the target's, stop words."""
    plain: tuple[float, float, float]
    """The first three of `NAMES`."""


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The word without its ending: at least three letters and at most seven of it; numbers stay."""
    word = word.removesuffix("'s").removesuffix("’s")
    if len(word) < 4 or not word.isalpha():
        return word
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:7]


_STOP_STEMS = frozenset(map(stem, STOP))


def words(text: str) -> list[str]:
    """The words that are counted: all but the articles."""
    return [word for word in values.words(text) if word not in ARTICLES]


@lru_cache(maxsize=8192)
def side(text: str) -> Side:
    """A question or a target as it is compared."""
    said = words(text)
    stems = tuple(map(stem, said))
    return Side(said, stems, frozenset(stems), tuple(word for word in stems if word not in _STOP_STEMS) or stems)


@lru_cache(maxsize=8192)
def _asked(question: str, target: str) -> Asked:
    asked, wanted = side(question), side(target)
    new = tuple(word for word in wanted.content if word not in asked.known) or wanted.content
    capitals = sum(word[0].isupper() for word in target.split())
    places: dict[str, list[int]] = {}
    for at, word in enumerate(wanted.stems):
        places.setdefault(word, []).append(at)
    return Asked(
        asked,
        wanted,
        new,
        frozenset(new),
        places,
        frozenset(filter(values.is_number, wanted.stems)),
        wanted.known | asked.known | _STOP_STEMS,
        (float(capitals), float(len(target)), _share(wanted.known, asked.known)),
    )


def cut(answer: str) -> tuple[str, bool]:
    """The answer up to where it runs on into another question or text, and whether it does."""
    if "\n" not in answer and "You are a" not in answer and "Human:" not in answer:
        return answer, False
    found = _RUNS_ON.search(answer)
    return (answer, found is not None) if found is None or found.start() < 2 else (answer[: found.start()], True)


def features(question: str, target: str, answer: str, rarity: Rarity) -> list[float]:
    """One number for each of `NAMES`."""
    asked = _asked(question, target)
    wanted = asked.target
    answer, runs_on = cut(answer)
    said = words(answer)
    stems = list(map(stem, said))
    known = set(stems)
    return [
        *asked.plain,
        *_said(wanted, said, known),
        *_met(asked.new, known, answer.lower(), rarity),
        _longest_run(stems, asked.places) / len(wanted.stems) if not wanted.known.isdisjoint(known) else 0.0,
        len(asked.numbers - known),
        *_placed(asked, stems, known, answer),
        float(runs_on),
        *_foreign(asked, stems, known, answer, rarity),
    ]


def _share(words: Sequence[str] | Set[str], there: Set[str]) -> float:
    return len([word for word in words if word in there]) / len(words) if words else 0.0


def _said(wanted: Side, said: list[str], known: Set[str]) -> list[float]:
    """How much of the target is said: of its words, their stems, and those that are no stop words."""
    if wanted.known.isdisjoint(known):
        return [0.0] * 3
    return [_share(wanted.words, set(said)), _share(wanted.stems, known), _share(wanted.content, known)]


def _met(new: Sequence[str], known: Set[str], answer: str, rarity: Rarity) -> list[float]:
    """How much of what the target adds to the question is said: in words, by their rarity, and by their letters."""
    if not new:
        return [0.0] * 6
    met = total = rarest = letters = 0.0
    worst, said = 1.0, 0
    for word in new:
        rare = rarity.get(word, 1.0)
        total += rare
        if word in known:
            met += rare
            letters += 1.0
            said += 1
            continue
        rarest = max(rarest, rare)
        threes = _threes(word)
        alike = len([three for three in threes if three in answer]) / len(threes)
        letters += alike
        worst = min(worst, alike)
    return [said / len(new), met / (total or 1.0), rarest, letters / len(new), worst, float(new[-1] in known)]


@lru_cache(maxsize=65536)
def _threes(word: str) -> list[str]:
    """Its runs of three letters: how many of them an answer has says how near a misspelling or a relative comes."""
    return [word[at : at + 3] for at in range(max(1, len(word) - 2))]


def _placed(asked: Asked, stems: list[str], known: Set[str], answer: str) -> list[float]:
    """Where the answer comes to the point: the place of the first new word (-1: nowhere), and its first sentence alone."""
    if asked.target.known.isdisjoint(known):
        return [-1.0, 0.0, 0.0]
    where = -1.0
    if not asked.needed.isdisjoint(known):
        where = next(at for at, word in enumerate(stems) if word in asked.needed) / len(stems)
    end = _SENTENCE_END.search(answer)
    first = stems if end is None else stems[: len(answer[: end.start()].split())]
    right = len([word for word in first if word in asked.target.known])
    return [where, _share(asked.new, known if end is None else set(first)), right / max(1, len(first))]


def _longest_run(stems: list[str], places: Mapping[str, list[int]]) -> int:
    """Most words of the target that stand together and in order."""
    longest, ending = 0, dict[int, int]()
    for word in stems:
        if word in places:
            ending = {at: ending.get(at - 1, 0) + 1 for at in places[word]}
            longest = max(longest, *ending.values())
        else:
            ending = {}
    return longest


def _foreign(asked: Asked, stems: list[str], known: Set[str], answer: str, rarity: Rarity) -> list[float]:
    """What else is said: of the question, and of neither question nor target."""
    rare = [rarity.get(word, 1.0) for word in stems if word not in asked.explained]
    capitals = {stem(word.lower()) for word in _CAPITAL.findall(answer)}
    capitals = capitals.difference(asked.target.known, asked.question.known)
    return [_share(asked.question.content, known), len(capitals), sum(rare), max(rare, default=0.0)]
