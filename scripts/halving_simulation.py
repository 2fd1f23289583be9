"""Which edit is picked, by uniform repeats and by successive halving, where noise is as large as in the paper's released scores.

python scripts/halving_simulation.py ../shared/data/official/train --groups 10000

Every `rank_*.json` in the folder is read; the variances between and within edits are fitted to its scores, repeat by repeat.
Groups of edits are then drawn from them, normal or on the grid of a passage's few questions (which makes ties), and both rules
pick with the same number of trials. Beside the noise of retraining stands that of
asking few questions; both hold what retraining does to single questions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from seal import files
from seal.errors import UserError
from seal.policy.halving import next_trials
from seal.stats import mean, noise_share, question_noise

Scores = list[list[list[float]]]
"""By passage, edit and repeat."""


@dataclass(frozen=True)
class Fit:
    """What the released scores say of their own noise."""

    between: float
    """Standard deviation of what an edit is truly worth, within a passage's edits."""
    within: float
    """Standard deviation of an edit's score from one retraining to the next."""
    share: float
    """Of the variance between the means of an edit's repeats, how much is noise."""
    questions: list[int]
    """Of each passage."""


def scores_of(path: Path) -> tuple[Scores, list[int]]:
    """The accuracy of every repeat of every edit of a result file, and the number of questions of each passage."""
    scores: Scores = []
    questions = []
    for number, article in enumerate(files.records(files.load_json(path), "articles", str(path)), 1):
        group = []
        for edit in files.records(article, "completions", f"{path}: record {number}"):
            repeats: dict[int, list[bool]] = {}
            for one in edit["questions"]:
                repeats.setdefault(one["rep"], []).append(one["adapter_correct"])
            group.append([sum(right) / len(right) for right in repeats.values()])
        scores.append(group)
        questions.append(len(repeats[0]))
    return scores, questions


def of_questions(path: Path) -> list[list[list[float | None]]]:
    """The share of repeats that were right, of every question of every edit of every passage of a result file."""
    tables: list[list[list[float | None]]] = []
    for number, article in enumerate(files.records(files.load_json(path), "articles", str(path)), 1):
        tables.append([])
        for edit in files.records(article, "completions", f"{path}: record {number}"):
            right: dict[str, list[float]] = {}
            for one in edit["questions"]:
                right.setdefault(one["question"], []).append(float(one["adapter_correct"]))
            tables[-1].append([mean(values) for values in right.values()])
    return tables


def fit(scores: Scores, questions: list[int]) -> Fit:
    """Method of moments: the variance between means, less what retraining alone would give them."""
    share = noise_share(scores)
    if share is None:
        raise UserError("no edit was tried twice, so the noise cannot be fitted; give rank_*.json files with repeats")
    within = mean(float(np.var(trials, ddof=1)) for group in scores for trials in group)
    spread = mean(float(np.var([np.mean(trials) for trials in group], ddof=1)) for group in scores)
    assert within is not None
    assert spread is not None
    return Fit(float(np.sqrt(spread * (1 - share))), float(np.sqrt(within)), share, questions)


def picks(trials: np.ndarray, repeats: int) -> tuple[int, int]:
    """What uniform repeats and what halving pick, given an edit's trials in order: (edits, trials enough)."""
    tried: list[dict[int, float]] = [{} for _ in trials]
    while wanted := next_trials(tried, repeats):
        for edit, repeat in wanted:
            tried[edit][repeat] = float(trials[edit, repeat])
    most = max(map(len, tried))
    finalists = [edit for edit, values in enumerate(tried) if len(values) == most]
    halved = max(finalists, key=lambda edit: sum(tried[edit].values()))
    return int(trials[:, :repeats].mean(1).argmax()), halved


def simulate(found: Fit, *, edits: int, repeats: int, groups: int, grid: bool, seed: int) -> dict[str, float | int | bool]:
    """Shares of groups in which the truly best edit was picked, and what the picked ones are worth above their group's mean."""
    generator = np.random.default_rng([seed, edits, repeats, grid])
    hits, worth = np.zeros((2, groups, 2))
    for group in range(groups):
        truth = generator.normal(0, found.between, edits)
        trials = truth[:, None] + _noise(found, generator, (edits, 4 * repeats), grid)
        if grid:
            asked = generator.choice(found.questions)
            trials = np.round((trials + generator.uniform()) * asked) / asked
        chosen = np.array(picks(trials, repeats))
        hits[group] = chosen == truth.argmax()
        worth[group] = truth[chosen] - truth.mean()
    return {"edits": edits, "repeats": repeats, "grid": grid, **_summary("best", hits), **_summary("worth", worth)}


def _noise(found: Fit, generator: np.random.Generator, shape: tuple[int, int], grid: bool) -> np.ndarray:
    """On the grid, rounding is itself part of the noise that was measured."""
    rounding = float(np.mean([1 / (12 * asked**2) for asked in found.questions])) if grid else 0.0
    return generator.normal(0, np.sqrt(max(0.0, found.within**2 - rounding)), shape)


def _summary(name: str, values: np.ndarray) -> dict[str, float]:
    """Means of both rules and of their difference, group by group, with its 95% interval."""
    difference = values[:, 1] - values[:, 0]
    margin = 1.96 * float(difference.std(ddof=1)) / len(values) ** 0.5
    return {
        f"{name}_uniform": float(values[:, 0].mean()),
        f"{name}_halving": float(values[:, 1].mean()),
        f"{name}_difference": float(difference.mean()),
        f"{name}_low": float(difference.mean()) - margin,
        f"{name}_high": float(difference.mean()) + margin,
    }


def show(name: str, found: Fit, asked: float | None, rows: Sequence[dict[str, float | int | bool]], console: Console) -> None:
    """The fit, the noise of few questions, and the table."""
    console.print(
        f"{name}: standard deviation between edits {found.between:.3f}, within {found.within:.3f};"
        f" {found.share:.0%} of the variance between edits' means is noise"
        + ("" if asked is None else f" of retraining, {asked:.0%} of asking few questions")
    )
    table = Table(
        "scores", "trials an edit", "best picked: uniform", "halving", "difference", "worth: uniform", "halving", "difference"
    )
    for row in rows:
        values = ["on the grid" if row["grid"] else "normal", str(row["repeats"])]
        for what, form in (("best", ".3f"), ("worth", ".4f")):
            difference, low, high = (row[f"{what}_{part}"] for part in ("difference", "low", "high"))
            values += [f"{row[f'{what}_uniform']:{form}}", f"{row[f'{what}_halving']:{form}}"]
            values.append(f"{difference:+{form}} \\[{low:+{form}}, {high:+{form}}]")
        table.add_row(*values)
    console.print(table)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--repeats", type=int, nargs="+", default=[2, 3, 4, 6])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    how = parser.parse_args(arguments)
    paths = sorted(how.folder.glob("rank_*.json"))
    if not paths:
        raise UserError(f"{how.folder}: no rank_*.json there")
    document = {}
    for path in paths:
        found, asked = fit(*scores_of(path)), question_noise(of_questions(path))
        rows = [
            simulate(found, edits=how.edits, repeats=repeats, groups=how.groups, grid=grid, seed=how.seed)
            for grid in (False, True)
            for repeats in how.repeats
        ]
        document[path.name] = {"fit": asdict(found), "question_noise": asked, "rows": rows}
        if not how.json:
            show(path.name, found, asked, rows, Console(width=None if sys.stdout.isatty() else 160, highlight=False))
    if how.json:
        print(json.dumps(document))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
