"""`seal runs`: what there is."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from seal.cli.options import RUNS, Json, Runs
from seal.cli.resume import kind_of
from seal.errors import SealError

if TYPE_CHECKING:
    from seal.store import RunInfo


def runs(runs: Runs = RUNS, json: Json = False) -> None:
    """The runs so far, oldest first: how far each is, and what it measured.

    Examples:
      seal runs
      seal runs --runs /data/runs --json
    """
    from seal import store
    from seal.cli.output import print_json, print_whole

    rows = [_row(info) for info in store.runs(runs)]
    if json:
        print_json({"runs": rows})
    elif rows:
        print_whole(_table(rows))
    else:
        print(f"no runs in {runs} yet; to begin with: seal demo")


def _row(info: RunInfo) -> dict[str, Any]:
    from seal.report.metrics import means
    from seal.report.tables import training_table
    from seal.store import Store

    row = {"name": info.name, "path": str(info.path), "status": info.status, "created": info.created}
    if info.status == "unreadable":
        return row
    try:
        with Store.look(info.path) as store:
            # read as plain TOML: a recipe of another version of seal is still worth its line, and a run made in Python has none
            recipe = tomllib.loads(store.recipe_toml)
            trained, measured = training_table(store), means(store)
            kind = kind_of(store) if recipe else "python"
            model, rounds = recipe.get("model", {}).get("name", "–"), recipe.get("outer", {}).get("rounds", 0)
    except (SealError, OSError, ValueError, AttributeError):  # gone meanwhile, damaged, or no recipe: the others are still listed
        return {**row, "status": "unreadable"}
    return {
        **row,
        "kind": kind,
        "recipe": recipe.get("name", "–"),
        "model": model,
        "rounds": sum(one["seconds"] is not None for one in trained),
        "rounds_planned": rounds if kind == "train" else 0,
        "edits": sum(one["edits"] for one in trained),
        "trials": sum(one["trials"] for one in trained),
        "means": measured,
    }


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("run", "status", "recipe", "model", "rounds", "edits", "trials", "mean score")
    for row in rows:
        if row["status"] == "unreadable":
            table.add_row(escape(row["name"]), "unreadable")
            continue
        rounds = f"{row['rounds']}/{row['rounds_planned']}" if row["rounds_planned"] else "–"
        means = "  ".join(f"{name} {mean:.3f}" for name, mean in row["means"].items() if mean is not None)
        counts = (str(row["edits"] or "–"), str(row["trials"] or "–"))
        table.add_row(
            escape(row["name"]), row["status"], escape(str(row["recipe"])), escape(str(row["model"])), rounds, *counts, means
        )
    return table
