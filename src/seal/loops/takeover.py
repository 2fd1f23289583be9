"""What a run may begin with: another run, whose edits and trials are learnt from in many ways or gone on with; or a policy."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path

from seal.disk import put_in_place
from seal.errors import UserError
from seal.loops.stages import TRAIN
from seal.store import Store, is_run, keys

OUTCOMES, ROUNDS = "outcomes", "rounds"
"""What is taken over: the first round's edits and outcomes, or every finished round whole."""


def refuse_unfinished(source: Store) -> None:
    """Raises UserError for a run whose first round has not all its outcomes. Rewards come after the last of them; that the update
    then diverged does not matter."""
    if not source.policy(1) and not source.rewards(TRAIN, 1):
        raise UserError(f"{source.path} has not finished its first round; first: seal train --resume {source.path}")


def finished_rounds(source: Store) -> int:
    """How many of a run's rounds have their policy, from the first on."""
    return next(round for round in itertools.count() if not source.policy(round + 1))


def replay(source: Store, store: Store) -> None:
    """Takes over all edits, answers and ratings of the source's first training round, and its self-made questions.

    The loop, finding them in the store, samples and tries nothing again.
    """
    _begin(source, store, OUTCOMES)
    _copy_round(source, store, 1)
    store.set_state(keys.TAKING_OVER, None)


def go_on(source: Store, store: Store) -> None:
    """Takes over every finished round whole, its policy too: the loop goes on with the next."""
    _begin(source, store, ROUNDS)
    for round in range(1, finished_rounds(source) + 1):
        if store.policy(round):
            continue
        for phase in _copy_round(source, store, round):
            store.put_rewards(source.rewards(phase, round))
            store.put_kept(phase, round, source.kept(phase, round))
        store.put_metrics(round, source.metrics().get(round, {}))
        _keep(source.policy_dir(round), store, round)  # last: a round whose policy is there is done
    store.set_state(keys.TAKING_OVER, None)


def take_the_rest(store: Store) -> None:
    """Takes over what a run that was stopped while it did so does not have yet: to sample and to try that again would draw other
    edits on another machine. Raises UserError if the run that it began with is gone."""
    what = store.get_state(keys.TAKING_OVER)
    if what is None:
        return
    path = Path(store.get_state(keys.REPLAYS))
    if not is_run(path):
        raise UserError(
            f"{store.path} was stopped while it took over what {path} has, and that is not there any more; put it back, or begin"
            " anew with another run: seal train --from RUN"
        )
    with Store.open(path, write=False) as source:
        {OUTCOMES: replay, ROUNDS: go_on}[what](source, store)


def begin_with(policy: Path, trained: Iterable[str], store: Store) -> None:
    """Keeps a copy of the adapter that the first round begins with: the run then needs no other folder. `trained`: ids of what it
    learnt from, on which what becomes of it is not measured."""
    _keep(policy, store, 0, trained)


def _begin(source: Store, store: Store, what: str) -> None:
    store.set_state(keys.REPLAYS, str(source.path.absolute()))
    store.set_state(keys.TAKING_OVER, what)
    if (begun := source.policy(0)) and not store.policy(0):
        _keep(begun, store, 0)
    for key in (keys.QUESTIONS_TOGETHER, keys.PROBLEMS + "train"):
        if (value := source.get_state(key)) is not None:
            store.set_state(key, value)
    for key, found in source.states(keys.QUESTIONS).items():
        store.set_state(key, found)


def _keep(policy: Path, store: Store, round: int, trained: Iterable[str] | None = None) -> None:
    """A copy of a policy, whole or not at all. `trained`: instead of what it says itself of that."""
    from seal.models.adapter import FILE, WEIGHTS, write_trained  # here, for it loads torch

    part = store.policy_dir(round, "part")
    part.mkdir(parents=True, exist_ok=True)
    for name in (*WEIGHTS, FILE):
        if (policy / name).exists():
            shutil.copyfile(policy / name, part / name)
    if trained is not None:
        write_trained(part, trained)
    put_in_place(part, store.policy_dir(round))


def _copy_round(source: Store, store: Store, round: int) -> list[str]:
    """Copies what was sampled and tried. Returns its phases."""
    phases = [name for name, own in source.rounds() if own == round and name.split(".")[0] == TRAIN]
    used = {edit.problem_id for phase in phases for edit in source.edits(phase, round)}
    store.put_problems(problem for id, problem in source.problems().items() if id in used)
    for phase in phases:
        for key, tokens in source.states(f"{keys.CUT_TOKENS}{phase}/{round}/").items():
            store.set_state(key, tokens)
        store.put_edits(source.edits(phase, round))
        for id, answers in source.base(phase, round).items():
            store.put_base(phase, round, id, answers)
        store.put_outcomes(phase, round, source.outcomes(phase, round))
    return phases
