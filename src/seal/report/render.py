"""Tables as rich renderables: rows of `tables` in, something to print out. Nothing is read or printed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.columns import Columns
from rich.console import Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from seal.report.measured import MINUS
from seal.report.pictures import coloured
from seal.report.tables import Row
from seal.stats import FEWEST

NAMES = {
    "base": "base model",
    "passage": "passage only",
    "in_context": "shown in the prompt",
    "sentences": "its own sentences",
    "untrained": "untrained edits",
    "given": "given edits",
    "fixed": "one plan for all",
    "oracle": "each its best plan",
    "seal": "SEAL",
    "plain": "plain model",
    "retrieval": "retrieval",
    "whole": "whole passage",
    "adapter": "adapter",
    "adapter_retrieval": "adapter + retrieval",
}
"""Of every condition, those of `seal adapt` last."""
ABSENT = "–"
NOTHING_IN_COMMON = "No condition was measured on the same problems in both."
UNKNOWN_NOISE = "share of retraining noise unknown (it takes edits tried more than once, and trials that differ)"


def evaluation(rows: Sequence[Row]) -> Group:
    """The rows of `evaluation_table`, and below them what the intervals do and do not hold."""
    table = Table(title="Score after the edit, mean over passages with 95% interval", title_justify="left")
    table.add_column("condition")
    for name in ("score", "F1", "exact", "minus untrained", "F1 minus untrained", "passages", "edits", "faults"):
        table.add_column(name, justify="right")
    for name, row in zip(row_names(rows), rows, strict=True):
        table.add_row(
            name,
            as_range(row),
            as_range(row["f1"]),
            as_range(row["exact"]),
            as_range(row["minus_untrained"], "+.3f"),
            as_range(row["f1_minus_untrained"], "+.3f"),
            *(str(row[key]) for key in ("n", "edits", "faults")),
        )
    below = [*_few_passages(rows), *(_one_adapter(rows) or _noise(rows)), *_ungraded(rows)]
    return Group(table, *map(Text, [*below, *_cut({NAMES[row["condition"]]: row["cut_tokens"] for row in rows})]))


def puzzles(rows: Sequence[Row]) -> Group:
    """The rows of `puzzle_table`, and below them whether their intervals say anything."""
    table = Table(title="Correct plans of all plans, with 95% interval over puzzles", title_justify="left")
    table.add_column("condition")
    shares = ("correct plans", "puzzles solved", "minus untrained", "minus one plan for all")
    for name in (*shares, "puzzles", "plans", "trainings", "faults"):
        table.add_column(name, justify="right")
    for name, row in zip(row_names(rows), rows, strict=True):
        table.add_row(
            name,
            as_range(row),
            as_range(row["solved"]),
            as_range(row["minus_untrained"], "+.3f"),
            as_range(row["minus_fixed"], "+.3f"),
            str(row["n"]),
            with_taken_over(row["edits"], row["taken_over"]),
            *(str(row[key]) for key in ("trainings", "faults")),
        )
    few = too_few(min(row["n"] for row in rows), "puzzle") if rows else []
    return Group(table, *map(Text, few))


def row_names(rows: Sequence[Row]) -> list[str]:
    """What the rows of an evaluation are called: by their conditions, in several evaluations by their phases and rounds too."""
    names = [NAMES[row["condition"]] for row in rows]
    if not several(rows):
        return names
    return [f"{name} ({row['phase']}, round {row['round']})" for name, row in zip(names, rows, strict=True)]


def several(rows: Sequence[Row]) -> bool:
    """Whether these are rows of several evaluations of a run."""
    return len({(row["phase"].rpartition("/")[0], row["round"]) for row in rows}) > 1


def _few_passages(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    least = min(rows, key=lambda row: row["clusters"])
    return too_few(least["clusters"], "article" if least["clusters"] < least["n"] else "passage")


def too_few(count: int, what: str) -> list[str]:
    """That intervals over so many say nothing, if they do not."""
    counted = f"1 {what} is" if count == 1 else f"{count} {what}s are"
    return [f"{counted} too few for an interval to say anything; {FEWEST} are the least."] if count < FEWEST else []


def _one_adapter(rows: Sequence[Row]) -> list[str]:
    """What continued pretraining leaves open."""
    shared = [row["shared_trainings"] for row in rows if row["shared_trainings"] is not None]
    if not shared:
        return []
    if min(shared) > 1:
        return [f"All passages shared {min(shared)} trainings; they are resampled too."]
    what = "another training would give is not in the intervals (eval.repeats=2 or more)"
    return [f"All passages shared one training; what {what}."]


def _noise(rows: Sequence[Row]) -> list[str]:
    known = {NAMES[row["condition"]]: row["noise"] for row in rows if row["noise"] is not None}
    if known:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in known.items())
        return [f"Of the variance between a passage's edits, retraining noise is: {shares}."]
    return ["How much is retraining noise is unknown: it takes eval.edits=2 and eval.repeats=2 or more, and scores that differ."]


def _ungraded(rows: Sequence[Row]) -> list[str]:
    """Which rows are about fewer passages than they were to be, and why that is."""
    left_out = ", ".join(f"{name} {row['ungraded']}" for name, row in zip(row_names(rows), rows, strict=True) if row["ungraded"])
    why = "such as a judge that failed, or questions longer than the model's context"
    return [f"Passages of which no answer could be graded ({why}), in no mean: {left_out}."] if left_out else []


def _cut(tokens: Mapping[str, int]) -> list[str]:
    """How much of the edits no training saw, if there is any; by condition or round."""
    lost = ", ".join(f"{name} {count:,}" for name, count in tokens.items() if count)
    return [f"Tokens of edits cut off at tuning.pad_length and not learnt: {lost}."] if lost else []


def comparison(document: Row) -> Group:
    """The document of `compare.comparison`: its table, if anything was measured in both, and its notes."""
    table = Table(title="Difference A - B, paired, with 95% interval", title_justify="left")
    table.add_column("condition")
    unit, cluster, rows = document["unit"], document["cluster"], document["table"]
    clustered = any(row["by_title"] for row in rows)  # else each problem is a cluster of its own
    columns: dict[str, Callable[[Row], str]] = {
        "A": lambda row: number(row["a"]),
        "B": lambda row: number(row["b"]),
        f"A - B, {unit}s resampled": lambda row: as_range(row, "+.3f"),
        f"{cluster}s resampled": lambda row: as_range(row["by_title"], "+.3f"),
        "F1": lambda row: as_range(row["f1"], "+.3f"),
        "exact": lambda row: as_range(row["exact"], "+.3f"),
        f"{unit}s": lambda row: str(row["n"]),
        f"{cluster}s": lambda row: str(row["articles"]),
        "differ": lambda row: {True: "yes", False: "not shown", None: "unknown"}[row["differ"]],
    }
    if not clustered:
        del columns[f"{cluster}s resampled"], columns[f"{cluster}s"]
    for name in ("F1", "exact"):
        if not any(row[name.lower()] for row in rows):
            del columns[name]
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(compared(row["condition"]), *(cell(row) for cell in columns.values()))
    return Group(
        Text(f"A  {document['a']}\nB  {document['b']}"),
        table if rows else Text(NOTHING_IN_COMMON),
        *(Text(note) for note in document["notes"]),
    )


def compared(condition: str) -> str:
    """What a row of a comparison is called: a condition, or two with a minus between."""
    return MINUS.join(NAMES.get(name, name) for name in condition.split(MINUS))


def curve(rows: Sequence[Row]) -> Group:
    """The rows of `curve_table`, and below them what the intervals do not hold."""
    table = Table(title="Score against synthetic tokens, mean over passages with 95% interval", title_justify="left")
    table.add_column("condition")
    for name in ("tokens, at most", "tokens learnt", "score", "F1", "exact", "passages", "faults"):
        table.add_column(name, justify="right")
    for row in rows:
        scores = (as_range(found) for found in (row, row["f1"], row["exact"]))
        counts = (str(row["n"]), str(row["faults"]))
        table.add_row(NAMES[row["condition"]], str(row["most"]), f"{row['tokens']:.0f}", *scores, *counts)
    return Group(table, *map(Text, [*_few_passages(rows), *_one_adapter(rows)]))


def training(rows: Sequence[Row]) -> Group:
    """The rows of `training_table`, and below them whether their intervals say anything, and what to make of the noise, a line a
    round."""
    table = Table(title="Rounds, means with 95% interval over problems", title_justify="left")
    for name in ("round", "problems", "edits", "trials", "mean reward", "best of each", "kept", "faults", "time"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = [str(row[key]) for key in ("round", "problems", "edits")]
        trials = with_taken_over(row["trials"], row["taken_over"])
        table.add_row(
            *counts,
            trials,
            *(as_range(row["intervals"][name]) for name in ("reward", "best")),
            str(row["kept"]),
            str(row["faults"]),
            clock(row["seconds"]),
        )
    few = too_few(min((row["problems"] for row in rows), default=FEWEST), "problem")
    cut = _cut({f"round {row['round']}": row["cut_tokens"] for row in rows})
    return Group(table, *map(Text, few), noise(rows), *map(Text, [*cut, *_left_out(rows)]))


def _left_out(rows: Sequence[Row]) -> list[str]:
    """What the policy could not learn from, a line for each row of `training_table` that has any."""
    return [
        f"round {row['round']}: {row['left_out']} of what was kept does not fit the model's context with its prompt: the policy "
        + ("learnt from the rest" if row["learnt"] else "learnt nothing, and is what it was")
        for row in rows
        if row["left_out"]
    ]


def with_taken_over(trials: int, taken_over: int) -> str:
    """How many trials, and how many of them were no training of their own."""
    return f"{trials} ({taken_over} taken over)" if taken_over else str(trials)


def noise(rows: Sequence[Row]) -> Group:
    """What to make of the noise: a line for each row of `training_table`."""
    return Group(*(Text(noise_line(row)) for row in rows))


def costs(rows: Sequence[Row]) -> Table:
    """The rows of `costs_table`."""
    title = "Edits and trials, means a round, of scores with 95% interval over problems"
    table = Table(title=title, title_justify="left")
    for name in ("round", "score before", "after", "best of each", "tokens an edit", "tokens a trial", "s a trial", "faults"):
        table.add_column(name, justify="right")
    for row in rows:
        sizes = [ABSENT if row[key] is None else f"{row[key]:,.{places}f}" for key, places in _SIZES]
        faults = ", ".join(f"{count} {kind}" for kind, count in row["faults"].items()) or "0"
        table.add_row(str(row["round"]), *map(as_range, row["intervals"].values()), *sizes, faults)
    return table


_SIZES = (("tokens", 0), ("train_tokens", 0), ("seconds", 2))


def rewards(rows: Sequence[Row]) -> Group:
    """The rows of `rewards_table`, and below them whether their intervals say anything."""
    title = "Rewards, and how they follow what the trials gave (Spearman over edits, 95% interval over problems)"
    table = Table(title=title, title_justify="left")
    table.add_column("reward")
    for name in ("round", "edits", "mean", "with score", "within a problem", "with logprob", "within a problem"):
        table.add_column(name, justify="right")
    for row in rows:
        ranges = [as_range(row[key], "+.2f") for key in ("score", "score_within", "logprob", "logprob_within")]
        table.add_row(escape(row["reward"]), str(row["round"]), str(row["n"]), number(row["mean"]), *ranges)
    return Group(table, *map(Text, too_few(min((row["problems"] for row in rows if row["problems"]), default=FEWEST), "problem")))


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
    pairs = [Group(coloured(one), Text("becomes", style="dim"), coloured(other)) for one, other in row["pairs"]]
    shown = [Padding(Columns(pairs, padding=(0, 4)), (0, 0, 1, 2))] if pairs else []
    return Group(head, *shown, *(Padding(_edit(edit, bool(pairs)), (0, 0, 1, 2)) for edit in row["edits"][:edits]))


def _edit(edit: Row, grids: bool) -> Group:
    rewards = ", ".join(f"{name} {number(value)}" for name, value in edit["rewards"].items())
    cut = [f"{what} cut: {edit[key]}" for key, what in (("cut", "examples"), ("cut_tokens", "tokens")) if edit[key]]
    own = NAMES[edit["source"]] if edit["source"] == "sentences" else ""
    facts = [own, rewards, f"score {number(edit['before'])} -> {number(edit['after'])}", "kept" if edit["kept"] else "", *cut]
    parts: list[Text | Table] = [Text(" · ".join(fact for fact in facts if fact), style="cyan"), Text(edit["text"].strip())]
    if edit["fault"]:
        parts.append(Text(edit["fault"], style="red"))
    if edit["answers"]:
        table = Table("question", "target", "before", "after", show_edge=False)
        for one in edit["answers"]:
            before, after = (_answer(one[when], one[f"{when}_score"], grids) for when in ("before", "after"))
            question, target = (coloured(one[key]) if grids else Text(one[key]) for key in ("question", "target"))
            table.add_row(question, target, before, after)
        parts.append(table)
    return Group(*parts)


def _answer(text: str | None, score: float | None, grids: bool) -> Text:
    if text is None:
        return Text(ABSENT, style="dim")
    if grids:
        return Text.assemble(coloured(text), f"\n({'ungraded' if score is None else f'{score:g}'})")
    style = "yellow" if score is None else "green" if score >= 0.5 else ""
    return Text(f"{' '.join(text.split())} ({'ungraded' if score is None else f'{score:g}'})", style=style)


def sequence(rows: Sequence[Row]) -> Group:
    """The rows of `continual_tables`: a line a strategy, what each takes, its matrix, then what was not kept whole."""
    title = "Learning in sequence: means over streams with 95% interval"
    table = Table(title=title, title_justify="left")
    table.add_column("strategy")
    names = ("base", "diagonal", "last", "backward", "forward", "forgetting", "probe_loss", "text_loss")
    for name in (*names, "last of merge's diagonal", "routing", "refused", "of harmful"):
        table.add_column(name.replace("_", " "), justify="right")
    shares = ("routing", "refused", "refused_harmful")
    for row in rows:
        ranges = [as_range(row[name]) for name in (*names, "of_merge")]
        table.add_row(escape(row["strategy"]), *ranges, *(number(row[name]) for name in shares))
    facts = [_facts(row) for row in rows if row["facts"]]
    return Group(
        table,
        *map(Text, not_known(rows)),
        taken(rows),
        *facts,
        *(matrix(row) for row in rows),
        *(_not_whole(row) for row in rows if row["not_whole"]),
    )


def not_known(rows: Sequence[Row]) -> list[str]:
    """What the rows of `continual_tables` have to leave open, and why, a line each."""
    ends = any(row["length"] > 1 and row["forward"]["mean"] is None and row["diagonal"]["mean"] is not None for row in rows)
    lines = (
        'Forward transfer is not known: with continual.rows = "ends" no problem was asked just before it was learnt.',
        "Forgetting counts from what was answered just after learning: what came between was not asked either.",
    )
    few = too_few(min((row["drawn"] for row in rows), default=FEWEST), "stream")
    return [*few, *(lines if ends else ())]


def taken(rows: Sequence[Row]) -> Table:
    """What a step takes on average, and what a question takes that comes by itself at the stream's end: as it is, and with its
    weights in place, as they are in one model."""
    table = Table(title="What it takes: a step, and a question by itself at the stream's end", title_justify="left")
    table.add_column("strategy")
    steps = ("s a step", "tokens a step", "s asking")
    for name in (*steps, "s a question", "with its weights in place", "tokens", "MB held beside the model"):
        table.add_column(name, justify="right")
    for row in rows:
        alone = row["alone"] or {}
        seconds = (alone.get(name) for name in ("seconds", "worn_seconds"))
        table.add_row(
            escape(row["strategy"]),
            f"{row['learning_seconds']:.1f}",
            f"{row['train_tokens']:.0f}",
            f"{row['asking_seconds']:.1f}",
            *map(number, seconds),
            *(ABSENT if alone.get(name) is None else f"{alone[name]:.1f}" for name in ("tokens", "held_mb")),
        )
    return table


def _facts(row: Row) -> str:
    """What the strategy measured, as means over the steps that came as far as that."""
    found = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in row["facts"].items() if value is not None)
    return escape(f"{row['strategy']}, means over the steps where it was measured: {found}")


def matrix(row: Row) -> Table:
    """Scores after each step; a dash where nothing was asked."""
    table = Table(title=f"{escape(row['strategy'])}: score of each problem after each step", title_justify="left")
    table.add_column("after")
    for column in range(row["length"]):
        table.add_column(f"problem {column + 1}" if row["length"] < 9 else str(column + 1), justify="right")
    for step, scores in enumerate(row["matrix"]):
        table.add_row(f"step {step}" if step else "base", *(number(score) for score in scores))
    return table


def _not_whole(row: Row) -> Text:
    lines = [f"stream {one['stream']}, step {one['step']}: {one['why']}" for one in row["not_whole"]]
    return Text(f"{row['strategy']}, not kept whole:\n  " + "\n  ".join(lines))


def noise_line(row: Row) -> str:
    """What to make of a round's rewards: how much of them is chance, ties, kept edits that gained nothing."""
    if not row["decided"]:
        return f"round {row['round']}: not finished (edits so far: {row['edits']}, trials: {row['trials']})"
    if not row["trials"]:
        return f"round {row['round']}: no trial was run, the rewards rate the edits alone; {row['ties']} ties"
    noise = row["noise"]
    share = UNKNOWN_NOISE if noise is None else f"{noise:.0%} of the reward's variance is retraining noise"
    if row["question_noise"] is not None:
        share += f"; {row['question_noise']:.0%} of the score's comes of asking so few questions"
    without = row["kept_without_gain"]
    if not row["kept"]:
        why = "no edit has a reward" if row["reward"] is None else "by select, or the update's own choice"
        return f"round {row['round']}: {share}; nothing was kept ({why}), so the policy stays as it was"
    kept = f"learnt from {row['kept']} edits, the bad ones as what not to write"
    if without is not None:
        kept = f"{without} of {row['kept']} kept edits gained nothing"
    return f"round {row['round']}: {share}; {row['ties']} of {row['problems']} problems had a tie for the best; {kept}"


def as_range(found: Row | None, form: str = ".3f") -> str:
    """A mean with its interval: `0.720 [0.600, 0.840]`."""
    if found is None or found["mean"] is None:
        return ABSENT
    if found["low"] is None:
        return f"{found['mean']:{form}}"
    return f"{found['mean']:{form}} \\[{found['low']:{form}}, {found['high']:{form}}]"


def number(value: float | None) -> str:
    """A score, a reward, seconds: as every table and page writes them."""
    return ABSENT if value is None else f"{value:.3f}"


def clock(seconds: float | None) -> str:
    """`1:02:03`."""
    if seconds is None:
        return ABSENT
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
