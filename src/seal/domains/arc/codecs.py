"""Grids as text, in several ways. Reading is strict: whatever is not exactly a grid is none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from seal.domains.arc.puzzles import Grid, grid
from seal.errors import unknown


@dataclass(frozen=True, slots=True)
class Codec:
    """One way of writing a grid."""

    name: str
    write: Callable[[Grid], str]
    _rows: Callable[[str], list[list[int]]]

    def read(self, text: str) -> Grid | None:
        """The grid that is written there, white space around it aside; None if that is not exactly one grid."""
        try:
            return grid(self._rows(text.strip()))
        except (ValueError, TypeError, RecursionError):
            return None


def _read_rows(text: str) -> list[list[int]]:
    return [[int(cell) for cell in _only(r"[0-9]+", line.strip())] for line in text.split("\n")]


def _read_spaced(text: str) -> list[list[int]]:
    return [[int(cell) for cell in _only(r"[0-9]( [0-9])*", line.strip()).split(" ")] for line in text.split("\n")]


def _read_lists(text: str) -> list[list[int]]:
    # digits, commas, brackets and spaces only: no number but a colour, nothing nested deeper than rows
    found: list[list[int]] = json.loads(_only(r"\[\s*\[[0-9,\s]*\](\s*,\s*\[[0-9,\s]*\])*\s*\]", text))
    return found


def _read_arrays(text: str) -> list[list[int]]:
    found = _only(r"\[\s*\[[0-9]( [0-9])*\](\s*\[[0-9]( [0-9])*\])*\s*\]", text)
    return [[int(cell) for cell in row.split()] for row in re.findall(r"[0-9][0-9 ]*", found)]


def _only(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError(f"{text[:40]!r} is no grid")
    return text


PAPER = Codec("paper", lambda found: "[" + "\n ".join(f"[{' '.join(map(str, row))}]" for row in found) + "]", _read_arrays)
CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec("rows", lambda found: "\n".join("".join(map(str, row)) for row in found), _read_rows),
        Codec("spaced-rows", lambda found: "\n".join(" ".join(map(str, row)) for row in found), _read_spaced),
        Codec("lists", lambda found: str([list(row) for row in found]), _read_lists),
        PAPER,
    )
}
"""`rows` 012, `spaced-rows` 0 1 2, `lists` [[0, 1, 2]] (Python's), `paper` [[0 1 2]] (NumPy's, and pairs in a layout of their
own)."""


def codec(name: str) -> Codec:
    """The codec of that name. Raises UserError with the nearest known name."""
    if name not in CODECS:
        raise unknown("grid codec", name, CODECS)
    return CODECS[name]


def costs(grids: Iterable[Grid], count: Callable[[str], int]) -> Mapping[str, int]:
    """What the grids cost in each codec but the paper's; `count` is the tokenizer's number of tokens of a text."""
    known = list(grids)
    return {name: sum(count(codec.write(one)) for one in known) for name, codec in CODECS.items() if codec is not PAPER}


def cheapest(grids: Iterable[Grid], count: Callable[[str], int]) -> Codec:
    """The codec in which the grids cost the fewest tokens; among equals the first of `CODECS`."""
    cost = costs(grids, count)
    return CODECS[min(cost, key=lambda name: cost[name])]
