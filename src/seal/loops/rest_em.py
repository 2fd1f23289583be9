"""ReST-EM: the outer loop of SEAL. Sample self-edits, try each, keep what helped, learn to write such, again.

    problems -> edits -> (shortlist) -> trials -> outcomes -> rewards -> kept -> policy

Every stage looks into the store for what an interrupted run has already done, and does the rest.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from random import Random

from seal.config.recipe import EditTable, OuterTable, ShortlistTable
from seal.disk import put_in_place
from seal.loops.refuse import refuse_changed, trained_on
from seal.loops.stages import TRAIN, Stages, learning, learning_rate, reward_edits
from seal.policy.selection import Groups, Scored, shortlist
from seal.protocols import Domain, Engine, Notify, nobody
from seal.rewards import Compose, Ratings
from seal.seeds import derive
from seal.store import Store
from seal.trials import edits_by_problem
from seal.types import Absorbed, Problem, SelfEdit

Select = Callable[[Groups[SelfEdit], int], list[SelfEdit]]
"""Groups of scored edits and a seed for ties -> the edits to learn from."""
Update = Callable[[Engine, Sequence[SelfEdit], Groups[SelfEdit], int], Absorbed]
"""Changes the policy by the kept edits, and by what they and their siblings earned; the int is a seed."""


def rest_em(
    engine: Engine,
    domain: Domain,
    store: Store,
    outer: OuterTable,
    edit: EditTable,
    *,
    reward: Compose,
    select: Select,
    update: Update,
    seed: int,
    notify: Notify = nobody,
) -> None:
    """Runs all rounds that the store does not have yet. The policy after each is in `store.policy_dir(round)`, with the ids of
    what it learnt from.

    `outer`: how many rounds, problems, edits and trials; `edit`: how the edits are sampled. Both have a default for every field.
    Round one begins with the store's policy 0 if there is one, whatever `outer.policy` says; `takeover.begin_with` puts it there.
    Refuses a training split that is not what it was when the run began.
    """
    train = domain.problems("train")
    refuse_changed(store, "train", train)
    for round in range(1, outer.rounds + 1):
        if store.policy(round):
            continue
        policy = store.policy(round - 1)
        engine.load(policy)
        tell = _clocked(store, round, notify)
        problems = contexts(train, outer, round, seed)
        store.put_problems(problems)
        stages = Stages(engine, domain, store, TRAIN, round, seed, tell)
        edits = stages.sample(problems, edit.sampling(outer.edits), outer.rounds_on_same)
        ratings = stages.rate(problems, edits, reward.raters)
        rated = reward.rated(ratings)
        edits = promising(edits, ratings, outer.shortlist)
        with learning(engine, outer.learner, policy):
            outcomes = stages.try_edits(problems, edits, outer, rated)
            again = stages.retrain(problems, edits, outer, rated)
        groups = reward_edits(store, problems, edits, outcomes, rated, again)
        kept = select(groups, derive(seed, "ties", round))
        store.put_kept(TRAIN, round, [one.id for one in kept])
        tell("policy", 0, 1)
        with learning_rate("update.tuning.lr", "a run keeps its recipe, so begin a new one"):
            absorbed = update(engine, kept, groups, derive(seed, "update", round)) if kept else Absorbed()
        measure(store, round, absorbed)
        tell("policy", 1, 1)
        _export(engine, store, round)  # last: a round whose policy is there is done


def _export(engine: Engine, store: Store, round: int) -> None:
    """The policy, and beside it what it learnt from, which a copy of the folder is not measured on: both or neither."""
    from seal.models.adapter import write_trained  # here, for it loads torch

    part = store.policy_dir(round, "part")
    shutil.rmtree(part, ignore_errors=True)  # what was interrupted in here
    engine.export(part)
    write_trained(part, trained_on(store))
    put_in_place(part, store.policy_dir(round))


def contexts(train: Sequence[Problem], outer: OuterTable, round: int, seed: int) -> list[Problem]:
    """This round's problems: the next ones of a seeded order, from its beginning again when it is used up."""
    order = list(train)
    Random(derive(seed, "contexts")).shuffle(order)
    start = (round - 1) * outer.contexts if outer.fresh else 0
    return [order[(start + i) % len(order)] for i in range(min(outer.contexts, len(order)))]


def promising(edits: Sequence[SelfEdit], ratings: Ratings, how: ShortlistTable | None) -> list[SelfEdit]:
    """The edits worth a trial by what a rater says of them, and those with a fault, which need none and are counted. All of
    them where there is no shortlist."""
    if how is None:
        return list(edits)
    groups = [[Scored(edit, ratings[edit.id].get(how.by)) for edit in group] for group in edits_by_problem(edits).values()]
    chosen = {edit.id for edit in shortlist(groups, how.size)}
    return [edit for edit in edits if edit.fault or edit.id in chosen]


def _clocked(store: Store, round: int, notify: Notify) -> Notify:
    """The same, keeping the round's seconds as work is done, so that they add up over interruptions."""
    earlier, began = store.metrics().get(round, {}).get("seconds", 0.0), time.perf_counter()
    reached: dict[str, int] = {}

    def tell(what: str, done: int, total: int) -> None:
        if done < reached.get(what, done):  # a further pass counts from its own beginning
            del reached[what]
        if done > reached.setdefault(what, done):
            reached[what] = done
            store.put_metrics(round, {"seconds": earlier + time.perf_counter() - began})
        notify(what, done, total)

    return tell


def measure(store: Store, round: int, absorbed: Absorbed) -> None:
    """What the update did; the numbers of edits and trials are worked out from their rows."""
    losses = {"policy_loss_first": absorbed.losses[0], "policy_loss_last": absorbed.losses[-1]} if absorbed.losses else {}
    store.put_metrics(round, {"policy_left_out": absorbed.left_out, **losses})
