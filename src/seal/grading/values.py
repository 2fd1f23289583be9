"""Numbers and dates as values: `1,200` is `twelve hundred`, `10%` is `ten per cent`, `June 9, 1886` is `9 June 1886`.

A text becomes its words, each number written in one way and each month by its whole name. Compared as bags of such words,
dates in another order are equal without being parsed. Only `9/6/1886` has two readings, and both are given.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from itertools import chain

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    " nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_MOST = 10**30
"""What more is counted by, such as a looping model's `5 trillion trillion trillion`, is a word."""
SCALES = {"hundred": 100, "dozen": 12, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth"
    " seventeenth eighteenth nineteenth twentieth"
)
MONTHS = "january february march april may june july august september october november december"

_COUNTED = {word: at for at, word in enumerate(SMALL.split())} | {word: 10 * at for at, word in enumerate(TENS.split(), 2)}
_ORDERED = {word: at for at, word in enumerate(ORDINALS.split(), 1)}
_ORDERED |= {word[:-1] + "ieth": 10 * at for at, word in enumerate(TENS.split(), 2)}  # fiftieth
_WORTH = _COUNTED | _ORDERED
_MONTHS = MONTHS.split()
_SHORT = {month[:3]: month for month in _MONTHS if month != "may"} | {"sept": "september"}
_UNITS = frozenset({"%", "percent", "percentage"})
"""Dropped: a question that asks for a percentage is answered by the number alone."""
_MINUS = frozenset({"-", "−"})
_END = ","
"""Stands behind a number in words that a mark ends: `fifteen, twenty` are two."""
_DROPPED = _UNITS | _MINUS | {_END}
_SPELT = frozenset({*_WORTH, *SCALES})
_SPECIAL = frozenset({*_SPELT, *_SHORT, *_DROPPED})
"""Words that do not stay as they are; nor may those that are not letters throughout."""

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|(?<![\w.])\.\d+"
_LETTERS = r"[^\W\d_]++(?:['’][^\W\d_]++)*+(?!\w)"
_WORD = re.compile(rf"{_LETTERS}|(?<![\w.,])[-−](?=\.?\d)|(?:{_NUMBER})(?:st|nd|rd|th|s)?(?!\w)|[^\W_]+|%")
_PARTED = re.compile(r"\d[/.-]\d")
_DATE = re.compile(r"(?<![\w/.-])(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})(?![\w/]|[.-]\d)")
_DOTTED = re.compile(r"\.[a-z]\.")
_INITIALS = re.compile(r"\b(?:[a-z]\.){2,}")
_DIGITS = re.compile(r"(\d[\d,]*(?:\.\d+)?|\.\d+)(st|nd|rd|th|s)?")
_MIXED = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
"""Where `3½` is parted: its letters made plain, it would be 31/2."""
_IS_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def is_number(word: str) -> bool:
    """Whether a word of `words` is a number's value."""
    return _IS_NUMBER.fullmatch(word) is not None


def words(text: str, *, day_first: bool = False) -> list[str]:
    """The words of `text` in lower case, punctuation gone, numbers as plain decimals, months by their whole names.

    `day_first`: `9/6/1886` is the ninth of June, not the sixth of September.
    """
    plain = text if text.isascii() else unicodedata.normalize("NFKC", _MIXED.sub(" ", text))
    plain = plain.lower()
    if _DOTTED.search(plain):
        plain = _INITIALS.sub(lambda found: found[0].replace(".", ""), plain)
    if "per cent" in plain:
        plain = plain.replace("per cent", "percent")
    if day_first:
        plain = _DATE.sub(lambda found: _numeric_date(found, day_first=True), plain)
    return _values(list(chain.from_iterable(map(_pieces, plain.split()))))


@lru_cache(maxsize=65536)
def _pieces(piece: str) -> tuple[str, ...]:
    """The words between two spaces, a date's month first. Kept, as most of a text's have been seen before."""
    if _PARTED.search(piece):
        piece = _DATE.sub(lambda found: _numeric_date(found, day_first=False), piece)
    found = _WORD.findall(piece)
    if found and (last := found[-1]) in _SPELT:
        marks = ".;:!?" if last in SCALES else ",.;:!?"  # five thousand, four hundred: a comma may be within a number
        if not set(piece.rpartition(last)[2]).isdisjoint(marks):
            found.append(_END)
    return tuple(found)


def readings(text: str) -> list[list[str]]:
    """`words`, once for each way its numeric dates can be read: one list, or two that differ."""
    month_first = words(text)
    if not _DATE.search(text):
        return [month_first]
    day_first = words(text, day_first=True)
    return [month_first] if day_first == month_first else [month_first, day_first]


def _values(found: list[str]) -> list[str]:
    """Numbers become values; a number of several words becomes one."""
    kept: list[str] = []
    done = 0
    for at in [at for at, word in enumerate(found) if word in _SPECIAL or not word.isalpha()]:
        if at < done:  # of a number that was read already
            continue
        kept += found[done:at]
        word = found[at]
        value, used = _number(found, at)
        if used:
            kept.append(value)
        elif word not in _DROPPED:
            kept.append(_SHORT.get(word, word))
        done = at + (used or 1)
    return kept + found[done:]


def _number(found: list[str], at: int) -> tuple[str, int]:
    """The value of the longest number that begins at `at`, and how many words it takes; 0 words if none does."""
    begin, sign = at, 1
    if found[at].isdecimal() and len(found[at]) <= 15 and SCALES.keys().isdisjoint(found[at + 1 : at + 2]):  # most are: 1886
        return str(int(found[at])), 1
    if found[at] in _MINUS:
        at, sign = at + 1, -1
    digits = _DIGITS.fullmatch(found[at])
    if digits is None:
        spelt, used = _spelt(found, at)
        return (_written(spelt), used) if used else ("", 0)
    if digits[2] == "s" or len(digits[1]) > 15:  # 1990s is a decade, not a year; and what counts nothing is a word
        return found[at].replace(",", ""), at + 1 - begin
    plain = digits[1].replace(",", "")
    value: Decimal | int = Decimal(plain) if "." in plain else int(plain)  # a float's 4.1 million is no whole number
    at += 1
    while at < len(found) and found[at] in SCALES and digits[2] is None and value < _MOST:  # 3.5 million
        value *= SCALES[found[at]]
        at += 1
    return _written(sign * value), at - begin


def _spelt(found: list[str], begin: int) -> tuple[int, int]:
    """A number in words: `five thousand four hundred and thirty`, `nineteen eighty-four`, `twenty-first`."""
    total = group = 0
    room = 100  # what comes next must be worth less: after twenty a digit, after hundred anything below it, after seven nothing
    at = begin
    while at < len(found):
        word = found[at]
        if word in _WORTH:
            worth = _WORTH[word]
            if worth >= room:
                if total or not (11 <= group <= 20 and worth >= 10 and word in _COUNTED):
                    break
                total, group = 100 * group, 0  # a year: nineteen eighty-four
            group += worth
            room = 10 if worth >= 20 and word in _COUNTED else 0
        elif word in SCALES and group < _MOST:
            scale = SCALES[word]
            if scale <= 100:
                group, room = max(1, group) * scale, scale
            else:
                total, group, room = total + max(1, group) * scale, 0, 100
        elif not (word == "and" and room == 100 and at > begin and at + 1 < len(found) and found[at + 1] in _COUNTED):
            break
        at += 1
        if word in _ORDERED:
            break
    return total + group, at - begin


def _written(value: Decimal | int) -> str:
    return str(int(value)) if value == int(value) else f"{Decimal(value).normalize():f}"


def _numeric_date(found: re.Match[str], *, day_first: bool) -> str:
    """A date in digits as day, month's name and year; what cannot be one stays as it is, its parts apart."""
    first, second, third = (int(part) for part in found.group(1, 3, 4))
    if len(found[1]) == 4:
        year, month, day = first, second, third
    else:
        year, month, day = (third, second, first) if day_first else (third, first, second)
        if month > 12:
            month, day = day, month
    dated = (len(found[1]) == 4) != (len(found[4]) == 4) and 1 <= month <= 12 and 1 <= day <= 31
    return f" {day} {_MONTHS[month - 1]} {year} " if dated else f" {found[1]} {found[3]} {found[4]} "
