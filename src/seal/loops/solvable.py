"""The oracle: a grid of plans on every puzzle of a pool, and the record of what each plan did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seal.config import Recipe
from seal.domains.arc.domain import Arc
from seal.domains.arc.record import Record, divide, of_content
from seal.domains.arc.table import POOL, ArcTable
from seal.errors import UserError
from seal.loops.stages import Stages
from seal.policy.write import read
from seal.protocols import Domain, Engine, Notify, nobody
from seal.rewards import REWARDS
from seal.seeds import derive
from seal.stats import mean
from seal.store import Store, edit_id, keys
from seal.types import Outcome, Problem, Reply

GRID, ROUND = "grid", 0


_OF_THE_PLAN = ("lr", "epochs", "loss")
"""Of the tuning, what every plan chooses itself."""
_OF_THE_DOMAIN = ("plan", "codec", "system", "side", "tokens", "rounds", "views", "orders", "leave_one", "vote", "temperature")


def made_with(recipe: Recipe) -> dict[str, Any]:
    """What decides a plan's training and its answer, besides the model and the plan: the recipe's values by name, as JSON has
    them."""
    values = {
        "model.chat": recipe.model.chat,
        "bounds.examples": recipe.bounds.examples,
        **{f"domain.{name}": getattr(recipe.domain, name) for name in _OF_THE_DOMAIN},
        **{f"tuning.{name}": value for name, value in asdict(recipe.tuning).items() if name not in _OF_THE_PLAN},
    }
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def remarks(recipe: Recipe, domain: Domain) -> list[str]:
    """What has to be known of a recipe's puzzles: how many its `side` leaves out, and that the record they come from was made
    otherwise than they are trained on here. Raises UserError if it is another model's, and the recipe does not say that it may
    be."""
    table = recipe.domain
    if not isinstance(table, ArcTable) or not isinstance(domain, Arc):
        return []
    # beside splits of its own the pool is not used
    left_out = [f"{n} of {split}" for split, n in domain.left_out.items() if n and (split != POOL or table.data == "none")]
    said = [f"domain.side = {table.side} leaves out puzzles with a larger grid: {', '.join(left_out)}"] if left_out else []
    if domain.record is None:
        return said
    known, own = domain.record, recipe.model.name
    found = f"domain.data = {table.data!r}: the solvable puzzles and the plans of `fixed` and `oracle` were found"
    if not _of_the_model(known, recipe):
        if not table.any_model:
            raise UserError(
                f"{found} with {known.model}, not with {own}; make a record of its own (seal arc solvable RECIPE"
                f" model.name={own}), or take that one all the same: domain.any_model=true"
            )
        said.append(f"{found} with {known.model}, not with {own}")
    if unlike := known.unlike(made_with(recipe)):
        said.append(f"{found} with other settings ({'; '.join(unlike)})")
    return said


def refuse_unlike(known: Record, recipe: Recipe) -> None:
    """Raises UserError if plans would be tried with other settings than those of the record were."""
    if not _of_the_model(known, recipe):
        raise UserError(f"--from: its plans were tried with {known.model}, not with {recipe.model.name}")
    if unlike := known.unlike(made_with(recipe)):
        raise UserError(
            f"--from: its plans were tried with other settings ({'; '.join(unlike)}); leave them as they were, or begin a record"
            " of its own, without --from"
        )


def _of_the_model(known: Record, recipe: Recipe) -> bool:
    """Whether the record's plans were tried with the recipe's model; a record has a folder's whole path."""
    return known.model == recipe.model.name or known.model == recipe.rooted(Path.cwd()).model.name


def refuse_moved(known: Record, problems: Sequence[Problem], shares: Mapping[str, float]) -> None:
    """Raises UserError if a puzzle of the record is not among these problems, or would be in another split of theirs."""
    divided = divide([problem.id for problem in problems], known.seed, shares)
    pool = {problem.id for problem in problems}
    moved = [id for id in known.scores if id not in pool]
    moved += [id for split, ids in known.splits.items() for id in ids if id not in divided.get(split, ())]
    if moved:
        raise UserError(
            f"--from: the record was made of another pool, or divided otherwise (puzzle {moved[0]}); leave domain.pool,"
            " domain.side, domain.limit and domain.shares as they were"
        )


def begin_with(store: Store, known: Record) -> None:
    """What this record has is not tried again in this run, and is in the run's own record."""
    store.set_state(keys.RECORD, asdict(known))


def _known(store: Store, seed: int, made: Mapping[str, Any]) -> Record:
    content = store.get_state(keys.RECORD)
    return of_content(content) if content else Record("", seed, made, (), {}, {}, {})


def try_plans(
    engine: Engine,
    domain: Domain,
    store: Store,
    problems: Sequence[Problem],
    plans: Sequence[str],
    *,
    seed: int,
    notify: Notify = nobody,
) -> None:
    """Every plan on every problem, once, from the base model; plan by plan, so that a part of it is already a grid.

    What the store has is not done again, nor what the record has that it begins with. The seeds are the grid's own: a table
    that trains a plan again draws other numbers, so that what was solvable by luck shows there.
    """
    engine.load(None)
    store.put_problems(problems)
    known, have = _known(store, seed, {}), {edit.id: edit for edit in store.edits(GRID, ROUND)}
    for index, plan in enumerate(plans):
        edits = []
        for problem in problems:
            if known.score(problem.id, plan) is None:
                id = edit_id(GRID, ROUND, problem.id, index)
                prompt = domain.edit_prompt(problem)
                # what another version read out of it stands
                edits.append(have.get(id) or read(domain, problem, prompt, Reply(plan), id=id, index=index, source="grid"))
        store.put_edits(edits)

        def tell(what: str, done: int, total: int, index: int = index) -> None:
            notify(f"plan {index + 1} of {len(plans)}: {what}", done, total)

        Stages(engine, domain, store, GRID, ROUND, derive(seed, GRID), tell).attempt(problems, edits, 1)


def record(store: Store, model: str, seed: int, shares: Mapping[str, float], made: Mapping[str, Any]) -> Record:
    """What a run of `try_plans`, finished or not, has found, with the record that it began with.

    The seed divides the whole pool, and of each part the solvable puzzles are kept: a grid that goes on adds puzzles to the
    splits and moves none. `made`: what the plans were tried with; not known where that is not known of the first record.
    """
    known = _known(store, seed, made)
    tried: dict[tuple[str, str], list[Outcome]] = {}
    places: dict[str, int] = {}
    for outcome in store.outcomes(GRID, ROUND):
        edit = outcome.trial.edit
        assert edit is not None  # outcomes() gives trials of self-edits only
        tried.setdefault((edit.problem_id, edit.text), []).append(outcome)
        places.setdefault(edit.text, edit.index)
    plans = (*known.plans, *sorted(places.keys() - set(known.plans), key=places.__getitem__))
    ids = [id for id in store.problems() if id in known.scores or any((id, plan) in tried for plan in plans)]
    scores = {id: tuple(_mean("solved", tried.get((id, plan)), known.score(id, plan)) for plan in plans) for id in ids}
    gains = {id: tuple(_mean("logprob", tried.get((id, plan)), known.gain(id, plan)) for plan in plans) for id in ids}
    solvable = {id for id, own in scores.items() if any(own)}
    splits = {
        split: tuple(id for id in ids if id in solvable)
        for split, ids in divide(list(store.problems()), known.seed, shares).items()
    }
    return Record(model, known.seed, known.made, plans, scores, gains, splits)


def _mean(reward: str, outcomes: Sequence[Outcome] | None, known: float | None) -> float | None:
    """A fault solves nothing, and makes nothing more likely."""
    if outcomes is None:
        return known
    found = mean(0.0 if one.fault else REWARDS[reward](one, ()) for one in outcomes)
    return None if found is None else round(found, 3)
