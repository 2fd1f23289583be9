"""The oracle: a grid of plans on every puzzle of a pool, and the record of what each plan did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seal.domains.arc.record import Record, divide
from seal.loops.stages import Notify, Stages, nobody
from seal.policy.write import read
from seal.protocols import Domain, Engine
from seal.rewards import REWARDS
from seal.seeds import derive
from seal.stats import mean
from seal.store import Store, edit_id
from seal.types import Outcome, Problem, Reply

GRID, ROUND = "grid", 0


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

    What the store has is not done again. The seeds are the grid's own: a table that trains a plan again draws other numbers, so
    that what was solvable by luck shows there.
    """
    engine.load(None)
    store.put_problems(problems)
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
        ]
        store.put_edits(edits)

        def tell(what: str, done: int, total: int, index: int = index) -> None:
            notify(f"plan {index + 1} of {len(plans)}: {what}", done, total)

        Stages(engine, domain, store, GRID, ROUND, derive(seed, GRID), tell).attempt(problems, edits, 1)


def record(store: Store, model: str, seed: int, shares: Mapping[str, float]) -> Record:
    """What a run of `try_plans`, finished or not, has found.

    The seed divides the whole pool, and of each part the solvable puzzles are kept: a grid that goes on adds puzzles to the
    splits and moves none.
    """
    plans: dict[int, str] = {}
    outcomes: dict[str, dict[int, list[Outcome]]] = {}
    for outcome in store.outcomes(GRID, ROUND):
        edit = outcome.trial.edit
        assert edit is not None  # outcomes() gives trials of self-edits only
        plans[edit.index] = edit.text
        outcomes.setdefault(edit.problem_id, {}).setdefault(edit.index, []).append(outcome)
    places = sorted(plans)
    scores = {id: tuple(_mean("solved", own.get(place, [])) for place in places) for id, own in outcomes.items()}
    gains = {id: tuple(_mean("logprob", own.get(place, [])) for place in places) for id, own in outcomes.items()}
    solvable = {id for id, own in scores.items() if any(own)}
    splits = {
        split: tuple(id for id in ids if id in solvable) for split, ids in divide(list(store.problems()), seed, shares).items()
    }
    return Record(model, tuple(plans[place] for place in places), scores, gains, splits)


def _mean(reward: str, outcomes: Sequence[Outcome]) -> float | None:
    """A fault solves nothing, and makes nothing more likely."""
    found = mean(0.0 if one.fault else REWARDS[reward](one, ()) for one in outcomes)
    return None if found is None else round(found, 3)
