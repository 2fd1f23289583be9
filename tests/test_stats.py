"""Means and intervals: properties, and small numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal.stats import (
    Interval,
    crossed,
    interval,
    kappa,
    mean,
    noise,
    noise_share,
    paired,
    question_noise,
    rank_correlation,
    ratio,
    spearman,
    steady,
    student,
    within,
)

number = st.floats(-100, 100)
numbers = st.lists(number, min_size=1, max_size=30)


def test_a_value_nobody_measured_is_in_no_mean():
    assert mean([1.0, None, 0.0]) == 0.5
    assert mean([None]) is None
    assert interval([1.0, None]) == (1.0, None, None)  # of a second value nothing is known
    assert interval([None, None]) == Interval(None, None, None)
    assert paired([1.0, None, 3.0], [0.5, 1.0, None]) == (0.5, None, None)


@settings(max_examples=30, deadline=None)
@given(numbers, st.integers(0, 5))
def test_the_interval_holds_the_mean_and_stays_within_the_values(values, seed):
    found = interval(values, seed=seed)
    assert found.mean == pytest.approx(mean(values), abs=1e-9)
    if len(values) > 1:
        assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found == interval(values, seed=seed)


@settings(max_examples=30, deadline=None)
@given(numbers, number)
def test_a_constant_shift_is_found_exactly(values, shift):
    found = paired([value + shift for value in values], values)
    assert found == pytest.approx((shift, shift, shift) if len(values) > 1 else (shift, None, None), abs=1e-9)


def test_copies_of_a_value_in_one_cluster_are_not_new_evidence():
    alone = interval([0.0, 1.0, 0.0, 1.0])
    copied = interval([0.0, 1.0, 0.0, 1.0] * 10, clusters=["a", "b", "c", "d"] * 10)
    assert copied == pytest.approx(alone)
    loose = interval([0.0, 1.0, 0.0, 1.0] * 10)
    assert loose.high - loose.low < alone.high - alone.low
    assert interval([0.0, 1.0], clusters=["x", "x"]) == (0.5, None, None)


def test_the_interval_has_the_width_theory_gives():
    values = [0.0, 1.0] * 100  # standard error 0.5 / sqrt(200)
    found = interval(values)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 200**0.5, rel=0.05)
    narrow = interval(values, level=0.5)
    assert found.low < narrow.low < narrow.high < found.high


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.none() | number, min_size=3, max_size=3), min_size=1, max_size=12))
def test_with_several_trainings_the_interval_still_holds_the_mean(rows):
    found = crossed(rows, clusters=[place // 2 for place in range(len(rows))])
    known = [middle for row in rows if (middle := mean(row)) is not None]
    assert found.mean == pytest.approx(mean(known), abs=1e-9)
    if known:
        assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
    assert crossed(rows, rows).mean in (None, pytest.approx(0.0, abs=1e-9))


def test_trainings_that_disagree_widen_an_interval_that_more_passages_cannot_narrow():
    few, many = (crossed([[0.2, 0.4]] * n) for n in (5, 500))
    beyond = 0.1 * 2**0.5  # two that are drawn from lie nearer to each other than two others would
    assert few == pytest.approx((0.3, 0.3 - beyond, 0.3 + beyond))
    assert many == pytest.approx(few)
    assert crossed([[0.3]] * 5) == pytest.approx((0.3, 0.3, 0.3))
    # each side has trainings of its own, which may both be off
    assert crossed([[0.2, 0.4]] * 5, [[0.1, 0.3]] * 5) == pytest.approx((0.1, 0.1 - 2 * beyond, 0.1 + 2 * beyond))


def test_quantiles_of_student():
    for level, freedom, value in ((0.975, 1, 12.7062), (0.975, 4, 2.7764), (0.95, 7, 1.8946), (0.975, 35, 2.0301)):
        assert student(level, freedom) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(("passages", "trainings", "spread"), [(8, 1, 0), (36, 1, 0), (36, 2, 0.06), (36, 3, 0.06)])
def test_equal_sides_are_told_apart_about_once_in_twenty(passages, trainings, spread, monkeypatch):
    """With plain percentiles: 0.11, 0.05, 0.10 and 0.07 of the times."""
    monkeypatch.setattr("seal.stats.RESAMPLES", 500)
    draw, apart = np.random.default_rng(3), 0
    for _ in range(300):
        own = draw.normal(0, 0.2, (passages, 1))
        a, b = (own + draw.normal(0, 0.2, (passages, trainings)) + draw.normal(0, spread, (1, trainings)) for _ in range(2))
        low, high = crossed(a.tolist(), b.tolist())[1:]
        apart += low > 0 or high < 0
    assert apart / 300 <= 0.09


def test_a_passage_with_a_value_missing_weighs_as_much_as_another():
    assert crossed([[1, None], [0, 0]], [[1, 1], [0, 0]]) == (0, 0, 0)


def test_a_share_that_is_the_same_everywhere_has_no_width_and_another_has():
    of = [0.1, 0.4, None, 0.3]
    assert ratio([0.05, 0.2, 0.9, 0.15], of) == pytest.approx((0.5, 0.5, 0.5))
    found = ratio([0.1, 0.0, 0.9, 0.3], of)
    assert found.mean == pytest.approx(0.4 / 0.8)
    assert (found.low, found.high) == pytest.approx((0.0, 1.0))
    assert ratio([0.1], [0.0]) == ratio([0.1, 0.1], [0.1, -0.2]) == Interval(None, None, None)


def test_of_one_cluster_nothing_is_known_about_a_second():
    assert ratio([0.1, 0.0], [0.1, 0.4], clusters="aa") == (pytest.approx(0.2), None, None)
    assert rank_correlation([1, 2, 3], [1, 3, 2], "aaa") == (pytest.approx(0.5), None, None)


def test_noise_is_what_equal_edits_would_differ_by():
    # edits 0.75 and 0.25, trials of each vary by 0.125: means of two would vary by 0.0625 of the 0.125 they do
    assert noise_share([[[1.0, 0.5], [0.0, 0.5]]]) == pytest.approx(0.5)
    assert noise([[[1.0, 0.5], [0.0, 0.5]]]) == (pytest.approx(0.5), pytest.approx(0.0625**0.5))
    assert noise_share([[[1.0, 1.0], [0.0, 0.0]]]) == 0.0
    assert noise_share([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]]) is None  # no spread to have a share of
    assert noise_share([[[1.0], [0.0]]]) is None  # nothing was tried twice
    assert noise_share([]) is None
    # what is trained again says how far equal trainings differ, and moves no mean: 0.125 of the 0.5 that single trials do
    assert noise([[[1.0], [0.0]]], [[1.0, 0.5]]) == (pytest.approx(0.125 / 0.5), pytest.approx(0.125**0.5))
    # halving: one trial of the first, three of the second; 1/12 within, over (1 + 1/3) / 2 of the 0.125 between
    assert noise_share([[[0.25], [1.0, 0.75, 0.5]]]) == pytest.approx(0.0625 * (1 + 1 / 3) / 2 / 0.125)


def test_the_noise_of_few_questions_by_hand():
    # edits' means 2/3 and 1/3 over three questions: 3 * 2 * (1/6)^2 = 1/6 between them. Question means .5, .5, .5: residuals
    # (1, 1, 0) - .5 - 1/6 and their opposites: 2 * (2 * (1/3)^2 + (2/3)^2) = 4/3, over 2 degrees of freedom 2/3
    assert question_noise([[[1, 1, 0], [0, 0, 1]]]) == 1.0
    # means 1 and 1/3: between 3 * 2 * (1/3)^2 = 2/3; residuals 1/3, -1/6, -1/6 twice: 2 * (1/9 + 2/36) = 1/3, over 2 is 1/6
    assert question_noise([[[1, 1, 1], [1, 0, 0]]]) == pytest.approx((1 / 6) / (2 / 3))
    assert question_noise([[[1, 1, 1], [0, 0, 0]]]) == 0.0
    # a question that one edit has no score on; problems and questions of one, of which nothing can be said
    assert question_noise([[[1, None, 1, 1], [1, 0, 0, 0]], [[1, 0]], [[1], [0]]]) == pytest.approx((1 / 6) / (2 / 3))
    assert question_noise([[[1, 0], [1, 0]]]) is None  # edits do not differ
    assert question_noise([]) is None


def test_the_noise_of_few_questions_is_what_as_many_others_would_change():
    rng = np.random.default_rng(0)
    worth = rng.beta(2, 6, size=(4000, 4, 1))  # variance 0.0208, and a question's about 0.167
    answers = (rng.random((4000, 4, 5)) < worth).astype(float)
    means, again = answers.mean(axis=2), (rng.random((4000, 4, 5)) < worth).mean(axis=2)
    together = np.corrcoef((means - means.mean(1, keepdims=True)).ravel(), (again - again.mean(1, keepdims=True)).ravel())[0, 1]
    assert question_noise(answers.tolist()) == pytest.approx(1 - together, abs=0.03)


def test_the_noise_of_edits_that_are_all_equal_is_all_there_is():
    rng = np.random.default_rng(0)
    share, deviation = noise(rng.normal(size=(4000, 5, 3)).tolist())
    assert share == pytest.approx(1.0, abs=0.05)
    assert deviation == pytest.approx(1 / 3**0.5, abs=0.02)
    true = rng.normal(size=(4000, 5, 1)) / 3**0.5  # as much variance between edits as a mean of three has noise
    assert noise_share((true + rng.normal(size=(4000, 5, 3))).tolist()) == pytest.approx(0.5, abs=0.03)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"zip\(\)"):
        interval([1.0], clusters=["a", "b"])
    with pytest.raises(ValueError, match=r"zip\(\)"):
        paired([1.0], [1.0, 2.0])


def test_kappa_as_in_the_textbook():
    # 20 both yes, 5 only first, 10 only second, 15 both no: agreement 0.7, chance 0.5
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert kappa(first, second) == pytest.approx(0.4)
    assert kappa([*first, None], [*second, True]) == pytest.approx(0.4)
    assert kappa([1, 1], [1, 1]) is None
    assert kappa([], []) is None


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=20, unique=True))
def test_spearman_sees_only_the_order(values):
    assert spearman(values, [value**3 for value in values]) == pytest.approx(1.0)
    assert spearman(values, [-value for value in values]) == pytest.approx(-1.0)


def test_spearman_shares_the_rank_of_ties():
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4
    assert spearman([0, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1, None], [1, 2]) is None


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 4)), min_size=2, max_size=30))
def test_a_rank_correlation_is_spearmans_with_an_interval(rows):
    a, b, groups = (list(side) for side in zip(*rows, strict=True))
    found = rank_correlation(a, b, groups)
    assert found.mean == spearman(a, b)
    if found.mean is None or len(set(groups)) == 1:
        assert found.low is found.high is None
    else:
        assert -1 - 1e-6 <= found.low <= found.high <= 1 + 1e-6


def test_clusters_widen_a_rank_correlation():
    # five problems of four edits; within each the two agree, between them they do not
    a = [10 * problem + edit for problem in range(5) for edit in range(4)]
    b = [10 * (problem * 2 % 5) + edit for problem in range(5) for edit in range(4)]
    groups = [problem for problem in range(5) for _ in range(4)]
    single, clustered = rank_correlation(a, b, range(20)), rank_correlation(a, b, groups)
    assert clustered.high - clustered.low > single.high - single.low
    assert rank_correlation(within(a, groups), within(b, groups), groups).mean == pytest.approx(1.0)
    assert rank_correlation([1, None], [1, 2], [0, 1]) == (None, None, None)


@pytest.mark.parametrize("size", range(2, 9))
def test_equal_values_within_a_group_leave_nothing(size):
    values = [value for value in (0.2, 0.4, 0.6, 0.8) for _ in range(size)]
    groups = [value for value in "abcd" for _ in range(size)]
    assert within(values, groups) == [0.0] * len(values)
    assert rank_correlation(within(values, groups), [*range(len(values))], groups) == Interval(None, None, None)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(1, 7), st.randoms())
def test_the_order_of_trials_changes_no_steady_mean(counts, questions, random):
    shuffled = random.sample(counts, len(counts))
    shares = [[count / questions for count in own] for own in (counts, shuffled)]
    assert steady(mean(shares[0])) == steady(mean(shares[1]))
    base = steady(mean(shares[0]))
    assert steady(mean(share - base for share in shares[0])) == 0


def test_within_a_group_only_differences_are_left():
    assert within([1.0, 3.0, None, 7.0], ["a", "a", "a", "b"]) == [-1.0, 1.0, None, 0.0]
