"""What a run measured, as the named numbers that trackers plot: pure functions of the store."""

from __future__ import annotations

from seal.report.costs import edits_table
from seal.report.tables import evaluation_table, training_table
from seal.store import Store

_ROUND = ("reward", "best", "kept", "kept_without_gain", "faults", "noise", "question_noise", "edits", "trials", "seconds")
_UPDATE = ("policy_loss_first", "policy_loss_last", "policy_left_out")
_CONDITION = ("score", "f1", "exact", "minus_untrained")


def round_metrics(store: Store, round: int) -> dict[str, float]:
    """`train/...` of one round: its row of `training_table`, the policy update's losses, and the tokens that were written and
    trained on. What is not known is left out."""
    row = next(one for one in training_table(store) if one["round"] == round)
    edits = [one for one in edits_table(store) if one["round"] == round]
    found = {
        **{name: row[name] for name in _ROUND},
        **{name: store.metrics().get(round, {}).get(name) for name in _UPDATE},
        "tokens_written": sum(one["tokens"] for one in edits),
        "tokens_trained": sum(one["train_tokens"] for one in edits),
    }
    return {f"train/{name}": float(value) for name, value in found.items() if value is not None}


def condition_metrics(store: Store) -> dict[str, dict[str, float]]:
    """By phase of the evaluation, `eval/PHASE/...`: the means that `evaluation_table` has, and its faults."""
    found = {}
    for row in evaluation_table(store):
        means = {"score": row["mean"], **{name: row[name] and row[name]["mean"] for name in _CONDITION[1:]}}
        values = {**means, "faults": row["faults"]}
        found[row["phase"]] = {f"eval/{row['phase']}/{name}": float(one) for name, one in values.items() if one is not None}
    return found
