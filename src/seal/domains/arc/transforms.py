"""Maps from grids to grids, each with its exact inverse as an object. Nothing here draws without being given a Random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from seal.domains.arc.puzzles import Grid


@dataclass(frozen=True, slots=True)
class Transform:
    """A map of grids that loses nothing.

    Its inverse is defined on what the map can give; on any other grid it raises NotItsImage.
    """

    name: str
    forward: Callable[[Grid], Grid]
    backward: Callable[[Grid], Grid]

    def __call__(self, grid: Grid) -> Grid:
        """The grid, changed."""
        return self.forward(grid)

    @property
    def inverse(self) -> Transform:
        """The map back."""
        return Transform(f"undo {self.name}", self._back, self.forward)

    def then(self, other: Transform) -> Transform:
        """This one, and `other` after it."""
        return Transform(
            f"{self.name}, {other.name}", lambda grid: other(self(grid)), lambda grid: self.inverse(other.inverse(grid))
        )

    def _back(self, grid: Grid) -> Grid:
        found = self.backward(grid)
        # a grid that the map cannot give would otherwise come back as something that is not its origin
        if not found or not found[0] or self.forward(found) != grid:
            raise NotItsImage(f"{self.name} gives no such grid")
        return found


class NotItsImage(ValueError):
    """A grid that a transform cannot have made, and so cannot be undone."""


def _transpose(grid: Grid) -> Grid:
    return tuple(zip(*grid, strict=True))


def _upside_down(grid: Grid) -> Grid:
    return grid[::-1]


def _mirrored(grid: Grid) -> Grid:
    return tuple(row[::-1] for row in grid)


def _turned(grid: Grid) -> Grid:
    return _transpose(grid)[::-1]


def _turned_back(grid: Grid) -> Grid:
    return _transpose(grid[::-1])


def _half_turned(grid: Grid) -> Grid:
    return _mirrored(grid[::-1])


IDENTITY = Transform("as it is", lambda grid: grid, lambda grid: grid)
TRANSPOSE = Transform("transpose", _transpose, _transpose)
FLIP_ROWS = Transform("flip upside down", _upside_down, _upside_down)
FLIP_COLUMNS = Transform("flip left to right", _mirrored, _mirrored)
TURN_90 = Transform("turn 90", _turned, _turned_back)
TURN_180 = Transform("turn 180", _half_turned, _half_turned)
TURN_270 = Transform("turn 270", _turned_back, _turned)


def stretch(rows: int, columns: int) -> Transform:
    """Every cell becomes `rows` x `columns` cells."""

    def forward(grid: Grid) -> Grid:
        return tuple(tuple(cell for cell in row for _ in range(columns)) for row in grid for _ in range(rows))

    return Transform(f"stretch {rows}x{columns}", forward, lambda grid: tuple(row[::columns] for row in grid[::rows]))


def tile(down: int, across: int) -> Transform:
    """The grid as a tile, `down` times one under the other and `across` times side by side."""

    def backward(grid: Grid) -> Grid:
        return tuple(row[: len(row) // across] for row in grid[: len(grid) // down])

    return Transform(f"tile {down}x{across}", lambda grid: tuple(row * across for row in grid) * down, backward)


def beside(other: Transform, *, below: bool = False, first: bool = True) -> Transform:
    """The grid and `other` of it (of the same size) in one: side by side or `below`; the grid itself `first` or last."""

    def forward(grid: Grid) -> Grid:
        one, two = (grid, other(grid)) if first else (other(grid), grid)
        return one + two if below else tuple(a + b for a, b in zip(one, two, strict=True))

    def backward(grid: Grid) -> Grid:
        rows, columns = len(grid) // 2, len(grid[0]) // 2
        if below:
            return grid[:rows] if first else grid[rows:]
        return tuple(row[:columns] if first else row[columns:] for row in grid)

    order = f"itself, {other.name}" if first else f"{other.name}, itself"
    return Transform(f"{'stack' if below else 'join'} ({order})", forward, backward)


def shift(down: int, right: int) -> Transform:
    """Every cell moves; what leaves on one side comes in on the other."""

    def rolled(grid: Grid, down: int, right: int) -> Grid:
        rows, columns = len(grid), len(grid[0])
        return tuple(tuple(grid[(i - down) % rows][(j - right) % columns] for j in range(columns)) for i in range(rows))

    return Transform(f"shift {down},{right}", lambda grid: rolled(grid, down, right), lambda grid: rolled(grid, -down, -right))


def recolour(colours: tuple[int, ...]) -> Transform:
    """Colour c becomes `colours[c]`. Raises ValueError if that is no permutation of the ten."""
    if sorted(colours) != list(range(10)):
        raise ValueError(f"{colours} is no permutation of the colours 0 to 9")
    back = tuple(colours.index(colour) for colour in range(10))

    def swapped(grid: Grid, by: tuple[int, ...]) -> Grid:
        return tuple(tuple(by[cell] for cell in row) for row in grid)

    name = "recolour " + "".join(map(str, colours))
    return Transform(name, lambda grid: swapped(grid, colours), lambda grid: swapped(grid, back))


def random_shift(random: Random) -> Transform:
    """A shift by fewer than four rows and fewer than four columns."""
    return shift(random.randrange(4), random.randrange(4))


def random_recolour(random: Random) -> Transform:
    """Black stays what it is, since in many puzzles it is the ground; the other nine are permuted."""
    others = list(range(1, 10))
    random.shuffle(others)
    return recolour((0, *others))
