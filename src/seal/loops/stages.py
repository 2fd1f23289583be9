"""The stages both loops go through. Each looks into the store for what an interrupted run has already done, and does the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from seal.policy import halving
from seal.policy.selection import Scored
from seal.policy.write import write
from seal.protocols import Domain, Engine
from seal.rewards import REWARDS, Compose
from seal.seeds import derive
from seal.stats import mean, noise_share
from seal.store import Store
from seal.trials import Asks, Before, run, run_pooled, unchanged
from seal.types import Outcome, Problem, Sampling, SelfEdit, Trial, Tuning

Notify = Callable[[str, int, int], None]
"""Told `("edits", 16, 96)` as a stage goes on."""


def nobody(what: str, done: int, total: int) -> None:
    """A Notify that tells nobody."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one phase and round of a run."""

    engine: Engine
    domain: Domain
    store: Store
    phase: str
    round: int
    seed: int
    """The run's own; every draw derives its seed from it."""
    notify: Notify = nobody
    budget: tuple[int, int] | None = None
    """Tokens and steps that every trial trains on, whatever its edit's tuning says; None = what that says."""

    def keep(self, edits: Sequence[SelfEdit]) -> None:
        """Puts a batch of edits into the store, with the stage's budget in their tuning."""
        self.store.put_edits([replace(edit, tuning=self.within_budget(edit.tuning)) for edit in edits])

    def within_budget(self, tuning: Tuning, problems: int = 1) -> Tuning:
        """The tuning of a training for so many problems, at equal tokens and steps if there is a budget."""
        if self.budget is None:
            return tuning
        tokens, steps = self.budget
        return replace(tuning, tokens=problems * tokens, steps=problems * steps)

    def sample(self, problems: Sequence[Problem], how: Sampling) -> list[SelfEdit]:
        """The policy writes. A batch is stored whole, and one that is stored is not drawn again."""
        have = {edit.problem_id for edit in self._edits()}
        # batches are fixed by the problems' order, so those that are missing are the last ones
        missing = [problem for problem in problems if problem.id not in have]
        total = len(problems) * how.n
        done = total - len(missing) * how.n
        self.notify("edits", done, total)
        batches = write(self.engine, self.domain, missing, how, phase=self.phase, round=self.round, seed=self.seed)
        for batch in batches:
            self.keep(batch)
            done += len(batch)
            self.notify("edits", done, total)
        wanted = {problem.id for problem in problems}
        return [edit for edit in self._edits() if edit.problem_id in wanted]

    def unchanged(self, problems: Sequence[Problem], *, ask: Asks | None = None, known: Before | None = None) -> Before:
        """The answers of the model as it stands, each problem once. `ask`: other asks than the domain's own.

        `known`: what the same model answered in another phase; it is taken over and not asked again.
        """
        have = self.store.base(self.phase, self.round)
        for problem in problems:
            if known and problem.id in known and problem.id not in have:
                self.store.put_base(self.phase, self.round, problem.id, known[problem.id])
        have = self.store.base(self.phase, self.round)
        missing = [problem for problem in problems if problem.id not in have]
        done = len(problems) - len(missing)
        self.notify("base answers", done, len(problems))
        for problem, answers, cost in unchanged(self.engine, self.domain, missing, ask=ask):
            self.store.put_base(self.phase, self.round, problem.id, answers, cost)
            done += 1
            self.notify("base answers", done, len(problems))
        return self.store.base(self.phase, self.round)

    def attempt(self, problems: Sequence[Problem], edits: Sequence[SelfEdit], repeats: int) -> list[Outcome]:
        """Every edit is learnt from the policy's weights, asked about, forgotten; `repeats` times, each with its own seed."""
        before = self.unchanged(problems)
        wanted = [(edit, repeat) for edit in edits for repeat in range(repeats)]
        self._run(problems, wanted, before, len(wanted))
        return self.store.outcomes(self.phase, self.round)

    def attempt_halving(
        self, problems: Sequence[Problem], edits: Sequence[SelfEdit], repeats: int, reward: Compose
    ) -> list[Outcome]:
        """The same with the repeats where they matter: of `edits * repeats` trials a group, its contenders get the most.

        What comes next is decided by the outcomes in the store alone, and every group's next trials go to the trainer together.
        """
        before = self.unchanged(problems)
        usable = {problem.id: sum(edit.problem_id == problem.id and not edit.fault for edit in edits) for problem in problems}
        total = sum(size * each for n in usable.values() for size, each in halving.phases(n, repeats))
        total += sum(edit.fault is not None for edit in edits)
        while wanted := self._contenders(problems, edits, repeats, reward):
            self._run(problems, wanted, before, total)
        return self.store.outcomes(self.phase, self.round)

    def attempt_pooled(self, problems: Sequence[Problem], edits: Sequence[SelfEdit], repeats: int, tuning: Tuning) -> None:
        """Continued pretraining: all edits of all problems in one adapter, once a repeat."""
        before = self.unchanged(problems)
        by_id = {problem.id: problem for problem in problems}
        have = self._tried()
        for repeat in range(repeats):
            seed = derive(self.seed, "pooled", repeat)
            trials = [Trial(f"{edit.id}/{repeat}", by_id[edit.problem_id], edit, repeat, seed) for edit in edits]
            if not all(trial.id in have for trial in trials):
                for outcome in run_pooled(self.engine, self.domain, trials, before, tuning=tuning, seed=seed):
                    if outcome.trial.id in have:  # put before a kill; other slots or threads answer it a last bit otherwise
                        continue
                    self.store.put_outcome(self.phase, self.round, outcome)
            self.notify("pooled training", repeat + 1, repeats)

    def _contenders(
        self, problems: Sequence[Problem], edits: Sequence[SelfEdit], repeats: int, reward: Compose
    ) -> list[tuple[SelfEdit, int]]:
        """What every group wants tried next. An edit that could not be read has one trial, which is its fault."""
        tried: dict[str, dict[int, Outcome]] = {edit.id: {} for edit in edits}
        for outcome in self.store.outcomes(self.phase, self.round):
            if outcome.trial.edit is not None:
                tried[outcome.trial.edit.id][outcome.trial.repeat] = outcome
        wanted = [(edit, 0) for edit in edits if edit.fault and not tried[edit.id]]
        for problem in problems:
            group = [edit for edit in edits if edit.problem_id == problem.id and not edit.fault]
            # siblings: those tried as often, so that a reward that looks at them says the same whatever was tried since
            earned = [
                {
                    repeat: reward(outcome, [tried[one.id][repeat] for one in group if repeat in tried[one.id]])
                    for repeat, outcome in tried[edit.id].items()
                }
                for edit in group
            ]
            wanted += [(group[place], repeat) for place, repeat in halving.next_trials(earned, repeats)]
        return wanted

    def _run(self, problems: Sequence[Problem], wanted: Sequence[tuple[SelfEdit, int]], before: Before, total: int) -> None:
        """Those of the wanted trials that the store does not have."""
        by_id = {problem.id: problem for problem in problems}
        trials = [
            Trial(f"{edit.id}/{repeat}", by_id[edit.problem_id], edit, repeat, self._trial_seed(edit, repeat))
            for edit, repeat in wanted
        ]
        have = self._tried()
        done = len(have)
        self.notify("trials", done, total)
        for outcome in run(self.engine, self.domain, [trial for trial in trials if trial.id not in have], before):
            self.store.put_outcome(self.phase, self.round, outcome)
            done += 1
            self.notify("trials", done, total)

    def _edits(self) -> list[SelfEdit]:
        return self.store.edits(self.phase, self.round)

    def _tried(self) -> set[str]:
        return {outcome.trial.id for outcome in self.store.outcomes(self.phase, self.round)}

    def _trial_seed(self, edit: SelfEdit, repeat: int) -> int:
        return derive(self.seed, self.round, edit.problem_id, edit.index, repeat)


def reward_edits(
    store: Store, problems: Sequence[Problem], edits: Sequence[SelfEdit], outcomes: Sequence[Outcome], reward: Compose
) -> list[list[Scored[SelfEdit]]]:
    """One group a problem, its edits with their rewards: the mean over an edit's trials, None if one of them has none.

    Kept with the round: how much of the reward's variance is noise of retraining, where edits were tried more than once.
    """
    of_edit: dict[str, list[Outcome]] = {}
    of_problem: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        of_problem.setdefault(outcome.trial.problem.id, []).append(outcome)
        if outcome.trial.edit is not None:
            of_edit.setdefault(outcome.trial.edit.id, []).append(outcome)
    groups: dict[str, list[Scored[SelfEdit]]] = {problem.id: [] for problem in problems}
    earned: dict[str, list[list[float]]] = {problem.id: [] for problem in problems}
    rewards = {}
    for edit in edits:
        own, siblings = of_edit[edit.id], of_problem[edit.problem_id]
        parts = [reward.parts(outcome, siblings) for outcome in own]
        named = {name: _over_trials([each[name] for each in parts]) for name in reward.weights}
        each = [reward(outcome, siblings) for outcome in own]
        earned[edit.problem_id].append([value for value in each if value is not None])
        total = _over_trials(each)
        gain = _over_trials([REWARDS["gain"](outcome, siblings) for outcome in own])
        rewards[edit.id] = {**named, "reward": total}
        groups[edit.problem_id].append(Scored(edit, total, gain, trials=len(own)))
    store.put_rewards(rewards)
    noise = noise_share(earned.values())
    if noise is not None and edits:
        store.put_metrics(edits[0].round, {"noise": noise})
    return list(groups.values())


def _over_trials(values: Sequence[float | None]) -> float | None:
    return None if None in values else mean(values)
