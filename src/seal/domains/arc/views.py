"""A test input seen from several sides: under an invertible transform, with the example pairs in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from seal.domains.arc.codecs import Codec
from seal.domains.arc.puzzles import Grid, Puzzle
from seal.domains.arc.transforms import NotItsImage, Transform
from seal.domains.arc.vote import Ballot
from seal.seeds import derive

LeaveOne = bool | Literal["paper"]


@dataclass(frozen=True, slots=True)
class View:
    """One way of looking at a puzzle."""

    name: str
    transform: Transform
    order: tuple[int, ...]
    """The example pairs that are shown, and in which order."""

    def ballot(self, text: str, codec: Codec, logprob: float | None = None) -> Ballot | None:
        """What a reply to this view says of the puzzle as it is; None if it is no grid, or none the transform can give."""
        found = codec.read(text)
        if found is None:
            return None
        try:
            return Ballot(self.transform.name, self.transform.inverse(found), logprob)
        except NotItsImage:
            return None

    def seen(self, puzzle: Puzzle, asked: Grid) -> tuple[list[tuple[Grid, Grid]], Grid]:
        """The shown pairs and the asked input, under this view."""
        pairs = [puzzle.shown[place] for place in self.order]
        return [(self.transform(pair.input), self.transform(pair.output)) for pair in pairs if pair.output], self.transform(asked)


def views(puzzle: Puzzle, transforms: Sequence[Transform], *, orders: int, leave_one: LeaveOne = False) -> list[View]:
    """Under each transform: all pairs in `orders` different orders (the first as they stand), and with `leave_one` all but one.

    `paper`: never all of them. Each all but one in `orders` orders under the first transform, and one of these, drawn, under each
    of the others. What is drawn comes from the puzzle's id. A puzzle with few pairs has fewer orders than were asked for.
    """
    every = tuple(range(len(puzzle.shown)))
    but_one = [every[:place] + every[place + 1 :] for place in every] if leave_one and len(every) > 1 else []
    random = Random(derive("views", puzzle.id))
    if leave_one == "paper":
        first, *others = transforms
        own = [order for some in but_one for order in _orders(some, orders, random)]
        chosen = [*((first, order) for order in own), *((other, random.choice(own)) for other in others)]
    else:
        chosen = [(one, order) for one in transforms for order in (*_orders(every, orders, random), *but_one)]
    return [View(f"{transform.name}/{','.join(map(str, order))}", transform, order) for transform, order in chosen]


def _orders(pairs: tuple[int, ...], most: int, random: Random) -> list[tuple[int, ...]]:
    """Different orders of the pairs, the first as they stand."""
    found = [pairs]
    for _ in range(8 * most):  # in vain where there are few pairs: 2 have 2 orders
        drawn = tuple(random.sample(pairs, len(pairs)))
        if len(found) < most and drawn not in found:
            found.append(drawn)
    return found
