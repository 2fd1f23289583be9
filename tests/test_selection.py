"""Selection: pure functions of scored groups."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal.policy.selection import Scored, best_of_group, extremes, gaining, shortlist, top_fraction

SCORES = st.none() | st.sampled_from([0.0, 0.2, 0.4, 1.0])


@st.composite
def groups(draw: st.DrawFn) -> list[list[Scored[str]]]:
    sizes = draw(st.lists(st.integers(0, 4), max_size=5))
    gains = st.none() | st.floats(-1, 1)
    return [[Scored(f"{at}.{edit}", draw(SCORES), draw(gains)) for edit in range(size)] for at, size in enumerate(sizes)]


@given(groups(), st.sampled_from(["first", "seed"]), st.none() | st.floats(-1, 1), st.integers(0, 9))
def test_the_best_of_each_group_is_one_of_its_highest(found, ties, floor, seed) -> None:
    kept = best_of_group(found, ties=ties, floor=floor, seed=seed)
    expected = 0
    for group in found:
        standing = [
            one for one in group if one.reward is not None and (floor is None or (one.gain is not None and one.gain > floor))
        ]
        chosen = [one for one in standing if one.item in kept]
        expected += bool(standing)
        assert len(chosen) == bool(standing)
        assert all(one.reward == max(other.reward for other in standing) for one in chosen)
    assert len(kept) == expected


@given(groups(), st.integers(1, 4), st.sampled_from(["first", "seed"]), st.integers(0, 9))
def test_so_many_of_each_group_are_kept_the_best_first(found, keep, ties, seed) -> None:
    kept = best_of_group(found, keep=keep, ties=ties, seed=seed)
    for group in found:
        rewards = {one.item: one.reward for one in group if one.reward is not None}
        chosen = [item for item in kept if item in rewards]
        assert len(set(chosen)) == len(chosen) == min(keep, len(rewards))
        assert [rewards[item] for item in chosen] == sorted(rewards.values(), reverse=True)[: len(chosen)]
        assert chosen[:1] == [item for item in best_of_group(found, ties=ties, seed=seed) if item in rewards]
    with pytest.raises(ValueError, match="keep"):
        best_of_group(found, keep=0)


def test_equal_edits_take_one_place_together():
    group = [Scored("a", 0.9, training="x"), Scored("b", 0.9, training="x"), Scored("c", 0.5, training="y"), Scored("d", 0.1)]
    assert best_of_group([group], keep=3) == ["a", "c", "d"]
    assert best_of_group([[replace(one, reward=0.5) for one in group[:2]], group], keep=2) == ["a", "a", "c"]
    drawn = {tuple(best_of_group([group], keep=2, ties="seed", seed=seed)) for seed in range(20)}
    assert drawn == {("a", "c"), ("b", "c")}  # whichever is drawn, the other takes no place


@given(groups())
def test_the_first_of_equals_is_the_first(found) -> None:
    kept = iter(best_of_group(found))
    for group in found:
        rewards = [-1 if one.reward is None else one.reward for one in group]
        if max(rewards, default=-1) >= 0:
            assert next(kept) == group[rewards.index(max(rewards))].item


def test_ties_by_seed_repeat_and_reach_every_tied_edit() -> None:
    group = [[Scored(at, 1.0) for at in range(3)]]
    drawn = [best_of_group(group, ties="seed", seed=seed)[0] for seed in range(50)]
    assert drawn == [best_of_group(group, ties="seed", seed=seed)[0] for seed in range(50)]
    assert set(drawn) == {0, 1, 2}


@given(groups(), st.integers(1, 5))
def test_a_shortlist_has_the_highest_of_each_group_in_order(found, size) -> None:
    kept = shortlist(found, size)
    assert kept == [one.item for group in found for one in group if one.item in kept]
    for group in found:
        rewards = {one.item: one.reward for one in group if one.reward is not None}
        chosen = [item for item in rewards if item in kept]
        assert len(chosen) == min(size, len(rewards))
        left = [rewards[item] for item in rewards if item not in kept]
        assert not left or max(left) <= min(rewards[item] for item in chosen)


def test_a_shortlist_prefers_the_first_of_equals() -> None:
    assert shortlist([[Scored("a", 1.0), Scored("b", None), Scored("c", 2.0), Scored("d", 1.0)]], 2) == ["a", "c"]
    with pytest.raises(ValueError, match="size must be 1 or more"):
        shortlist([], 0)


@given(groups(), st.lists(st.integers(1, 3), min_size=20, max_size=20), st.sampled_from(["first", "seed"]), st.integers(0, 9))
def test_the_extremes_are_two_edits_of_unlike_reward_however_often_they_were_tried(found, trials, ties, seed) -> None:
    found = [[replace(one, trials=trials.pop()) for one in group] for group in found]
    rewards = {one.item: one.reward for group in found for one in group}
    chosen = extremes(found, ties=ties, seed=seed)
    pairs = list(zip(chosen[::2], chosen[1::2], strict=True))
    assert all(best != worst and rewards[best] > rewards[worst] for best, worst in pairs)
    for group in found:
        rated = {one.reward for one in group if one.reward is not None}
        own = [(rewards[best], rewards[worst]) for best, worst in pairs if best in {one.item for one in group}]
        assert own == ([(max(rated), min(rated))] if len(rated) > 1 else [])


@given(groups())
def test_gaining_keeps_what_gains_and_nothing_ungraded(found) -> None:
    everyone = [one for group in found for one in group]
    kept = set(gaining(found))
    assert kept == {one.item for one in everyone if one.reward is not None and one.gain is not None and one.gain > 0}


@given(groups(), st.floats(0, 1), st.sampled_from(["first", "seed"]))
def test_the_top_fraction_has_the_highest_rewards_in_order(found, fraction, ties) -> None:
    rated = [one for group in found for one in group if one.reward is not None]
    kept = top_fraction(found, fraction, ties=ties)
    assert abs(len(kept) - fraction * len(rated)) < 1
    assert kept == [one.item for one in rated if one.item in kept]
    left = [one.reward for one in rated if one.item not in kept]
    assert not left or not kept or max(left) <= min(one.reward for one in rated if one.item in kept)


def test_top_fraction_counts_as_written() -> None:
    one_group = [[Scored(at, float(at)) for at in range(10)]]
    assert top_fraction(one_group, 0.3) == [7, 8, 9]  # 0.3 * 10 is a little over 3 in floats
    assert top_fraction(one_group, 0.25) == [7, 8, 9]
    with pytest.raises(ValueError, match="between 0 and 1"):
        top_fraction(one_group, 25)


def test_nan_is_no_score() -> None:
    with pytest.raises(ValueError, match="NaN is no score"):
        Scored("x", float("nan"))
