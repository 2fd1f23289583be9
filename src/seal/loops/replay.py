"""The first round of a run as the beginning of another: what was sampled and tried once can be learnt from in many ways."""

from __future__ import annotations

from seal.errors import UserError
from seal.loops.questions import STATE
from seal.loops.stages import TRAIN
from seal.store import Store


def refuse_unfinished(source: Store) -> None:
    """Raises UserError for a run whose first round has not all its outcomes."""
    if not source.policy_dir(1).exists():
        raise UserError(f"{source.path} has not finished its first round; first: seal train --resume {source.path}")


def replay(source: Store, store: Store) -> None:
    """Takes over all edits, answers and ratings of the source's first training round, and its self-made questions.

    The loop, finding them in the store, samples and tries nothing again. A run stopped in here may still be resumed: what is
    missing would be drawn from the same seeds.
    """
    store.set_state("replays", str(source.path))
    questions = source.get_state(STATE)
    if questions is not None:
        store.set_state(STATE, questions)
    phases = [name for name, round in source.rounds() if round == 1 and name.split(".")[0] == TRAIN]
    used = {edit.problem_id for phase in phases for edit in source.edits(phase, 1)}
    store.put_problems(problem for id, problem in source.problems().items() if id in used)
    for phase in phases:
        store.put_edits(source.edits(phase, 1))
        for id, answers in source.base(phase, 1).items():
            store.put_base(phase, 1, id, answers)
        for outcome in source.outcomes(phase, 1):
            store.put_outcome(phase, 1, outcome)
