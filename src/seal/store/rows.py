"""Dataclasses to rows and back: `read_x(x_row(value)) == value`. pydantic reads the JSON columns back."""

from __future__ import annotations

import sqlite3
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from seal.ids import edit_id
from seal.types import Answer, Cost, Example, Fault, Outcome, Problem, Prompt, Query, SelfEdit, Trial, Tuning

Row = sqlite3.Row

# a loss may well be NaN: that is what its fault says
_NUMBERS = ConfigDict(ser_json_inf_nan="constants")
_QUERIES = TypeAdapter(tuple[Query, ...])
_PROMPT = TypeAdapter(Prompt)
_EXAMPLES = TypeAdapter(tuple[Example, ...])
_TUNING = TypeAdapter(Tuning)
_LOSSES = TypeAdapter(tuple[float, ...], config=_NUMBERS)
_METRICS = TypeAdapter(dict[str, float], config=_NUMBERS)


def phase_of(edit: SelfEdit) -> str:
    """The phase an edit's id names. Raises ValueError if the id is not `edit_id` of its own parts."""
    phase = edit.id.removesuffix(edit_id("", edit.round, edit.problem_id, edit.index))
    if phase in ("", edit.id):
        raise ValueError(f"edit id {edit.id!r} is not phase/{edit.round}/{edit.problem_id}/{edit.index}")
    return phase


def problem_row(problem: Problem) -> dict[str, Any]:
    """A row of `problems`."""
    return {
        "id": problem.id,
        "title": problem.title,
        "payload": problem.payload,
        "queries": _json(_QUERIES, problem.queries),
        "cluster": problem.cluster,
    }


def read_problem(row: Row) -> Problem:
    """A row of `problems` as the problem it was."""
    return Problem(row["id"], row["title"], row["payload"], _QUERIES.validate_json(row["queries"]), row["cluster"])


def edit_row(edit: SelfEdit) -> dict[str, Any]:
    """A row of `edits`. Raises ValueError if its id is not what `edit_id` makes."""
    return {
        "id": edit.id,
        "phase": phase_of(edit),
        "round": edit.round,
        "problem": edit.problem_id,
        "index": edit.index,
        "source": edit.source,
        "text": edit.text,
        "tokens": edit.tokens,
        "prompt": _json(_PROMPT, edit.prompt),
        "examples": _json(_EXAMPLES, edit.examples),
        "tuning": _json(_TUNING, edit.tuning),
        "cut": edit.cut,
        **_fault_columns(edit.fault),
    }


def read_edit(row: Row) -> SelfEdit:
    """A row of `edits` as the self-edit it was."""
    return SelfEdit(
        id=row["id"],
        problem_id=row["problem"],
        text=row["text"],
        round=row["round"],
        index=row["index"],
        prompt=_PROMPT.validate_json(row["prompt"]),
        examples=_EXAMPLES.validate_json(row["examples"]),
        tuning=_TUNING.validate_json(row["tuning"]),
        tokens=row["tokens"],
        source=row["source"],
        fault=_read_fault(row),
        cut=row["cut"],
    )


def outcome_row(phase: str, round: int, outcome: Outcome) -> dict[str, Any]:
    """A row of `trials`; its answers are rows of their own."""
    trial = outcome.trial
    return {
        "id": trial.id,
        "phase": phase,
        "round": round,
        "problem": trial.problem.id,
        "edit": trial.edit.id if trial.edit else None,
        "repeat": trial.repeat,
        "seed": trial.seed,
        "train_tokens": outcome.cost.train_tokens,
        "train_steps": outcome.cost.train_steps,
        "train_seconds": outcome.cost.train_seconds,
        "answer_tokens": outcome.cost.answer_tokens,
        "answer_seconds": outcome.cost.answer_seconds,
        "losses": _json(_LOSSES, outcome.losses),
        **_fault_columns(outcome.fault),
    }


def read_outcome(
    row: Row, problem: Problem, edit: SelfEdit | None, before: tuple[Answer, ...], after: tuple[Answer, ...]
) -> Outcome:
    """A row of `trials` with all that belongs to it, as the outcome it was."""
    return Outcome(
        trial=Trial(row["id"], problem, edit, row["repeat"], row["seed"]),
        before=before,
        after=after,
        cost=read_cost(row),
        losses=_LOSSES.validate_json(row["losses"]),
        fault=_read_fault(row),
    )


def read_cost(row: Row) -> Cost:
    """The cost columns of a row of `trials`."""
    return Cost(row["train_tokens"], row["train_steps"], row["train_seconds"], row["answer_tokens"], row["answer_seconds"])


def answer_rows(trial: str, answers: tuple[Answer, ...]) -> list[dict[str, Any]]:
    """Rows of `answers`, in order."""
    return [
        {
            "trial": trial,
            "place": place,
            "query": answer.query_id,
            "text": answer.text,
            "score": answer.score,
            "metrics": _json(_METRICS, answer.metrics),
        }
        for place, answer in enumerate(answers)
    ]


def read_answer(row: Row) -> Answer:
    """A row of `answers` as the answer it was."""
    return Answer(row["query"], row["text"], row["score"], _METRICS.validate_json(row["metrics"]))


def _json(adapter: TypeAdapter[Any], value: object) -> str:
    return adapter.dump_json(value).decode()


def _fault_columns(fault: Fault | None) -> dict[str, str | None]:
    return {"fault_kind": fault.kind if fault else None, "fault_message": fault.message if fault else None}


def _read_fault(row: Row) -> Fault | None:
    return None if row["fault_kind"] is None else Fault(row["fault_kind"], row["fault_message"])
