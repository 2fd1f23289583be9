"""The stages both loops go through. Each looks into the store for what an interrupted run has already done, and does the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random

from seal.config.recipe import Learner, OuterTable
from seal.ids import AGAIN
from seal.policy import halving
from seal.policy.selection import Scored
from seal.policy.write import write, write_on
from seal.protocols import Domain, Engine, Notify, nobody
from seal.rewards import REWARDS, TOTAL, Compose, Rater, Ratings
from seal.rewards.compose import checked
from seal.seeds import derive
from seal.stats import Noise, mean, noise, steady
from seal.store import Store, edit_id, keys, trial_id
from seal.trials import Asks, Before, by_edit, by_problem, edits_by_problem, run, run_pooled, unchanged
from seal.types import Answer, Outcome, Problem, Sampling, SelfEdit, Trial, Tuning

TRAIN = "train"
"""The phase of what the outer loop learns from. Phases that belong to it are `train.1`, `train.informs`, ..."""
SECOND = 1
"""The number of an edit's second trial."""


@contextmanager
def learning(engine: Engine, learner: Learner, policy: Path | None) -> Iterator[None]:
    """Around the trials of the policy's edits: within, the engine holds the learner's weights, before and after the policy's."""
    if learner == "base" and policy is not None:
        engine.load(None)
        yield
        engine.load(policy)
    else:
        yield


@contextmanager
def learning_rate(key: str, way_out: str) -> Iterator[None]:
    """Around an update: should it diverge, the error says which of the recipe's values that is, which no engine knows."""
    try:
        yield
    except FloatingPointError as error:
        error.add_note(f"that is {key}; {way_out}")
        raise


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
        """Puts a batch of edits into the store, with the stage's budget in their tuning, and how much of each will be cut off."""
        kept = [replace(edit, tuning=self.within_budget(edit.tuning)) for edit in edits]
        for edit in kept:
            if tokens := _cut_tokens(self.engine, edit):
                self.store.set_state(f"{keys.CUT_TOKENS}{edit.id}", tokens)
        self.store.put_edits(kept)

    def within_budget(self, tuning: Tuning, problems: int = 1) -> Tuning:
        """The tuning of a training for so many problems, at equal tokens and steps if there is a budget."""
        if self.budget is None:
            return tuning
        tokens, steps = self.budget
        return replace(tuning, tokens=problems * tokens, steps=problems * steps)

    def sample(self, problems: Sequence[Problem], how: Sampling, passes: int = 1) -> list[SelfEdit]:
        """The policy writes. With more `passes`, the model adapted to an edit writes on in it; the edits of each pass before the
        last are a phase of their own, `train.1`, `train.2`, ... In training the round keeps how often one left an edit as it
        was."""
        first, *later = [*(f"{self.phase}.{number}" for number in range(1, passes)), self.phase]
        edits, unwritten = replace(self, phase=first)._write(problems, how), 0
        for number, phase in enumerate(later, 2):
            earlier, edits = edits, replace(self, phase=phase)._write_on(problems, edits, how, number)
            both = zip(earlier, edits, strict=True)
            unwritten += sum(old.text.rstrip() == new.text.rstrip() for old, new in both if not old.fault)
        if later and self.phase == TRAIN:
            self.store.put_metrics(self.round, {"unwritten": unwritten})
        return edits

    def _write(self, problems: Sequence[Problem], how: Sampling) -> list[SelfEdit]:
        """A batch is stored whole, and one that is stored is not drawn again."""
        have = {edit.problem_id for edit in self._written()}
        # batches are fixed by the problems' order, so those that are missing are the last ones
        missing = [problem for problem in problems if problem.id not in have]
        total = len(problems) * how.n
        done = total - len(missing) * how.n
        self.notify("edits", done, total)
        at_once = self.store.environment.get("edits_at_once")  # a run of before this was kept has none
        batches = write(
            self.engine, self.domain, missing, how, phase=self.phase, round=self.round, seed=self.seed, at_once=at_once
        )
        for batch in batches:
            self.keep(batch)
            done += len(batch)
            self.notify("edits", done, total)
        wanted = {problem.id for problem in problems}
        return [edit for edit in self._written() if edit.problem_id in wanted]

    def _write_on(self, problems: Sequence[Problem], earlier: Sequence[SelfEdit], how: Sampling, number: int) -> list[SelfEdit]:
        """Every edit with what the model that learnt it adds in pass `number`."""
        have = {(edit.problem_id, edit.index) for edit in self._edits()}
        missing = [edit for edit in earlier if (edit.problem_id, edit.index) not in have]
        done = len(earlier) - len(missing)
        self.notify("edits", done, len(earlier))
        seed = derive(self.seed, "pass", number)
        for edit in write_on(self.engine, self.domain, problems, missing, how, phase=self.phase, seed=seed):
            self.keep([edit])
            done += 1
            self.notify("edits", done, len(earlier))
        wanted = {edit.problem_id for edit in earlier}
        return [edit for edit in self._edits() if edit.problem_id in wanted]

    def rate(self, problems: Sequence[Problem], edits: Sequence[SelfEdit], raters: Mapping[str, Rater]) -> Ratings:
        """What each rater says of every edit that can be used, nothing being trained. Kept like the unchanged model's answers, in
        a phase of their own, `train.rubric`."""
        ratings: dict[str, dict[str, float | None]] = {edit.id: {} for edit in edits}
        usable = edits_by_problem(edit for edit in edits if not edit.fault)
        for name, rater in raters.items():
            phase = f"{self.phase}.{name}"
            have = self.store.base(phase, self.round)
            for done, problem in enumerate(problems):
                self.notify(f"ratings by {name}", done, len(problems))
                own = usable.get(problem.id)
                if own and problem.id not in have:
                    said = checked(name, rater.rate(self.engine, self.domain, problem, own), len(own))
                    answers = [Answer(edit.id, one.said, one.value) for edit, one in zip(own, said, strict=True)]
                    self.store.put_base(phase, self.round, problem.id, answers)
            kept = self.store.base(phase, self.round)
            for answer in chain.from_iterable(kept.get(problem.id, ()) for problem in problems):
                ratings[answer.query_id][name] = answer.score
            self.notify(f"ratings by {name}", len(problems), len(problems))
        return ratings

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

    def try_edits(
        self, problems: Sequence[Problem], edits: Sequence[SelfEdit], outer: OuterTable, reward: Compose
    ) -> list[Outcome]:
        """What the edits come to: every edit tried alike, or most trials for the contenders, as `outer.allocation` says; none is
        tried where the reward needs no trials."""
        if not reward.needs_trials:
            return _untried(problems, edits)
        if outer.allocation == "halving":
            return self.attempt_halving(problems, edits, outer.repeats, reward)
        return self.attempt(problems, edits, outer.repeats)

    def attempt(
        self, problems: Sequence[Problem], edits: Sequence[SelfEdit], repeats: int, *, known: Sequence[Outcome] = ()
    ) -> list[Outcome]:
        """Every edit is learnt from the policy's weights, asked about, forgotten; `repeats` times, each with its own seed.

        `known`: trials from the same weights in another phase; one of the same training is taken over and not made again.
        """
        before = self.unchanged(problems)
        wanted = [(edit, repeat) for edit in edits for repeat in range(repeats)]
        have = self._tried()
        missing = [(edit, repeat) for edit, repeat in wanted if trial_id(edit.id, repeat) not in have]
        self._run(problems, missing, before, len(wanted) - len(missing), len(wanted), known)
        return self._outcomes(edits)

    def retrain(
        self, problems: Sequence[Problem], edits: Sequence[SelfEdit], outer: OuterTable, reward: Compose
    ) -> list[Outcome]:
        """One more trial of `outer.retrain` of the edits, drawn by seed, by which nothing is chosen: how far equal trainings
        differ; nothing where repeats tell that already, or the reward needs no trials.

        In a phase of their own, `train.again`. Equal edits count once, as they share their trials.
        """
        if not outer.retrain or outer.repeats > 1 or not reward.needs_trials:
            return []
        first = firsts(edits)
        unlike = [edit for edit in edits if first[edit.id] is edit and not edit.fault]
        drawn = Random(derive(self.seed, "again", self.round)).sample(unlike, min(outer.retrain, len(unlike)))
        again = replace(self, phase=f"{self.phase}{AGAIN}", notify=lambda what, *far: self.notify(f"{what} again", *far))
        of = {edit_id(again.phase, self.round, edit.problem_id, edit.index): edit for edit in drawn}
        self.store.put_edits(replace(edit, id=id) for id, edit in of.items())
        own = {edit.problem_id for edit in drawn}
        asked = [problem for problem in problems if problem.id in own]
        before, have = again.unchanged(asked, known=self.store.base(self.phase, self.round)), again._tried()
        missing = [(edit, SECOND) for edit in again._edits() if trial_id(edit.id, SECOND) not in have]
        again._run(asked, missing, before, len(drawn) - len(missing), len(drawn))
        trials = [(one, one.trial.edit) for one in self.store.outcomes(again.phase, self.round)]
        return [replace(one, trial=replace(one.trial, edit=of[edit.id])) for one, edit in trials if edit]

    def attempt_halving(
        self, problems: Sequence[Problem], edits: Sequence[SelfEdit], repeats: int, reward: Compose
    ) -> list[Outcome]:
        """The same with the repeats where they matter: of `edits * repeats` trials a group, its contenders get the most.

        What comes next is decided by the outcomes in the store alone, and every group's next trials go to the trainer together.
        Equal edits stand as one; in the end each of them has its trials.
        """
        before, first = self.unchanged(problems), firsts(edits)
        unlike = [edit for edit in edits if first[edit.id] is edit]
        usable = edits_by_problem(edit for edit in unlike if not edit.fault)
        total = sum(size * each for own in usable.values() for size, each in halving.rungs(len(own), repeats))
        total += sum(edit.fault is not None for edit in edits)
        while wanted := self._contenders(unlike, repeats, reward):
            self._run(problems, wanted, before, len(self._tried()), total)
        if equal := self._untold(edits):
            have = len(self._tried())
            self._run(problems, equal, before, have, have + len(equal))
        return self._outcomes(edits)

    def attempt_pooled(self, problems: Sequence[Problem], edits: Sequence[SelfEdit], repeats: int, tuning: Tuning) -> None:
        """Continued pretraining: all edits of all problems in one adapter, once a repeat."""
        before = self.unchanged(problems)
        by_id = {problem.id: problem for problem in problems}
        have = self._tried()
        for repeat in range(repeats):
            seed = derive(self.seed, "pooled", repeat)
            trials = [Trial(trial_id(edit.id, repeat), by_id[edit.problem_id], edit, repeat, seed) for edit in edits]
            if not all(trial.id in have for trial in trials):
                for outcome in run_pooled(self.engine, self.domain, trials, before, tuning=tuning, seed=seed):
                    if outcome.trial.id in have:  # put before a kill; other slots or threads answer it a last bit otherwise
                        continue
                    self.store.put_outcome(self.phase, self.round, outcome)
            self.notify("pooled training", repeat + 1, repeats)

    def _contenders(self, edits: Sequence[SelfEdit], repeats: int, reward: Compose) -> list[tuple[SelfEdit, int]]:
        """What every group wants tried next. An edit that could not be read has one trial, which is its fault."""
        outcomes = by_edit(self.store.outcomes(self.phase, self.round))
        tried = {edit.id: {one.trial.repeat: one for one in outcomes.get(edit.id, ())} for edit in edits}
        wanted = [(edit, 0) for edit in edits if edit.fault and not tried[edit.id]]
        for group in edits_by_problem(edit for edit in edits if not edit.fault).values():
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

    def _untold(self, edits: Sequence[SelfEdit]) -> list[tuple[SelfEdit, int]]:
        """The trials of the first of equal edits that the others do not have yet."""
        tried, first = by_edit(self.store.outcomes(self.phase, self.round)), firsts(edits)
        repeats = {edit.id: [one.trial.repeat for one in tried.get(edit.id, ())] for edit in edits}
        return [(edit, one) for edit in edits for one in repeats[first[edit.id].id] if one not in repeats[edit.id]]

    def _run(
        self,
        problems: Sequence[Problem],
        missing: Sequence[tuple[SelfEdit, int]],
        before: Before,
        done: int,
        total: int,
        known: Sequence[Outcome] = (),
    ) -> None:
        """Trials that the store does not have, `done` of `total` being there.

        Equal edits of a problem have equal seeds, so their trials are one training: it is made once, and the others take its
        outcome over.
        """
        by_id = {problem.id: problem for problem in problems}
        first = firsts(self._edits())
        groups: dict[int, list[Trial]] = {}
        for edit, repeat in missing:
            seed = self._trial_seed(first[edit.id], repeat)
            groups.setdefault(seed, []).append(Trial(trial_id(edit.id, repeat), by_id[edit.problem_id], edit, repeat, seed))
        tried = [*known, *self.store.outcomes(self.phase, self.round)]
        made = {one.trial.seed: one for one in tried if _same_training(one.trial, groups.get(one.trial.seed, ()))}
        to_make = [trials[0] for seed, trials in groups.items() if seed not in made]
        self.notify("trials", done, total)
        for outcome in chain(made.values(), run(self.engine, self.domain, to_make, before)):
            for trial in groups[outcome.trial.seed]:
                self.store.put_outcome(self.phase, self.round, _taken_over(outcome, trial, before))
                done += 1
                self.notify("trials", done, total)

    def _edits(self) -> list[SelfEdit]:
        return self.store.edits(self.phase, self.round)

    def _written(self) -> list[SelfEdit]:
        return [edit for edit in self._edits() if edit.source == "policy"]

    def _outcomes(self, edits: Sequence[SelfEdit]) -> list[Outcome]:
        """Those of these edits: a phase may have others too, tried before."""
        wanted = {edit.id for edit in edits}
        found = self.store.outcomes(self.phase, self.round)
        return [one for one in found if one.trial.edit is not None and one.trial.edit.id in wanted]

    def _tried(self) -> set[str]:
        return {outcome.trial.id for outcome in self.store.outcomes(self.phase, self.round)}

    def _trial_seed(self, edit: SelfEdit, repeat: int) -> int:
        return derive(self.seed, self.round, edit.problem_id, edit.index, repeat)


def _cut_tokens(engine: Engine, edit: SelfEdit) -> int:
    """Tokens of the edit's examples beyond the length that its tuning cuts rows to, as the paper's code does."""
    length = edit.tuning.pad_length
    if edit.tuning.pad_loss != "official" or length == "longest":
        return 0
    return sum(max(0, engine.count(example) - length) for example in edit.examples)


def firsts(edits: Sequence[SelfEdit]) -> dict[str, SelfEdit]:
    """Of every edit, by its id, the first one that asks for the same training of the same problem; mostly it is that itself."""
    seen: dict[object, SelfEdit] = {}
    return {
        edit.id: edit if edit.fault else seen.setdefault((edit.problem_id, edit.examples, edit.tuning), edit) for edit in edits
    }


def _same_training(trial: Trial, others: Sequence[Trial]) -> bool:
    """Whether trials of one seed train the same: on the same examples, in the same way. What could not be read trains nothing."""
    made, asked = trial.edit, others[0].edit if others else None
    if made is None or asked is None or made.fault or asked.fault:
        return False
    return (made.examples, made.tuning) == (asked.examples, asked.tuning)


def _taken_over(outcome: Outcome, trial: Trial, before: Before) -> Outcome:
    """What another trial of the same training came to: the same in all but time, of which it took none."""
    if trial.id == outcome.trial.id:
        return outcome
    cost = replace(outcome.cost, train_seconds=0.0, answer_seconds=0.0)
    return replace(outcome, trial=trial, before=before[trial.problem.id], cost=cost)


def _untried(problems: Sequence[Problem], edits: Sequence[SelfEdit]) -> list[Outcome]:
    """Outcomes of edits that no trial was made of: their own faults and nothing else is known."""
    by_id = {problem.id: problem for problem in problems}
    return [Outcome(Trial(trial_id(edit.id, 0), by_id[edit.problem_id], edit), (), (), fault=edit.fault) for edit in edits]


def reward_edits(
    store: Store,
    problems: Sequence[Problem],
    edits: Sequence[SelfEdit],
    outcomes: Sequence[Outcome],
    reward: Compose,
    again: Sequence[Outcome] = (),
) -> list[list[Scored[SelfEdit]]]:
    """One group a problem, its edits with their rewards: the mean over an edit's trials, None if one of them has none.

    Kept with the round: how much of the reward's variance is noise of retraining, where edits were tried more than once.
    `again`: further trials of some of them, which tell of that noise and are in no reward.
    """
    tried, siblings, first = by_edit(outcomes), by_problem(outcomes), firsts(edits)
    earned = {edit.id: [_earned(one, siblings[edit.problem_id], reward) for one in tried[edit.id]] for edit in edits}
    rewards = {
        id: {name: _over_trials([one[name] for one in each]) for name in (*reward.weights, TOTAL)} for id, each in earned.items()
    }
    groups: dict[str, list[Scored[SelfEdit]]] = {problem.id: [] for problem in problems}
    for edit in edits:
        own, group = tried[edit.id], siblings[edit.problem_id]
        gain, solved = (_over_trials([REWARDS[name](one, group) for one in own]) for name in ("gain", "solved"))
        scored = Scored(edit, rewards[edit.id][TOTAL], gain, solved == 1.0, len(own), first[edit.id].id)
        groups[edit.problem_id].append(scored)
    found = _noise_of_retraining(problems, edits, earned, again, siblings, reward)
    store.put_rewards(rewards)
    if found is not None and edits:
        store.put_metrics(edits[0].round, {"noise": found.share, "noise_deviation": found.deviation})
    return list(groups.values())


def _earned(outcome: Outcome, siblings: Sequence[Outcome], reward: Compose) -> dict[str, float | None]:
    """Every reward of a trial by its name, and their total."""
    parts = reward.parts(outcome, siblings)
    return {**parts, TOTAL: reward.total(outcome, parts)}


def _noise_of_retraining(
    problems: Sequence[Problem],
    edits: Sequence[SelfEdit],
    earned: Mapping[str, Sequence[Mapping[str, float | None]]],
    again: Sequence[Outcome],
    siblings: Mapping[str, Sequence[Outcome]],
    reward: Compose,
) -> Noise | None:
    """How much of the reward's variance is noise of retraining, by the edits' trials and by those made `again`."""
    groups: dict[str, list[list[float]]] = {problem.id: [] for problem in problems}
    twice: list[list[float]] = []
    first, further = firsts(edits), by_edit(again)
    for edit in edits:
        if first[edit.id] is not edit:  # equal edits share their trials, and say nothing of how far equal trainings differ
            continue
        totals = [one[TOTAL] for one in earned[edit.id]]
        groups[edit.problem_id].append([value for value in totals if value is not None])
        group = siblings[edit.problem_id]
        more = [reward(one, [one if _of(other, edit) else other for other in group]) for one in further.get(edit.id, ())]
        twice.append([value for value in (*totals, *more) if more and value is not None])
    return noise(groups.values(), filter(None, twice))


def _of(outcome: Outcome, edit: SelfEdit) -> bool:
    return outcome.trial.edit is not None and outcome.trial.edit.id == edit.id


def _over_trials(values: Sequence[float | None]) -> float | None:
    found = None if None in values else mean(values)
    return None if found is None else steady(found)
