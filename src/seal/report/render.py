"""Tables as rich renderables: rows of `tables` in, something to print out. Nothing is read or printed here."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from seal.report.tables import Row

NAMES = {
    "base": "base model",
    "passage": "passage only",
    "in_context": "passage in the prompt",
    "untrained": "untrained edits",
    "given": "given edits",
    "seal": "SEAL",
}
ABSENT = "–"


def evaluation(rows: Sequence[Row]) -> Table:
    """The rows of `evaluation_table`."""
    table = Table(title="Score after the edit, mean over passages with 95% interval", title_justify="left")
    table.add_column("condition")
    for name in ("score", "F1", "exact", "minus untrained", "F1 minus untrained", "passages", "edits", "faults"):
        table.add_column(name, justify="right")
    several = len({(row["phase"].rpartition("/")[0], row["round"]) for row in rows}) > 1
    for row in rows:
        name = NAMES[row["condition"]]
        table.add_row(
            f"{name} ({row['phase']}, round {row['round']})" if several else name,
            _range(row),
            _range(row["f1"]),
            _range(row["exact"]),
            _range(row["minus_untrained"], "+.3f"),
            _range(row["f1_minus_untrained"], "+.3f"),
            *(str(row[key]) for key in ("n", "edits", "faults")),
        )
    return table


def training(rows: Sequence[Row]) -> Group:
    """The rows of `training_table`, and below them what to make of the noise, a line a round."""
    table = Table(title="Rounds", title_justify="left")
    for name in ("round", "problems", "edits", "trials", "mean reward", "best of each", "kept", "faults", "time"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = [str(row[key]) for key in ("round", "problems", "edits", "trials")]
        table.add_row(
            *counts, _number(row["reward"]), _number(row["best"]), str(row["kept"]), str(row["faults"]), _time(row["seconds"])
        )
    return Group(table, *(Text(_noise(row)) for row in rows))


def rewards(rows: Sequence[Row]) -> Table:
    """The rows of `rewards_table`."""
    title = "Rewards, and how they follow what the trials gave (Spearman over edits, 95% interval over problems)"
    table = Table(title=title, title_justify="left")
    table.add_column("reward")
    for name in ("round", "edits", "mean", "with score", "within a problem", "with logprob", "within a problem"):
        table.add_column(name, justify="right")
    for row in rows:
        ranges = [_range(row[key], "+.2f") for key in ("score", "score_within", "logprob", "logprob_within")]
        table.add_row(escape(row["reward"]), str(row["round"]), str(row["n"]), _number(row["mean"]), *ranges)
    return table


def questions(row: Row) -> Text:
    """What `questions_row` gives."""
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in row["verdicts"].items())
    return Text(
        f"the model's own questions: {row['written']} written about {row['texts']} texts, {row['asked']} can be asked; {verdicts}"
    )


def problems(rows: Sequence[Row], edits: int = 1) -> Group:
    """The rows of `problems_table`: each problem's first `edits` self-edits with every question answered before and after."""
    return Group(*(_problem(row, edits) for row in rows))


def _problem(row: Row, edits: int) -> Group:
    head = Text(f"{row['title'] or row['id']}  ", style="bold").append(f"round {row['round']}", style="dim")
    return Group(head, *(Padding(_edit(edit), (0, 0, 1, 2)) for edit in row["edits"][:edits]))


def _edit(edit: Row) -> Group:
    rewards = ", ".join(f"{name} {_number(value)}" for name, value in edit["rewards"].items())
    facts = [rewards, f"score {_number(edit['before'])} -> {_number(edit['after'])}", "kept" if edit["kept"] else ""]
    parts: list[Text | Table] = [Text(" · ".join(fact for fact in facts if fact), style="cyan"), Text(edit["text"].strip())]
    if edit["fault"]:
        parts.append(Text(edit["fault"], style="red"))
    if edit["answers"]:
        table = Table("question", "target", "before", "after", show_edge=False)
        for one in edit["answers"]:
            before, after = (_answer(one[when], one[f"{when}_score"]) for when in ("before", "after"))
            table.add_row(escape(one["question"]), escape(one["target"]), before, after)
        parts.append(table)
    return Group(*parts)


def _answer(text: str | None, score: float | None) -> Text:
    if text is None:
        return Text(ABSENT, style="dim")
    style = "yellow" if score is None else "green" if score >= 0.5 else ""
    return Text(f"{' '.join(text.split())} ({'ungraded' if score is None else f'{score:g}'})", style=style)


def _noise(row: Row) -> str:
    if not row["trials"]:
        return f"round {row['round']}: no trial was run, the rewards rate the edits alone; {row['ties']} ties"
    noise = row["noise"]
    share = "retraining noise unknown (one trial an edit)" if noise is None else f"{noise:.0%} of the reward's variance is noise"
    kept = f"{row['kept_without_gain']} of {row['kept']} kept edits gained nothing"
    return f"round {row['round']}: {share}; {row['ties']} ties; {kept}"


def _range(found: Row | None, form: str = ".3f") -> str:
    if found is None or found["mean"] is None:
        return ABSENT
    return f"{found['mean']:{form}} \\[{found['low']:{form}}, {found['high']:{form}}]"


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ABSENT
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
