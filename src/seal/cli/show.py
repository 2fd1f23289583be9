"""`seal show`: what self-edits said, what they earned, and the answers before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from seal.cli.find import find_run
from seal.cli.options import RUNS, Json, Run, Runs
from seal.errors import UserError, unknown

if TYPE_CHECKING:
    from seal.store import Store


def show(
    run: Run,
    phase: Annotated[
        str | None, typer.Option("--phase", help="train, or a condition of the evaluation: passage, untrained, given, seal.")
    ] = None,
    worst: Annotated[bool, typer.Option("--worst", help="Worst first.")] = False,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Problems shown.")] = 5,
    edits: Annotated[int, typer.Option("--edits", min=1, help="Self-edits shown of each problem.")] = 1,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """A run's problems with their self-edits, rewards and answers before and after, best first; below them, how well each reward
    follows what the trials gave.

    Examples:
      seal show last
      seal show last --phase seal --worst -n 3
      seal show last --edits 4 --json
    """
    from seal.cli.output import console, print_json, print_whole
    from seal.report import render
    from seal.report.rewards import questions_row, rewards_table
    from seal.report.tables import problems_table, training_table
    from seal.store import Store

    path = find_run(run, runs)
    with Store.open(path, write=False) as store:
        named = _phase(store, phase)
        rows = problems_table(store, named, best_first=not worst)
        follow = rewards_table(store, named)
        own = questions_row(store)
        rounds = training_table(store, named) if named == "train" else []
    shown = [{**row, "edits": row["edits"][:edits]} for row in rows[:n]]
    if json:
        about = ("round", "noise", "question_noise", "ties", "problems", "kept", "kept_without_gain")
        noise = [{key: row[key] for key in about} for row in rounds]
        found = {"problems": shown, "noise": noise, "rewards": follow, "questions": own}
        print_json({"run": str(path), "phase": named, **found})
        return
    out = console(piped=100)  # sentences, not columns
    out.print(render.problems(shown, edits))
    out.print(render.noise(rounds), end="")
    if follow:
        print_whole(render.rewards(follow))
    if own:
        out.print(render.questions(own))
    written = max(len(row["edits"]) for row in rows)
    print(f"{named}: {len(shown)} of {len(rows)} problems (--n), {min(edits, written)} of {written} self-edits each (--edits)")


def _phase(store: Store, wanted: str | None) -> str:
    """The phase that is shown: one that has self-edits; training if there was any."""
    have = [phase for phase in dict.fromkeys(phase for phase, _ in store.rounds()) if store.written_for(phase)]
    if not have:
        raise UserError(f"{store.path} has no self-edits yet; `seal runs` shows how far it is")
    if wanted is None:
        return "train" if "train" in have else have[0]
    if wanted not in have:
        raise unknown("phase with self-edits", wanted, have)
    return wanted
