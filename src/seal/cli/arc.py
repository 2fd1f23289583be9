"""`seal arc`: which puzzles are solvable under which plan, and their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seal.cli import complete
from seal.cli.find import find_run
from seal.cli.options import RUNS, Json, Overrides, Resume, Runs, Seed, Slots, with_options
from seal.cli.own_recipe import known_recipe, own_recipe
from seal.cli.resume import beside_resume, go_on, new_run, refuse_other, resumable
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.cli.work import Work
    from seal.config import Recipe
    from seal.domains.arc.table import ArcTable
    from seal.store import Store

app = typer.Typer(help="ARC puzzles: the plans that solve them, and their pictures.")


@app.command("solvable")
def solvable(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="A recipe of kind arc, with domain.grid.", autocompletion=complete.recipe),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="Where the record goes, besides the run.")
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="RECORD", help="Begin with a record: what it has is not tried again."),
    ] = None,
    resume: Resume = None,
    only_record: Annotated[
        bool, typer.Option("--only-record", help="With --resume: train nothing, write the record of what is there.")
    ] = False,
    seed: Seed = None,
    slots: Slots = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Try every plan of the recipe's grid on every puzzle of its pool: the oracle, and the puzzles that some plan solves.

    The record it writes is what `domain.data` takes: the solvable puzzles by split, the best plan for each, the best for all.
    Nothing of it goes to a tracker, whatever `track` says.

    Examples:
      seal arc solvable arc-embedded --out solvable.json
      seal arc solvable arc-embedded domain.limit=4 --seed 1
      seal arc solvable arc-embedded --from embedded --out more.json
      seal arc solvable --resume last --out solvable.json
      seal train arc-embedded domain.data=solvable.json
    """
    from seal.cli.output import refuse_unwritable

    if out is not None:
        refuse_unwritable("--out", out)  # hours before it is written
    if resume is not None:
        changes = with_options(beside_resume(recipe, overrides, seed), slots=slots)
        if begin is not None:
            raise UserError("--resume goes on with what its run began with; leave --from out")
        if only_record and changes:
            given = repr(changes[0]) if slots is None else "--slots"
            raise UserError(f"--only-record trains nothing, and writes what is there; leave {given} out")
        path = _go_on(find_run(resume, runs), changes, only_record)
    elif recipe is None or only_record:
        raise UserError(
            "seal arc solvable needs a recipe, or --resume RUN" if recipe is None else "--only-record goes with --resume"
        )
    else:
        path = _new(recipe, with_options(overrides, seed=seed, slots=slots), begin, runs)
    _print(path, out, json)


@app.command("draw")
def draw(
    puzzle: Annotated[str, typer.Argument(metavar="ID", help="A puzzle of ARC-AGI 1 or 2, or with --run of that run.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.svg", help="Where the picture goes; without it, `ID.svg`.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Draw the attempts of this run's best plan too.", autocompletion=complete.run),
    ] = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """A picture of a puzzle: its pairs, its test, the truth, and with --run the attempts of the best plan that run tried on it.

    Examples:
      seal arc draw 6150a2bd --out puzzle.svg
      seal arc draw 6150a2bd --run last --json
    """
    from seal.cli.output import print_json, writing
    from seal.domains.arc.domain import is_puzzle
    from seal.domains.arc.puzzles import by_id, of_problem
    from seal.report.pictures import attempts_of, draw
    from seal.store import Store

    if run is None:
        (found,), tried = by_id([puzzle]), []
    else:
        with Store.open(find_run(run, runs), write=False) as store:
            problem, tried = store.problems().get(puzzle), attempts_of(store, puzzle)
        if problem is None or not is_puzzle(problem) or not tried:
            raise UserError(f"{run}: no answers to puzzle {puzzle} in it; `seal show` lists its puzzles")
        found = of_problem(problem)
    target = out or Path(f"{puzzle}.svg")
    with writing(f"--out {target}"):
        target.write_text(draw(found, tried), encoding="utf-8")
    if json:
        print_json({"puzzle": puzzle, "picture": str(target), "attempts": [len(own) for own in tried]})
    else:
        print(f"the picture is {target}")


def _new(name: str, overrides: list[str], begin: str | None, runs: Path) -> Path:
    from seal.cli.progress import Display
    from seal.cli.work import Work
    from seal.config import load
    from seal.domains.arc.record import read_record
    from seal.domains.arc.table import POOL
    from seal.loops.solvable import begin_with, refuse_moved, refuse_unlike

    _table(load(name, overrides))
    # the pool is searched, whatever puzzles the recipe trains on
    recipe = load(name, [*overrides, "domain.data=none"])
    known = read_record(begin) if begin is not None else None
    if known is not None:
        refuse_unlike(known, recipe)
    with Display() as display:
        work = Work(recipe, display)
        plans = _plans(work)
        if known is not None:
            refuse_moved(known, work.domain.problems(POOL), _shares(recipe))
        work.open_engine()
        with new_run(recipe, f"{recipe.name}-solvable", runs, "solvable") as store:
            if known is not None:
                begin_with(store, known)
            _try(work, plans, store)
            return store.path


def _go_on(path: Path, overrides: list[str], only_record: bool) -> Path:
    from seal.cli.progress import Display
    from seal.cli.work import Work
    from seal.store import Store

    with Store.open(path, write=not only_record) as store:
        refuse_other(store, "solvable")
        if only_record:
            return path
        recipe = own_recipe(store, overrides)
        _table(recipe)
        with Display() as display, resumable(go_on("solvable", path)):
            work = Work(recipe, display)
            plans = _plans(work)
            work.open_engine()
            _try(work, plans, store)
    return path


def _plans(work: Work) -> list[str]:
    """The grid's plans as the policy would write them. Raises UserError for one that the bounds do not allow."""
    from seal.domains.arc.domain import Arc

    assert isinstance(work.domain, Arc)  # see _table
    form = work.domain.form
    return [form.write(choices) for choices in form.grid(*_table(work.recipe).grid)]


def _try(work: Work, plans: list[str], store: Store) -> None:
    from seal.domains.arc.table import POOL
    from seal.loops.solvable import try_plans

    with work.working(store):
        notify = work.notify(store, lambda: "grid")
        try_plans(work.engine, work.domain, store, work.domain.problems(POOL), plans, seed=work.recipe.seed, notify=notify)
    store.finish()


def _table(recipe: Recipe) -> ArcTable:
    """The recipe's ARC table. Raises UserError if it has none, or no grid of plans."""
    from seal.domains.arc.table import ArcTable

    if not isinstance(recipe.domain, ArcTable):
        raise UserError('seal arc is for recipes with domain.kind = "arc"')
    if not recipe.domain.grid:
        raise UserError("domain.grid: names no plans to try; for example grid = { lr = [1e-3, 1e-4], epochs = [1, 4] }")
    return recipe.domain


def _shares(recipe: Recipe) -> dict[str, float]:
    return {str(split): share for split, share in _table(recipe).shares.items()}


def _print(path: Path, out: Path | None, json: bool) -> None:
    from seal.cli.output import print_json, print_whole, writing
    from seal.domains.arc.record import write_record
    from seal.loops.solvable import made_with, record
    from seal.report.plan_grid import grid_table, render_grid
    from seal.store import Store

    with Store.open(path, write=False) as store:
        recipe = known_recipe(store)
        found = record(store, recipe.model.name, recipe.seed, _shares(recipe), made_with(recipe))
        rows, own = grid_table(store, found), store.record_path
    for what, target in ((str(own), own), *([(f"--out {out}", out)] if out else [])):
        with writing(what):
            write_record(target, found)
    solvable = found.solvable()
    splits = {split: list(ids) for split, ids in found.splits.items()}
    if json:
        print_json({"run": str(path), "grid": rows, "tried": len(found.scores), "solvable": solvable, "splits": splits})
        return
    print_whole(render_grid(rows))
    parts = ", ".join(f"{len(ids)} {split}" for split, ids in splits.items())
    print(f"{len(solvable)} of {len(found.scores)} puzzles are solved by some plan: {parts}")
    print(f"the record is {out or own}; domain.data takes it")
