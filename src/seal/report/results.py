"""The table of an evaluation, whatever it is of: passages or puzzles."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group

from seal.report import render
from seal.report.puzzles import of_puzzles, puzzle_table
from seal.report.tables import Row, evaluation_table
from seal.store import Store, keys


def result_rows(store: Store) -> list[Row]:
    """Its rows: what everything that shows or compares it takes it from. No row of a stream: there the edits of a condition have
    steps and no trials."""
    if store.states(keys.CONTINUAL):
        return []
    return puzzle_table(store) if of_puzzles(store) else evaluation_table(store)


def result(rows: Sequence[Row]) -> Group:
    """The same as rich prints it, with what has to be said below it."""
    return render.puzzles(rows) if "solved" in rows[0] else render.evaluation(rows)
