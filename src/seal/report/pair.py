"""Two runs side by side as one HTML file: what `compare` says of them, their curves, the edits of the same problems."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group

from seal.config import flat
from seal.errors import UserError
from seal.report import card, figures, render
from seal.report.adapted import adapted, is_adapted
from seal.report.compare import Side, comparison
from seal.report.costs import costs_table, edits_table
from seal.report.html import LIMIT, Part, below, bounded, cells, diff, environment, last_part, only_table
from seal.report.measured import MINUS, minus
from seal.report.page import phase_name, phase_place
from seal.report.results import result, result_rows
from seal.report.tables import Row, problems_table, training_table
from seal.store import Store

SIDES = ("a", "b")


def pair_data(a: Side, b: Side) -> dict[str, Any]:
    """The document of `compare.comparison`, and with it `runs` (of each side its tables, as `report_data` has them), `recipe`
    (the values that differ) and `problems` (by phase: those both runs wrote edits for in the same round, A furthest ahead first).
    Raises UserError for a side that is not a single run.
    """
    with _opened(a) as one, _opened(b) as other:
        stores = dict(zip(SIDES, (one, other), strict=True))
        return {
            **comparison(a, b),
            "runs": {side: _side(store) for side, store in stores.items()},
            "recipe": _differing(one.recipe_toml, other.recipe_toml),
            "problems": _problems(one, other, [(a.only, b.only)] if a.only else _phases(one)),
        }


def _opened(side: Side) -> Store:
    if side.path is None:
        raise UserError(f"--html takes two runs, and {side.name} is not one; leave it out")
    return Store.open(side.path, write=False)


def _side(store: Store) -> Row:
    return {
        "adapted": adapted(store) if is_adapted(store) else None,
        "table": result_rows(store),
        "training": training_table(store),
        "costs": costs_table(edits_table(store)),
    }


def _differing(a: str, b: str) -> list[Row]:
    one, other = (flat(tomllib.loads(text)) for text in (a, b))
    keys = dict.fromkeys([*one, *other])
    return [{"key": key, "a": one.get(key), "b": other.get(key)} for key in keys if one.get(key) != other.get(key)]


def _phases(store: Store) -> list[tuple[str, str]]:
    """Every phase, beside the other run's of that name."""
    return [(phase, phase) for phase in dict.fromkeys(phase for phase, _ in store.rounds()) if "." not in phase]


def _problems(a: Store, b: Store, phases: Sequence[tuple[str, str]]) -> dict[str, list[Row]]:
    found = {}
    for phase, other in phases:
        theirs = {(row["id"], row["round"]): row for row in problems_table(b, other)}
        rows = []
        for mine in problems_table(a, phase):
            if (mine["id"], mine["round"]) in theirs:
                sides = {"a": mine, "b": theirs[mine["id"], mine["round"]]}
                common = {key: mine[key] for key in ("id", "title", "round", "pairs")}
                rows.append({**common, **{side: {key: row[key] for key in ("earned", "edits")} for side, row in sides.items()}})
        if rows:
            found[minus(phase, other)] = sorted(rows, key=_ahead, reverse=True)
    return found


def _ahead(row: Row) -> float:
    """How far A is ahead of B; 0 where that can't be known."""
    a, b = row["a"]["earned"], row["b"]["earned"]
    return 0.0 if a is None or b is None else a - b


def pair_page(data: Mapping[str, Any], limit: int = LIMIT) -> str:
    """What `pair_data` gives, as HTML of at most `limit` bytes."""
    templates = environment()
    problem, part = (templates.get_template(f"{name}.html").module for name in ("problem", "parts"))
    lists = {
        f"problems/{phase}": [problem.both(_with_diffs(row)) for row in rows]  # type: ignore[attr-defined]
        for phase, rows in data["problems"].items()
    }
    lists["recipe"] = [part.differing(row) for row in data["recipe"]]  # type: ignore[attr-defined]
    names = sorted(data["problems"], key=lambda phase: phase_place(phase.split(MINUS)[0]))

    def draw(parts: Mapping[str, Part]) -> str:
        return templates.get_template("compare.html").render(
            data=data,
            names={side: last_part(data[side]) for side in SIDES},
            phases=[
                {"title": MINUS.join(map(phase_name, name.split(MINUS))), "problems": parts[f"problems/{name}"]} for name in names
            ],
            parts=parts,
            tables=_tables(data),
            charts=_charts(data),
            unknown=any(row["differ"] is None for row in data["table"]),
            nothing=render.NOTHING_IN_COMMON,
        )

    return bounded(draw, lists, limit)


def _with_diffs(row: Row) -> Row:
    """B's edits are shown against A's best one."""
    best = row["a"]["edits"][0]["text"]
    edits = [{**edit, "against": "A's best one", "diff": diff(best, edit["text"])} for edit in row["b"]["edits"]]
    return {**row, "b": {**row["b"], "edits": edits}}


def _tables(data: Mapping[str, Any]) -> dict[str, Any]:
    evaluations, rounds = [], []
    for side in SIDES:
        own, shown = data["runs"][side], list[Group]()
        if own["adapted"]:
            shown.append(card.outcome(own["adapted"]))
        if own["table"]:
            shown.append(result(own["table"]))
        evaluations += [(side.upper(), cells(only_table(one)), below(one)) for one in shown]
        if own["training"]:
            rounds.append((side.upper(), cells(only_table(render.training(own["training"])))))
    difference = cells(only_table(render.comparison(dict(data)))) if data["table"] else None
    return {"difference": difference, "evaluations": evaluations, "rounds": rounds}


def _charts(data: Mapping[str, Any]) -> dict[str, Any]:
    curves = {"after": "after an edit", "best": "best edit"}
    score = {
        f"{side.upper()} {shown}": [(row["round"], row[key]) for row in data["runs"][side]["costs"]]
        for key, shown in curves.items()
        for side in SIDES
    }
    reward = {
        f"{side.upper()} mean reward": [(row["round"], row["reward"]) for row in data["runs"][side]["training"]] for side in SIDES
    }
    named = [(render.compared(row["condition"]), row) for row in data["table"]]
    return {
        "difference": figures.intervals(named, "difference of every condition, A minus B, with its 95% interval"),
        "accuracy": figures.lines(score, {}, "score"),
        "reward": figures.lines(reward, {}, "reward", height=220),
    }
