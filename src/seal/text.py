"""How short answers are compared: SQuAD's normalisation, token F1, recall and exact match.

Rajpurkar et al. 2016, evaluate-v1.1.py: lower case, no punctuation, no articles, single spaces. Two refinements: text is brought
to NFKC and every Unicode punctuation counts (curly quotes, dashes), and an answer made of articles alone ("A") keeps them.
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter

ARTICLES = frozenset({"a", "an", "the"})


def tokens(text: str) -> list[str]:
    """The words of `text` that are compared, normalised."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    kept = "".join(c for c in plain if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    words = unicodedata.normalize("NFKC", kept).split()
    return [word for word in words if word not in ARTICLES] or words


def normalise(text: str) -> str:
    """`text` as it is compared: its tokens, joined by single spaces."""
    return " ".join(tokens(text))


def exact(answer: str, target: str) -> float:
    """1.0 if both are the same once normalised, else 0.0."""
    return float(normalise(answer) == normalise(target))


def f1(answer: str, target: str) -> float:
    """Harmonic mean of token precision and recall, repeats counted; where one side has no tokens, 1.0 only if neither has."""
    said, wanted = tokens(answer), tokens(target)
    if not said or not wanted:
        return float(said == wanted)
    return 2 * _shared(said, wanted) / (len(said) + len(wanted))


def recall(answer: str, target: str) -> float:
    """Share of the target's tokens that the answer has, repeated tokens counted; a target without tokens is met by no tokens."""
    said, wanted = tokens(answer), tokens(target)
    if not wanted:
        return float(not said)
    return _shared(said, wanted) / len(wanted)


def _shared(left: list[str], right: list[str]) -> int:
    return sum((Counter(left) & Counter(right)).values())
