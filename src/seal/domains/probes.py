"""Probes: what the model knew before and must not forget. Asked on demand, beside any domain."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from seal.domains.knowledge import ANSWER_TOKENS, question_prompt
from seal.edits import files
from seal.types import Ask, Problem, Prompt, Query


@dataclass(frozen=True, slots=True)
class HeldText:
    """Running text that no edit is about."""

    text: str
    logprob: float
    """What the embedded model gave it before any change: sum over its tokens, in nats."""


def probes(path: Path | None = None) -> Problem:
    """The bundled probes (or those of a file) as one problem; its queries have the role `probe`. Raises UserError."""
    path = path or probes_path()
    content = files.load_json(path)
    queries = []
    for number, one in enumerate(files.records(content, "questions", str(path)), 1):
        where = f"{path}: question {number}"
        queries.append(
            Query(f"probes/q{number - 1}", files.text(one, "question", where), files.text(one, "answer", where), "probe")
        )
    texts = []
    for number, one in enumerate(files.records(content, "texts", str(path)), 1):
        where = f"{path}: text {number}"
        texts.append({"text": files.text(one, "text", where), "logprob": files.number(one, "logprob", where)})
    return Problem("probes", "", json.dumps({"texts": texts}, ensure_ascii=False), tuple(queries))


def held_texts(problem: Problem) -> list[HeldText]:
    """The held texts among the probes."""
    return [HeldText(**one) for one in json.loads(problem.payload)["texts"]]


def ask_probes(problem: Problem) -> list[Ask]:
    """Every probe question, then every held text to be scored (`probes/t0`, ...), from an empty prompt."""
    questions = [Ask(query.id, question_prompt(query.question), query.answer, ANSWER_TOKENS) for query in problem.queries]
    texts = [Ask(f"probes/t{at}", Prompt(""), held.text, 0) for at, held in enumerate(held_texts(problem))]
    return questions + texts


def probes_path() -> Path:
    """Where the bundled probes lie."""
    return Path(str(resources.files("seal"))) / "data" / "probes.json"
