"""The oracle: a grid of plans on every puzzle of a pool, and the record of what each plan did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from seal.domains.arc.record import Record, divide, of_content
from seal.errors import UserError
from seal.loops.stages import Notify, Stages, nobody
from seal.policy.write import read
from seal.protocols import Domain, Engine
from seal.rewards import REWARDS
from seal.seeds import derive
from seal.stats import mean
from seal.store import Store, edit_id
from seal.types import Outcome, Problem, Reply

GRID, ROUND = "grid", 0
KNOWN = "known record"


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
    store.set_state(KNOWN, asdict(known))


def _known(store: Store, model: str, seed: int) -> Record:
    content = store.get_state(KNOWN)
    return of_content(content) if content else Record(model, seed, (), {}, {}, {})


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
    known = _known(store, "", seed)
    for index, plan in enumerate(plans):
        edits = [
            read(
                domain,
                problem,
                domain.edit_prompt(problem),
                Reply(plan),
                id=edit_id(GRID, ROUND, problem.id, index),
                index=index,
                source="grid",
            )
            for problem in problems
            if known.score(problem.id, plan) is None
        ]
        store.put_edits(edits)

        def tell(what: str, done: int, total: int, index: int = index) -> None:
            notify(f"plan {index + 1} of {len(plans)}: {what}", done, total)

        Stages(engine, domain, store, GRID, ROUND, derive(seed, GRID), tell).attempt(problems, edits, 1)


def record(store: Store, model: str, seed: int, shares: Mapping[str, float]) -> Record:
    """What a run of `try_plans`, finished or not, has found, with the record that it began with.

    The seed divides the whole pool, and of each part the solvable puzzles are kept: a grid that goes on adds puzzles to the
    splits and moves none.
    """
    known = _known(store, model, seed)
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
    return Record(model, known.seed, plans, scores, gains, splits)


def _mean(reward: str, outcomes: Sequence[Outcome] | None, known: float | None) -> float | None:
    """A fault solves nothing, and makes nothing more likely."""
    if outcomes is None:
        return known
    found = mean(0.0 if one.fault else REWARDS[reward](one, ()) for one in outcomes)
    return None if found is None else round(found, 3)
