"""What self-edits earned, how long they were and what they took: one row an edit, one row a round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seal.loops.stages import TRAIN
from seal.report.measured import before_after, clusters
from seal.report.tables import Row
from seal.rewards import TOTAL
from seal.stats import interval, mean
from seal.store import Store
from seal.trials import by_edit
from seal.types import Outcome, SelfEdit


def edits_table(store: Store, phase: str = TRAIN) -> list[Row]:
    """One row an edit: the `cluster` its problem is in (a SQuAD article), its `reward` (None: not to be learnt from), whether it
    was `kept`, the `tokens` the policy wrote, the mean score `before` and `after` its trials, what they took together
    (`train_tokens`, `seconds`), and the kind of its `fault`."""
    return [row for named, round in store.rounds() if named == phase for row in _edit_rows(store, phase, round)]


def _edit_rows(store: Store, phase: str, round: int) -> list[Row]:
    cluster = clusters(store.problems())
    rewards, kept, trials = store.rewards(phase, round), set(store.kept(phase, round)), by_edit(store.outcomes(phase, round))
    return [
        {
            "id": edit.id,
            "problem": edit.problem_id,
            "cluster": cluster[edit.problem_id],
            "round": round,
            "reward": rewards.get(edit.id, {}).get(TOTAL),
            "kept": edit.id in kept,
            **_trial_columns(edit, trials.get(edit.id, ())),
        }
        for edit in store.edits(phase, round)
    ]


def _trial_columns(edit: SelfEdit, trials: Sequence[Outcome]) -> Row:
    fault = edit.fault or next((one.fault for one in trials if one.fault), None)
    before, after = before_after(trials)
    return {
        "before": before,
        "after": after,
        "tokens": edit.tokens,
        "trials": len(trials),
        "train_tokens": sum(one.cost.train_tokens for one in trials),
        "seconds": sum(one.cost.train_seconds + one.cost.answer_seconds for one in trials),
        "fault": fault.kind if fault else None,
    }


def costs_table(edits: Sequence[Row]) -> list[Row]:
    """One row a round of `edits_table`: the mean score `before` and `after` over edits, and `best`, the mean over problems of the
    best edit's; `intervals`: the three with their 95% intervals, resampled over clusters of problems; `tokens` an edit;
    `train_tokens` and `seconds` a trial; how many edits have which of the `faults`."""
    rows = []
    for round in dict.fromkeys(row["round"] for row in edits):
        own = [row for row in edits if row["round"] == round]
        best: dict[tuple[str, str], float] = {}
        for row in own:
            if row["after"] is not None:
                which = row["problem"], row["cluster"]
                best[which] = max(row["after"], best.get(which, row["after"]))
        found = {name: interval([row[name] for row in own], [row["cluster"] for row in own]) for name in ("before", "after")}
        found["best"] = interval(list(best.values()), [cluster for _, cluster in best])
        trials = sum(row["trials"] for row in own)
        rows.append(
            {
                "round": round,
                **{name: one.mean for name, one in found.items()},
                "intervals": {name: one._asdict() for name, one in found.items()},
                "tokens": mean(float(row["tokens"]) for row in own),
                "train_tokens": sum(row["train_tokens"] for row in own) / trials if trials else None,
                "seconds": sum(row["seconds"] for row in own) / trials if trials else None,
                "faults": dict(Counter(row["fault"] for row in own if row["fault"]).most_common()),
            }
        )
    return rows
