"""`seal train`: the outer loop, then the evaluation of what it made."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seal.cli import complete
from seal.cli.find import find_run, refuse_run
from seal.cli.options import RUNS, Json, Overrides, Resume, Runs, Seed, Slots, with_options
from seal.cli.own_recipe import longer_recipe, own_recipe, replayed_recipe
from seal.cli.policies import refuse_learnt, refuse_no_adapter
from seal.cli.resume import beside_resume, go_on, new_run, refuse_other, resumable
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.cli.progress import Display
    from seal.cli.work import Work
    from seal.config import Recipe
    from seal.loops.evaluate import Evaluation
    from seal.store import Store


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="A TOML file, or a name `seal recipes` lists.", autocompletion=complete.recipe),
    ] = None,
    overrides: Overrides = None,
    resume: Resume = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and print the resolved recipe, and do nothing.")] = False,
    replay: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Begin with this run's first round: its edits and trials are taken over, not made again. With outer.rounds=N and"
            " no --update: with all its rounds.",
            autocompletion=complete.run,
        ),
    ] = None,
    update: Annotated[
        str | None,
        typer.Option("--update", metavar="NAME", help="`update.method`: rest_em, weighted, gradient, dpo, or your own."),
    ] = None,
    no_eval: Annotated[bool, typer.Option("--no-eval", help="Leave the evaluation out; `seal eval RUN` does it later.")] = False,
    seed: Seed = None,
    slots: Slots = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Run the outer loop: sample self-edits, try each, learn from those that helped; then evaluate.

    Examples:
      seal train bundled
      seal train bundled outer.rounds=2 edit.temperature=0.8 --seed 1
      seal train my.toml --dry-run
      seal train bundled track=tensorboard
      seal train --resume last
      seal train --from last --update dpo
      seal train --from last --update rest_em outer.rounds=2 reward.informs=0.3
      seal train --from last outer.rounds=5
    """
    if replay is not None:
        # without a recipe the first override stands in its place
        changes = with_options([*([recipe] if recipe else []), *(overrides or [])], slots=slots, update=update)
        if resume is not None or seed is not None or (recipe and "=" not in recipe):
            raise UserError("--from takes recipe and seed of its run; leave RECIPE, --seed and --resume out")
        if update is None and not any(one.startswith("outer.rounds=") for one in changes):
            ways = "rest_em, weighted, gradient, dpo or module:function"
            raise UserError(f"--from needs --update NAME: {ways}; or outer.rounds=N, for more rounds of the same")
        _replay(find_run(replay, runs), changes, update, dry_run, no_eval, runs, json)
        return
    if resume is None:
        if recipe is None:
            raise UserError("seal train needs a recipe: `seal recipes` lists those that come with it; or --resume RUN")
        refuse_run(recipe, runs)
        _new(recipe, with_options(overrides, seed=seed, slots=slots, update=update), dry_run, no_eval, runs, json)
        return
    changes = with_options(beside_resume(recipe, overrides, seed), slots=slots)
    if update is not None:
        raise UserError("--resume goes on with the update of its run; leave --update out, or begin a new one: --from RUN")
    _resume(find_run(resume, runs), changes, dry_run, no_eval, json)


def _new(name: str, overrides: list[str], dry_run: bool, no_eval: bool, runs: Path, json: bool) -> None:
    from seal.config import load

    recipe = load(name, overrides)
    from seal.cli.output import print_run
    from seal.cli.progress import Display
    from seal.cli.work import train_and_evaluate

    if dry_run:
        begun(recipe, Display(), no_eval)
        _print_recipe(recipe, json)
        return
    with Display() as display:
        work, evaluation, policy = begun(recipe, display, no_eval)
        work.open_engine(policy, updates=True)
        with new_run(recipe, recipe.name, runs, "train", _flag(no_eval)) as store:
            train_and_evaluate(work, store, evaluation)
            path = store.path
    print_run(path, json)


def begun(
    recipe: Recipe, display: Display, no_eval: bool, source: Store | None = None
) -> tuple[Work, Evaluation | None, Path | None]:
    """A new run's objects, what it is to measure, and the policy it begins with. Raises UserError for all that can be known to
    stop it without its model.

    `source`: the run it takes over from, which has kept the policy that it began with itself.
    """
    from seal.cli.work import Work

    work = Work(recipe, display)
    work.refuse_untrainable()
    evaluation = None if no_eval else work.evaluation_to_come()
    policy = source.policy(0) if source else work.begun()
    if policy is not None:
        refuse_no_adapter(policy, "outer.policy")
        refuse_learnt(policy, evaluation.problems if evaluation else ())
    return work, evaluation, policy


def _replay(path: Path, overrides: list[str], update: str | None, dry_run: bool, no_eval: bool, runs: Path, json: bool) -> None:
    from seal.cli.output import print_run
    from seal.cli.progress import Display
    from seal.cli.work import train_and_evaluate
    from seal.loops.takeover import go_on, refuse_unfinished, replay
    from seal.store import Store

    with Store.open(path, write=False) as source:
        refuse_other(source, "train")
        refuse_unfinished(source)
        recipe = replayed_recipe(source, overrides) if update else longer_recipe(source, overrides)
        if dry_run:
            begun(recipe, Display(), no_eval, source)
            _print_recipe(recipe, json)
            return
        with Display() as display:
            work, evaluation, policy = begun(recipe, display, no_eval, source)
            work.open_engine(policy, updates=True)
            own = any(one.startswith("name=") for one in overrides)
            method = (update or "").rpartition(":")[2]  # of `module:function` the function
            name = recipe.name if own else f"{recipe.name}-{method or f'{recipe.outer.rounds}-rounds'}"
            with new_run(recipe, name, runs, "train", _flag(no_eval)) as store:
                (replay if update else go_on)(source, store)
                train_and_evaluate(work, store, evaluation)
                made = store.path
    print_run(made, json)


def _resume(path: Path, overrides: list[str], dry_run: bool, no_eval: bool, json: bool) -> None:
    from seal.cli.output import print_run
    from seal.cli.progress import Display
    from seal.cli.work import Work, train_and_evaluate
    from seal.loops.takeover import take_the_rest
    from seal.store import Store

    with Store.open(path, write=not dry_run) as store:
        refuse_other(store, "train")
        recipe = own_recipe(store, overrides)
        if dry_run:
            _print_recipe(recipe, json)
            return
        with Display() as display, resumable(go_on("train", path) + _flag(no_eval)):
            work = Work(recipe, display)
            work.refuse_untrainable()
            evaluation = None if no_eval else work.evaluation_to_come()
            take_the_rest(store)
            work.open_engine(updates=True)
            train_and_evaluate(work, store, evaluation)
    print_run(path, json)


def _flag(no_eval: bool) -> str:
    return " --no-eval" if no_eval else ""


def _print_recipe(recipe: Recipe, json: bool) -> None:
    from seal.cli.output import print_json
    from seal.config import dump

    if json:
        print_json({"recipe": tomllib.loads(dump(recipe))})
    else:
        print(dump(recipe), end="")
