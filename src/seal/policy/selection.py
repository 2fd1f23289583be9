"""Which self-edits the policy learns from. Pure functions of groups: one group a problem, its edits with reward and gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Generic, Literal, TypeVar

from seal.seeds import derive

T = TypeVar("T")
Ties = Literal["first", "seed"]


@dataclass(frozen=True, slots=True)
class Scored(Generic[T]):
    """One self-edit (or whatever stands for it) with what it earned."""

    item: T
    reward: float | None
    """None: not to be learnt from."""
    gain: float | None = None
    """Score after minus score before; None: unknown, which is never a gain."""
    solved: bool = False
    """Whether every trial answered all of its problem's queries right."""
    trials: int = 1
    """How many trials they are the mean of."""
    training: str | None = None
    """Which training it asked for: equal edits share one. None: one of its own."""

    def __post_init__(self) -> None:
        if any(number is not None and math.isnan(number) for number in (self.reward, self.gain)):
            raise ValueError(f"reward {self.reward} and gain {self.gain} of {self.item!r}: NaN is no score; None means ungraded")


Groups = Sequence[Sequence[Scored[T]]]


def contenders(group: Sequence[Scored[T]]) -> list[Scored[T]]:
    """Those of most trials, rewarded or not: where repeats went to the best (`policy.halving`), the others were dropped."""
    most = max((one.trials for one in group), default=0)
    return [one for one in group if one.trials == most]


def best_of_group(
    groups: Groups[T], *, keep: int = 1, ties: Ties = "first", floor: float | None = None, seed: int = 0
) -> list[T]:
    """The edit with the highest reward of each group, as the paper's code selects; a group without rewards gives none.

    `keep`: so many of each group, the best first, and none that is equal to one before it. Only `contenders` stand for selection:
    one that was dropped earlier may have had a lucky trial, so where no contender has a reward, none is kept. With `floor`, only
    those that gain more than it do. Equal rewards: the first in the group's order, or one drawn by `seed`.
    """
    if keep < 1:
        raise ValueError(f"keep must be 1 or more, not {keep}")
    kept = []
    for index, group in enumerate(groups):
        rated = [one for one in contenders(group) if one.reward is not None and (floor is None or _gains(one, floor))]
        draw = Random(derive(seed, "ties", index))
        for _ in range(keep):
            if not rated:
                break
            top = max(_reward(one) for one in rated)
            tied = [place for place, one in enumerate(rated) if one.reward == top]
            best = rated.pop(tied[0] if ties == "first" else draw.choice(tied))
            kept.append(best)
            rated = [one for one in rated if best.training is None or one.training != best.training]
    return [one.item for one in kept]


def shortlist(groups: Groups[T], size: int) -> list[T]:
    """The `size` edits of highest reward of each group, in the group's order; equal rewards: the first. One without a reward, a
    fault or what could not be rated, is not among them."""
    if size < 1:
        raise ValueError(f"size must be 1 or more, not {size}")
    kept = []
    for group in groups:
        rated = [place for place, one in enumerate(group) if one.reward is not None]
        best = sorted(rated, key=lambda place: -_reward(group[place]))[:size]
        kept += [group[place].item for place in sorted(best)]
    return kept


def gaining(groups: Groups[T]) -> list[T]:
    """Every edit that makes the model better than it was: the paper's equation 2."""
    return [one.item for group in groups for one in group if one.reward is not None and _gains(one, 0.0)]


def solved(groups: Groups[T]) -> list[T]:
    """Every edit whose trials solve their problem, whatever the model could before: the paper's rule for puzzles. Of equal edits
    each counts."""
    return [one.item for group in groups for one in group if one.reward is not None and one.solved]


def top_fraction(groups: Groups[T], fraction: float, *, ties: Ties = "first", seed: int = 0) -> list[T]:
    """The best `fraction` (0 to 1, rounded up) of all rewarded edits, groups together, in the groups' order."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be between 0 and 1, not {fraction}")
    rated = [one for group in groups for one in group if one.reward is not None]
    order = list(range(len(rated)))
    if ties == "seed":
        Random(derive(seed, "ties")).shuffle(order)
    order.sort(key=lambda at: -_reward(rated[at]))
    return [rated[at].item for at in sorted(order[: math.ceil(fraction * len(rated) - 1e-9)])]


def earning(groups: Groups[T]) -> list[T]:
    """Every edit with a reward above zero."""
    return [one.item for group in groups for one in group if one.reward is not None and one.reward > 0]


def differing(groups: Groups[T]) -> list[T]:
    """Every rewarded edit, good or bad, of the groups whose rewards are not all the same."""
    rated = [[one for one in group if one.reward is not None] for group in groups]
    return [one.item for group in rated if len({one.reward for one in group}) > 1 for one in group]


def extremes(groups: Groups[T], *, ties: Ties = "first", seed: int = 0) -> list[T]:
    """The best and the worst edit of each group whose rewards are not all the same: best, worst, best, worst.

    All rewarded edits stand, however often they were tried: of those of most trials one may be both.
    """
    unlike = [[replace(one, trials=1) for one in group] for group in groups if differing([group])]
    best = best_of_group(unlike, ties=ties, seed=derive(seed, "best"))
    upside = [[replace(one, reward=None if one.reward is None else -one.reward) for one in group] for group in unlike]
    worst = best_of_group(upside, ties=ties, seed=derive(seed, "worst"))
    return [item for pair in zip(best, worst, strict=True) for item in pair]


def _reward(one: Scored[T]) -> float:
    assert one.reward is not None
    return one.reward


def _gains(one: Scored[T], floor: float) -> bool:
    return one.gain is not None and one.gain > floor
