"""Training without labels: the model writes the questions itself, with the text in front of it, and answers them from the text.

What it writes is sifted: a question stays if the model answers it with the text and not without it, if it does not give its own
answer away, and if no question before it asks the same. Small models write few good questions of their own accord; asked
about one sentence and one name or number in it they write better ones (`spans`), and where even that fails the sentence itself,
broken off before the name or number, is the question (`cloze`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from seal import text
from seal.domains.material import TextDomain, material
from seal.domains.passages import Asked
from seal.domains.wrapped import Wrapped
from seal.edits.questions import SPANS, spans, strange_words, to_write
from seal.grading.grade import correct
from seal.protocols import Domain, Engine
from seal.types import Answer, Ask, Job, Problem, Prompt, Query, Sampling

Way = Literal["list", "spans", "cloze"]
Verdict = Literal[
    "kept",
    "repeated",
    "given away",
    "of the example",
    "not answered with the text",
    "answered without it",
    "ungraded",
    "left over",
]

SAME = 0.8
"""Token F1 from which on two questions ask the same."""
ANSWER_TOKENS = 32
"""Most tokens of an answer in the sieve."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question the model wrote, and what became of it."""

    question: str
    answer: str
    verdict: Verdict
    way: Way


@dataclass(frozen=True, slots=True)
class Asking:
    """How questions are written."""

    ways: tuple[Way, ...] = ("list",)
    """Tried in order, a later one only where those before it left fewer than `most`."""
    samples: int = 4
    """Lists drawn of each text (`list` only)."""
    most: int = 5
    """Questions kept of each text."""


class SelfQuestions(Wrapped):
    """Any text domain, its training problems with the model's own questions in place of the gold ones.

    The other splits keep theirs: they are for the evaluation alone. A training problem without a question is left out.
    """

    def __init__(self, inner: Domain, questions: Mapping[str, Sequence[Asked]], split: str = "train") -> None:
        """`questions`: by problem id, of the problems of `split`."""
        super().__init__(inner)
        self._questions, self._split = questions, split

    def problems(self, split: str) -> Sequence[Problem]:
        """Raises UserError if there is no such split."""
        found = self.inner.problems(split)
        if split != self._split:
            return found
        return [asking(one, self._questions[one.id]) for one in found if self._questions.get(one.id)]


def asking(problem: Problem, questions: Sequence[Asked]) -> Problem:
    """The problem with these questions instead of its own; their ids say whose they are (`/s0`)."""
    return replace(problem, queries=tuple(Query(f"{problem.id}/s{at}", *one) for at, one in enumerate(questions)))


def write_questions(engine: Engine, domain: TextDomain, problem: Problem, how: Asking, *, seed: int) -> list[Candidate]:
    """All that the model wrote about a problem, with verdicts, the kept ones first. Only the problem's text is looked at."""
    body = material(domain, problem).removeprefix(f"{problem.title}\n").strip()
    found: list[Candidate] = []
    for way in how.ways:
        kept = [one for one in found if one.verdict == "kept"]
        if len(kept) < how.most:
            pairs = list(dict.fromkeys(WAYS[way](engine, problem.title, body, how, seed)))
            strange = strange_words(problem.title, body)
            found += _sift(engine, domain, problem, pairs, kept, how.most, way, strange)
    return sorted(found, key=lambda one: one.verdict != "kept")


# ---- ways to write


def _listed(engine: Engine, title: str, body: str, how: Asking, seed: int) -> list[Asked]:
    """Lists of questions with their answers, several drawn."""
    task = "Write five short questions about the following passage. Give each its answer, a few words taken from the passage."
    prompt = Prompt(f"{task}\n\nPassage:\n{title}\n{body}\n\n", prefill="Question 1:")
    (replies,) = engine.sample([prompt], Sampling(how.samples, temperature=0.7, max_tokens=256), seed=seed)
    return [pair for reply in replies for pair in read_questions(f"Question 1:{reply.text}")]


def read_questions(written: str) -> list[Asked]:
    """Questions with answers out of `Question 1: ... Answer: ...`, numbered or not, bold or not; anything else is passed over."""
    plain = written.replace("*", "")
    parts = re.split(r"(?:^|\n)[ \t]*(?:Question|Q)[ \t]*\d{0,3}[ \t]*[:.]", plain)
    pairs = [_ANSWER_MARK.split(part, maxsplit=1) for part in parts[1:]]
    found = [(" ".join(one[0].split()), one[1].strip().split("\n")[0].strip().rstrip(".")) for one in pairs if len(one) == 2]
    return [(question, answer) for question, answer in found if text.tokens(question) and text.tokens(answer)]


_ANSWER_MARK = re.compile(r"(?:(?:\n|(?<=\?))[ \t]*(?:Answer|A)|[ \t]*\bAnswer)[ \t]*\d{0,3}[ \t]*[:.]")
"""A bare `A` only at a line's beginning or after the question mark: A. A. Milne wrote, and so did NASA."""


def _about_spans(engine: Engine, title: str, body: str, how: Asking, seed: int) -> list[Asked]:
    """A question for each name and number, from its sentence; the opening word goes with what is asked for."""
    asked = to_write(title, body)
    prompts = [one.prompt for one in asked]
    replies = engine.sample(prompts, Sampling(1, temperature=0.0, max_tokens=32), seed=seed) if prompts else []
    written = [(one.read(reply.text), one.answer) for one, (reply,) in zip(asked, replies, strict=True)]
    return [(question, answer) for question, answer in written if question]


def _gapped(engine: Engine, title: str, body: str, how: Asking, seed: int) -> list[Asked]:
    """Each name and number as the end of its own sentence, broken off there: no question is written at all, only answered."""
    begun = [(one.sentence[: one.start].strip(), one.text) for one in spans(body, title)]
    return [(f'Complete the sentence: "{begin} ..."', span) for begin, span in begun if len(begin.split()) >= 3][:SPANS]


WAYS: dict[Way, Callable[[Engine, str, str, Asking, int], list[Asked]]] = {
    "list": _listed,
    "spans": _about_spans,
    "cloze": _gapped,
}


# ---- the sieve


def _sift(
    engine: Engine,
    domain: TextDomain,
    problem: Problem,
    pairs: Sequence[Asked],
    kept: Sequence[Candidate],
    most: int,
    way: Way,
    strange: Set[str],
) -> list[Candidate]:
    """Verdicts on new questions; `kept` stay already. Of the good ones the `most` that the text helps most with. `strange`: words
    that no question about the text has."""
    posed = asking(problem, pairs)
    aware, blind = _answers(engine, domain, posed, domain.ask_in_context(posed), domain.ask(posed))
    helped = [_logprob(a) - _logprob(b) for a, b in zip(aware, blind, strict=True)]
    verdicts: dict[int, Verdict] = {}
    stay = [(one.question, one.answer) for one in kept]
    for at in sorted(range(len(pairs)), key=lambda place: -helped[place]):
        verdicts[at] = _verdict(pairs[at], aware[at], blind[at], stay, strange)
        if verdicts[at] == "kept" and len(stay) >= most:
            verdicts[at] = "left over"
        if verdicts[at] == "kept":
            stay.append(pairs[at])
    return [Candidate(*pair, verdicts[at], way) for at, pair in enumerate(pairs)]


def _verdict(pair: Asked, aware: Answer, blind: Answer, stay: Sequence[Asked], strange: Set[str]) -> Verdict:
    question, answer = pair
    if strange & set(text.tokens(question)):
        return "of the example"
    if text.recall(question, answer) == 1.0:
        return "given away"
    if any(text.f1(question, other) >= SAME or text.normalise(answer) == text.normalise(known) for other, known in stay):
        return "repeated"
    if aware.score is None or blind.score is None:
        return "ungraded"
    if not correct(aware.score):
        return "not answered with the text"
    return "answered without it" if correct(blind.score) else "kept"


def _answers(engine: Engine, domain: Domain, posed: Problem, *asked: Sequence[Ask]) -> list[list[Answer]]:
    """The unchanged model's answers to each list of asks, all put at once; ungraded where they do not fit its context."""
    short = [tuple(replace(ask, max_tokens=min(ask.max_tokens, ANSWER_TOKENS)) for ask in asks) for asks in asked]
    found = {finished.job_id: finished for finished in engine.run([Job(str(at), (), asks) for at, asks in enumerate(short)])}
    ungraded = [Answer(query.id, "", None) for query in posed.queries]
    finished = [found[str(at)] for at in range(len(asked))]
    return [ungraded if one.fault is not None else domain.grade(posed, one.replies) for one in finished]


def _logprob(answer: Answer) -> float:
    return answer.metrics.get("logprob", 0.0)
