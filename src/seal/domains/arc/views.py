"""A test input seen from several sides: under an invertible transform, with the example pairs in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from seal.domains.arc.codecs import Codec
from seal.domains.arc.puzzles import Grid, Puzzle
from seal.domains.arc.transforms import NotItsImage, Transform
from seal.domains.arc.vote import Ballot
from seal.seeds import derive


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


def views(puzzle: Puzzle, transforms: Sequence[Transform], *, orders: int, leave_one: bool = False) -> list[View]:
    """Under each transform: all pairs in `orders` different orders (the first as they stand), and with `leave_one` all but one.

    Orders are drawn from the puzzle's id. A puzzle with few pairs has fewer orders than were asked for.
    """
    n = len(puzzle.shown)
    random = Random(derive("views", puzzle.id))
    found = []
    for transform in transforms:
        own = [tuple(range(n))]
        for _ in range(8 * orders):  # in vain where there are few pairs: 2 have 2 orders
            drawn = tuple(random.sample(range(n), n))
            if len(own) < orders and drawn not in own:
                own.append(drawn)
        if leave_one and n > 1:
            own += [tuple(other for other in range(n) if other != place) for place in range(n)]
        found += [View(f"{transform.name}/{','.join(map(str, order))}", transform, order) for order in own]
    return found
