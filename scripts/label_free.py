"""Does the reward from the model's own questions follow the one from the gold ones? Every edit is tried once and asked both.

    python scripts/label_free.py label-free bundled-no-labels --split dev --limit 8 --edits 5

The same command goes on with the run of that name where it stopped. Prints JSON: rank correlations over edits with 95%
intervals over problems, for all edits and within a problem, and what the edits are worth on gold questions that each reward
would pick.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from resumable import arguments, open_run, say

from seal.config import load
from seal.domains.self_questions import Asking
from seal.loops import build
from seal.loops.questions import freeze
from seal.loops.stages import Stages
from seal.report.rewards import follows
from seal.rewards import Compose
from seal.stats import mean, paired
from seal.types import Answer, Outcome


def main(given: argparse.Namespace) -> None:
    recipe = load(given.recipe, given.overrides)
    domain, reward, table = build.domain(recipe), build.reward(recipe), recipe.questions
    with open_run(given.name, recipe) as store:
        engine = build.engine(recipe)
        build.seat_judge(domain, engine)
        asking = Asking(table.ways, table.samples, table.most)
        own = freeze(engine, domain, store, asking, seed=recipe.seed, split=given.split, limit=given.limit, notify=say)
        gold = {problem.id: problem.queries for problem in domain.problems(given.split)}
        problems = [replace(one, queries=gold[one.id] + one.queries) for one in own.problems(given.split)]
        store.put_problems(problems)
        stages = Stages(engine, domain, store, "train", 1, recipe.seed, say)
        edits = stages.sample(problems, recipe.edit.sampling(given.edits))
        rated = reward.rated(stages.rate(problems, edits, reward.raters))
        outcomes = [one for one in stages.attempt(problems, edits, recipe.outer.repeats) if one.fault is None]
        print(json.dumps({"run": str(store.path), **agreement(outcomes, rated)}, indent=1))


def agreement(outcomes: Sequence[Outcome], reward: Compose) -> dict[str, Any]:
    """How the rewards of both kinds of questions go together over edits."""
    sides = {kind: [_only(one, kind) for one in outcomes] for kind in ("q", "s")}
    ids = [one.trial.edit.id for one in outcomes if one.trial.edit]
    problems = dict(zip(ids, [one.trial.problem.id for one in outcomes], strict=True))
    found: dict[str, Any] = {"problems": len(set(problems.values())), "edits": len(problems), "trials": len(outcomes)}
    values: dict[tuple[str, str], list[float | None]] = {}
    for name in (*reward.weights, "reward"):
        for kind, side in sides.items():
            each = [reward(one, side) if name == "reward" else reward.parts(one, side)[name] for one in side]
            of_edit = {id: [value for own, value in zip(ids, each, strict=True) if own == id] for id in problems}
            values[name, kind] = [mean(one) for one in of_edit.values()]
        groups = list(problems.values())
        over_all, inside = follows(values[name, "s"], values[name, "q"], groups)
        found[name] = {"all": over_all._asdict(), "within": inside._asdict()}
    return {**found, "picked": _picked(values["reward", "s"], values["reward", "q"], values["accuracy", "q"], groups)}


def _picked(
    own: Sequence[float | None], gold: Sequence[float | None], worth: Sequence[float | None], groups: Sequence[str]
) -> dict[str, Any]:
    """Accuracy on gold questions of the edits each reward would pick (the first of equals), and of all edits."""
    means: dict[str, list[float | None]] = {"any": [], "by_own": [], "by_gold": []}
    for group in dict.fromkeys(groups):
        places = [at for at, one in enumerate(groups) if one == group]
        means["any"].append(mean(worth[at] for at in places))
        for name, reward in (("by_own", own), ("by_gold", gold)):
            means[name].append(worth[_best(places, reward)])
    return {
        **{name: mean(values) for name, values in means.items()},
        "by_own_minus_any": paired(means["by_own"], means["any"])._asdict(),
        "by_gold_minus_any": paired(means["by_gold"], means["any"])._asdict(),
    }


def _best(places: Sequence[int], reward: Sequence[float | None]) -> int:
    return max(places, key=lambda at: -math.inf if (value := reward[at]) is None else value)


def _only(outcome: Outcome, kind: str) -> Outcome:
    """The outcome as if only the queries of a kind had been asked."""

    def own(answers: Sequence[Answer]) -> tuple[Answer, ...]:
        return tuple(answer for answer in answers if answer.query_id.rpartition("/")[2].startswith(kind))

    return replace(outcome, before=own(outcome.before), after=own(outcome.after))


if __name__ == "__main__":
    main(arguments(__doc__, edits=5))
