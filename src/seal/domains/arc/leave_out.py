"""Training tasks out of a puzzle's example pairs: some pairs are left out, and one of those is what is asked.

Akyürek et al. 2024 (test-time training on ARC): leave one and leave two out, each under augmentations that change every grid of
the task in the same way. The order of everything is drawn from a seed, never from a set or a hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from random import Random

from seal.domains.arc.puzzles import Grid, Pair
from seal.domains.arc.transforms import IDENTITY, Transform, random_recolour


@dataclass(frozen=True, slots=True)
class Task:
    """Pairs that are shown, and one whose output is asked."""

    shown: tuple[Pair, ...]
    asked: Pair

    @property
    def grids(self) -> list[Grid]:
        """All that are known."""
        return [grid for pair in (*self.shown, self.asked) for grid in (pair.input, pair.output) if grid is not None]

    @property
    def side(self) -> int:
        """Rows or columns of the largest grid."""
        return max(max(len(grid), len(grid[0])) for grid in self.grids)

    def under(self, transform: Transform) -> Task:
        """The same task with every grid changed."""
        return Task(tuple(_changed(pair, transform) for pair in self.shown), _changed(self.asked, transform))

    def shuffled(self, random: Random) -> Task:
        """The same task with its pairs shown in another order."""
        return Task(tuple(random.sample(self.shown, len(self.shown))), self.asked)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much practice there may be."""

    number: int
    """Most tasks."""
    side: int
    """Most rows and columns of a grid."""
    cost: float
    """Most of all tasks together, in whatever the cost function counts (tokens)."""
    rounds: int | None = None
    """How often each task is taken, in another order and other colours each time; None = until the limits are reached."""


@dataclass(frozen=True, slots=True)
class Practice:
    """The tasks that are trained on, all different."""

    tasks: tuple[Task, ...]
    too_large: int = 0
    """Cut: tasks with a grid beyond the limit."""
    too_many: int = 0
    """Cut: tasks beyond the number or the cost that is allowed."""


def leave_out(pairs: Sequence[Pair], n: int) -> list[Task]:
    """Every way of leaving `n` pairs out, and each of those asked once; at least one pair is always shown."""
    found = []
    for out in combinations(range(len(pairs)), n):
        shown = tuple(pair for place, pair in enumerate(pairs) if place not in out)
        found += [Task(shown, pairs[place]) for place in out if shown]
    return found


def practice(
    pairs: Sequence[Pair],
    transforms: Sequence[Transform],
    *,
    recolour: bool,
    unchanged: bool = False,
    limits: Limits,
    cost: Callable[[Task], float],
    seed: int,
) -> Practice:
    """Tasks of leave-one-out and leave-two-out, as they are and under each transform, in a seeded order and within the limits.

    Each has its pairs shuffled, and with `recolour` its colours permuted; with `unchanged` it is taken once with neither, too.
    Where the limits allow more than there are, the round begins again with other orders and colours, until nothing new comes of
    it. The first task that the cost has no room for ends it. The same arguments give the same tasks anywhere.
    """
    random = Random(seed)
    bases = leave_out(pairs, 1) + leave_out(pairs, 2)
    changed = [base.under(transform) for transform in (IDENTITY, *transforms) for base in bases]
    small = list(dict.fromkeys(task for task in changed if task.side <= limits.side))
    found: dict[Task, None] = {}
    spent = 0.0
    first = reached = len(small) * (2 if unchanged else 1)
    for place, task in _rounds(small, recolour, unchanged, random, limits.rounds):
        if task in found:
            continue
        price = cost(task)
        if len(found) >= limits.number or spent + price > limits.cost:
            reached = place
            break
        found[task] = None
        spent += price
    return Practice(tuple(found), sum(task.side > limits.side for task in changed), max(0, first - reached))


def _rounds(
    tasks: Sequence[Task], recolour: bool, unchanged: bool, random: Random, most: int | None
) -> Iterator[tuple[int, Task]]:
    """Every task again and again, shuffled anew, with how many were given before it; ends after `most` rounds, or after one
    without a new task. With `unchanged` the first round has each twice, once as it is."""
    given: set[Task] = set()
    number = 0
    for turn in count() if most is None else range(most):
        before = len(given)
        ways = (True, False) if unchanged and turn == 0 else (True,)
        own = [(task, changed) for changed in ways for task in tasks]
        for one, changed in random.sample(own, len(own)):
            if changed:
                one = one.shuffled(random)
                one = one.under(random_recolour(random)) if recolour else one
            yield number, one
            given.add(one)
            number += 1
        if len(given) == before:
            return


def _changed(pair: Pair, transform: Transform) -> Pair:
    return Pair(transform(pair.input), None if pair.output is None else transform(pair.output))
