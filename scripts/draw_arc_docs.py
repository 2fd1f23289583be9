"""Draws the pictures of docs/arc.md: python scripts/draw_arc_docs.py"""

from __future__ import annotations

from pathlib import Path

from seal.domains.arc.puzzles import by_id
from seal.domains.arc.tools import INVERTIBLE
from seal.domains.arc.transforms import FLIP_COLUMNS, beside, recolour, shift, stretch, tile
from seal.report.pictures import draw, svg

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"


def main() -> None:
    """One file a picture."""
    FOLDER.mkdir(exist_ok=True)
    (puzzle,) = by_id(["6150a2bd"])
    (FOLDER / "arc-puzzle.svg").write_text(draw(puzzle), encoding="utf-8")
    grid = puzzle.shown[0].input
    others = [stretch(2, 2), tile(1, 2), beside(FLIP_COLUMNS), shift(1, 1), recolour((0, 2, 3, 4, 5, 6, 7, 8, 9, 1))]
    columns = [[(one.name.partition(" (")[0], one(grid))] for one in (*INVERTIBLE.values(), *others)]
    (FOLDER / "arc-tools.svg").write_text(svg(columns, title="The tools"), encoding="utf-8")


if __name__ == "__main__":
    main()
