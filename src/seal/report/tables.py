"""The tables of conditions, rounds and problems, as pure functions of a Store. A row is a dict that JSON can hold; its scores are
those of `measured`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from seal.config.recipe import Condition
from seal.domains.arc.domain import is_puzzle
from seal.domains.arc.puzzles import of_problem, text
from seal.loops.curve import CURVE
from seal.loops.stages import TRAIN, firsts
from seal.policy.selection import Scored, contenders
from seal.report.measured import (
    Measure,
    Measured,
    across,
    before_after,
    clusters,
    difference,
    drawn,
    exact,
    f1,
    over,
    phases,
    question_scores,
    read,
    score,
    standing,
    taken_over,
)
from seal.rewards import TOTAL
from seal.rewards.basic import gained
from seal.stats import interval, mean, question_noise, steady
from seal.store import Store, keys
from seal.trials import by_edit
from seal.types import Outcome, Problem, SelfEdit

Row = dict[str, Any]


def evaluation_table(store: Store) -> list[Row]:
    """One row a condition: the mean over passages of the mean over the passage's trials of the mean over its queries.

    `mean`, `low`, `high`: the score with its 95% interval, resampled over clusters of passages; `n`: passages with a score,
    in so many `clusters`; `ungraded`: passages of which no answer could be graded; `f1`, `exact`: the same of those measures;
    `before`: the unchanged model's mean score; `minus_untrained`, `f1_minus_untrained`: the difference to untrained edits,
    passage by passage (None without them, and for themselves).
    `noise`: share of the score's variance between a passage's edits that is retraining noise, None if it can't be known.
    `cut_tokens`: of the edits' rows, cut off at `tuning.pad_length`.
    `shared_trainings`: adapters that all passages shared (continued pretraining), resampled as well; None: each had its own.
    A run evaluated in several phases or rounds (`eval/dev`, `eval/test`) has its rows one after the other, `phase` and `round`
    telling them apart; differences stay within one.
    """
    problems = store.problems()
    table = []
    for (prefix, round), named in phases(store).items():
        if prefix.startswith(CURVE):
            continue
        measured = {condition: read(store, phase, round) for condition, phase in named.items()}
        for condition in get_args(Condition):
            if condition in measured:
                untrained = None if condition == "untrained" else measured.get("untrained")
                row = _condition_row(measured[condition], untrained, problems)
                cut = cut_tokens(store, named[condition], round)
                table.append({"condition": condition, **row, "cut_tokens": cut, "phase": named[condition], "round": round})
    return table


def cut_tokens(store: Store, phase: str, round: int) -> int:
    """Tokens of a round's edits that no training saw, since their rows were longer than `tuning.pad_length`."""
    return sum(store.states(f"{keys.CUT_TOKENS}{phase}/{round}/").values())


def _condition_row(measured: Measured, untrained: Measured | None, problems: Mapping[str, Problem]) -> Row:
    cluster = clusters(problems)
    scores = measured.by_passage(score)
    return {
        **across(measured.columns(score), cluster)._asdict(),
        "n": sum(value is not None for value in scores.values()),
        "ungraded": sum(value is None for value in scores.values()),
        "clusters": drawn(measured.columns(score), cluster),
        "f1": across(measured.columns(f1), cluster)._asdict(),
        "exact": across(measured.columns(exact), cluster)._asdict(),
        "before": mean(over(measured.before.get(id, ()), score) for id in scores),
        "minus_untrained": _difference(measured, untrained, score, cluster),
        "f1_minus_untrained": _difference(measured, untrained, f1, cluster),
        "edits": measured.edits,
        "faults": measured.faults,
        "noise": measured.noise,
        "shared_trainings": measured.shared,
    }


def _difference(a: Measured, b: Measured | None, measure: Measure, cluster: Mapping[str, str]) -> Row | None:
    return None if b is None else difference(a.columns(measure), b.columns(measure), cluster)._asdict()


def training_table(store: Store, phase: str = TRAIN) -> list[Row]:
    """One row a round of the outer loop.

    `reward`: mean over edits; `best`: mean over problems of the best edit's; `intervals`: both with their 95% intervals, clusters
    of problems being resampled; `kept`, `faults`, `seconds`; `taken_over`: trials that took over the outcome of an equal edit's.
    `noise`: the share of the reward's variance among a problem's edits that is mere retraining noise (`stats.noise_share`);
    near 1 the selection is a lottery; None where it can't be known: no edit was tried twice, or none is rewarded yet.
    `noise_deviation`: how far an edit's reward moves when it is trained again, as a standard deviation. `question_noise`: the
    share of the score's variance that comes of asking few questions (`stats.question_noise`), None with one question a problem.
    `ties`: problems whose best reward several unequal edits share; `kept_without_gain`: kept edits after which the score was not
    higher; None under an update that learns from bad edits as bad ones. `cut_tokens`: of its edits' rows, cut off at
    `tuning.pad_length`. Best and ties are those among `selection.contenders`. `decided`: whether what is kept was chosen.
    """
    return [_round_row(store, phase, round) for named, round in store.rounds() if named == phase]


def _judged(store: Store, round: int) -> bool:
    """Of an adaptation's round: whether its edits were judged, of which it may have kept none."""
    rounds = store.get_state(keys.ADAPT_ROUNDS, [])
    return round <= len(rounds) and bool(rounds[round - 1]["learnt"])


def _round_row(store: Store, phase: str, round: int) -> Row:
    edits, outcomes = store.edits(phase, round), store.outcomes(phase, round)
    rewards = {id: named.get(TOTAL) for id, named in store.rewards(phase, round).items()}
    tried, metrics = by_edit(outcomes), store.metrics().get(round, {})
    cluster = clusters(store.problems())
    groups, first = dict[str, list[Scored[SelfEdit]]](), firsts(edits)
    for edit in edits:
        scored = Scored(edit, rewards.get(edit.id), trials=len(tried.get(edit.id, ())), training=first[edit.id].id)
        groups.setdefault(edit.problem_id, []).append(scored)
    best = {id: _best(group) for id, group in groups.items()}
    over_edits = interval([rewards.get(edit.id) for edit in edits], [cluster[edit.problem_id] for edit in edits])
    over_best = interval([reward for reward, _ in best.values()], [cluster[id] for id in best])
    kept = store.kept(phase, round)
    gains = {id: mean(map(_gain, trials)) for id, trials in tried.items()}
    untold = _contrasts(store) or any(id not in gains for id in kept)
    return {
        "round": round,
        "problems": len({edit.problem_id for edit in edits}),
        "edits": len(edits),
        "trials": len(outcomes),
        "taken_over": taken_over(outcomes),
        "reward": over_edits.mean,
        "best": over_best.mean,
        "intervals": {"reward": over_edits._asdict(), "best": over_best._asdict()},
        "kept": len(kept),
        "decided": bool(kept) or "policy_left_out" in metrics or _judged(store, round),  # an update without edits leaves it too
        "kept_without_gain": None if untold else sum(steady(gains.get(id) or 0.0) <= 0 for id in kept),
        "ties": sum(trainings > 1 for _, trainings in best.values()),
        "noise": metrics.get("noise"),
        "noise_deviation": metrics.get("noise_deviation"),
        "question_noise": question_noise(question_scores(outcomes)),
        "faults": sum(one.fault is not None for one in outcomes) + sum(bool(one.fault) and one.id not in tried for one in edits),
        "cut_tokens": cut_tokens(store, phase, round),
        "left_out": int(metrics.get("policy_left_out", 0)),
        "learnt": "policy_loss_last" in metrics,
        "seconds": metrics.get("seconds"),
    }


def _best(group: Sequence[Scored[SelfEdit]]) -> tuple[float | None, int]:
    """The highest reward of a problem's contenders, and how many trainings earned it."""
    rated = [(one.reward, one.training) for one in contenders(group) if one.reward is not None]
    top = max((reward for reward, _ in rated), default=None)
    return top, len({training for reward, training in rated if reward == top})


def _contrasts(store: Store) -> bool:
    """Whether the run's update sets good edits against bad ones, and "kept" are both."""
    return tomllib.loads(store.recipe_toml).get("update", {}).get("method") in ("gradient", "dpo")


def problems_table(store: Store, phase: str = TRAIN, best_first: bool = True) -> list[Row]:
    """One row a problem and round, with its edits, their rewards and the answers before and after (of an edit's first trial).

    Problems and edits are ordered by what they earned: the reward, or in a phase without rewards the score after. A problem
    earned what its best edit did; what earned nothing that could be measured comes last.
    """
    rows = [row for named, round in store.rounds() if named == phase for row in _problem_rows(store, phase, round, best_first)]
    return _ordered(rows, best_first)


def _problem_rows(store: Store, phase: str, round: int, best_first: bool) -> list[Row]:
    problems, outcomes = store.problems(), by_edit(store.outcomes(phase, round))
    rewards, kept = store.rewards(phase, round), set(store.kept(phase, round))
    found: dict[str, list[Row]] = {}
    for edit in store.edits(phase, round):
        trials = outcomes.get(edit.id, [])
        before, after = before_after(trials)
        row = {
            "id": edit.id,
            "source": edit.source,
            "text": edit.text,
            "earned": rewards[edit.id].get(TOTAL) if edit.id in rewards else after,
            "rewards": rewards.get(edit.id, {}),
            "before": before,
            "after": after,
            "kept": edit.id in kept,
            "cut": edit.cut,
            "cut_tokens": store.get_state(f"{keys.CUT_TOKENS}{edit.id}", 0),
            "fault": next((f"{one.kind}: {one.message}" for one in (edit.fault, *(one.fault for one in trials)) if one), None),
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
    return gained(outcome.before, standing(outcome), score)
