"""The table of a grid of plans: what each did on the puzzles of the pool."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from seal.domains.arc.record import Record
from seal.loops.solvable import GRID, ROUND
from seal.report.tables import Row
from seal.stats import mean
from seal.store import Store


def grid_table(store: Store, record: Record) -> list[Row]:
    """One row a plan: puzzles `solved` of those `tried`, the mean `gain` in the true output's log-probability (nats), and what a
    trial took on average: `examples`, `tokens`, `seconds`; `only`: puzzles that no other plan solves."""
    outcomes = [(one.trial.edit, one) for one in store.outcomes(GRID, ROUND) if one.trial.edit]
    rows = []
    for place, plan in enumerate(record.plans):
        own = [(edit, one) for edit, one in outcomes if edit.text == plan]
        scores = {id: found[place] for id, found in record.scores.items() if found[place] is not None}
        solved = [id for id, score in scores.items() if score]
        rows.append(
            {
                "plan": plan,
                "tried": len(scores),
                "solved": len(solved),
                "only": sum(sum(bool(score) for score in record.scores[id]) == 1 for id in solved),
                "gain": mean(found[place] for found in record.gains.values()),
                "examples": mean(float(len(edit.examples)) for edit, _ in own),
                "tokens": mean(float(one.cost.train_tokens) for _, one in own),
                "seconds": mean(one.cost.train_seconds + one.cost.answer_seconds for _, one in own),
                "faults": sum(one.fault is not None for _, one in own),
            }
        )
    return rows


def render_grid(rows: Sequence[Row]) -> Table:
    """The same as rich prints it."""
    table = Table("plan", title="A grid of plans", title_justify="left")
    for name in ("solved", "tried", "only it", "gain", "examples", "tokens", "s a trial", "faults"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = [f"{row[key]:,.0f}" if row[key] is not None else "–" for key in ("gain", "examples", "tokens", "seconds")]
        counts = [str(row[key]) for key in ("solved", "tried", "only")]
        table.add_row(escape(row["plan"]), *counts, *numbers, str(row["faults"]))
    return table
