"""What is printed: text on a terminal or into a file, or one JSON document."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console


def console(piped: int = 200) -> Console:
    """Stdout for rich: as wide as the terminal; `piped`: where there is none. By default wide enough for every table."""
    return Console(width=None if sys.stdout.isatty() else piped, highlight=False)


def print_json(document: object) -> None:
    """The one JSON document of a command."""
    print(json.dumps(document, allow_nan=False))


def read_tables(path: Path) -> dict[str, Any]:
    """The tables a run has by now."""
    from seal.report.curve import curve_table
    from seal.report.puzzles import of_puzzles, puzzle_table
    from seal.report.tables import evaluation_table, training_table
    from seal.store import Store

    with Store.open(path, write=False) as store:
        return {
            "run": str(path),
            "training": training_table(store),
            "table": puzzle_table(store) if of_puzzles(store) else evaluation_table(store),
            "curve": curve_table(store),
        }


def print_tables(tables: dict[str, Any]) -> None:
    """What `read_tables` gives, as text."""
    from seal.report import render
    from seal.report.puzzles import render_puzzles

    out = console()
    if tables["training"]:
        out.print(render.training(tables["training"]))
    if tables["table"]:
        puzzles = "solved" in tables["table"][0]
        out.print(render_puzzles(tables["table"]) if puzzles else render.evaluation(tables["table"]))
    if tables["curve"]:
        out.print(render.curve(tables["curve"]))


def print_run(path: Path, json: bool) -> None:
    """A run's tables and how to look further, or the same as one document."""
    tables = read_tables(path)
    if json:
        print_json(tables)
        return
    print_tables(tables)
    print(f"the run is in {path}; to read its self-edits with their answers: seal show {path}")
