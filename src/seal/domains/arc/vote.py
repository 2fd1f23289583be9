"""From the answers to many views of a test input to two attempts, and whether one of them is right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seal.domains.arc.puzzles import Grid, Pair
from seal.errors import unknown

ATTEMPTS = 2
"""ARC's rule: a test input is solved if one of two attempts is its output."""
NOMINATED = 3
"""How many grids each transform may put forward."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """What the model answered to one view, brought back to the puzzle's own orientation."""

    transform: str
    """Under which transform the view stood."""
    grid: Grid
    logprob: float | None = None
    """Of the whole reply, in nats: what the model went on with after the grid is charged to it."""


Vote = Callable[[Sequence[Ballot]], list[Grid]]
"""Ballots in the views' order, those that could not be read left out -> at most two grids, the first attempt first."""


def hierarchical(ballots: Sequence[Ballot]) -> list[Grid]:
    """Each transform nominates its three most frequent grids; the two grids that most transforms nominate are the attempts.

    Akyürek et al. 2024. Among equals the grid with more ballots, then the one that came first.
    """
    within: dict[str, Counter[Grid]] = {}
    for ballot in ballots:
        within.setdefault(ballot.transform, Counter())[ballot.grid] += 1
    nominated = Counter(grid for counts in within.values() for grid, _ in counts.most_common(NOMINATED))
    every = Counter(ballot.grid for ballot in ballots)
    return sorted(every, key=lambda grid: (-nominated[grid], -every[grid]))[:ATTEMPTS]


def by_logprob(ballots: Sequence[Ballot]) -> list[Grid]:
    """The two grids with the most probability, added up over the views that answered so.

    One confident view can outvote several that guess. Raises ValueError if a ballot has no log-probability.
    """
    found: dict[Grid, list[float]] = {}
    for ballot in ballots:
        if ballot.logprob is None:
            raise ValueError("voting by log-probability needs the log-probability of every answer")
        found.setdefault(ballot.grid, []).append(ballot.logprob)
    mass = {grid: _log_sum(own) for grid, own in found.items()}
    return sorted(mass, key=lambda grid: -mass[grid])[:ATTEMPTS]


def _log_sum(logprobs: Sequence[float]) -> float:
    """The log of the sum of probabilities: a large grid's own is 0 in floating point (below e to the -745)."""
    most = max(logprobs)
    return most if math.isinf(most) else most + math.log(sum(math.exp(one - most) for one in logprobs))


VOTES: dict[str, Vote] = {"hierarchical": hierarchical, "logprob": by_logprob}


def vote(name: str) -> Vote:
    """The vote of that name. Raises UserError with the nearest known name."""
    if name not in VOTES:
        raise unknown("vote", name, VOTES)
    return VOTES[name]


def hit(pair: Pair, attempts: Sequence[Grid]) -> bool | None:
    """Whether an attempt is the pair's output, those beyond the second not counting; None: the output is not known."""
    return None if pair.output is None else pair.output in tuple(attempts)[:ATTEMPTS]
