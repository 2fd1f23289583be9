"""What the HTML pages share: their templates, tables out of those of the terminal, word by word differences, a limit in bytes."""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from rich.console import Group
from rich.table import Table
from rich.text import Text

from seal.report import render
from seal.report.pictures import pictures
from seal.report.tables import Row

LIMIT = 4_900_000
"""Most bytes of a page; of a larger run the beginning and the end of every list are shown (the best and the worst problems)."""


@dataclass(frozen=True, slots=True)
class Part:
    """Of a list those that are shown, drawn, and how many there are."""

    shown: list[str]
    of: int


def environment() -> Environment:
    """The templates, which escape all they are given."""
    made = Environment(loader=PackageLoader("seal", "data/report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.globals.update(pictures=lambda text: [Markup(one) for one in pictures(text or "")], number=render.number)
    return made


def last_part(path: str) -> str:
    """A run's name out of its path."""
    return path.replace("\\", "/").rpartition("/")[2]


def only_table(group: Group) -> Table:
    """The table among lines of text."""
    return next(one for one in group.renderables if isinstance(one, Table))


def below(group: Group) -> list[str]:
    """The lines of text among tables."""
    return [one.plain for one in group.renderables if isinstance(one, Text)]


def cells(table: Table) -> Row:
    """A table of the terminal, cell by cell: `title`, `head`, `rows`."""
    columns = [[Text.from_markup(str(cell), emoji=False).plain for cell in column.cells] for column in table.columns]
    return {
        "title": str(table.title or ""),
        "head": [str(column.header) for column in table.columns],
        "rows": [tuple(map(_held_together, row)) for row in zip(*columns, strict=True)],
    }


def _held_together(cell: str) -> str:
    """An interval may stand below its mean, but not in two lines."""
    return re.sub(r"\[.*?\]", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), cell)


def diff(old: str, new: str) -> Markup:
    """The new text word by word, with what is gone from the old one struck out (`del`) and what is new marked (`ins`)."""
    a, b = (re.findall(r"\s+|[^\s]+", text.strip()) for text in (old, new))
    parts = []
    for kind, a1, a2, b1, b2 in difflib.SequenceMatcher(None, a, b).get_opcodes():
        gone, come = escape("".join(a[a1:a2])), escape("".join(b[b1:b2]))
        if kind == "equal":
            parts.append(come)
        else:
            parts += [Markup("<del>{}</del>").format(gone)] * bool(gone) + [Markup("<ins>{}</ins>").format(come)] * bool(come)
    return Markup("").join(parts)


def within(drawn: Sequence[str], limit: int) -> list[str]:
    """As many of them as the limit in bytes allows, taken by turns from the beginning and the end; in their order."""
    left, ends = deque(drawn), ([], [])  # type: tuple[deque[str], tuple[list[str], list[str]]]
    while left:
        first = len(ends[0]) == len(ends[1])
        limit -= len((left[0] if first else left[-1]).encode())
        if limit < 0:
            break
        ends[0].append(left.popleft()) if first else ends[1].append(left.pop())
    return [*ends[0], *reversed(ends[1])]


def size(drawn: Sequence[str]) -> int:
    """Bytes that they take together."""
    return sum(len(one.encode()) for one in drawn)


def fitting(lists: Mapping[str, Sequence[str]], limit: int) -> dict[str, Part]:
    """Of every list what a limit in bytes for all of them allows: an equal share for each, and what a short list leaves of its
    share passes on to the longer ones."""
    found = {}
    for place, name in enumerate(sorted(lists, key=lambda one: size(lists[one]))):
        shown = within(lists[name], limit // (len(lists) - place))
        limit -= size(shown)
        found[name] = Part(shown, len(lists[name]))
    return found


def bounded(draw: Callable[[Mapping[str, Part]], str], lists: Mapping[str, Sequence[str]], limit: int) -> str:
    """A page of at most so many bytes: what `draw` makes of the parts of the lists that fit beside all else it draws."""
    frame = draw({name: Part([], len(own)) for name, own in lists.items()})
    return draw(fitting(lists, limit - size([frame])))
