"""Probes: what the model knew before and must not forget. Asked on demand, beside any domain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from seal import files
from seal.domains.knowledge import ANSWER_TOKENS
from seal.domains.wrapped import Wrapped
from seal.edits.questions import question_prompt
from seal.grading import lexical
from seal.home import data
from seal.protocols import Domain
from seal.seeds import derive
from seal.types import Answer, Ask, Problem, Prompt, Query, Reply

NO_TEXTS = '{"texts": []}'
"""The payload of probes that are questions only."""


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


def divided(problem: Problem, sizes: Sequence[int], *, seed: int) -> list[Problem]:
    """Parts of the probes that share nothing, each with so many questions and a like share of the held texts, drawn by the seed.
    The later ones are smaller where there are too few."""
    draw = Random(derive(seed, "probes"))
    queries = draw.sample(problem.queries, len(problem.queries))
    texts = draw.sample(held := json.loads(problem.payload)["texts"], len(held))
    parts, ratio = [], len(texts) / max(1, len(queries))
    for size in sizes:
        upto = round(size * ratio)
        payload = json.dumps({"texts": texts[:upto]}, ensure_ascii=False)
        parts.append(replace(problem, queries=tuple(queries[:size]), payload=payload))
        queries, texts = queries[size:], texts[upto:]
    return parts


def held_texts(problem: Problem) -> list[HeldText]:
    """The held texts among the probes."""
    return [HeldText(**one) for one in json.loads(problem.payload)["texts"]]


def ask_probes(problem: Problem) -> list[Ask]:
    """Every probe question, then every held text to be scored (`probes/t0`, ...), from an empty prompt."""
    questions = [_ask_probe(query) for query in problem.queries]
    texts = [Ask(f"probes/t{at}", Prompt(""), held.text, 0) for at, held in enumerate(held_texts(problem))]
    return questions + texts


def grade_probes(problem: Problem, replies: Sequence[Reply]) -> list[Answer]:
    """One answer a probe, right if it has the words of the target; then one a held text, with its log-probability only."""
    by_id = {reply.query_id: reply for reply in replies}
    answers = [Answer(one.id, by_id[one.id].text.strip(), _verdict(one, by_id[one.id])) for one in problem.queries]
    for id in (f"probes/t{at}" for at in range(len(held_texts(problem)))):
        if (logprob := by_id[id].target_logprob) is not None:
            answers.append(Answer(id, "", None, {"logprob": logprob}))
    return answers


def probes_path() -> Path:
    """Where the bundled probes lie."""
    return data() / "probes.json"


class Probed(Wrapped):
    """Any domain whose trials are asked some probes too, for rewards that need them.

    Each problem has its own, drawn by its id, so that all its edits are asked the same. A probe's verdict is the metric `probe`
    and not the score: no mean of scores counts it.
    """

    def __init__(self, inner: Domain, known: Problem, each: int = 8) -> None:
        """`known`: the probes there are, as `probes` gives them; `each`: how many a problem is asked."""
        super().__init__(inner)
        self._known, self._each = known.queries, each

    def problems(self, split: str) -> list[Problem]:
        """The inner domain's problems with their probes after their own queries."""
        return [self.probed(one) for one in self.inner.problems(split)]

    def probed(self, problem: Problem) -> Problem:
        """A problem of the inner domain with its probes after its own queries."""
        return replace(problem, queries=problem.queries + self._drawn(problem.id))

    def ask(self, problem: Problem) -> list[Ask]:
        """The inner domain's asks, then the probes."""
        own, asked = _parted(problem)
        return [*self.inner.ask(own), *(_ask_probe(query) for query in asked)]

    def grade(self, problem: Problem, replies: Sequence[Reply]) -> list[Answer]:
        """The inner domain's answers, then those to the probes, by the words of the target."""
        own, asked = _parted(problem)
        of_probe = {reply.query_id: reply for reply in replies if reply.query_id in {query.id for query in asked}}
        answers = self.inner.grade(own, [reply for reply in replies if reply.query_id not in of_probe])
        return [*answers, *(_grade_probe(query, of_probe[query.id]) for query in asked)]

    def _drawn(self, id: str) -> tuple[Query, ...]:
        drawn = Random(derive("probes", id)).sample(self._known, min(self._each, len(self._known)))
        return tuple(replace(query, id=f"{id}/{query.id}") for query in drawn)


def is_probed(problem: Problem) -> bool:
    """Whether a problem has probes that `Probed` gave it."""
    return any(query.id.startswith(f"{problem.id}/probes/") for query in problem.queries)


def _parted(problem: Problem) -> tuple[Problem, tuple[Query, ...]]:
    """The problem without its probes, and they."""
    own = tuple(query for query in problem.queries if query.role == "target")
    return replace(problem, queries=own), tuple(query for query in problem.queries if query.role == "probe")


def _ask_probe(query: Query) -> Ask:
    return Ask(query.id, question_prompt(query.question), query.answer, ANSWER_TOKENS)


def _grade_probe(query: Query, reply: Reply) -> Answer:
    verdict = _verdict(query, reply)
    return Answer(query.id, reply.text.strip(), None, {} if verdict is None else {"probe": verdict})


def _verdict(query: Query, reply: Reply) -> float | None:
    return lexical.recall(query.question, query.answer, reply.text).score
