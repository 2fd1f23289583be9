"""The sentences of a passage, of whatever it is made: paragraphs, lists, tables, code."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seal import text

_PARAGRAPH = re.compile(r"\n\s*\n")
_ITEM = re.compile(r"[ \t]*(?:[-*+•]|(\d{1,3})[.)])[ \t]+(?=\S)")
_RULE = re.compile(r"[\s|:+=-]*")
"""The line below a table's heads, as Markdown has it, or one across the page."""
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})\s*([^`]*)")


def sentences(body: str) -> list[str]:
    """The text's sentences, white space made one: none goes over from a paragraph, an item of a list or a row of a table into the
    next. An item's mark is no part of any, nor is code between fences."""
    return text.sentences("\n".join(" ".join(one.split()) for one in _PARAGRAPH.split(_apart(body))))


def _apart(body: str) -> str:
    """The text with every item and every row as a paragraph of its own."""
    found, number = list[str](), 0
    for line in _without_code(body.split("\n")):
        item = _ITEM.match(line)
        if item and item[1]:
            if int(item[1]) in (1, number + 1):
                number = int(item[1])
            else:  # a number that happens to begin a line
                item = None
        if item:
            line = "\n" + line[item.end() :]
        elif _RULE.fullmatch(line):
            line = ""
        elif " | " in line:
            line = f"\n{line.strip(' |')}\n"
        found.append(line)
    return "\n".join(found)


def _without_code(lines: list[str]) -> Iterator[str]:
    """The lines, empty between fences and there. A passage may begin or end within code: a fence that names a language opens it,
    so that with an odd number of others before it the first of them closes."""
    fences = [_FENCE.fullmatch(line) for line in lines]
    named = [bool(fence[1]) for fence in fences if fence]
    inside = True in named and named.index(True) % 2 == 1
    for line, fence in zip(lines, fences, strict=True):
        yield "" if fence or inside else line
        if fence:
            inside = bool(fence[1]) or not inside
