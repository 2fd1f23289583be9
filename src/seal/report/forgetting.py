"""What a stream of edits did: the matrix of scores, what was gained and lost, the strategies side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

from seal import files
from seal.errors import UserError
from seal.loops.continual import steps
from seal.report.tables import Row
from seal.stats import interval, mean, ratio
from seal.store import Store, keys
from seal.types import Problem

Matrix = Sequence[Sequence[float | None]]
"""(K + 1) x K: row 0 the model before the stream, row i after step i; column j the stream's j-th problem. None: not asked."""


def diagonal(matrix: Matrix) -> list[float | None]:
    """Each problem just after it was learnt."""
    return [matrix[step + 1][step] for step in range(len(matrix) - 1)]


def backward(matrix: Matrix) -> float | None:
    """Backward transfer (arXiv 1706.08840): what the stream's end answers more of each problem than when it was learnt."""
    return mean(_less(end, own) for end, own in zip(matrix[-1][:-1], diagonal(matrix)[:-1], strict=True))


def forward(matrix: Matrix) -> float | None:
    """Forward transfer: what is answered of a problem just before it is learnt, more than before the stream."""
    return mean(_less(matrix[step][step], matrix[0][step]) for step in range(1, len(matrix) - 1))


def forgetting(matrix: Matrix) -> float | None:
    """How far each problem but the last has fallen, at the end, below its best since it was learnt (arXiv 1801.10112)."""
    lost = []
    for column in range(len(matrix) - 2):
        best = max((one for row in matrix[column + 1 : -1] if (one := row[column]) is not None), default=None)
        lost.append(_less(best, matrix[-1][column]))
    return mean(lost)


def seen(matrix: Matrix) -> list[tuple[float, float | None]]:
    """After each step, the mean score of the problems learnt so far."""
    return [(step, mean(matrix[step][:step])) for step in range(1, len(matrix))]


@dataclass(frozen=True, slots=True)
class Pooled:
    """A forgetting matrix over streams, with each cell's deviation."""

    mean: list[list[float | None]]
    deviation: list[list[float | None]]
    streams: int


def read_official(paths: Sequence[Path]) -> Pooled:
    """Summary files of the paper's continual experiment (`mean_over_sequences`, `std_over_sequences`, `n_sequences`), pooled.

    A pooled mean is weighted by the streams of each file; a pooled variance is that of all streams together (within and between
    files, over n). Cells that were never asked are 0.0 in the files and None here. Raises UserError naming file and field.
    """
    read = [_official(path) for path in paths]
    if len({len(one.mean) for one in read}) > 1:
        raise UserError(f"{', '.join(map(str, paths))}: streams of different lengths cannot be pooled")
    total = sum(one.streams for one in read)
    means, deviations = [], []
    for row in range(len(read[0].mean)):
        means.append(list[float | None]())
        deviations.append(list[float | None]())
        for column in range(len(read[0].mean[0])):
            cells = [(one.streams, one.mean[row][column], one.deviation[row][column]) for one in read]
            known = [(n, m, d) for n, m, d in cells if m is not None and d is not None]
            middle = sum(n * m for n, m, _ in known) / total if known else None
            means[-1].append(middle)
            spread = None if middle is None else (sum(n * (d**2 + (m - middle) ** 2) for n, m, d in known) / total) ** 0.5
            deviations[-1].append(spread)
    return Pooled(means, deviations, total)


def official_row(pooled: Pooled) -> Row:
    """What released summaries say, as far as they go, in the words of `continual_tables`."""
    return {
        "strategy": "released",
        "streams": pooled.streams,
        "length": len(pooled.mean[0]),
        "matrix": pooled.mean,
        "deviation": pooled.deviation,
        "base": mean(pooled.mean[0]),
        "diagonal": mean(diagonal(pooled.mean)),
        "last": mean(pooled.mean[-1]),
        "backward": backward(pooled.mean),
        "forgetting": forgetting(pooled.mean),
    }


def _official(path: Path) -> Pooled:
    content = files.load_json(path)
    middle, spread = (_cells(content, f"{name}_over_sequences", path) for name in ("mean", "std"))
    if len(middle) != len(spread):
        raise UserError(f"{path}: mean_over_sequences and std_over_sequences must be of one size")
    streams = files.number(content, "n_sequences", str(path))
    if streams < 1 or streams % 1:
        raise UserError(f"{path}: field 'n_sequences' must be a whole number from 1 on, not {streams:g}")
    return Pooled(middle, spread, int(streams))


def _cells(content: Any, field: str, path: Path) -> list[list[float | None]]:
    """A matrix of a summary; None where a problem was not asked, for it had not been learnt yet."""
    matrix = files.records(content, field, str(path))
    if len(matrix) < 2 or any(not isinstance(row, list) or len(row) != len(matrix) - 1 for row in matrix):
        raise UserError(f"{path}: {field} must have a row more than columns")

    def cell(row: int, column: int) -> float:
        return files.finite(matrix[row][column], f"{path}: {field}, row {row + 1}, column {column + 1}")

    return [
        [cell(row, column) if not row or column < row else None for column in range(len(values))]
        for row, values in enumerate(matrix)
    ]


def matrices(store: Store) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The records of every finished stream, by strategy and stream, from the base row on."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for strategy, stream, _, record in steps(store):
        found.setdefault(strategy, {}).setdefault(stream, []).append(record)
    whole = {
        strategy: {name: _in_order(records) for name, records in own.items() if len(records) == 1 + len(_order(records))}
        for strategy, own in found.items()
    }
    return {strategy: own for strategy, own in whole.items() if own}


def matrix_of(records: Sequence[dict[str, Any]]) -> list[list[float | None]]:
    """One stream's matrix."""
    return [[row["row"].get(id, {}).get("score") for id in _order(records)] for row in records]


def continual_tables(store: Store) -> list[Row]:
    """One row a strategy, by name: means over its streams with their deviations and 95% intervals, streams being resampled (None
    with one stream). `drawn`: how many there are to resample, seeds of a stream being one."""
    found = matrices(store)
    return [_row(strategy, own, found.get("merge", {})) for strategy, own in found.items()]


def with_streams(store: Store, rows: Sequence[Row]) -> list[Row]:
    """Rows of `problems_table` with `streams`: the problem's `step` in every finished stream of every strategy, with the scores
    and answers before the stream (`base`), just after that step (`learnt`) and at the stream's `end`. A problem earned the mean
    of its scores at the end; best first. Edits that were made harmful have what was put to the strategies in their place
    (`harmed`)."""
    problems, found = store.problems(), matrices(store)
    shown = []
    for row in rows:
        streams = [
            _in_stream(problems[row["id"]], strategy, stream, records)
            for strategy, own in found.items()
            for stream, records in own.items()
            if row["id"] in _order(records)
        ]
        edits = [{**edit, "harmed": store.get_state(f"{keys.HARMED}{edit['id']}")} for edit in row["edits"]]
        shown.append({**row, "edits": edits, "earned": mean(one["end"] for one in streams), "streams": streams})
    return sorted(shown, key=lambda row: (row["earned"] is None, -(row["earned"] or 0.0)))


def _in_stream(problem: Problem, strategy: str, stream: str, records: Sequence[dict[str, Any]]) -> Row:
    step = records[1 + _order(records).index(problem.id)]
    times = {"base": records[0], "learnt": step, "end": records[-1]}
    cells = {time: record["row"].get(problem.id, {}) for time, record in times.items()}
    said = {time: {answer["query_id"]: answer for answer in cell.get("answers", ())} for time, cell in cells.items()}
    answers = []
    for query in problem.queries:
        own: Row = {"question": query.question, "target": query.answer}
        for time, answer in ((time, by_query.get(query.id, {})) for time, by_query in said.items()):
            own |= {time: answer.get("text"), f"{time}_score": answer.get("score")}
        answers.append(own)
    return {
        "strategy": strategy,
        "stream": stream,
        **{name: step[name] for name in ("step", "weight", "why")},
        "fault": bool(step.get("fault")),
        **{time: cell.get("score") for time, cell in cells.items()},
        "answers": answers,
    }


OF_A_MATRIX: dict[str, Callable[[Matrix], float | None]] = {
    "base": lambda matrix: mean(matrix[0]),
    "diagonal": lambda matrix: mean(diagonal(matrix)),
    "last": lambda matrix: mean(matrix[-1]),
    "backward": backward,
    "forward": forward,
    "forgetting": forgetting,
}
"""What a stream's matrix is summed up in."""


def _row(strategy: str, by_name: dict[str, list[dict[str, Any]]], merge: dict[str, list[dict[str, Any]]]) -> Row:
    streams, drawn = list(by_name.values()), [name.partition(".")[0] for name in by_name]  # seeds of a stream share its problems

    def spread(values: Sequence[float | None]) -> Row:
        low, high = interval(values, drawn)[1:] if len(set(drawn)) > 1 else (None, None)
        return {"mean": mean(values), "deviation": _deviation(values), "low": low, "high": high}

    found = [matrix_of(records) for records in streams]
    steps = [record for records in streams for record in records[1:]]
    cells = [[[matrix[row][column] for matrix in found] for column in range(len(found[0][0]))] for row in range(len(found[0]))]
    return {
        "strategy": strategy,
        "streams": len(streams),
        "drawn": len(set(drawn)),
        "length": len(found[0][0]),
        "matrix": [[mean(cell) for cell in row] for row in cells],
        "deviation": [[_deviation(cell) for cell in row] for row in cells],
        **{name: spread([of(matrix) for matrix in found]) for name, of in OF_A_MATRIX.items()},
        "probe_loss": spread([_lost(records, "score") for records in streams]),
        "text_loss": spread([_lost(records, "logprob") for records in streams]),
        "of_merge": _of_merge(by_name, merge),
        "routing": mean(records[-1]["routing"] for records in streams),
        "refused": _refused(step for step in steps if step["source"] not in HARMFUL),
        "refused_harmful": _refused(step for step in steps if step["source"] in HARMFUL),
        "learning_seconds": mean(step["learning_seconds"] for step in steps),
        "asking_seconds": mean(step["asking_seconds"] for step in steps),
        "alone": _alone([records[-1].get("alone") for records in streams]),
        "train_tokens": mean(step["cost"]["train_tokens"] for step in steps),
        "facts": {
            name: mean(step["facts"].get(name) for step in steps) for name in dict.fromkeys(k for s in steps for k in s["facts"])
        },
        "not_whole": _not_whole(by_name),
    }


def _lost(records: Sequence[dict[str, Any]], measure: str) -> float | None:
    """What a stream took of what the model knew of the probes."""
    return _less(records[0]["probes"][measure], records[-1]["probes"][measure])


def _not_whole(by_name: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """The steps that count less than whole, or not at all, and why."""
    return [
        {"stream": stream, **{name: step[name] for name in ("step", "problem", "weight", "why")}}
        for stream, records in by_name.items()
        for step in records[1:]
        if step["why"]
    ]


def _alone(found: Sequence[dict[str, float] | None]) -> Row | None:
    """Means over streams of what a question by itself costs; None in runs of before it was measured."""
    known = [one for one in found if one is not None]
    return {name: mean(one[name] for one in known) for name in known[0]} if known else None


HARMFUL = ("scrambled", "contradictory")


def _refused(steps: Iterable[dict[str, Any]]) -> float | None:
    """Share of the steps that weigh nothing; None without any. One with a fault counts in neither part: nobody refused it."""
    return mean(float(step["weight"] == 0) for step in steps if not step.get("fault"))  # a run of before that was kept has none


def _of_merge(own: dict[str, list[dict[str, Any]]], merge: dict[str, list[dict[str, Any]]]) -> Row | None:
    """What is answered at the end, as a share of what plain merge answers of each problem just after it was learnt: over the
    streams that both have. None where plain merge was not run."""
    both = [name for name in own if name in merge]
    ends = [mean(matrix_of(own[name])[-1]) for name in both]
    learnt = [mean(diagonal(matrix_of(merge[name]))) for name in both]
    drawn = [name.partition(".")[0] for name in both]
    return ratio(ends, learnt, drawn)._asdict() if both else None


def _deviation(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return stdev(known) if len(known) > 1 else None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _order(records: Sequence[dict[str, Any]]) -> list[str]:
    return next((record["order"] for record in records if "order" in record), [])


def _in_order(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: record.get("step", 0))
