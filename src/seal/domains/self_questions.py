"""Training without labels: the model writes the questions itself, with the text in front of it, and answers them from the text.

What it writes is sifted: a question stays if the model answers it with the text and not without it, if it does not give its own
answer away, and if no question before it asks the same. Small models write few good questions of their own accord; asked
about one sentence and one name or number in it they write better ones (`spans`), and where even that fails the sentence itself,
broken off before the name or number, is the question (`cloze`). Names and numbers are found by a plain rule, not by a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from seal import kinds, text
from seal.domains.material import TextDomain, material
from seal.domains.passages import Asked
from seal.domains.sentences import sentences
from seal.domains.wrapped import Wrapped
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
SPANS = 10
"""Most names and numbers of one text that are asked about."""
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
            strange = _EXAMPLE_WORDS - set(text.tokens(f"{problem.title} {body}"))
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
    places = [(one.sentence, one.text, start) for one in spans(body, title)[:SPANS] for start in _openings(one.text)]
    prompts = [
        Prompt(f"{_SHOWN.format(title=title)}Sentence: {sentence}\nAnswer: {span}", prefill=f"Question: {start}")
        for sentence, span, start in places
    ]
    replies = engine.sample(prompts, Sampling(1, temperature=0.0, max_tokens=32), seed=seed) if prompts else []
    found = []
    for (_, span, start), (reply,) in zip(places, replies, strict=True):
        question, mark, _ = reply.text.split("\n")[0].partition("?")
        if mark:
            found.append((" ".join(f"{start}{question}?".split()), span))
    return found


_SHOWN = """Write a question about {title} that the sentence answers.

Sentence: Hollin Weir was built in 1841 by the engineer Mara Dunn.
Answer: Mara Dunn
Question: Who built Hollin Weir?

Sentence: It holds back the river Sele and turns 14 mill wheels.
Answer: 14
Question: How many mill wheels does Hollin Weir turn?

Sentence: In 1902 a flood carried off the toll house.
Answer: 1902
Question: In which year did a flood carry off the toll house of Hollin Weir?

"""
_EXAMPLE_WORDS = frozenset(("hollin", "weir", "mara", "dunn", "sele", "mill", "wheels", "flood", "toll"))
"""What the worked example is about: a question with one of these words, of a text without it, was not asked of the text."""
_YEAR = re.compile(r"1\d\d\d|20\d\d")
_TIME = re.compile(r"\d\d?:\d\d|\d{4}-\d\d-\d\d")


def _openings(span: str) -> tuple[str, ...]:
    if _YEAR.fullmatch(span):
        return ("In which year",)
    if _TIME.fullmatch(span):
        return ("When",)
    return ("How many",) if span[0].isdigit() else ("Who", "What")


def _gapped(engine: Engine, title: str, body: str, how: Asking, seed: int) -> list[Asked]:
    """Each name and number as the end of its own sentence, broken off there: no question is written at all, only answered."""
    begun = [(one.sentence[: one.start].strip(), one.text) for one in spans(body, title)]
    return [(f'Complete the sentence: "{begin} ..."', span) for begin, span in begun if len(begin.split()) >= 3][:SPANS]


_NUMBER = r"(?<!\d)(?<!\d[.,:/^–-])(?:\d{1,3}(?: \d{3})+(?!\d)|\d)(?:[\d.,:/^–-]*\d)?(?!\w|[.,:/^–-]\d)"
"""With the marks within it, as times and dates have them, or thousands set apart; no part of `1990s`."""
_TITLE = rf"(?:{text.TITLES}|[A-Z])\.\s*(?!(?i:{'|'.join(sorted(kinds.NOT_NAMES))})\b(?!\.))"
"""Or an initial, which ends a sentence where a function word is next."""
_WORD = rf"(?:(?:[A-Z]\.){{2,}}|(?:{_TITLE})*[A-Z][\w'’-]*)"
_NAME = rf"(?!I\b(?!\.\s)){_WORD}(?:\s+(?:(?:of|the|de|van|von)\s+)*{_WORD})*"
_FIRST = rf"{_TITLE}{_WORD}(?:\s+{_WORD})*|{_WORD}(?:\s+{_WORD})+"
_SPAN = re.compile(rf"{_NUMBER}|(?<=[a-z],\s)(?:{_NAME})|(?<=[a-z]\s)(?:{_NAME})|^(?:{_FIRST})")
"""In a sentence's `plain_letters`."""


class Span(NamedTuple):
    """A name or number in its sentence."""

    sentence: str
    text: str
    start: int
    """Where it begins: `4` may stand in a year before it."""


def spans(body: str, title: str = "") -> list[Span]:
    """Every number and every capitalised name (at a sentence's beginning: of two words or more, or with a title, and without the
    function words before it); none twice, none that the title holds."""
    found: dict[str, Span] = {}
    for sentence in sentences(body):
        for match in _SPAN.finditer(text.plain_letters(sentence)):
            start, end = match.span()
            start += _leading(sentence[:end]) if start == 0 else 0
            span = sentence[start:end]
            if span not in title:  # nor is one of function words alone
                found.setdefault(span, Span(sentence, span, start))
    return list(found.values())


def _leading(begun: str) -> int:
    """How many characters at a sentence's beginning are function words and the spaces after them."""
    leading = 0
    for word in begun.split(" "):
        if not kinds.is_function_word(word):
            break
        leading += len(word) + 1
    return leading


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
