"""How well each reward follows the real ones: rank correlations over a run's edits. And whose questions they ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seal.loops.questions import found_questions
from seal.loops.stages import TRAIN
from seal.report.tables import Row
from seal.rewards import REWARDS, score
from seal.stats import Interval, mean, rank_correlation, within
from seal.store import Store
from seal.trials import by_edit


def rewards_table(store: Store, phase: str = TRAIN) -> list[Row]:
    """One row a round and reward, weighted or only measured, and one for the `reward` they add up to.

    `mean` over the `n` edits that have it; `problems`: how many those of them that were tried are of. `score`, `logprob`: its
    Spearman correlation over edits with what the trials gave, the score after and the gain in the targets' log-probability, with
    95% intervals over problems; None without trials, or where nothing varies. `score_within`, `logprob_within`: the same once
    each problem's mean is taken away on both sides, since edits are chosen among those of one problem.
    """
    return [row for named, round in store.rounds() if named == phase for row in _round_rows(store, phase, round)]


def _round_rows(store: Store, phase: str, round: int) -> list[Row]:
    rewards = store.rewards(phase, round)
    trials = by_edit(one for one in store.outcomes(phase, round) if one.fault is None)
    edits = [edit for edit in store.edits(phase, round) if edit.id in rewards]
    problems = [edit.problem_id for edit in edits]
    real = {
        "score": [mean(score(one.after) for one in trials.get(edit.id, ())) for edit in edits],
        "logprob": [mean(REWARDS["logprob"](one, ()) for one in trials.get(edit.id, ())) for edit in edits],
    }
    rows = []
    for name in dict.fromkeys(name for named in rewards.values() for name in named):
        values = [rewards[edit.id].get(name) for edit in edits]
        known = [edit for edit, value in zip(edits, values, strict=True) if value is not None]
        tried = len({edit.problem_id for edit in known if edit.id in trials})
        about: Row = {"n": len(known), "problems": tried, "mean": mean(values)}
        row: Row = {"round": round, "reward": name, **about}
        for what, other in real.items():
            over_all, inside = follows(values, other, problems)
            row |= {what: over_all._asdict(), f"{what}_within": inside._asdict()}
        rows.append(row)
    return rows


def follows(values: Sequence[float | None], other: Sequence[float | None], problems: Sequence[str]) -> tuple[Interval, Interval]:
    """Rank correlations of two numbers an edit: over all edits, and once each problem's mean, over the edits that have both, is
    taken away from both."""
    both = [(a, b) if a is not None and b is not None else (None, None) for a, b in zip(values, other, strict=True)]
    mine, theirs = within([a for a, _ in both], problems), within([b for _, b in both], problems)
    return rank_correlation(values, other, problems), rank_correlation(mine, theirs, problems)


def questions_row(store: Store) -> Row | None:
    """What became of the questions the model wrote itself: `texts`, those `asked` at least one, questions `written`, and how many
    had each verdict. None where training had the gold ones."""
    known = found_questions(store)
    if not known:
        return None
    verdicts = {id: Counter(one["verdict"] for one in found) for id, found in known.items()}
    total = Counter[str]()
    for counted in verdicts.values():
        total += counted
    asked = sum(counted["kept"] > 0 for counted in verdicts.values())
    return {"texts": len(known), "asked": asked, "written": total.total(), "verdicts": dict(total.most_common())}
