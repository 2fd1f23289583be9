"""The augmentation tools a plan may switch on: each is a group of transforms, applied to every grid of a task alike.

The groups are those of the paper's few-shot experiment and of Akyürek et al. 2024: 11 basic, 3 doubled (size there), 6 chain,
3 repeat; concat exists there but is not offered to the model. Ours are turns, the part of basic that keeps a grid's cells, and
size, with which the policy that comes with seal was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from seal.domains.arc.transforms import (
    FLIP_COLUMNS,
    FLIP_ROWS,
    IDENTITY,
    TRANSPOSE,
    TURN_90,
    TURN_180,
    TURN_270,
    Transform,
    beside,
    random_shift,
    stretch,
    tile,
)

RIGID = (TURN_90, TURN_180, TURN_270, FLIP_ROWS, FLIP_COLUMNS, TRANSPOSE)


def turns(random: Random, /) -> Sequence[Transform]:
    """Turns, flips and the transpose."""
    return RIGID


def basic(random: Random, /) -> Sequence[Transform]:
    """Turns, flips, transpose, mirror images beside the grid, and a random shift."""
    mirrored = [beside(flip, below=below, first=first) for flip, below in _MIRRORS for first in (False, True)]
    return [TURN_90, TURN_270, TURN_180, FLIP_ROWS, FLIP_COLUMNS, *mirrored, random_shift(random), TRANSPOSE]


def size(random: Random, /) -> Sequence[Transform]:
    """Every cell becomes 2x2, or every row or column three."""
    return [stretch(2, 2), stretch(3, 1), stretch(1, 3)]


def doubled(random: Random, /) -> Sequence[Transform]:
    """Every cell becomes 2x2, or every row or column two."""
    return [stretch(2, 2), stretch(2, 1), stretch(1, 2)]


def chain(random: Random, /) -> Sequence[Transform]:
    """A turn, flip or transpose, and then every cell becomes 2x2."""
    return [one.then(stretch(2, 2)) for one in RIGID]


def repeat(random: Random, /) -> Sequence[Transform]:
    """The grid as a tile: twice downwards, twice across, or both."""
    return [tile(2, 1), tile(1, 2), tile(2, 2)]


def concat(random: Random, /) -> Sequence[Transform]:
    """The grid with a half turn of itself, side by side and one below the other."""
    return [beside(TURN_180), beside(TURN_180, below=True)]


_MIRRORS = ((FLIP_ROWS, True), (FLIP_COLUMNS, False))
INVERTIBLE = {one.name: one for one in (IDENTITY, *RIGID)}
"""Those that keep a grid's cells: what a test input is also asked under."""
