"""How well each grader agrees with labels made by hand, and how quick it is.

python scripts/agreement.py docs/data/hand_labels.jsonl
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seal.grading.grade import Grader, Row, correct, grade_all
from seal.grading.graders import GRADERS
from seal.stats import kappa

RESAMPLES = 2000
REPEATS, LAPS = 20, 5
"""How often every answer is timed, each time with another number behind it; and how often all of that is."""


def main(path: Path) -> None:
    labelled = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [(one["question"], one["target"], one["answer"]) for one in labelled]
    truth = [one["correct"] for one in labelled]
    print(f"{len(rows)} answers, {sum(truth)} of them correct\n")
    different = [(question, target, f"{answer} ({number})") for number in range(REPEATS) for question, target, answer in rows]
    print("| grader | agree | kappa | wrongly right | wrongly wrong | answers a second |\n|---|---|---|---|---|---|")
    for name, grader in GRADERS.items():
        said = [bool(correct(one.score)) for one in grade_all(grader, rows)]
        rate = len(different) / min(seconds(grader, different) for _ in range(LAPS))
        agree = np.mean([a == b for a, b in zip(said, truth, strict=True)])
        drawn = np.random.default_rng(0).integers(len(rows), size=(RESAMPLES, len(rows)))
        kappas = [kappa([said[at] for at in some], [truth[at] for at in some]) or 0.0 for some in drawn.tolist()]
        low, high = np.quantile(kappas, [0.025, 0.975])
        over = sum(a and not b for a, b in zip(said, truth, strict=True))
        under = sum(b and not a for a, b in zip(said, truth, strict=True))
        print(f"| {name} | {agree:.3f} | {kappa(said, truth):.3f} [{low:.3f}, {high:.3f}] | {over} | {under} | {rate:,.0f} |")


def seconds(grader: Grader, rows: Sequence[Row]) -> float:
    """Of this process, whatever else the machine does."""
    began = time.process_time()
    grade_all(grader, rows)
    return time.process_time() - began


if __name__ == "__main__":
    main(Path(sys.argv[1]))
