"""Where a run stands at this moment: a pure function of the store and the clock."""

from __future__ import annotations

import tomllib

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from seal.loops.stages import TRAIN
from seal.report.measured import before_after
from seal.report.render import clock, number
from seal.report.tables import Row
from seal.rewards import TOTAL
from seal.store import Store, keys
from seal.trials import by_edit

LINES = 6
"""Most lines shown of an edit."""


def watch_row(store: Store, now: float) -> Row:
    """`status`, `round` of `rounds` (None unless the run trains a policy), the `stage` with `done` of `total` and the seconds
    `left` of it (None where they can't be known); of the present phase: edits written and trials done, its `best` edit and the
    `last` one."""
    status = store.status
    # in sequence no edit has a trial: what there is to tell is the step
    found = store.latest() if store.get_state(keys.CONTINUAL) is None else None
    phase, round, last = found or (None, None, None)
    edits = _edits(store, phase, round) if phase is not None and round is not None else []
    known = [row for row in edits if row["earned"] is not None]
    progress = store.get_state(keys.PROGRESS, {}) if status == "running" else {}
    # an adaptation has a round more whenever documents come or go: outer.rounds is not how many
    others = (keys.EVALUATION, keys.CONTINUAL, keys.ADAPT_DOCUMENTS)
    trains = store.get_state(keys.KIND, "train") == "train" and all(store.get_state(one) is None for one in others)
    rounds = tomllib.loads(store.recipe_toml).get("outer", {}).get("rounds") if trains else None
    return {
        "run": str(store.path),
        "status": status,
        "phase": phase,
        "round": round if phase is not None and phase.partition(".")[0] == TRAIN else None,
        "rounds": rounds,
        **{key: progress.get(key) for key in ("where", "stage", "done", "total")},
        "left": _left(progress, now),
        "edits": len(edits),
        "trials": sum(row["trials"] for row in edits),
        "best": max(known, key=lambda row: row["earned"], default=None),
        "last": next((row for row in edits if row["id"] == last), None),
    }


def _edits(store: Store, phase: str, round: int) -> list[Row]:
    tried, rewards = by_edit(store.outcomes(phase, round)), store.rewards(phase, round)
    titles = {id: problem.title or id for id, problem in store.problems().items()}
    rows = []
    for edit in store.edits(phase, round):
        trials = tried.get(edit.id, [])
        fault = edit.fault or next((one.fault for one in trials if one.fault), None)
        (before, after), reward = before_after(trials), rewards.get(edit.id, {}).get(TOTAL)
        row = {"id": edit.id, "title": titles[edit.problem_id], "text": edit.text, "trials": len(trials), "reward": reward}
        earned = after if reward is None else reward  # rewards come when the whole round has been tried
        rows.append({**row, "before": before, "after": after, "earned": earned, "fault": fault and fault.kind})
    return rows


def _left(progress: Row, now: float) -> float | None:
    if not progress or progress["done"] <= progress["began"]:
        return None
    pace = (progress["at"] - progress["since"]) / (progress["done"] - progress["began"])
    left = pace * (progress["total"] - progress["done"]) - (now - progress["at"])
    # what was done at once, faults or outcomes taken over, says nothing of the pace of the rest
    return max(0.0, left) if left > 0 or progress["done"] >= progress["total"] else None


def watched(row: Row) -> Group:
    """What `watch_row` gives, for a terminal."""
    head = Text.assemble(
        (row["run"], "bold"), "  ", (row["status"], {"running": "green", "stopped": "yellow"}.get(row["status"], ""))
    )
    parts: list[Text | Table] = [head]
    if row["stage"] is not None:
        left = "time left unknown yet" if row["left"] is None else f"{clock(row['left'])} left"
        of = f" of {row['rounds']}" if row["where"].startswith("round ") and row["rounds"] else ""
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, row["total"]), completed=row["done"], width=24)
        line.add_row(f"{row['where']}{of} · {row['stage']}", bar, f"{row['done']}/{row['total']} · {left} in this stage")
        parts.append(line)
    if row["phase"] is not None:
        which = row["phase"] if row["round"] is None else f"{row['phase']}, round {row['round']}"
        parts.append(Text(f"{which}: {row['edits']} edits written, {row['trials']} trials done"))
    for name in ("best", "last"):
        if row[name] is not None:
            parts += [Text(""), *_edit(name, row[name])]
    return Group(*parts)


def _edit(name: str, edit: Row) -> list[Text]:
    parts = [name, edit["title"]]
    if edit["reward"] is not None:
        parts.append(f"reward {number(edit['reward'])}")
    if edit["after"] is not None:
        parts.append(f"score {number(edit['before'])} -> {number(edit['after'])}")
    elif not edit["trials"]:
        parts.append("not tried yet")
    lines = edit["text"].strip().splitlines()
    shown = "\n".join([*lines[:LINES], *(["…"] if len(lines) > LINES else [])])
    return [Text(" · ".join(parts), style="cyan"), *([Text(edit["fault"], style="red")] if edit["fault"] else []), Text(shown)]
