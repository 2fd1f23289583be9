"""Does another pass help? The model adapted to its edit writes on in it (`rounds_on_same`), against as much other training.

    python scripts/passes.py passes bundled --split dev --limit 8 --edits 3

For each number of passes up to --edits, at equal tokens of training:
  again   the edit, and what the adapted model wrote next (each pass by the model adapted to all before)
  apart   edits by the unadapted policy, independent of each other, twice as many as there are passes
  longer  the first edit alone, for more epochs
`again` stays whole, for its end is what the passes are about; `apart` loses whole examples from its end until it has no more
tokens. No question is looked at before the answers are graded. The same command goes on with the run of that name where it
stopped. Prints JSON: the score and the log-probability gain of each with 95% intervals over problems, the paired differences, and
`short`: in how many problems all that was written apart has fewer tokens than `again`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from resumable import arguments, open_run, say

from seal.config import load
from seal.domains.material import TextDomain, text_domain
from seal.engine import Engine
from seal.errors import UserError
from seal.loops import build
from seal.loops.stages import Stages
from seal.offers import OwnExamples
from seal.rewards import REWARDS, score
from seal.stats import interval, mean, paired
from seal.store import edit_id
from seal.types import Example, Outcome, Problem, SelfEdit


def main(given: argparse.Namespace) -> None:
    recipe = load(given.recipe, given.overrides)
    domain, sampling, passes = text_domain(build.domain(recipe), "this script"), recipe.edit.sampling(1), given.edits
    with open_run(given.name, recipe) as store:
        engine = build.engine(recipe)
        build.seat_judge(domain, engine)
        problems = list(domain.problems(given.split)[: given.limit])
        store.put_problems(problems)

        def stages(phase: str) -> Stages:
            return Stages(engine, domain, store, phase, 1, recipe.seed, say)

        last = stages("written").sample(problems, sampling, passes)
        written = [*(store.edits(f"written.{number}", 1) for number in range(1, passes)), last]
        drawn = stages("drawn").sample(problems, replace(sampling, n=2 * passes))
        if len(drawn) < 2 * passes * len(problems):
            raise UserError(f"run {given.name!r} was begun by an earlier passes.py, which drew fewer edits; give another name")
        found: dict[str, list[Outcome]] = {}
        short: dict[str, int] = {}
        for number, chained in enumerate(written, 1):
            made = {"again": list(written[0])}
            if number > 1:
                made, short[f"apart-{number}"] = matched(engine, domain, problems, written[0], chained, drawn)
            for name, edits in made.items():
                here = stages(f"{name}-{number}")
                store.put_edits([replace(edit, id=edit_id(here.phase, 1, edit.problem_id, 0), index=0) for edit in edits])
                found[here.phase] = here.attempt(problems, edits=store.edits(here.phase, 1), repeats=recipe.outer.repeats)
        print(json.dumps({"run": str(store.path), "problems": len(problems), "short": short, "table": table(found)}, indent=1))


def matched(
    engine: Engine,
    domain: TextDomain,
    problems: Sequence[Problem],
    first: Sequence[SelfEdit],
    chained: Sequence[SelfEdit],
    drawn: Sequence[SelfEdit],
) -> tuple[dict[str, list[SelfEdit]], int]:
    """The edits of each way, an edit a problem, none of more tokens than `again`; and in how many problems `apart` has fewer."""
    made: dict[str, list[SelfEdit]] = {"again": [], "apart": [], "longer": []}
    short = 0
    for problem in problems:
        once, again = (next(edit for edit in edits if edit.problem_id == problem.id) for edits in (first, chained))
        parts = [edit for edit in drawn if edit.problem_id == problem.id]
        usable = [edit for edit in parts if edit.fault is None]
        joined = dict.fromkeys(example for edit in usable for example in edit.examples)
        apart = replace((usable or parts)[0], examples=tuple(joined), text="\n".join(edit.text for edit in parts))
        own = domain.own_examples(problem) if isinstance(domain, OwnExamples) else ()
        room = _tokens(engine, again.examples)
        short += _tokens(engine, apart.examples) < room
        apart = replace(apart, examples=_cut(engine, apart.examples, own, room))
        times = room / max(1, _tokens(engine, once.examples))
        longer = replace(once, tuning=replace(once.tuning, epochs=max(1, round(once.tuning.epochs * times))))
        for name, edit in (("again", again), ("apart", apart), ("longer", longer)):
            made[name].append(edit)
    return made, short


def _cut(engine: Engine, examples: Sequence[Example], own: Sequence[Example], room: int) -> tuple[Example, ...]:
    """The same without its last examples, what nobody wrote staying, until it has no more tokens than `room`."""
    kept = list(examples)
    while _tokens(engine, kept) > room and any(one not in own for one in kept):
        kept.remove([one for one in kept if one not in own][-1])
    return tuple(kept)


def _tokens(engine: Engine, examples: Sequence[Example]) -> int:
    return sum(len(engine.language.encode_example(example)[0]) for example in examples)


def table(found: dict[str, list[Outcome]]) -> list[dict[str, Any]]:
    """One row a way and number of passes; differences are those of `again` minus it, problem by problem."""
    rows = []
    for phase, outcomes in found.items():
        chained = found[f"again-{phase.rpartition('-')[2]}"]
        row: dict[str, Any] = {"way": phase, "tokens": mean(one.cost.train_tokens for one in outcomes if one.fault is None)}
        for name, measure in (("score", _score), ("logprob", _logprob)):
            mine, theirs = _by_problem(chained, measure), _by_problem(outcomes, measure)
            row[name] = interval(list(theirs.values()))._asdict()
            if chained is not outcomes:
                row[f"again_minus_this_{name}"] = paired(list(mine.values()), [theirs.get(id) for id in mine])._asdict()
        rows.append({**row, "faults": sum(one.fault is not None for one in outcomes)})
    return rows


def _by_problem(outcomes: Sequence[Outcome], measure: Callable[[Outcome], float | None]) -> dict[str, float | None]:
    ids = dict.fromkeys(one.trial.problem.id for one in outcomes)
    return {id: mean(measure(one) for one in outcomes if one.trial.problem.id == id) for id in ids}


def _score(outcome: Outcome) -> float | None:
    return score(outcome.before if outcome.fault else outcome.after)


def _logprob(outcome: Outcome) -> float | None:
    return 0.0 if outcome.fault else REWARDS["logprob"](outcome, ())


if __name__ == "__main__":
    main(arguments(__doc__, edits=3))
