"""Accuracy against synthetic tokens, out of a run that `seal eval --curve tokens` measured."""

from __future__ import annotations

from typing import get_args

from seal.config.recipe import Condition
from seal.loops.curve import CURVE
from seal.report.measured import across, clusters, drawn, exact, f1, phases, read, score
from seal.report.tables import Row
from seal.stats import mean
from seal.store import Store


def curve_table(store: Store) -> list[Row]:
    """One row a point: `most` synthetic tokens allowed, `tokens` trained on in the mean over passages, and the score there.

    `mean`, `low`, `high`, `n`, `clusters`, `f1`, `exact`, `shared_trainings` as in `evaluation_table`. The first rows, at 0
    tokens, are the unchanged model and the passage by itself, where they were measured. No row at all if there is no curve.
    """
    named = phases(store)
    points = sorted((int(prefix.removeprefix(CURVE)), prefix, round) for prefix, round in named if prefix.startswith(CURVE))
    if not points:
        return []
    found = [
        (0, condition, phase, round)
        for (prefix, round), conditions in named.items()
        for condition, phase in conditions.items()
        if not prefix and condition in ("base", "passage")
    ]
    found += [
        (most, condition, named[prefix, round][condition], round)
        for condition in get_args(Condition)
        for most, prefix, round in points
        if condition in named[prefix, round] and store.edits(named[prefix, round][condition], round)  # begun, and nothing more
    ]
    return [_row(store, *one) for one in found]


def _row(store: Store, most: int, condition: str, phase: str, round: int) -> Row:
    measured = read(store, phase, round)
    values, cluster = measured.columns(score), clusters(store.problems())
    return {
        "condition": condition,
        "most": most,
        "tokens": mean(edit.tokens for edit in store.edits(phase, round)) if most else 0.0,
        **across(values, cluster)._asdict(),
        "n": sum(mean(row) is not None for row in values.values()),
        "clusters": drawn(values, cluster),
        "f1": across(measured.columns(f1), cluster)._asdict(),
        "exact": across(measured.columns(exact), cluster)._asdict(),
        "shared_trainings": measured.shared,
        "faults": measured.faults,
    }
