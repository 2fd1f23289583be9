"""What a condition's answers were, read out of a run: the numbers under every table, passage by passage.

A trial's score is the mean of its answers' scores, those that could not be graded left out. A trial with a fault has no
answers: its edit changed nothing, so the unchanged model's answers stand for it. Where trials share a training, that has
answered all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from seal.config.recipe import Condition
from seal.stats import Interval, crossed, mean, noise_share
from seal.store import Store
from seal.trials import by_edit, by_problem
from seal.types import Answer, Outcome, Problem

Measure = Callable[[Answer], float | None]
Columns = Mapping[str, Sequence[float | None]]
"""By problem id: a value for each training that all problems share; a single one where every problem has its own."""


def score(answer: Answer) -> float | None:
    """Right or wrong, or between."""
    return answer.score


def f1(answer: Answer) -> float | None:
    """Token F1 with the target answer."""
    return answer.metrics.get("f1")


def exact(answer: Answer) -> float | None:
    """The target's very words."""
    return answer.metrics.get("exact")


def standing(outcome: Outcome) -> tuple[Answer, ...]:
    """The answers that count for a trial: those after, or those before if the edit did nothing because of a fault."""
    return outcome.before if outcome.fault and not outcome.after else outcome.after


def over(answers: Iterable[Answer], measure: Measure) -> float | None:
    """The mean of a measure over answers."""
    return mean(map(measure, answers))


def before_after(trials: Sequence[Outcome]) -> tuple[float | None, float | None]:
    """The mean score over an edit's trials, before and after."""
    return mean(over(one.before, score) for one in trials), mean(over(standing(one), score) for one in trials)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one condition's answers were, by problem id: one tuple a trial."""

    answers: Mapping[str, Sequence[tuple[Answer, ...]]]
    before: Mapping[str, tuple[Answer, ...]]
    trained: Mapping[str, Sequence[int]]
    """Which training each trial's answers come from: trials of one seed were one adapter (continued pretraining)."""
    outcomes: Sequence[Outcome] = ()
    edits: int = 0

    @property
    def faults(self) -> int:
        """Trials with a fault."""
        return sum(one.fault is not None for one in self.outcomes)

    @property
    def shared(self) -> int | None:
        """How many trainings the problems share; None where each problem has its own."""
        several = {seed for seeds in self.trained.values() for seed in seeds}
        own = sum(len(set(seeds)) for seeds in self.trained.values())
        return len(several) if len(several) < own else None

    @property
    def noise(self) -> float | None:
        """Share of the score's variance between a problem's edits that is noise of retraining; None where it can't be known."""
        return noise_share(edit_scores(self.outcomes)) if self.shared is None else None

    def columns(self, measure: Measure) -> Columns:
        """The mean over a passage's trials of the mean over its queries; apart for each training that the passages share."""
        if self.shared is None:
            return {id: [mean(over(trial, measure) for trial in trials)] for id, trials in self.answers.items()}
        seeds = list(dict.fromkeys(seed for found in self.trained.values() for seed in found))
        return {
            id: [
                mean(over(trial, measure) for trial, own in zip(trials, self.trained[id], strict=True) if own == seed)
                for seed in seeds
            ]
            for id, trials in self.answers.items()
        }

    def by_passage(self, measure: Measure) -> dict[str, float | None]:
        """The mean over a passage's trials of the mean over its queries."""
        return {id: mean(values) for id, values in self.columns(measure).items()}


def read(store: Store, phase: str, round: int) -> Measured:
    """A phase of a run. Without edits the unchanged model is what it measures."""
    before = store.base(phase, round)
    edits, outcomes = store.edits(phase, round), store.outcomes(phase, round)
    if not edits:
        return Measured({id: [answers] for id, answers in before.items()}, before, {})
    groups = by_problem(outcomes)
    answers = {id: [standing(one) for one in group] for id, group in groups.items()}
    trained = {id: [one.trial.seed for one in group] for id, group in groups.items()}
    return Measured(answers, before, trained, outcomes, len(edits))


def phases(store: Store) -> dict[tuple[str, int], dict[str, str]]:
    """The evaluations of a run: (prefix, round) -> condition -> phase. `dev/seal` has the prefix `dev`, most have none."""
    groups: dict[tuple[str, int], dict[str, str]] = {}
    for phase, round in store.rounds():
        prefix, _, condition = phase.rpartition("/")
        if condition in get_args(Condition):
            groups.setdefault((prefix, round), {})[condition] = phase
    return groups


def clusters(problems: Mapping[str, Problem]) -> dict[str, str]:
    """What an interval resamples, by problem id: the article several passages share, else the passage itself."""
    return {id: problem.cluster or id for id, problem in problems.items()}


def drawn(values: Columns, cluster: Mapping[str, str]) -> int:
    """How many clusters an interval of these values resamples: those with a value."""
    return len({cluster[id] for id, own in values.items() if mean(own) is not None})


def across(values: Columns, cluster: Mapping[str, str]) -> Interval:
    """The mean over passages of a measure from 0 to 1, with its interval, clusters resampled, and the trainings they share."""
    found = crossed(list(values.values()), None, [cluster[id] for id in values])
    if found.low is None or found.high is None:
        return found
    return found._replace(low=max(0.0, found.low), high=min(1.0, found.high))  # two trainings may be taken beyond what there is


def difference(a: Columns, b: Columns, cluster: Mapping[str, str] | None) -> Interval:
    """The mean of `a - b` over the passages both have; `cluster` None: passages resampled one by one."""
    both = [id for id in a if id in b]
    labels = both if cluster is None else [cluster[id] for id in both]
    return crossed([a[id] for id in both], [b[id] for id in both], labels)


MINUS = " - "
"""Between two conditions, in what their difference is called."""


def minus(a: str, b: str) -> str:
    """What the difference of two conditions is called; of a condition in two runs, its own name."""
    return a if a == b else f"{a}{MINUS}{b}"


def trainings(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """One outcome a training: equal edits of a problem share one, and only its first stays."""
    first: dict[int, Outcome] = {}
    for one in outcomes:
        first.setdefault(one.trial.seed, one)
    return list(first.values())


def taken_over(outcomes: Iterable[Outcome]) -> int:
    """How many trials took over the outcome of an equal one: they trained on tokens and took no time."""
    return sum(one.cost.train_tokens > 0 and one.cost.train_seconds == 0.0 for one in outcomes)


def edit_scores(outcomes: Iterable[Outcome]) -> list[list[list[float]]]:
    """The score of every training, by problem and edit."""
    return [
        [[value for one in trials if (value := over(standing(one), score)) is not None] for trials in by_edit(group).values()]
        for group in by_problem(trainings(outcomes)).values()
    ]


def question_scores(outcomes: Iterable[Outcome]) -> list[list[list[float | None]]]:
    """The score on every question, over an edit's trainings, by problem and edit; faults, which answered none, left out."""
    answered = (one for one in trainings(outcomes) if not one.fault)
    return [
        [[over(answers, score) for answers in zip(*(one.after for one in own), strict=True)] for own in by_edit(group).values()]
        for group in by_problem(answered).values()
    ]
