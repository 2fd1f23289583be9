"""Does halving pick the better edit on a real model? Problems x edits x many repeats, most of them kept as the truth.

    python scripts/halving_experiment.py halving bundled 'reward={accuracy=1.0, logprob=0.02}' --limit 8 --edits 5 --repeats 16

8 dev passages, 5 edits each, 16 repeats an edit: 640 trials, problem by problem. The reward is to be one of trials alone: what a
rater says of an edit is the same in all of its repeats. An edit's repeats are drawn alike, so they are split many times over:
some to choose by, the rest the truth. Both rules choose with the same number of trials. The same command goes on with the run of
that name where it stopped; with a smaller --limit it prints what the problems tried so far say. Prints JSON: by the number of
trials an edit, how often each rule picks the best edit, and what its pick is worth, with 95% intervals over problems.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from halving_simulation import picks
from resumable import arguments, open_run, say

from seal.config import load
from seal.errors import UserError
from seal.loops import build
from seal.loops.stages import Stages
from seal.policy.halving import rungs
from seal.rewards import Compose
from seal.stats import interval, noise_share, paired
from seal.types import Outcome

CHOICES = ((2, 4), (4, 6))
"""Trials an edit on average, and repeats an edit set aside to choose by: what halving may give a finalist."""

Rewards = list[list[list[float]]]
"""By passage, edit and repeat."""


def main(given: argparse.Namespace) -> None:
    recipe = load(given.recipe, given.overrides)
    reward, domain, found = build.reward(recipe), build.domain(recipe), list[Outcome]()
    if rating := [name for name in reward.raters if reward.weights[name]]:
        raise UserError(f"reward: {', '.join(rating)} say the same of an edit in all of its repeats; leave them out of [reward]")
    with open_run(given.name, recipe) as store:
        problems = domain.problems(given.split)[: given.limit]
        store.put_problems(problems)
        engine = build.engine(recipe)
        build.seat_judge(domain, engine)
        stages = Stages(engine, domain, store, "train", 1, recipe.seed, say)
        for problem in problems:  # one after the other: what is there when it is stopped are whole problems
            edits = stages.sample([problem], replace(recipe.edit.sampling(1), n=given.edits))
            found += stages.attempt([problem], edits, given.repeats)
        rewards = rewards_of(found, reward)
        rows = [judge(rewards, *choice, splits=given.splits, seed=recipe.seed) for choice in CHOICES if choice[1] < given.repeats]
        print(json.dumps({"run": str(store.path), "noise": noise_share(rewards), "rows": rows}, indent=1))


def rewards_of(outcomes: Sequence[Outcome], reward: Compose) -> Rewards:
    """What every trial earned; edits with a fault are left out, and problems that are left with one edit.

    Raises UserError if nothing is left.
    """
    found: dict[str, dict[str, list[float | None]]] = {}
    for one in outcomes:
        assert one.trial.edit is not None
        found.setdefault(one.trial.problem.id, {}).setdefault(one.trial.edit.id, []).append(reward(one, [one]))
    whole = [
        [[value for value in trials if value is not None] for trials in group.values() if None not in trials]
        for group in found.values()
    ]
    if not (left := [group for group in whole if len(group) > 1]):
        raise UserError("no problem has two edits without a fault")
    return left


def judge(rewards: Rewards, repeats: int, aside: int, *, splits: int, seed: int) -> dict[str, Any]:
    """How often each rule picks the edit that the rest of the repeats call best, and what its pick is worth by them."""
    assert all(sum(each for _, each in rungs(len(group), repeats)) <= aside for group in rewards)
    generator = np.random.default_rng([seed, repeats])
    hits, worth = np.zeros((2, len(rewards), 2))
    for passage, group in enumerate(rewards):
        values = np.array(group)  # (edits, repeats)
        for _ in range(splits):
            shuffled = generator.permuted(values, axis=1)
            truth = shuffled[:, aside:].mean(1)
            chosen = np.array(picks(shuffled[:, :aside], repeats))
            hits[passage] += (truth[chosen] == truth.max()) / splits
            worth[passage] += (truth[chosen] - truth.mean()) / splits
    return {
        "repeats": repeats,
        "truth": len(rewards[0][0]) - aside,
        "passages": len(rewards),
        "best_uniform": interval(list(hits[:, 0]))._asdict(),
        "best_halving": interval(list(hits[:, 1]))._asdict(),
        "best_difference": paired(list(hits[:, 1]), list(hits[:, 0]))._asdict(),
        "worth_difference": paired(list(worth[:, 1]), list(worth[:, 0]))._asdict(),
    }


if __name__ == "__main__":
    main(arguments(__doc__, edits=5, repeats=16, splits=2000))
