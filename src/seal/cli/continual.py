"""`seal continual`: edits in sequence, and what is forgotten."""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seal.cli import complete
from seal.cli.find import find_run, is_recipe
from seal.cli.options import RUNS, Json, Overrides, Runs, Seed, Slots, with_options
from seal.cli.own_recipe import model_recipe, own_recipe, taken_back
from seal.cli.policies import learnt_by, named_policy, refuse_learnt
from seal.cli.resume import go_on, new_run, refuse_other, resumable
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.config import Recipe
    from seal.report.tables import Row
    from seal.store import Store

STRATEGIES = "continual.strategies="


def continual(
    what: Annotated[
        str,
        typer.Argument(metavar="RECIPE|RUN", help="A recipe, or a run that was stopped.", autocompletion=complete.recipe_or_run),
    ],
    overrides: Overrides = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="DIR", help="The trained policy, for continual.edits = seal.")
    ] = None,
    seed: Seed = None,
    slots: Slots = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Learn one problem after another, and ask everything seen so far again after each: the forgetting matrix.

    A RECIPE begins a new run; a RUN goes on where it stopped, and takes more strategies over the same streams and edits.

    Examples:
      seal continual bundled continual.edits=given
      seal continual bundled 'continual.strategies=["merge", "gate+replay", "library"]' continual.edits=untrained
      seal continual last
      seal continual last 'continual.strategies=["merge", "gate+replay", "library", "superposition"]'
    """
    changes = with_options(overrides, seed=seed, slots=slots)
    if is_recipe(what, runs):
        path = _new(what, changes, policy, runs)
    elif policy is not None:
        raise UserError(f"--policy goes with a recipe; the run {what!r} has what it began with")
    else:
        path = _go_on(find_run(what, runs), changes)
    _print(path, json)


def _new(name: str, changes: list[str], policy: Path | None, runs: Path) -> Path:
    from seal.cli.progress import Display
    from seal.cli.work import Work
    from seal.config import load
    from seal.loops.refuse import refuse_few_probes
    from seal.store import keys

    recipe = load(name, changes)
    refuse_few_probes(recipe)
    if policy is not None and recipe.continual.edits != "seal":
        raise UserError(f"--policy writes the edits for continual.edits = 'seal', not {recipe.continual.edits!r}; leave one out")
    if policy is None and recipe.eval.policy is not None and recipe.continual.edits == "seal":
        policy = named_policy(recipe.eval.policy)
    with Display() as display:
        work = Work(recipe, display)
        course = work.course(policy)
        if policy is not None:
            refuse_learnt(policy, course.edits.problems)
        work.open_engine(policy)
        with new_run(recipe, f"{recipe.name}-continual", runs, "continual") as store:
            start = policy if recipe.outer.learner == "policy" else None
            paths = {name: path and str(path.resolve()) for name, path in (("policy", policy), ("start", start))}
            store.set_state(keys.CONTINUAL, paths)
            work.continual(store, course, start)
            store.finish()
            return store.path


def _go_on(path: Path, changes: list[str]) -> Path:
    from seal.cli.progress import Display
    from seal.cli.work import Work
    from seal.store import Store, keys

    with Store.open(path, write=True) as store:
        refuse_other(store, "continual")
        begun = store.get_state(keys.CONTINUAL)["policy"]
        policy = Path(begun) if begun else None
        recipe = _recipe(store, changes)
        with Display() as display:
            work = Work(recipe, display)
            course = work.course(policy)
            work.open_engine(policy)
            with resumable(go_on("continual", path)):
                work.continual(store, course, _stood_on(store))
                store.finish()
    return path


def _recipe(store: Store, changes: list[str]) -> Recipe:
    """The run's own. It may name more strategies from now on: each is measured by itself, so nothing that is there changes."""
    from seal.config import dump, loads

    named, gone = [one for one in changes if one.startswith(STRATEGIES)], taken_back(store)
    own = own_recipe(store, [one for one in changes if one not in named])
    if not named:
        return own
    more = loads(store.recipe_toml, [*named, *gone], source=f"the recipe of {store.path}")
    missing = [one for one in own.continual.strategies if one not in more.continual.strategies]
    if missing:
        raise UserError(f"{named[-1]!r}: {store.path} has {missing[0]} too; strategies may be added, none left out")
    store.put_recipe(dump(more))
    return own_recipe(store, [one for one in changes if one not in (*named, *gone)])


def _print(path: Path, json: bool) -> None:
    from seal.cli.output import print_json, print_whole
    from seal.report.forgetting import continual_tables
    from seal.report.render import sequence
    from seal.store import Store

    with Store.open(path, write=False) as store:
        rows = continual_tables(store)
    if json:
        print_json({"run": str(path), "continual": rows})
        return
    print_whole(sequence(rows))
    print(f"the run is in {path}; to take a step back: seal undo {shlex.quote(str(path))} --step N")


def undo(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run of `seal continual`: path, name, or `last`.", autocompletion=complete.run),
    ],
    step: Annotated[int, typer.Option("--step", metavar="N", min=1, help="The step to take back, from 1.")],
    strategy: Annotated[str | None, typer.Option("--strategy", metavar="NAME", help="Where the run has several.")] = None,
    stream: Annotated[str, typer.Option("--stream", metavar="NAME", help="Which stream.")] = "0",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write the model without it as one adapter.")] = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """The model without one step of a stream: the base, the policy if the stream began with one, and the adapters of all the
    others, in their order.

    It says whether the remaining steps are unaffected: in a library or a superposition they are; with merged adapters every later
    step was trained on top of this one. A superposition is fitted to all that it holds, so --out DIR binds the others anew.

    Examples:
      seal undo last --step 8
      seal undo last --step 3 --strategy merge --stream 2 --out without-3
    """
    from seal.cli.output import print_json
    from seal.loops.undo import adapters_without, problems_without, undone
    from seal.store import Store

    with Store.open(find_run(run, runs), write=False) as store:
        found = undone(store, strategy, stream, step)
        which = found["strategy"], stream, step
        left, policy = adapters_without(store, *which), _stood_on(store)
        if out is not None:
            _write(store, found, policy, out)
        keys = problems_without(store, *which) if out is not None and found["bound"] else None
    shown = [{"path": str(one), "weight": weight} for one, weight in left]
    document = {**found, "policy": policy and str(policy), "adapters": shown, "out": out and str(out), "keys": keys}
    if json:
        print_json(document)
    else:
        _tell(document)


def _tell(found: Row) -> None:
    """What `seal undo` has to say, line by line."""
    adapters, policy, out = found["adapters"], found["policy"], found["out"]
    stood = "the policy and " if policy else ""
    print(f"without step {found['step']} ({found['problem']}, {found['made']}): {stood}{len(adapters)} adapters, in this order")
    if policy:
        print(f"  {policy}")
    for one in adapters:
        print(f"  {one['path']}" + ("" if one["weight"] == 1 else f"  x {one['weight']:g}"))
    if not found["exact"]:
        print(f"{found['later']} later steps were learnt in its presence: their adapters are as they were")
    if found["keys"] is not None:
        print(f"bound anew without it in {out}; the key of each problem:")
        for problem, key in found["keys"].items():
            print(f"  {key}  {problem}")
    elif out is not None:
        print(f"the model without it is the adapter in {out}")
    elif found["bound"]:
        print("the run's one set of weights was fitted to all of them, and still is: --out DIR binds the others anew")


def _stood_on(store: Store) -> Path | None:
    """The policy that the run's steps were learnt on; None: the base model."""
    from seal.store import keys

    begun = store.get_state(keys.CONTINUAL, {})
    if "start" in begun:
        return begun["start"] and Path(begun["start"])
    # a run of before that was kept stood on its policy, whoever was to learn; one whose edits were not learnt was never worn
    policy = begun.get("policy")
    worn = not store.recipe_toml or model_recipe(store).continual.edits == "seal"  # one without a recipe was made in Python
    return Path(policy) if policy and worn else None


def _write(store: Store, found: Row, policy: Path | None, out: Path) -> None:
    """The model without the step, as an adapter that says what it has learnt; what is to be refused is so before it is opened."""
    from seal.loops import build
    from seal.loops.undo import problems_without, write_without
    from seal.models.adapter import FILE, WEIGHTS, About, refuse_foreign, write_about

    refuse_foreign(out, (*WEIGHTS, FILE))
    if not (found["merged"] or found["bound"]):
        raise UserError(f"--out: {found['strategy']} holds its adapters beside each other; the others are left as they are")
    which, recipe = (found["strategy"], found["stream"], found["step"]), model_recipe(store)
    write_without(build.workbench(recipe, build.engine(recipe), policy), store, *which, out)
    learnt = {*problems_without(store, *which), *(learnt_by(policy) if policy else ())}
    created = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    write_about(out, About(recipe.model.name, recipe.model.chat, created=created, trained=tuple(sorted(learnt))))
