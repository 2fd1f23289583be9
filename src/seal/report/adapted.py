"""What `seal adapt` did, as one document that JSON can hold: documents, passages, edits with the gate's verdicts, the table."""

from __future__ import annotations

import tomllib
from typing import Any

from seal.loops.adapt import CONDITIONS, TABLE, accepted, tokens_and_seconds
from seal.loops.adapter_gate import probes_phase
from seal.loops.stages import TRAIN
from seal.report.measured import across, clusters, difference, drawn, exact, f1, over, read, score
from seal.report.tables import Row
from seal.rewards.basic import PROBE
from seal.stats import mean
from seal.store import Store, keys


def is_adapted(store: Store) -> bool:
    """Whether the run is an adaptation whose last round has been measured."""
    round = str(len(store.get_state(keys.ADAPT_ROUNDS, [])))
    return all(round in store.get_state(known, {}) for known in (keys.ADAPT_FINISHED, keys.ADAPT_PROMPTS))


def adapted(store: Store) -> Row:
    """The last round of an adaptation.

    `documents`: path, sha256, passages; `unread`: path, reason; `passages`: id, title, `verdict` (accepted, or why not), the
    questions that chose and those held out; `edits`: each with what the gate saw; `table`: one row a condition, over so
    many `clusters` (documents); `questions`: how many the table is read on, `held_out`: whether they chose no edit; `finished`:
    the finished adapter's gate, the `weight` it is taken at, and its verdicts as a `whole` and as `taken`; `probes`: how many the
    model knew before, and after; `bound`: the share that must be left; `made`: of what the adapter was made.
    """
    round = len(store.get_state(keys.ADAPT_ROUNDS))
    edits = _edits(store, round)
    read_in = store.get_state(keys.ADAPT_DOCUMENTS)
    passages = [_passage(store, one, edits) for one in read_in["passages"]]
    table_ids = set(store.base("plain", round))
    problems = store.problems()
    finished = store.get_state(keys.ADAPT_FINISHED)[str(round)]
    chose = {query.id for id in table_ids for query in problems[id.removesuffix(TABLE)].queries}
    return {
        "round": round,
        "documents": read_in["documents"],
        "unread": read_in["unread"],
        "passages": passages,
        "edits": edits,
        "questions": sum(len(problems[id].queries) for id in table_ids),
        "held_out": not any(query.id in chose for id in table_ids for query in problems[id].queries),
        "table": adapted_table(store),
        "finished": finished,
        "probes": _probes(store, round, finished["weight"]),
        "bound": tomllib.loads(store.recipe_toml)["adapt"]["retained"],
        "made": _made(store),
    }


def _made(store: Store) -> Row:
    """`policy`: who wrote the edits, if not the plain model, and whether its weights are part of the adapter (`learner`); `edits`
    a passage; `shortlist`: how those that were tried were chosen, if not all; `sentences`, `lessons` and `rehearsal`, as the
    recipe has them."""
    recipe = tomllib.loads(store.recipe_toml)
    return {
        "policy": store.get_state(keys.ADAPT_POLICY),
        "learner": recipe["outer"].get("learner", "policy"),
        "edits": recipe["outer"]["edits"],
        "shortlist": recipe["outer"].get("shortlist"),
        "sentences": recipe["adapt"].get("sentences", False),
        "lessons": recipe["adapt"].get("lessons", 0),
        "rehearsal": recipe["adapt"].get("rehearsal", 0),
    }


def _edits(store: Store, round: int) -> list[Row]:
    """Every edit of the passages that there are now, whichever round it was tried in."""
    verdicts: dict[str, Row] = store.get_state(keys.ADAPT_VERDICTS, {})
    kept = {edit.id for edit in accepted(store, round)}
    wanted = set(store.get_state(keys.ADAPT_ROUNDS)[round - 1]["passages"])
    return [
        {
            "id": edit.id,
            "passage": edit.problem_id,
            "source": edit.source,
            "text": edit.text,
            **verdicts[edit.id],
            "kept": edit.id in kept,
        }
        for number in range(1, round + 1)
        for edit in store.edits(TRAIN, number)
        if edit.problem_id in wanted and edit.id in verdicts
    ]


def _passage(store: Store, known: Row, edits: list[Row]) -> Row:
    problems = store.problems()
    own = [edit for edit in edits if edit["passage"] == known["id"]]
    if known["id"] not in problems:
        verdict = "no question about it, so that nothing could be tried"
    elif any(edit["kept"] for edit in own):
        verdict = "accepted"
    elif not own:
        verdict = "none of its edits could be rated, so that none was tried"
    else:
        verdict = "; ".join(dict.fromkeys(edit["refused"] for edit in own if edit["refused"])) or "refused"
    here, held = problems.get(known["id"]), problems.get(known["id"] + TABLE)
    choosing = [] if here is None else [query.question for query in here.queries if query.role == "target"]
    other = [] if held is None else [query.question for query in held.queries if query.question not in choosing]
    return {**known, "verdict": verdict, "accepted": verdict == "accepted", "choosing": choosing, "held_out": other}


def adapted_table(store: Store) -> list[Row]:
    """The table of the last round: one row a condition."""
    round = len(store.get_state(keys.ADAPT_ROUNDS))
    measured = {condition: read(store, condition, round) for condition in CONDITIONS}
    cluster, took = clusters(store.problems()), tokens_and_seconds(store, round)
    plain = measured["plain"]
    return [
        {
            "condition": condition,
            **across(one.columns(score), cluster)._asdict(),
            "clusters": drawn(one.columns(score), cluster),
            "f1": across(one.columns(f1), cluster)._asdict(),
            "exact": across(one.columns(exact), cluster)._asdict(),
            "logprob": mean(over(answers, _logprob) for trials in one.answers.values() for answers in trials),
            "minus_plain": None if one is plain else difference(one.columns(score), plain.columns(score), cluster)._asdict(),
            "f1_minus_plain": None if one is plain else difference(one.columns(f1), plain.columns(f1), cluster)._asdict(),
            **took[condition],
        }
        for condition, one in measured.items()
    ]


def _logprob(answer: Any) -> float | None:
    found: float | None = answer.metrics.get("logprob")
    return found


def _probes(store: Store, round: int, weight: float) -> Row:
    """How many probes the plain model answers right, and how many of those the adapted one still does."""
    before, after = (_right(store, probes_phase(worn), round) for worn in (None, weight))
    return {
        "known": len(before),
        "kept": len(before & after),
        "retained": len(before & after) / len(before) if before else None,
    }


def _right(store: Store, phase: str, round: int) -> set[str]:
    answers = [one for found in store.base(phase, round).values() for one in found]
    return {one.query_id for one in answers if one.metrics.get(PROBE) == 1.0}
