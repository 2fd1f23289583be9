"""How short answers are compared: SQuAD's normalisation, token F1, recall and exact match; and where sentences end.

Rajpurkar et al. 2016, evaluate-v1.1.py: lower case, no punctuation, no articles, single spaces. Two refinements: text is brought
to NFKC and every Unicode punctuation counts (curly quotes, dashes), and an answer made of articles alone ("A") keeps them.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from functools import lru_cache

ARTICLES = frozenset({"a", "an", "the"})
_ENDS = re.compile(r"(?<=[.!?])[\"'”’)»“]*(\s+)(?=[\"'“‘(«„¿¡]?[A-Z0-9])")
TITLES = "Mr|Mrs|Ms|Dr|St|Prof|Gen|Col|Capt|Lt|Mt"
"""Before a name, with a full stop; regular expression."""
_MONTHS = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_ABBREVIATED = re.compile(
    rf"(?:\b(?:{TITLES}|No|Figs?|pp|et al|approx|vs|etc|e\.g|i\.e|c|ca)|\b[A-Z])\.\S?$|\b(?:{_MONTHS}|p)\.\d$"
)
"""In a sentence with the first character after it, which for months and pages is a digit. Jr., Inc. and Ltd. end one as often."""
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def tokens(text: str) -> list[str]:
    """The words of `text` that are compared, normalised."""
    if text.isascii():  # the same, a great deal quicker
        words = list(map(_bare, text.lower().split()))
        return [word for word in words if word and word not in ARTICLES] or list(filter(None, words))
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    kept = "".join(c for c in plain if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    words = unicodedata.normalize("NFKC", kept).split()
    return [word for word in words if word not in ARTICLES] or words


@lru_cache(maxsize=65536)
def _bare(word: str) -> str:
    """Without punctuation. Kept, as most words of a text have been seen before."""
    return word.translate(_NO_PUNCTUATION)


def normalise(text: str) -> str:
    """`text` as it is compared: its tokens, joined by single spaces."""
    return " ".join(tokens(text))


def f1(answer: str, target: str) -> float:
    """Harmonic mean of token precision and recall, repeats counted; where one side has no tokens, 1.0 only if neither has."""
    return measure(answer, target)["f1"]


def recall(answer: str, target: str) -> float:
    """Share of the target's tokens that the answer has, repeated tokens counted; a target without tokens is met by no tokens."""
    return measure(answer, target)["recall"]


@lru_cache(maxsize=8192)
def _wanted(target: str) -> tuple[list[str], Counter[str]]:
    """A target's tokens and their counts. Kept, as many answers are compared with one target."""
    found = tokens(target)
    return found, Counter(found)


def measure(answer: str, target: str) -> dict[str, float]:
    """`f1`, `exact` and `recall` at once."""
    said, (wanted, counts) = tokens(answer), _wanted(target)
    left = dict(counts)
    shared = 0
    for word in said:
        if left.get(word):
            left[word] -= 1
            shared += 1
    same = float(said == wanted)
    f1 = 2 * shared / (len(said) + len(wanted)) if said and wanted else same
    return {"f1": f1, "exact": same, "recall": shared / len(wanted) if wanted else float(not said)}


def plain_letters(text: str) -> str:
    """As long as `text`, each letter beyond ASCII by an ASCII one, X for a capital: for rules that go by capitals.

    >>> plain_letters("Élan à Łódź.")
    'Xlan x Xxdx.'
    """
    if text.isascii():
        return text
    return "".join(c if c.isascii() or not c.isalpha() else "X" if c.isupper() or c.istitle() else "x" for c in text)


def sentences(text: str) -> list[str]:
    """The sentences of a text, as they stand: one ends where a capital or a digit begins the next, and with every line. Initials
    and usual English abbreviations end none."""
    found: list[str] = []
    for line in map(str.strip, text.splitlines()):
        plain = plain_letters(line)
        begun: list[str] = []
        start = 0
        for end, after in [*(gap.span(1) for gap in _ENDS.finditer(plain)), (len(line), len(line))]:
            begun.append(line[start:end])
            if not _ABBREVIATED.search(plain[start:end] + plain[after : after + 1]):
                found.append(" ".join(begun))
                begun = []
            start = after
        found.append(" ".join(begun))
    return [sentence for sentence in found if sentence]
