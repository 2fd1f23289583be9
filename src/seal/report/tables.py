"""Every table seal prints or gives as JSON, as pure functions of a Store. A row is a dict that JSON can hold.

A trial's score is the mean of its answers' scores, those that could not be graded left out. A trial with a fault has no
answers: its edit changed nothing, so the unchanged model's answers stand for it, and it is counted in `faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import variance
from typing import Any, get_args

from seal.config.recipe import Condition
from seal.domains.arc.domain import is_puzzle
from seal.domains.arc.puzzles import of_problem, text
from seal.stats import Interval, interval, mean, paired
from seal.store import Store
from seal.types import Answer, Outcome, Problem

Row = dict[str, Any]
Measure = Callable[[Answer], float | None]

TOTAL = "reward"
"""The name under which the weighted sum of an edit's rewards is kept."""


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
    return outcome.before if outcome.fault else outcome.after


@dataclass(frozen=True, slots=True)
class _Measured:
    """What one condition's answers were, by problem id: one tuple a trial."""

    answers: Mapping[str, Sequence[tuple[Answer, ...]]]
    before: Mapping[str, tuple[Answer, ...]]
    edits: int = 0
    faults: int = 0

    def by_passage(self, measure: Measure) -> dict[str, float | None]:
        """The mean over a passage's trials of the mean over its queries."""
        return {id: mean(_mean(trial, measure) for trial in trials) for id, trials in self.answers.items()}


def evaluation_table(store: Store) -> list[Row]:
    """One row a condition: the mean over passages of the mean over the passage's trials of the mean over its queries.

    `mean`, `low`, `high`: the score with its 95% interval, resampled over clusters of passages; `n`: passages with a score;
    `f1`, `exact`: the same of those measures; `before`: the unchanged model's mean score; `minus_untrained`,
    `f1_minus_untrained`: the difference to untrained edits, passage by passage (None without them, and for themselves).
    A run evaluated in several phases or rounds (`eval/dev`, `eval/test`) has its rows one after the other, `phase` and `round`
    telling them apart; differences stay within one.
    """
    groups: dict[tuple[str, int], dict[str, str]] = {}
    for phase, round in store.rounds():
        prefix, _, condition = phase.rpartition("/")
        if condition in get_args(Condition):
            groups.setdefault((prefix, round), {})[condition] = phase
    problems = store.problems()
    table = []
    for (_, round), phases in groups.items():
        measured = {condition: _measured(store, phase, round) for condition, phase in phases.items()}
        for condition in get_args(Condition):
            if condition in measured:
                untrained = None if condition == "untrained" else measured.get("untrained")
                row = _condition_row(measured[condition], untrained, problems)
                table.append({"condition": condition, **row, "phase": phases[condition], "round": round})
    return table


def _measured(store: Store, phase: str, round: int) -> _Measured:
    before = store.base(phase, round)
    edits, outcomes = store.edits(phase, round), store.outcomes(phase, round)
    if not edits:  # the unchanged model is what this condition measures
        return _Measured({id: [answers] for id, answers in before.items()}, before)
    trials = {id: [standing(one) for one in group] for id, group in _by_problem(outcomes).items()}
    return _Measured(trials, before, len(edits), sum(one.fault is not None for one in outcomes))


def _condition_row(measured: _Measured, untrained: _Measured | None, problems: Mapping[str, Problem]) -> Row:
    clusters = {id: problem.cluster or id for id, problem in problems.items()}
    scores = measured.by_passage(score)
    return {
        **_ends(_over_passages(scores, clusters)),
        "n": sum(value is not None for value in scores.values()),
        "f1": _ends(_over_passages(measured.by_passage(f1), clusters)),
        "exact": _ends(_over_passages(measured.by_passage(exact), clusters)),
        "before": mean(_mean(measured.before.get(id, ()), score) for id in scores),
        "minus_untrained": _difference(measured, untrained, score, clusters),
        "f1_minus_untrained": _difference(measured, untrained, f1, clusters),
        "edits": measured.edits,
        "faults": measured.faults,
    }


def _over_passages(values: Mapping[str, float | None], clusters: Mapping[str, str]) -> Interval:
    return interval(list(values.values()), [clusters[id] for id in values])


def _difference(a: _Measured, b: _Measured | None, measure: Measure, clusters: Mapping[str, str]) -> Row | None:
    if b is None:
        return None
    mine, theirs = a.by_passage(measure), b.by_passage(measure)
    both = [id for id in mine if id in theirs]
    return _ends(paired([mine[id] for id in both], [theirs[id] for id in both], [clusters[id] for id in both]))


def training_table(store: Store, phase: str = "train") -> list[Row]:
    """One row a round of the outer loop.

    `reward`: mean over edits; `best`: mean over problems of the best edit's; `kept`, `faults`, `seconds`.
    `noise`: the share of the reward's variance among a problem's edits that is mere retraining noise, known with two repeats
    or more: the variance of a mean of repeats, over the variance of those means; near 1 the selection is a lottery.
    `ties`: problems whose best reward several edits share; `kept_without_gain`: kept edits after which the score was not higher.
    """
    return [_round_row(store, phase, round) for named, round in store.rounds() if named == phase]


def _round_row(store: Store, phase: str, round: int) -> Row:
    edits, outcomes = store.edits(phase, round), store.outcomes(phase, round)
    rewards = {id: named.get(TOTAL) for id, named in store.rewards(phase, round).items()}
    groups: dict[str, list[float]] = {}
    for edit in edits:
        reward = rewards.get(edit.id)
        if reward is not None:
            groups.setdefault(edit.problem_id, []).append(reward)
    kept = store.kept(phase, round)
    gains = {id: mean(map(_gain, trials)) for id, trials in _by_edit(outcomes).items()}
    return {
        "round": round,
        "problems": len({edit.problem_id for edit in edits}),
        "edits": len(edits),
        "trials": len(outcomes),
        "reward": mean(rewards.values()),
        "best": mean(max(group) for group in groups.values()),
        "kept": len(kept),
        "kept_without_gain": sum((gains.get(id) or 0.0) <= 0 for id in kept),
        "ties": sum(group.count(max(group)) > 1 for group in groups.values()),
        "noise": _noise(outcomes),
        "faults": sum(one.fault is not None for one in outcomes),
        "seconds": store.metrics().get(round, {}).get("seconds"),
    }


def _noise(outcomes: Iterable[Outcome]) -> float | None:
    within, between = [], []
    for group in _by_problem(outcomes).values():
        means = []
        for trials in _by_edit(group).values():
            scores = [value for one in trials if (value := _mean(standing(one), score)) is not None]
            if scores:
                means.append(sum(scores) / len(scores))
            if len(scores) > 1:
                within.append(variance(scores) / len(scores))
        if len(means) > 1:
            between.append(variance(means))
    noise, total = mean(within), mean(between)
    return min(1.0, noise / total) if noise is not None and total else None


def problems_table(store: Store, phase: str = "train", best_first: bool = True) -> list[Row]:
    """One row a problem and round, with its edits, their rewards and the answers before and after (of an edit's first trial).

    Problems and edits are ordered by what they earned: the reward, or in a phase without rewards the score after. A problem
    earned what its best edit did; what earned nothing that could be measured comes last.
    """
    rows = [row for named, round in store.rounds() if named == phase for row in _problem_rows(store, phase, round, best_first)]
    return _ordered(rows, best_first)


def _problem_rows(store: Store, phase: str, round: int, best_first: bool) -> list[Row]:
    problems, outcomes = store.problems(), _by_edit(store.outcomes(phase, round))
    rewards, kept = store.rewards(phase, round), set(store.kept(phase, round))
    found: dict[str, list[Row]] = {}
    for edit in store.edits(phase, round):
        trials = outcomes.get(edit.id, [])
        after = mean(_mean(standing(one), score) for one in trials)
        row = {
            "id": edit.id,
            "text": edit.text,
            "earned": rewards[edit.id].get(TOTAL) if edit.id in rewards else after,
            "rewards": rewards.get(edit.id, {}),
            "before": mean(_mean(one.before, score) for one in trials),
            "after": after,
            "kept": edit.id in kept,
            "fault": next((f"{one.fault.kind}: {one.fault.message}" for one in trials if one.fault), None),
            "answers": _answer_rows(problems[edit.problem_id], trials[0]) if trials else [],
        }
        found.setdefault(edit.problem_id, []).append(row)
    rows = []
    for id, edits in found.items():
        earned = [edit["earned"] for edit in edits if edit["earned"] is not None]
        best = max(earned) if earned else None
        edits = _ordered(edits, best_first)
        row = {"id": id, "title": problems[id].title, "round": round, "earned": best, "edits": edits}
        rows.append({**row, "pairs": pairs_of(problems[id])})
    return rows


def pairs_of(problem: Problem) -> list[tuple[str, str]]:
    """The example pairs of a puzzle, as rows of digits; of any other problem none."""
    if not is_puzzle(problem):
        return []
    return [(text(pair.input), text(pair.output)) for pair in of_problem(problem).shown if pair.output]


def _answer_rows(problem: Problem, outcome: Outcome) -> list[Row]:
    before = {answer.query_id: answer for answer in outcome.before}
    after = {answer.query_id: answer for answer in outcome.after}
    return [
        {
            "question": query.question,
            "target": query.answer,
            "before": before[query.id].text if query.id in before else None,
            "before_score": before[query.id].score if query.id in before else None,
            "after": after[query.id].text if query.id in after else None,
            "after_score": after[query.id].score if query.id in after else None,
        }
        for query in problem.queries
        if query.role == "target"
    ]


def _ordered(rows: list[Row], best_first: bool) -> list[Row]:
    sign = -1 if best_first else 1
    return sorted(rows, key=lambda row: (row["earned"] is None, sign * (row["earned"] or 0.0)))


def _gain(outcome: Outcome) -> float | None:
    before, after = _mean(outcome.before, score), _mean(standing(outcome), score)
    return None if before is None or after is None else after - before


def _mean(answers: Iterable[Answer], measure: Measure) -> float | None:
    return mean(map(measure, answers))


def _ends(found: Interval) -> Row:
    return found._asdict()


def _by_problem(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(one.trial.problem.id, []).append(one)
    return groups


def _by_edit(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        if one.trial.edit:
            groups.setdefault(one.trial.edit.id, []).append(one)
    return groups
