"""A run put together by hand, with everything a report shows: three rounds on the same problems, faults, ungraded answers, an
evaluation, and text that would break a careless page; and a step of a stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seal.store import Store, edit_id, trial_id
from seal.types import Answer, Cost, Fault, Outcome, Problem, Prompt, Query, SelfEdit, Trial

HOSTILE = "</pre><script>document.title = 'taken'</script><img src=http://example.org/x.png> [bold]{{ 7 * 7 }} & ünïcödé"
NOUNS = ("ferry", "mill", "bridge", "school")


def a_run(root: Path, name: str = "by-hand", late: int = 0) -> Path:
    """Writes it; its directory. `late`: rounds later that its edits begin to gain."""
    with Store.create(root, name, f'name = "{name}"\nseed = {late}\n', {"python": "3.11", "note": HOSTILE}) as store:
        problems = [_problem(noun) for noun in NOUNS]
        store.put_problems(problems)
        for round in (1, 2, 3):
            for place, problem in enumerate(problems[:3]):
                a_group(store, "train", round, problem, place - late)
            store.put_rewards({edit.id: {"accuracy": value, "reward": value} for edit, value in _rewards(store, round)})
            store.put_kept("train", round, [edit_id("train", round, problem.id, 1) for problem in problems[:2]])
            store.put_metrics(round, {"seconds": 61.0 * round})
        store.put_base("base", 0, problems[3].id, _answers(problems[3], 0.0, 0.0))
        for phase, bonus in (("untrained", 1), ("seal", 2)):
            a_group(store, phase, 0, problems[3], bonus - late)
        store.finish()
        return store.path


def _problem(noun: str) -> Problem:
    queries = (Query(f"{noun}1", f"Who built the {noun}?", "Ada"), Query(f"{noun}2", "When?", "1901"))
    return Problem(noun, f"The {noun}", json.dumps({"context": f"Ada built the {noun} in 1901."}), queries)


def _answers(problem: Problem, *scores: float | None) -> tuple[Answer, ...]:
    texts = ["Ada" if score else HOSTILE for score in scores]
    return tuple(Answer(query.id, text, score) for query, text, score in zip(problem.queries, texts, scores, strict=True))


def a_group(store: Store, phase: str, round: int, problem: Problem, place: int) -> None:
    """Three edits: no gain, a gain that grows with round and place, a fault."""
    before = _answers(problem, 0.0, None)
    store.put_base(phase, round, problem.id, before)
    texts = (HOSTILE, f"Ada built the {problem.id}. It was round {round}.", "")
    for index, text in enumerate(texts):
        fault = Fault("empty", "nothing was written") if not text else None
        edit = SelfEdit(
            edit_id(phase, round, problem.id, index),
            problem.id,
            text,
            round,
            index,
            Prompt("write"),
            tokens=len(text),
            fault=fault,
        )
        store.put_edits([edit])
        after = () if fault else _answers(problem, float(index and round + place > 1), 0.0)
        cost = Cost(train_tokens=10 * len(text), train_seconds=0.5, answer_seconds=0.25)
        store.put_outcome(phase, round, Outcome(Trial(trial_id(edit.id, 0), problem, edit), before, after, cost, fault=fault))


def _rewards(store: Store, round: int) -> list[tuple[SelfEdit, float | None]]:
    rewards = (0.0, round / 4, None)
    return [(edit, rewards[edit.index]) for edit in store.edits("train", round)]


def a_record(step: int, scores: dict[str, float], **more: Any) -> dict[str, Any]:
    """What the store has of a step, made by hand."""
    row = {id: {"score": score, "answers": []} for id, score in scores.items()}
    learnt = {"step": step, "problem": "a", "source": "given", "weight": 1.0, "why": "", "facts": {}, "adapter": "x", "edit": "e"}
    took = {"cost": {"train_tokens": 9}, "learning_seconds": 1.0, "asking_seconds": 1.0, "made": "2026-11-28T12:00:00+00:00"}
    return {**learnt, **took, "row": row, "probes": {"score": 1.0, "logprob": -1.0}, "routing": None, **more}


def a_stream(root: Path) -> Path:
    """Writes a run that learnt of the mill and then the ferry, under two strategies; its directory."""
    with Store.create(root, "stream", "", {}) as store:
        problems = {noun: _problem(noun) for noun in ("ferry", "mill")}
        store.put_problems(problems.values())
        store.put_edits(
            [SelfEdit(edit_id("given", 0, noun, 0), noun, f"The {noun} is old.", 0, 0, Prompt("")) for noun in problems]
        )
        order = ["mill", "ferry"]
        for strategy in ("gate", "merge"):
            scores = ({"mill": 0.0, "ferry": 0.0}, {"mill": 1.0, "ferry": 0.5}, {"mill": 0.5, "ferry": 0.75})
            for step, found in enumerate(scores):
                row = {
                    noun: {"score": score, "answers": [_said(problems[noun], place, score, step) for place in (0, 1)]}
                    for noun, score in found.items()
                }
                store.set_state(f"continual/{strategy}/0/{step}", a_record(step, {}, order=order, row=row))
        store.finish()
        return store.path


def _said(problem: Problem, place: int, score: float, step: int) -> dict[str, Any]:
    text = f"{problem.id} after {step}" if step else ""
    return {"query_id": problem.queries[place].id, "text": text, "score": score, "metrics": {}}


def an_adaptation() -> dict[str, Any]:
    """The document of `adapted`, of five conditions and one passage."""
    wide = {"mean": 0.533, "low": 0.133, "high": 0.933}
    row = {**wide, "clusters": 6, "f1": wide, "minus_plain": wide, "f1_minus_plain": wide, "tokens": 538.0, "seconds": 0.5}
    names = ("plain", "retrieval", "whole", "adapter", "adapter_retrieval")
    return {
        "questions": 1,
        "held_out": True,
        "passages": [{"source": "a.md", "title": "A", "verdict": "accepted", "accepted": True, "choosing": [], "questions": 1}],
        "unread": [{"path": "b.pdf", "reason": "no text in it"}],
        "table": [{"condition": name, **row} for name in names],
        "edits": [],
        "probes": {"known": 0, "kept": 0},
        "bound": 0.7,
        "finished": {"weight": 1.0, "whole": {"retained": None}, "taken": {"gain": None}},
        "made": {"policy": None, "lessons": 0},
    }
