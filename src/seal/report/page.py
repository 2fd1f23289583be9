"""A run as one HTML file that needs nothing else: no network, no server. A pure function of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape
from rich.console import Group
from rich.table import Table

from seal.loops.continual import steps
from seal.loops.curve import CURVE
from seal.loops.stages import TRAIN
from seal.report import card, figures, render
from seal.report.adapted import adapted, is_adapted
from seal.report.costs import costs_table, edits_table
from seal.report.curve import curve_table
from seal.report.forgetting import continual_tables, seen, with_streams
from seal.report.html import LIMIT, Part, below, bounded, cells, diff, environment, last_part, only_table
from seal.report.results import result, result_rows
from seal.report.rewards import questions_row, rewards_table
from seal.report.tables import Row, problems_table, training_table
from seal.store import Store, keys


def report_data(store: Store) -> dict[str, Any]:
    """Every row that the page shows: the tables of `seal eval` and `seal show` and those of `costs`."""
    phases = [phase for phase in dict.fromkeys(phase for phase, _ in store.rounds()) if "." not in phase]
    edits, continual = edits_table(store), continual_tables(store)
    problems = {phase: rows for phase in phases if (rows := problems_table(store, phase))}
    if steps(store):  # its phases are where the edits come from, and nothing is measured in them
        problems = {phase: with_streams(store, rows) for phase, rows in problems.items()}
    return {
        "run": str(store.path),
        "created": store.created,
        "finished": bool(store.get_state(keys.FINISHED, False)),
        "adapted": adapted(store) if is_adapted(store) else None,
        "table": result_rows(store),
        "curve": curve_table(store),
        "training": training_table(store),
        "continual": continual,
        "costs": costs_table(edits),
        "rewards": rewards_table(store),
        "questions": questions_row(store),
        "edits": edits,
        "problems": problems,
        "recipe": store.recipe_toml,
        "environment": store.environment,
    }


def page(data: Mapping[str, Any], limit: int = LIMIT) -> str:
    """What `report_data` gives, as HTML of at most `limit` bytes."""
    templates, charts = environment(), _charts(data)
    lists = _lists(data, templates, charts)
    names = sorted(data["problems"], key=phase_place)

    def draw(parts: Mapping[str, Part]) -> str:
        return templates.get_template("report.html").render(
            data=data,
            name=last_part(data["run"]),
            phases=[{"name": name, "title": phase_name(name), "problems": parts[f"problems/{name}"]} for name in names],
            parts=parts,
            tables=_tables(data),
            caveats={name: below(group) for name, group in _measured(data).items()},
            questions=render.questions(data["questions"]).plain if data["questions"] else "",
            not_known=render.not_known(data["continual"]),
            absorbed=card.notes(data["adapted"]) if data["adapted"] else [],
            charts=charts,
        )

    return bounded(draw, lists, limit)


def _lists(data: Mapping[str, Any], templates: Environment, charts: Mapping[str, Any]) -> dict[str, list[str]]:
    """Everything that grows with the run, drawn one by one."""
    problem, part = (templates.get_template(f"{name}.html").module for name in ("problem", "parts"))
    earlier = _earlier(data["problems"])
    found = {
        f"problems/{phase}": [problem.problem(_with_diffs(row, earlier.get((phase, row["round"], row["id"])))) for row in rows]  # type: ignore[attr-defined]
        for phase, rows in data["problems"].items()
    }
    for row in data["continual"]:
        found[f"heat/{row['strategy']}"] = [part.heat(row["strategy"], charts["heat"][row["strategy"]])]  # type: ignore[attr-defined]
        found[f"not_whole/{row['strategy']}"] = list(map(part.not_whole, row["not_whole"]))  # type: ignore[attr-defined]
    adapted = data["adapted"] or {"passages": (), "unread": ()}
    return {
        **found,
        "strips": [part.strip(*one) for one in charts["strips"]],  # type: ignore[attr-defined]
        "notes": [part.note(render.noise_line(row)) for row in data["training"]],  # type: ignore[attr-defined]
        "passages": [*map(part.passage, adapted["passages"]), *map(part.unread, card.grouped(adapted["unread"]))],  # type: ignore[attr-defined]
        "recipe": [escape(line) for line in data["recipe"].splitlines(keepends=True)],
        "environment": [part.fact(*one) for one in data["environment"].items()],  # type: ignore[attr-defined]
    }


def phase_name(phase: str) -> str:
    """What a phase is called in a heading."""
    prefix, _, condition = phase.rpartition("/")
    name = "training" if phase == TRAIN else render.NAMES.get(condition, phase)
    return f"{name}, {prefix.removeprefix(CURVE)} tokens" if prefix.startswith(CURVE) else name


def phase_place(phase: str) -> tuple[bool, int]:
    """Where a phase stands: training first, the points of a curve last, by their tokens."""
    prefix = phase.rpartition("/")[0]
    return phase != TRAIN, int(prefix.removeprefix(CURVE)) if prefix.startswith(CURVE) else 0


def _measured(data: Mapping[str, Any]) -> dict[str, Group]:
    """The tables that have something to say below them."""
    drawn = {
        "evaluation": (result, data["table"]),
        "curve": (render.curve, data["curve"]),
        "rewards": (render.rewards, data["rewards"]),
    }
    return {name: draw(rows) for name, (draw, rows) in drawn.items() if rows}


def _tables(data: Mapping[str, Any]) -> dict[str, Row]:
    """The tables of the terminal, cell by cell."""
    printed: dict[str, Table] = {}
    if data["adapted"]:
        printed["absorbed"] = only_table(card.outcome(data["adapted"]))
    printed |= {name: only_table(group) for name, group in _measured(data).items()}
    if data["training"]:
        printed["training"] = only_table(render.training(data["training"]))
        printed["costs"] = render.costs(data["costs"])
    if data["continual"]:
        printed["sequence"] = only_table(render.sequence(data["continual"]))
        printed["taken"] = render.taken(data["continual"])
    return {name: cells(table) for name, table in printed.items()}


def _charts(data: Mapping[str, Any]) -> dict[str, Any]:
    table, costs = data["table"], data["costs"]
    several = render.several(table)
    named = [(f"{row['phase']}, round {row['round']}" if several else render.NAMES[row["condition"]], row) for row in table]
    levels = {name: row["mean"] for name, row in named if row["mean"] is not None}

    accuracy = {"before": "before the edit", "after": "after an edit", "best": "after the best edit"}
    faults = {kind: None for row in costs for kind in row["faults"]}
    span = [row["reward"] for row in data["edits"] if row["reward"] is not None]
    noise = {row["round"]: row["noise_deviation"] for row in data["training"]}
    strips = [
        (round, figures.strip(_groups(data, round), span, "reward of every self-edit", noise[round]), noise[round])
        for round in noise
    ]
    small: dict[str, Any] = {"width": 440, "height": 180}
    return {
        "absorbed": figures.intervals(
            [(render.NAMES[row["condition"]], row) for row in data["adapted"]["table"]], "score of every condition"
        )
        if data["adapted"]
        else "",
        "evaluation": figures.intervals(named, "score of every condition with its 95% interval"),
        "curve": _curve(data["curve"]),
        "accuracy": figures.lines({shown: _by_round(costs, key) for key, shown in accuracy.items()}, levels, "score")
        if costs
        else "",
        "heat": {
            row["strategy"]: figures.heat(row["matrix"], f"{row['strategy']}: every problem after every step")
            for row in data["continual"]
        },
        "seen": figures.lines(
            {row["strategy"]: seen(row["matrix"]) for row in data["continual"]},
            {"base": base} if (base := data["continual"][0]["base"]["mean"]) is not None else {},
            "score",
            unit="step",
        )
        if data["continual"]
        else "",
        "strips": [one for one in strips if one[1]],
        **{key: figures.lines({key: _by_round(costs, key)}, {}, key, **small) for key in ("tokens", "train_tokens", "seconds")},
        "faults": figures.lines(
            {kind: [(row["round"], float(row["faults"].get(kind, 0))) for row in costs] for kind in faults}, {}, "faults", **small
        ),
    }


def _curve(rows: Sequence[Row]) -> Markup:
    """A line a condition; what no token changes, the unchanged model and the passage alone, across."""
    points: dict[str, list[figures.Point]] = {}
    for row in rows:
        if row["most"]:
            points.setdefault(render.NAMES[row["condition"]], []).append((row["most"], row["mean"]))
    levels = {render.NAMES[row["condition"]]: row["mean"] for row in rows if not row["most"] and row["mean"] is not None}
    return figures.lines(points, levels, "score", unit="tokens")


def _by_round(costs: Sequence[Row], key: str) -> list[figures.Point]:
    return [(row["round"], row[key]) for row in costs]


def _groups(data: Mapping[str, Any], round: int) -> list[tuple[str, list[figures.Dot]]]:
    """A column a problem, under its title, which several may share (the passages of an article)."""
    titles = {row["id"]: row["title"] or row["id"] for row in data["problems"].get(TRAIN, ())}
    groups: dict[str, list[figures.Dot]] = {}
    for row in data["edits"]:
        if row["round"] == round and row["reward"] is not None:
            title = f"{row['id']}: {row['reward']:.3f}{', kept' if row['kept'] else ''}"
            groups.setdefault(row["problem"], []).append(figures.Dot(row["reward"], row["kept"], title))
    return [(titles[id], dots) for id, dots in groups.items()]


def _earlier(problems: Mapping[str, Sequence[Row]]) -> dict[tuple[str, int, str], tuple[str, Row]]:
    """What an edit is to be compared with, by phase, round and problem: the best one of the problem's training round before; for
    the trained policy's, the untrained model's."""
    found: dict[tuple[str, int, str], tuple[str, Row]] = {}
    last: dict[str, Row] = {}
    for row in sorted(problems.get(TRAIN, ()), key=lambda row: row["round"]):
        if row["id"] in last:
            before = last[row["id"]]
            found[TRAIN, row["round"], row["id"]] = (f"the best one of round {before['round']}", before["edits"][0])
        last[row["id"]] = row
    for phase, rows in problems.items():
        prefix, slash, condition = phase.rpartition("/")
        if condition == "seal":
            untrained = {(row["id"], row["round"]): row for row in problems.get(f"{prefix}{slash}untrained", ())}
            for row in rows:
                if (row["id"], row["round"]) in untrained:
                    best = untrained[row["id"], row["round"]]["edits"][0]
                    found[phase, row["round"], row["id"]] = ("the untrained model's best one", best)
    return found


def _with_diffs(row: Row, earlier: tuple[str, Row] | None) -> Row:
    if earlier is None:
        return row
    what, other = earlier
    against = [{**edit, "against": what, "diff": diff(other["text"], edit["text"])} for edit in row["edits"]]
    return {**row, "edits": against}
