"""How a self-edit's text becomes training sequences: the paper's rules, and a cleaner reading of our own.

Segments are the pieces of an edit; a sequence is a segment under its passage's title, which is what the model is trained on.
"""

from __future__ import annotations

import re

_NUMBERED_QUESTION = re.compile(r"Question\s+\d+:")
_ANSWER = re.compile(r"Answer\s*:")
_NEXT_QUESTION = re.compile(r"\n(?=Question\s+\d+:)")
_IMPLICATIONS = re.compile(r"\nImplications:\s*")
_MARKER = re.compile(r"^(?:(?:[-*•‣◦·–—]|\(?\d{1,3}[.)]|\(?[a-zA-Z]\))(?:\s+|$))+")
_HEADING = re.compile(r"^(?:#{1,6}\s|[^\n]*:$|\*\*[^*\n]*[^*\n.!?]\*\*$)")


def sequence(title: str, segment: str) -> str:
    """A segment as it is trained on: under its passage's title."""
    return f"{title}\n{segment}"


def official(text: str, *, split_newlines: bool = True) -> list[str]:
    """Segments as the paper's code takes them (`build_train_sequences`, June 2025); literal, oddities included.

    `---` separates segments. With `split_newlines` every line that is not blank is one; a first line that only introduces a
    numbered list (the second starts with `1.`) is dropped. A text with `Question N:` and `Answer:` is instead split before
    each `Question N:`, so that an answer stays with its question. Without `split_newlines` a blank text is one blank segment.
    """
    if split_newlines and _NUMBERED_QUESTION.search(text) and _ANSWER.search(text):
        first, *rest = _NEXT_QUESTION.split(text.strip())
        # The prompt ended in "Question 1: ", so the text itself begins in the middle of it.
        return [first if first.startswith("Question") else f"Question 1: {first.strip()}", *rest]
    segments = [part.strip() for part in text.split("---") if part.strip()] or [text.strip()]
    if not split_newlines:
        return segments
    lines = [line.strip() for segment in segments for line in segment.splitlines() if line.strip()]
    return lines[1:] if len(lines) > 1 and lines[1].startswith("1.") else lines


def after_thoughts(text: str) -> str:
    """What follows the first line `Implications:` of a chain-of-thought edit; the whole text if there is none (August 2025)."""
    found = _IMPLICATIONS.search(text)
    return text[found.end() :].lstrip() if found else text


def clean(segments: list[str]) -> list[str]:
    """Segments as plain sentences: no list markers, bold or headings, `Question:` without its number, nothing twice.

    Chat models decorate what they write, and a model trained on decoration learns to decorate. Applying it again changes nothing.
    """
    kept: dict[str, str] = {}
    for segment in segments:
        bare = plain(segment)
        if has_words(bare) and not _HEADING.match(segment.strip()) and not _HEADING.match(bare):
            kept.setdefault(" ".join(bare.casefold().split()), bare)
    return list(kept.values())


def facts(text: str) -> list[str]:
    """One clean sentence a line. A line stays whole: `Question: ...? Answer: ...` is one thing to learn."""
    return clean(text.splitlines())


def has_words(text: str) -> bool:
    """Whether there is anything to learn in it: a letter or a digit."""
    return any(char.isalnum() for char in text)


def plain(segment: str) -> str:
    """A segment without list markers and bold, `Question:` without its number."""
    undecorated = _MARKER.sub("", segment.replace("**", "").strip()).strip()
    return re.sub(r"^Question\s+\d+:", "Question:", undecorated)
