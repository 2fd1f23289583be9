"""Means, bootstrap intervals, agreement and rank correlation. In every function a `None` is a value nobody could measure:
it is left out, together with its partner where values come in pairs, and never counted as 0."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
FEWEST = 6
"""Clusters from which on an interval that leaves 0 out says something: five values have one sign by chance once in sixteen."""


class Interval(NamedTuple):
    """A mean and the two ends of its interval; all three None where there was nothing to average, the ends where one value is
    all there was to draw."""

    mean: float | None
    low: float | None
    high: float | None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def steady(value: float) -> float:
    """To 12 digits, so that what should be equal or zero is, where it is compared: by rounding alone 3/5 - 2/5 and 1/5 - 2/5 do
    not add up to 0."""
    return round(value, 12) + 0.0  # no -0.0


Rows = Sequence[Sequence[float | None]]
"""One row a passage, one column a training that all passages share (an adapter of continued pretraining, a run's seed)."""


def interval(
    values: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean with its bootstrap interval, whole clusters being resampled: see `crossed`.

    `values`: one a passage. `clusters`: one a value, what the passages share (a SQuAD article); None = each value is its own.
    Raises ValueError if the two differ in length.
    """
    return crossed([[value] for value in values], None, clusters, seed, level)


def paired(values_a: Sequence[float | None], values_b: Sequence[float | None]) -> Interval:
    """The mean of `a - b`, passage by passage, with its interval. Raises ValueError if the lengths differ."""
    return crossed([[value] for value in values_a], [[value] for value in values_b])


def ratio(values: Sequence[float | None], of: Sequence[float | None], clusters: Sequence[Hashable] | None = None) -> Interval:
    """The mean of `values` over the mean of `of`, over the pairs that both have, whole clusters of pairs being resampled.

    All three None where that mean is 0 or less, the ends where there is one cluster alone. Raises ValueError if the lengths
    differ. Efron & Tibshirani 1993, chapter 13.
    """
    labels = range(len(values)) if clusters is None else clusters
    pairs = [
        (label, one, other) for label, one, other in zip(labels, values, of, strict=True) if one is not None and other is not None
    ]
    if sum(other for _, _, other in pairs) <= 0:
        return Interval(None, None, None)
    place = {label: number for number, label in enumerate(dict.fromkeys(label for label, _, _ in pairs))}
    k = len(place)
    drawn = np.random.default_rng(0).multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
    which = [place[label] for label, _, _ in pairs]
    above, below = (np.bincount(which, side, k) for side in ([one for _, one, _ in pairs], [other for _, _, other in pairs]))
    under = drawn @ below
    whole = float(above.sum() / below.sum())
    if k == 1:
        return Interval(whole, None, None)
    found = np.divide(drawn @ above, under, out=np.full(RESAMPLES, np.nan), where=under > 0)
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(whole, float(low), float(high))


def crossed(
    rows_a: Rows,
    rows_b: Rows | None = None,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean of `a`, or of `a - b` over the passages both have, where passages share trainings.

    Passages measured after one common training are not independent: another training would move all of them together. So
    clusters of passages and trainings are resampled, each with replacement (Efron & Tibshirani 1993, chapter 13; Owen 2007, the
    pigeonhole bootstrap); the two sides share the passages drawn and have trainings of their own. With one training a side, what
    another would give is not in the interval. A passage's missing value is the mean of those it has, so that all weigh the same.

    Percentiles of few units are too narrow, so they are taken further out, by Student's t for the normal (Hesterberg 2015, the
    expanded percentile interval): of equal sides 5 in 100 are then told apart from about 6 clusters on. Fewer have values too
    few to be drawn for that, and one alone (that went through one training) has no interval: nothing is known about a second one.
    Raises ValueError if the lengths differ.
    """
    sides = [rows_a] if rows_b is None else [rows_a, rows_b]
    labels = range(len(rows_a)) if clusters is None else clusters
    grid = [
        (label, [_filled(row) for row in rows])
        for label, *rows in zip(labels, *sides, strict=True)
        if all(mean(row) is not None for row in rows)
    ]
    if not grid:
        return Interval(None, None, None)
    place = {label: number for number, label in enumerate(dict.fromkeys(label for label, _ in grid))}
    k, generator = len(place), np.random.default_rng(seed)
    which = [place[label] for label, _ in grid]
    # how often each cluster is drawn, drawn directly: (resamples, clusters)
    drawn = generator.multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
    passages = drawn @ np.bincount(which, minlength=k)
    whole, of_clusters, of_trainings = 0.0, np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    spreads = []  # of each side's trainings: the variance of their mean, and its degrees of freedom
    for number, sign in enumerate((1, -1)[: len(sides)]):
        values = np.array([rows[number] for _, rows in grid])  # (passages, trainings)
        sums = np.zeros((k, values.shape[1]))
        np.add.at(sums, which, values)
        t, means = values.shape[1], values.mean(0)
        off = _unbiased(t) * (generator.multinomial(t, np.full(t, 1 / t), size=RESAMPLES) - 1)  # (resamples, trainings)
        whole += sign * float(means.mean())
        of_clusters += sign * (drawn @ sums).mean(1) / passages
        of_trainings += sign * (drawn @ sums * off).mean(1) / passages
        if t > 1:
            spreads.append((float(means.var(ddof=1)) / t, t - 1))
    if k > 1:
        spreads.append((float(of_clusters.var()) * _unbiased(k) ** 2, k - 1))
    if not spreads:
        return Interval(float(whole), None, None)
    tail = _tail(spreads, (1 + level) / 2, float(of_clusters.var()) + float(of_trainings.var()))
    low, high = np.quantile(of_clusters + of_trainings, [tail, 1 - tail])
    return Interval(float(whole), float(low), float(high))


def _filled(row: Sequence[float | None]) -> list[float | None]:
    middle = mean(row)
    return [middle if value is None else value for value in row]


def _unbiased(n: int) -> float:
    """By how much a deviation of units drawn from `n` falls short of what it estimates."""
    return (n / (n - 1)) ** 0.5 if n > 1 else 1.0


def _tail(spreads: Sequence[tuple[float, int]], level: float, drawn: float) -> float:
    """The share to leave out at either end of the resamples, whose variance is `drawn`: Student's t of Satterthwaite's degrees of
    freedom (1946) stands for the normal. `spreads`: the variance that each kind of unit gives the mean, and its freedom."""
    variance = sum(part for part, _ in spreads)
    if variance <= 1e-24 or drawn <= 0:
        return 1 - level
    freedom = variance**2 / sum(part**2 / own for part, own in spreads)
    return NormalDist().cdf(-(student(level, int(freedom + 1e-9)) * (variance / drawn) ** 0.5))


def student(level: float, freedom: int) -> float:
    """The quantile of Student's t, such as 2.571 for 0.975 and 5 degrees of freedom. Abramowitz & Stegun 26.7.3 and 26.7.4."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_below(middle, freedom) < level else (low, middle)
    return high


def _student_below(x: float, freedom: int) -> float:
    angle = math.atan2(x, freedom**0.5)
    odd, square = freedom % 2, math.cos(angle) ** 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for number in range(1 + odd, freedom, 2):
        total += term
        term *= square * number / (number + 1)
    inside = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return (1 + inside) / 2


class Noise(NamedTuple):
    """What training an edit again does to what it is given for it."""

    share: float
    """Of the variance between the edits of a problem: 0 none of it is noise, 1 all of it."""
    deviation: float
    """Standard deviation of the mean of an edit's trials, in the trials' own unit."""


def noise(groups: Iterable[Sequence[Sequence[float]]], again: Iterable[Sequence[float]] = ()) -> Noise | None:
    """How much of the variance between the edits of a problem is mere noise of retraining.

    `groups`: one a problem: one an edit: the values of its trials. What the edits' means would differ by if all edits were
    equal (the variance within edits, over the number of trials) over what they differ by. None where no edit was tried twice
    or no problem has two edits: then it cannot be known. Searle, Casella & McCulloch 1992, chapter 3.

    `again`: one an edit: values of equal trainings, more than count in its mean: the variance within edits is known by them too.
    """
    squares = freedom = 0.0
    between, shares = [], []
    for trials in again:
        squares += float(np.var(trials)) * len(trials)
        freedom += len(trials) - 1
    for group in groups:
        tried = [trials for trials in group if trials]
        squares += sum(float(np.var(trials)) * len(trials) for trials in tried)
        freedom += sum(len(trials) - 1 for trials in tried)
        if len(tried) > 1:
            between.append(float(np.var([np.mean(trials) for trials in tried], ddof=1)))
            shares.append(float(np.mean([1 / len(trials) for trials in tried])))
    spread = mean(between)
    if not freedom or not spread:
        return None
    variance = squares / freedom * float(np.mean(shares))
    return Noise(min(1.0, variance / spread), variance**0.5)


def noise_share(groups: Iterable[Sequence[Sequence[float]]]) -> float | None:
    """The share alone, where it is known."""
    found = noise(groups)
    return None if found is None else found.share


def question_noise(tables: Iterable[Sequence[Sequence[float | None]]]) -> float | None:
    """How much of the variance between the edits of a problem is which few questions were asked.

    `tables`: one a problem: one an edit: its score on each of the problem's questions, in one order; a question that some edit
    has no score on is left out. What neither the edit nor the question explains by itself, over what the edits differ by: one
    minus the reliability of their means (Hoyt 1941; Cronbach's alpha). None where edits do not differ, or no problem has two
    edits and two questions.
    """
    between = rest = 0.0
    edits_freedom = rest_freedom = 0
    for table in tables:
        asked = [column for column in zip(*table, strict=True) if None not in column]
        if len(table) < 2 or len(asked) < 2:
            continue
        scores = np.array(asked, dtype=float).T  # (edits, questions)
        edits, questions = scores.shape
        of_edit = scores.mean(axis=1, keepdims=True) - scores.mean()
        between += questions * float((of_edit**2).sum())
        rest += float(((scores - scores.mean(axis=0) - of_edit) ** 2).sum())
        edits_freedom += edits - 1
        rest_freedom += (edits - 1) * (questions - 1)
    return min(1.0, (rest / rest_freedom) / (between / edits_freedom)) if between else None


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
    values_a: Sequence[float | None], values_b: Sequence[float | None], clusters: Sequence[Hashable]
) -> Interval:
    """Spearman's rank correlation with its 95% percentile bootstrap interval, whole clusters being resampled.

    The ranks stay those of all values while clusters are drawn. All three None where one side does not vary, the ends where there
    is one cluster alone.
    """
    rows = [row for row in zip(values_a, values_b, clusters, strict=True) if row[0] is not None and row[1] is not None]
    rho = spearman([a for a, _, _ in rows], [b for _, b, _ in rows])
    if rho is None:
        return Interval(None, None, None)
    x, y = (_ranks(np.array(side, dtype=float)) for side in list(zip(*rows, strict=True))[:2])
    _, which = np.unique([str(cluster) for _, _, cluster in rows], return_inverse=True)
    k = int(which.max()) + 1
    if k == 1:
        return Interval(rho, None, None)
    # what a correlation is made of, summed within each cluster: (clusters, 6)
    parts = np.stack([np.bincount(which, part, k) for part in (np.ones_like(x), x, y, x * x, y * y, x * y)], axis=1)
    drawn = np.random.default_rng(0).multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
    n, sx, sy, sxx, syy, sxy = (drawn @ parts).T
    spread = (n * sxx - sx**2) * (n * syy - sy**2)
    known = spread > 1e-9 * n**4
    low, high = np.quantile((n * sxy - sx * sy)[known] / np.sqrt(spread[known]), [0.025, 0.975])
    return Interval(rho, float(low), float(high))


def within(values: Sequence[float | None], groups: Sequence[Hashable]) -> list[float | None]:
    """Each value less the mean of its group: what is left once groups no longer differ."""
    means = {group: mean(value for value, own in zip(values, groups, strict=True) if own == group) for group in set(groups)}
    return [None if value is None else steady(value - (means[group] or 0.0)) for value, group in zip(values, groups, strict=True)]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]
