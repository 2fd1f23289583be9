"""What a run measured, as the named numbers that trackers plot and lists of runs show: pure functions of the store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from seal.loops.continual import steps
from seal.report.adapted import adapted_table, is_adapted
from seal.report.costs import edits_table
from seal.report.forgetting import continual_tables
from seal.report.results import result_rows
from seal.report.tables import Row, training_table
from seal.stats import mean
from seal.store import Store, keys

_ROUND = ("reward", "best", "kept", "kept_without_gain", "faults", "noise", "question_noise", "edits", "trials", "seconds")
_UPDATE = ("policy_loss_first", "policy_loss_last", "policy_left_out")
_CONDITION = {
    "score": "mean",
    **{name: name for name in ("f1", "exact", "solved", "minus_untrained", "minus_fixed", "minus_plain")},
    **{name: name for name in ("correct", "faults", "logprob", "tokens", "seconds")},
}
"""What a number is called, and where it stands in a row of whichever table; no table has all of them."""
_STRATEGY = ("base", "diagonal", "last", "backward", "forward", "forgetting", "probe_loss", "text_loss", "routing", "refused")


def means(store: Store) -> dict[str, float | None]:
    """What the run comes to, in a number a condition: the `mean` of its table, whichever that is; of a stream by strategy, what
    is answered at its end."""
    rows = adapted_table(store) if is_adapted(store) else result_rows(store)
    ends = {row["strategy"]: row["last"]["mean"] for row in continual_tables(store)}
    return {row["condition"]: row["mean"] for row in rows} | ends


def round_metrics(store: Store, round: int) -> dict[str, float]:
    """`train/...` of one round: its row of `training_table` (an adaptation's has none if all its edits were written before), the
    policy update's losses, how often a later pass left an edit as it was (`unwritten`), and the tokens that were written and
    trained on. What is not known is left out."""
    row: Row = next((one for one in training_table(store) if one["round"] == round), {})
    edits = [one for one in edits_table(store) if one["round"] == round]
    metrics = store.metrics().get(round, {})
    found = {
        **{name: row.get(name) for name in _ROUND},
        **{name: metrics.get(name) for name in _UPDATE},
        "unwritten": metrics.get("unwritten"),
        "tokens_written": sum(one["tokens"] for one in edits),
        "tokens_trained": sum(one["train_tokens"] for one in edits),
    }
    return _known("train", found)


def condition_metrics(store: Store) -> dict[str, dict[str, float]]:
    """By phase of the evaluation, `eval/PHASE/...`: the means that its table has (of puzzles `score` is the share of correct
    plans, `solved` that of the puzzles), and its faults."""
    return {row["phase"]: _of_row(f"eval/{row['phase']}", row) for row in result_rows(store)}


def adapted_metrics(store: Store) -> tuple[int, dict[str, float]]:
    """The last round of an adaptation, and what it measured: `train/...`, and `eval/CONDITION/...` of its table; round 0 and
    nothing until there is one."""
    if not is_adapted(store):
        return 0, {}
    round = len(store.get_state(keys.ADAPT_ROUNDS))
    found = round_metrics(store, round)
    for row in adapted_table(store):
        found |= _of_row(f"eval/{row['condition']}", row)
    return round, found


def step_metrics(store: Store) -> dict[str, dict[str, float]]:
    """`continual/STRATEGY/STREAM/...` of every step of a stream, by STRATEGY/STREAM/N, in the order they were made.

    `learnt`: the score of the problem just learnt; `seen`: the mean score of all learnt so far, where they were asked.
    """
    found = steps(store)
    orders = {(one.strategy, one.stream): one.record["order"] for one in found if one.number == 0}
    learnt = sorted((one for one in found if one.number > 0), key=lambda one: (one.record["made"], one.number))
    return {
        f"{strategy}/{stream}/{number}": _known(
            _named(f"{strategy}/{stream}"), _of_step(record, orders[strategy, stream][:number])
        )
        for strategy, stream, number, record in learnt
    }


def _of_step(record: Mapping[str, Any], learnt: list[str]) -> Row:
    scores = {id: cell["score"] for id, cell in record["row"].items()}
    return {
        "step": record["step"],
        "learnt": scores.get(record["problem"]),
        "seen": mean(scores[id] for id in learnt) if scores.keys() >= set(learnt) else None,
        "probes": record["probes"]["score"],
        "weight": record["weight"],
        "train_tokens": record["cost"]["train_tokens"],
        **{name: record[name] for name in ("learning_seconds", "asking_seconds")},
    }


def strategy_metrics(store: Store) -> dict[str, dict[str, float]]:
    """By strategy, `continual/STRATEGY/...`: the means over its streams that `continual_tables` has."""
    return {
        row["strategy"]: _known(_named(row["strategy"]), {name: _mean(row[name]) for name in _STRATEGY})
        for row in continual_tables(store)
    }


def _named(strategy: str) -> str:
    """Trackers take no `gate+replay` in a name: mlflow refuses it, tensorboard writes it so."""
    return f"continual/{re.sub(r'[^/.0-9A-Za-z_-]', '_', strategy)}"


def _of_row(name: str, row: Row) -> dict[str, float]:
    return _known(name, {named: _mean(row.get(key)) for named, key in _CONDITION.items()})


def _mean(value: Any) -> float | None:
    """Of a number with its interval, the number."""
    return value["mean"] if isinstance(value, dict) else value


def _known(name: str, found: Mapping[str, float | None]) -> dict[str, float]:
    return {f"{name}/{key}": float(value) for key, value in found.items() if value is not None}
