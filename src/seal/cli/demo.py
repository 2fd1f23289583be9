"""`seal demo`: the whole method once, small enough for any machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal.cli.options import RUNS, Json, Overrides, Runs, Seed, with_options
from seal.cli.resume import new_run
from seal.cli.train import begun

if TYPE_CHECKING:
    from seal.config import Recipe
    from seal.loops.evaluate import Evaluation

NEXT = """\
What next:
  seal show {run}
                      every self-edit of this run with its answers, best first (--worst: worst first)
  seal train bundled  the run to judge by; any value can be another: seal train bundled edit.temperature=0.7
  seal recipes        other recipes
  seal doctor         which models this machine can run"""


def demo(overrides: Overrides = None, seed: Seed = None, runs: Runs = RUNS, json: Json = False) -> None:
    """The whole loop on the embedded model and the bundled documents, on a CPU, in a few minutes.

    Examples:
      seal demo
      seal demo --seed 7
      seal demo --json > demo.json
    """
    from seal.cli.output import print_json, print_tables, read_tables
    from seal.cli.progress import Display
    from seal.cli.work import train_and_evaluate
    from seal.config import load

    recipe = load("demo", with_options(overrides, seed=seed))
    display = Display()
    work, evaluation, policy = begun(recipe, display, False)
    assert evaluation is not None
    print(introduction(recipe, evaluation), file=sys.stderr if json else sys.stdout, flush=True)
    with display:
        work.open_engine(policy, updates=True)
        with new_run(recipe, recipe.name, runs, "train") as store:
            train_and_evaluate(work, store, evaluation)
            path = store.path
    tables, best = read_tables(path), _best(path)
    if json:
        print_json({**tables, "best": best})
        return
    _print_edit(best)
    print_tables(tables)
    print(NEXT.format(run=shlex.quote(str(path))))


def introduction(recipe: Recipe, evaluation: Evaluation) -> str:
    """What is about to happen, its sizes, and what it can and cannot show."""
    outer = recipe.outer
    passages, questions = len(evaluation.problems), sum(len(problem.queries) for problem in evaluation.problems)
    return f"""\
SEAL, once through and small: a model reads passages, writes its own training data, learns from it, and is rewarded if it
then answers questions about them without seeing them; its best self-edits teach it to write better ones.

  model   {recipe.model.name}
  learns  from {outer.contexts} passages, {outer.edits} self-edits each, every one tried (rounds: {outer.rounds})
  test    on {passages} other passages with {questions} questions: {", ".join(evaluation.conditions)}

It shows every step at work on a real model. It cannot show that SEAL helps: {questions} questions are far too few, as the
lines below the table will say. `seal train bundled` is the run to judge by.
"""


def _best(path: Path) -> dict[str, Any]:
    from seal.report.tables import problems_table
    from seal.store import Store

    with Store.open(path, write=False) as store:
        problem = problems_table(store)[0]
    return {**problem, "edits": problem["edits"][:1]}


def _print_edit(problem: dict[str, Any]) -> None:
    from seal.cli.output import console
    from seal.report import render

    print("The self-edit that earned most in training, and what the model answered before and after it:\n")
    console().print(render.problems([problem]))
