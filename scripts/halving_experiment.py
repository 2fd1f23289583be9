"""Does halving pick the better edit on a real model? Dev passages x edits x many repeats, most of them kept as the truth.

python scripts/halving_experiment.py
python scripts/halving_experiment.py --resume runs/2026-11-25-halving

8 dev passages, 5 edits each, 16 repeats an edit (640 trials on the embedded model); values as on seal's command line change the
recipe (`outer.contexts=2 outer.repeats=8`). An edit's repeats are drawn alike, so they are split many times over: some to choose
by, the rest the truth. Both rules choose with the same number of trials. Killed at any moment it goes on with --resume.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import typer
from halving_simulation import picks
from rich.console import Console
from rich.table import Table

from seal.cli.progress import Display
from seal.cli.work import Work, new_run, own_recipe, resumable
from seal.config import Recipe, load
from seal.errors import UserError
from seal.loops import build
from seal.loops.stages import Stages
from seal.policy.halving import rungs
from seal.stats import interval, noise_share, paired
from seal.store import Store

PHASE, ROUND = "train", 1
CHOICES = ((2, 4), (4, 6))
"""Trials an edit on average, and repeats an edit set aside to choose by: what halving may give a finalist."""
SIZES = ("outer.contexts=8", "outer.edits=5", "outer.repeats=16", "reward={accuracy=1.0, logprob=0.02}")
"""And a reward of the trials alone: what a rater says of an edit is the same in all of its repeats."""

Rewards = list[list[list[float]]]
"""By passage, edit and repeat."""


def try_all(work: Work, store: Store) -> None:
    """Every repeat of every edit of the first dev passages that the store does not have."""
    outer = build.outer(work.recipe)
    problems = work.domain.problems("dev")[: outer.contexts]
    store.put_problems(problems)
    tell = work.display.stages(lambda: "dev")
    stages = Stages(work.engine, work.domain, store, PHASE, ROUND, work.recipe.seed, tell)
    stages.attempt(problems, stages.sample(problems, outer.sampling), outer.repeats)


def rewards_of(store: Store, recipe: Recipe) -> Rewards:
    """What every trial earned; edits with a fault are left out, and passages that are left with one edit."""
    reward = build.reward(recipe)
    found: dict[str, dict[str, list[float | None]]] = {}
    for one in store.outcomes(PHASE, ROUND):
        assert one.trial.edit is not None
        found.setdefault(one.trial.problem.id, {}).setdefault(one.trial.edit.id, []).append(reward(one, [one]))
    whole = [
        [[value for value in trials if value is not None] for trials in group.values() if None not in trials]
        for group in found.values()
    ]
    return [group for group in whole if len(group) > 1]


def judge(rewards: Rewards, repeats: int, aside: int, *, splits: int, seed: int) -> dict[str, object]:
    """How often each rule picks the edit that the rest of the repeats call best, and what its pick is worth by them."""
    assert all(sum(each for _, each in rungs(len(group), repeats)) <= aside for group in rewards)
    generator = np.random.default_rng([seed, repeats])
    hits, worth = np.zeros((2, len(rewards), 2))
    for passage, group in enumerate(rewards):
        values = np.array(group)  # (edits, repeats)
        for _ in range(splits):
            shuffled = generator.permuted(values, axis=1)
            truth = shuffled[:, aside:].mean(1)
            chosen = np.array(picks(shuffled[:, :aside], repeats))
            hits[passage] += (truth[chosen] == truth.max()) / splits
            worth[passage] += (truth[chosen] - truth.mean()) / splits
    return {
        "repeats": repeats,
        "truth": len(rewards[0][0]) - aside,
        "passages": len(rewards),
        "best_uniform": interval(list(hits[:, 0]))._asdict(),
        "best_halving": interval(list(hits[:, 1]))._asdict(),
        "best_difference": paired(list(hits[:, 1]), list(hits[:, 0]))._asdict(),
        "worth_difference": paired(list(worth[:, 1]), list(worth[:, 0]))._asdict(),
    }


def report(store: Store, recipe: Recipe, splits: int) -> dict[str, object]:
    """What the whole run says."""
    rewards = rewards_of(store, recipe)
    if not rewards:
        raise UserError(f"{store.path}: no passage has two edits without a fault")
    fits = [(repeats, aside) for repeats, aside in CHOICES if aside < recipe.outer.repeats]
    rows = [judge(rewards, repeats, aside, splits=splits, seed=recipe.seed) for repeats, aside in fits]
    return {"run": str(store.path), "noise": noise_share(rewards), "rows": rows}


def show(document: dict, console: Console) -> None:
    """The same, to read."""
    noise = document["noise"]
    console.print(f"{document['run']}: {noise:.0%} of the variance between edits' means over all repeats is noise")
    table = Table(
        "trials an edit", "repeats as truth", "passages", "best picked: uniform", "halving", "difference", "worth: difference"
    )
    for row in document["rows"]:
        ends = [
            f"{row[key]['mean']:{form}} \\[{row[key]['low']:{form}}, {row[key]['high']:{form}}]"
            for key, form in (
                ("best_uniform", ".3f"),
                ("best_halving", ".3f"),
                ("best_difference", "+.3f"),
                ("worth_difference", "+.4f"),
            )
        ]
        table.add_row(str(row["repeats"]), str(row["truth"]), str(row["passages"]), *ends)
    console.print(table)


@contextmanager
def opened(resume: Path | None, overrides: Sequence[str], root: Path, display: Display) -> Iterator[tuple[Store, Work]]:
    """The run, new or gone on with, and what works on it."""
    again = f"{sys.executable} {Path(__file__)} --resume"
    if resume is None:
        work = Work(load("bundled", [*SIZES, *overrides]), display)
        work.open_engine()
        with new_run(work.recipe, "halving", root, again) as store:
            yield store, work
        return
    with Store.open(resume, write=True) as store, resumable(f"{again} {resume}"):
        work = Work(own_recipe(store, overrides), display)
        work.open_engine()
        yield store, work


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="a.b=value")
    parser.add_argument("--resume", type=Path, metavar="RUN")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--splits", type=int, default=2000, help="how often the repeats are split anew")
    parser.add_argument("--json", action="store_true")
    how = parser.parse_args(arguments)
    with Display() as display, opened(how.resume, how.overrides, how.runs, display) as (store, work):
        try_all(work, store)
        document = report(store, work.recipe, how.splits)
        store.finish()
    if how.json:
        print(json.dumps(document))
    else:
        show(document, Console(width=None if sys.stdout.isatty() else 160, highlight=False))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
    except typer.Exit as stopped:  # interrupted; how to go on has been said
        sys.exit(stopped.exit_code)
