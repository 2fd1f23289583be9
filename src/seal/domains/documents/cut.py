"""A document cut into passages: at headings, then paragraphs, then lines, sentences and words, as far as the budget asks for it.

A section that fits with all the sections below it is one passage. Every character but white space and what only says where a word
may part comes once, in order, in a passage's text or as a heading in the titles; the title is the document's and the headings
above the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from seal.domains.documents.blocks import Block, Document
from seal.edits.reading import sequence

Piece = tuple[str, str]
"""Title and text of a passage."""
BREAKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\n\s*\n",  # paragraphs
        r"\n(?=\s*(?:\||(?:[-*+]|\d+[.)])\s))",  # list items and table rows
        r"(?<=[.!?])[\"')\]’”]*\s+|(?<=[。！？])[。！？”’」』》）]*",  # sentences
        r"\n",
        r"\s+",
        r"",
    )
)

_PARTING = dict.fromkeys((0xAD, 0x200B))
"""Soft hyphens and spaces of no width, which nobody sees and no word is compared with."""


@dataclass
class _Section:
    """A heading with what stands below it up to the next one, and the sections below it."""

    heading: str
    level: int
    text: list[str] = field(default_factory=list)
    below: list[_Section] = field(default_factory=list)

    def whole(self) -> str:
        parts = [*self.text, *(part for one in self.below for part in (one.heading, one.whole()))]
        return "\n\n".join(part for part in parts if part)


def cut(document: Document, name: str, count: Callable[[str], int], budget: int) -> tuple[str, list[Piece]]:
    """The document's title (without one: `name`) and its passages, each of at most `budget` tokens with its title."""
    title, blocks = _title(_filled(document.blocks), document.title or name)
    if count(title) > budget // 2:
        title, blocks = name, _filled(document.blocks)
    while count(title) > budget // 2 and len(title) > 1:
        title = title[: len(title) // 2]
    return title, list(_pieces(_tree(title, blocks, count, budget), title, count, budget))


def fits(title: str, text: str, count: Callable[[str], int], budget: int) -> bool:
    """Whether a passage keeps within the budget."""
    return count(sequence(title, text)) <= budget


def _filled(blocks: Sequence[Block]) -> list[Block]:
    """The blocks that are not blank; a heading with nothing below it is text, so that it is not lost."""
    kept: list[Block] = []
    shown = [Block(one.text.translate(_PARTING), one.level) for one in blocks]
    for block in reversed([one for one in shown if one.text.strip()]):
        empty = bool(block.level) and (not kept or 0 < kept[-1].level <= block.level)
        kept.append(Block(block.text) if empty else block)
    return kept[::-1]


def _title(blocks: list[Block], given: str) -> tuple[str, list[Block]]:
    """The document's title and its other blocks: the heading at its top, if there is one for all of it, else `given`."""
    at = next((place for place, block in enumerate(blocks) if block.level), None)
    if at is None or (at > 0 and blocks[at].level > 1) or any(0 < one.level <= blocks[at].level for one in blocks[at + 1 :]):
        return given, blocks
    return blocks[at].text, blocks[:at] + blocks[at + 1 :]


def _tree(title: str, blocks: Sequence[Block], count: Callable[[str], int], budget: int) -> _Section:
    """The document as a section; a heading that would fill half the budget, with those above it, is text of a nameless one."""
    above = [_Section(title, 0)]
    for block in blocks:
        while block.level and above[-1].level >= block.level:
            above.pop()
        if not block.level:
            above[-1].text.append(block.text)
            continue
        long = count(_joined([*(one.heading for one in above), block.text])) > budget // 2
        section = _Section("", block.level, [block.text]) if long else _Section(block.text, block.level)
        above[-1].below.append(section)
        above.append(section)
    return above[0]


def _pieces(section: _Section, title: str, count: Callable[[str], int], budget: int) -> Iterator[Piece]:
    def within(text: str) -> bool:
        return fits(title, text, count, budget)

    whole = section.whole()
    if within(whole):
        if whole.strip():
            yield title, whole.strip()
        return
    for text in _slices("\n\n".join(section.text), within, BREAKS):
        yield title, text
    for one in section.below:
        yield from _pieces(one, _joined([title, one.heading]), count, budget)


def _slices(text: str, within: Callable[[str], bool], breaks: Sequence[re.Pattern[str]]) -> Iterator[str]:
    """The text in pieces filled up from its front, at the first kind of break, or at finer ones where a part is too long."""
    if not text.strip():
        return
    if within(text.strip()):
        yield text.strip()
        return
    ends = [match.end() for match in breaks[0].finditer(text) if 0 < match.end() < len(text)] + [len(text)]
    start = 0
    while start < len(text):
        first = bisect_right(ends, start)
        fitting = _most(lambda at, start=start: within(text[start : ends[at]].strip()), first, len(ends))  # type: ignore[misc]
        if fitting is not None or len(breaks) == 1:
            end = ends[first if fitting is None else fitting]
            if piece := text[start:end].strip():
                yield piece
        else:
            end = ends[first]
            yield from _slices(text[start:end], within, breaks[1:])
        start = end


def _most(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The last place of `low` to `high` - 1 up to which something holds, found in doubling steps; None: not even at `low`."""
    if not holds(low):
        return None
    step = 1
    while low + step < high and holds(low + step):
        low, step = low + step, 2 * step
    high = min(high, low + step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _joined(headings: Sequence[str]) -> str:
    return ": ".join(heading for heading in headings if heading)
