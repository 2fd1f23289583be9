"""`seal eval`: the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seal.cli import complete
from seal.cli.find import find_run, is_recipe
from seal.cli.options import RUNS, Json, Overrides, Runs, Seed, Slots, with_options
from seal.cli.own_recipe import keeps_recipe, own_recipe, taken_back
from seal.cli.policies import named_policy, refuse_learnt, refuse_no_adapter
from seal.cli.resume import go_on, new_run, refuse_other, resumable
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.config import Recipe
    from seal.loops.evaluate import Evaluation
    from seal.store import Store


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN",
            help="A recipe, or a run by path, by name, or `last`.",
            autocompletion=complete.recipe_or_run,
        ),
    ],
    overrides: Overrides = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="DIR", help="With a RECIPE: an adapter (PEFT), measured as `seal`."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Measure only as much as eval.quick says (eval.limit= and eval.edits= override it): a look, not a result.",
        ),
    ] = False,
    curve: Annotated[
        Literal["tokens"] | None,
        typer.Option("--curve", help="Also measure what edits are worth cut to so many tokens (eval.curve)."),
    ] = None,
    seed: Seed = None,
    slots: Slots = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Measure the model under every condition of the recipe, on passages nothing was trained on.

    A RECIPE begins a new run. A RUN is evaluated in its own directory, where it stopped if it was; with other values it is
    its policy that is evaluated, in a new run.

    Examples:
      seal eval bundled
      seal eval arc-embedded --quick
      seal eval last
      seal eval last eval.split=dev 'eval.conditions=["base", "untrained", "seal"]'
      seal eval bundled --policy runs/2026-01-31-bundled/policy/round-1
      seal eval last eval.match=tokens
      seal eval last --curve tokens
    """
    changes = with_options(overrides, seed=seed, slots=slots)
    if quick and not is_recipe(what, runs):
        raise UserError("--quick goes with a recipe; for a run give eval.limit and eval.edits")
    if is_recipe(what, runs):
        recipe = _recipe(what, changes, quick)
        path = _new(recipe, _policy(recipe, policy), runs, curve)
    elif policy is not None:
        raise UserError(f"--policy goes with a recipe; the run {what!r} has a policy of its own")
    else:
        path = _measured(find_run(what, runs), changes, runs, curve)
    from seal.cli.output import print_run

    print_run(path, json)


def _recipe(what: str, changes: Sequence[str], quick: bool) -> Recipe:
    from seal.config import load

    recipe = load(what, changes)
    if not quick:
        return recipe
    sizes = {"eval.limit": recipe.eval.quick.limit, "eval.edits": recipe.eval.quick.edits}
    given = {one.partition("=")[0] for one in changes}  # what the user says himself stands
    return load(what, [*changes, *(f"{key}={value}" for key, value in sizes.items() if key not in given)])


def _policy(recipe: Recipe, given: Path | None) -> Path | None:
    """The adapter given, or else the recipe's own, if it measures one."""
    named = recipe.eval.policy if "seal" in recipe.eval.conditions else None
    name = named if given is None else str(given)
    if name is None:
        return None
    policy = named_policy(name)
    _check(policy, recipe, "--policy" if given else "eval.policy")
    return policy


def _new(recipe: Recipe, policy: Path | None, runs: Path, curve: str | None) -> Path:
    from seal.cli.progress import Display
    from seal.cli.work import Work
    from seal.store import keys

    with Display() as display:
        work = Work(recipe, display)
        evaluation = work.evaluation(policy)
        _refuse_uncut(recipe, evaluation, curve)
        if policy is not None:
            refuse_learnt(policy, evaluation.problems)
        elif "seal" in recipe.eval.conditions:
            display.note("'seal' is left out: it needs a trained policy (--policy DIR, or eval.policy in the recipe)")
        work.open_engine(policy)
        with new_run(recipe, f"{recipe.name}-eval", runs, "eval", _flag(curve)) as store:
            store.set_state(keys.EVALUATION, {"policy": policy and str(policy.resolve())})
            work.evaluate(store, evaluation, curve=curve is not None)
            store.finish()
            return store.path


def _measured(path: Path, changes: Sequence[str], runs: Path, curve: str | None) -> Path:
    from seal.store import Store

    with Store.open(path, write=False) as store:
        same = keeps_recipe(store, changes)
    return _go_on(path, changes, curve) if same else _otherwise(path, changes, runs, curve)


def _refuse_uncut(recipe: Recipe, evaluation: Evaluation, curve: str | None) -> None:
    from seal.loops.curve import CONDITIONS

    if curve is None:
        return
    if recipe.domain.plans_alone:
        raise UserError("--curve cuts what edits say to so many tokens, and these are plans alone; leave it out")
    if not set(CONDITIONS).intersection(evaluation.conditions):
        raise UserError(
            f"--curve cuts the edits of {', '.join(CONDITIONS)}, and none of them is measured here; name one in eval.conditions,"
            " or leave it out"
        )


def _flag(curve: str | None) -> str:
    return "" if curve is None else f" --curve {curve}"


def _go_on(path: Path, changes: Sequence[str], curve: str | None) -> Path:
    from seal.cli.progress import Display
    from seal.cli.work import Work
    from seal.store import Store

    with Store.open(path, write=True) as store:
        recipe = own_recipe(store, changes)
        policy = _policy_of(store, recipe)
        with Display() as display:
            work = Work(recipe, display)
            evaluation = work.evaluation(policy)
            _refuse_uncut(recipe, evaluation, curve)
            work.open_engine(policy)
            with resumable(go_on("eval", path) + _flag(curve)):
                work.evaluate(store, evaluation, curve=curve is not None)
                store.finish()
    return path


def _otherwise(path: Path, changes: Sequence[str], runs: Path, curve: str | None) -> Path:
    from seal.config import loads
    from seal.store import Store

    with Store.open(path, write=False) as store:
        own = own_recipe(store, [one for one in taken_back(store) if one in changes])
        policy = _policy_of(store, own)
        recipe = loads(store.recipe_toml, changes, source=f"the recipe of {path}")
    for table, key in (("eval", "policy"), ("outer", "policy"), ("outer", "rounds")):
        if getattr(getattr(recipe, table), key) != getattr(getattr(own, table), key):
            other = "; `seal eval RECIPE --policy DIR` measures another, such as policy/round-1 in a run"
            raise UserError(f"{table}.{key}: {path} keeps the policy it has, or none{other}")
    return _new(recipe, policy, runs, curve)


def _policy_of(store: Store, recipe: Recipe) -> Path | None:
    """The policy a run trained, or the one it was given to evaluate."""
    from seal.store import keys

    refuse_other(store, "train", "eval")
    evaluation = store.get_state(keys.EVALUATION)
    if evaluation is not None:
        return Path(evaluation["policy"]) if evaluation["policy"] else None
    policy = store.policy(recipe.outer.rounds)
    if policy is None:
        raise UserError(f"{store.path} is not trained to its end; first: {go_on('train', store.path)}")
    return policy


def _check(policy: Path, recipe: Recipe, name: str) -> None:
    """`name`: what the user gave the policy as."""
    refuse_no_adapter(policy, name)
    if "seal" not in recipe.eval.conditions:
        raise UserError("--policy is measured as the condition 'seal', which eval.conditions does not name")
