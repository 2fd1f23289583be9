"""How well each grader agrees with labels made by hand, and how quick it is.

python scripts/agreement.py docs/data/hand_labels.jsonl
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from seal.grading.grade import correct, grade_all
from seal.grading.graders import GRADERS
from seal.stats import kappa

RESAMPLES = 2000
REPEATS = 20


def main(path: Path) -> None:
    labelled = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [(one["question"], one["target"], one["answer"]) for one in labelled]
    truth = [one["correct"] for one in labelled]
    print(f"{len(rows)} answers, {sum(truth)} of them correct\n")
    print("| grader | agree | kappa | wrongly right | wrongly wrong | answers a second |\n|---|---|---|---|---|---|")
    for name, grader in GRADERS.items():
        said = [bool(correct(one.score)) for one in grade_all(grader, rows)]
        began = time.process_time()
        grade_all(grader, rows * REPEATS)
        rate = len(rows) * REPEATS / (time.process_time() - began)
        agree = np.mean([a == b for a, b in zip(said, truth, strict=True)])
        drawn = np.random.default_rng(0).integers(len(rows), size=(RESAMPLES, len(rows)))
        kappas = [kappa([said[at] for at in some], [truth[at] for at in some]) or 0.0 for some in drawn.tolist()]
        low, high = np.quantile(kappas, [0.025, 0.975])
        over = sum(a and not b for a, b in zip(said, truth, strict=True))
        under = sum(b and not a for a, b in zip(said, truth, strict=True))
        print(f"| {name} | {agree:.3f} | {kappa(said, truth):.3f} [{low:.3f}, {high:.3f}] | {over} | {under} | {rate:,.0f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
