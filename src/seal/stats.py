"""Means, bootstrap intervals, agreement and rank correlation. In every function a `None` is a value nobody could measure:
it is left out, together with its partner where values come in pairs, and never counted as 0."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean and the two ends of its interval; all three None where there was nothing to average."""

    mean: float | None
    low: float | None
    high: float | None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def interval(
    values: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean with its percentile bootstrap interval, whole clusters being resampled.

    `values`: one a passage. `clusters`: one a value, what the passages share (a SQuAD article); None = each value is its own.
    One single cluster gives an interval without width: nothing is known about a second one.
    Raises ValueError if the two differ in length. Efron & Tibshirani 1993, chapter 13.
    """
    labels = range(len(values)) if clusters is None else clusters
    sums: dict[Hashable, list[float]] = {}
    for value, label in zip(values, labels, strict=True):
        if value is not None:
            sums.setdefault(label, []).append(value)
    if not sums:
        return Interval(None, None, None)
    totals = np.array([sum(group) for group in sums.values()])  # (clusters,)
    counts = np.array([len(group) for group in sums.values()])
    k = len(totals)
    # how often each cluster is drawn, drawn directly: (resamples, clusters)
    drawn = np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
    means = (drawn @ totals) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(totals.sum() / counts.sum()), float(low), float(high))


def paired(
    values_a: Sequence[float | None],
    values_b: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean of `a - b`, passage by passage, with its interval. Raises ValueError if the lengths differ."""
    differences = [None if a is None or b is None else a - b for a, b in zip(values_a, values_b, strict=True)]
    return interval(differences, clusters, seed, level)


def kappa(labels_a: Sequence[Hashable | None], labels_b: Sequence[Hashable | None]) -> float | None:
    """Cohen's kappa of two graders (Cohen 1960); None where chance alone agrees always, or nothing can be compared."""
    pairs = [(a, b) for a, b in zip(labels_a, labels_b, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    n = len(pairs)
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    agree = sum(a == b for a, b in pairs) / n
    chance = sum(first.count(label) * second.count(label) for label in set(first)) / n**2
    return None if chance == 1.0 else (agree - chance) / (1 - chance)


def spearman(values_a: Sequence[float | None], values_b: Sequence[float | None]) -> float | None:
    """Spearman's rank correlation, ties sharing their mean rank; None where one side does not vary."""
    pairs = [(a, b) for a, b in zip(values_a, values_b, strict=True) if a is not None and b is not None]
    if len(pairs) < 2:
        return None
    a, b = (_ranks(np.array(side, dtype=float)) for side in zip(*pairs, strict=True))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def rank_correlation(
    values_a: Sequence[float | None], values_b: Sequence[float | None], clusters: Sequence[Hashable], seed: int = 0
) -> Interval:
    """Spearman's rank correlation with its 95% percentile bootstrap interval, whole clusters being resampled.

    The ranks stay those of all values while clusters are drawn. All three None where one side does not vary.
    """
    rows = [row for row in zip(values_a, values_b, clusters, strict=True) if row[0] is not None and row[1] is not None]
    rho = spearman([a for a, _, _ in rows], [b for _, b, _ in rows])
    if rho is None:
        return Interval(None, None, None)
    x, y = (_ranks(np.array(side, dtype=float)) for side in list(zip(*rows, strict=True))[:2])
    _, which = np.unique([str(cluster) for _, _, cluster in rows], return_inverse=True)
    k = int(which.max()) + 1
    # what a correlation is made of, summed within each cluster: (clusters, 6)
    parts = np.stack([np.bincount(which, part, k) for part in (np.ones_like(x), x, y, x * x, y * y, x * y)], axis=1)
    drawn = np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
    n, sx, sy, sxx, syy, sxy = (drawn @ parts).T
    spread = (n * sxx - sx**2) * (n * syy - sy**2)
    known = spread > 1e-9 * n**4
    low, high = np.quantile((n * sxy - sx * sy)[known] / np.sqrt(spread[known]), [0.025, 0.975])
    return Interval(rho, float(low), float(high))


def within(values: Sequence[float | None], groups: Sequence[Hashable]) -> list[float | None]:
    """Each value less the mean of its group: what is left once groups no longer differ."""
    means = {group: mean(value for value, own in zip(values, groups, strict=True) if own == group) for group in set(groups)}
    return [None if value is None else value - (means[group] or 0.0) for value, group in zip(values, groups, strict=True)]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]
