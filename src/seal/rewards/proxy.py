"""Rewards that rate an edit without training on it: cheap, needing no trial, and only as good as their rank correlation with
the real one (`seal show RUN` prints it).

A rater asks a model about a problem's edits. The loop keeps what it said, each problem's ratings in one transaction, and they are
the reward's value. Anybody's object with `rate` is one: `"mymodule:rater" = 1.0`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from seal.domains.material import material, text_domain
from seal.protocols import Domain, Engine
from seal.types import Ask, Job, Problem, Prompt, Sampling, SelfEdit

Consult = Callable[[Engine, Sequence[Prompt]], Sequence[str | None]]
"""How a judge is asked: what it replies to each prompt; None: it could not be reached, and its edit has no rating."""


@dataclass(frozen=True, slots=True)
class Rating:
    """What a rater says of one edit."""

    value: float | None
    """None: it could not be rated, and is not learnt from."""
    said: str = ""
    """The judge's own words, kept with the run."""


@runtime_checkable
class Rater(Protocol):
    """A reward that asks a model about the edit itself. One that puts the problem's questions says `asks = True`."""

    def rate(self, engine: Engine, domain: Domain, problem: Problem, edits: Sequence[SelfEdit]) -> Sequence[Rating]:
        """One rating an edit, in their order. None of the edits has a fault."""
        ...


ASPECTS = ("Length", "Diversity", "Quality", "Correctness")
_RUBRIC = """Rate the notes that were written about a text, with a whole number from 1 (poor) to 5 (excellent) for each of:
Length: the notes are long enough to hold what the text says.
Diversity: they say different things in different ways.
Quality: they are clear, and of use to somebody who has to answer questions about the text.
Correctness: everything they say follows from the text.
Reply with four lines, such as "Length: 2"."""


@dataclass(frozen=True, slots=True)
class Rubric:
    """A judge rates length, diversity, quality and correctness from 1 to 5, as in the paper's proxy reward, which asks GPT-4.1 in
    other words; 0.0 worst, 1.0 best."""

    judge: Consult

    def rate(self, engine: Engine, domain: Domain, problem: Problem, edits: Sequence[SelfEdit]) -> list[Rating]:
        """A reply in which one of the four is missing is no rating."""
        about = f"{_RUBRIC}\n\nText:\n{_text(domain, problem)}\n\nNotes:\n"
        prompts = [Prompt(f"{about}{edit.text.strip()}\n\nRating:\n", prefill="Length:") for edit in edits]
        said = self.judge(engine, prompts)
        return [Rating(None if text is None else read_rubric(text), text or "") for text in said]


_NAMES = "|".join(ASPECTS)
_LISTED = re.compile(rf"^[ \t]*\(?\d+[.)][ \t]+(?=\W{{0,4}}(?:{_NAMES}))", re.MULTILINE)
"""The number of a list's line, as in `1. Length: 4`."""
_ASIDE = re.compile(r"[(\[](?! *[1-5] *(?:/ *5 *)?[)\]])[^()\[\]\n]{0,80}[)\]]")
"""A bracket that holds no rating: `(1-5)`, `(1 = poor, 5 = excellent)`."""
_RATING = r"[1-5](?![\d.,–-]*\d| to \d)"
"""A digit that is neither part of a longer number nor of a range."""
_BARE = re.compile(rf"\W{{0,6}}{_RATING}")
_NAMED = re.compile(rf"({_NAMES})\W{{1,8}}({_RATING})")


def read_rubric(text: str) -> float | None:
    """The four ratings of a judge's reply as one number from 0.0 to 1.0; None if one of them is missing or not 1 to 5. A reply
    that begins with a rating goes on after `Length:`, as it was asked to."""
    text = _ASIDE.sub("", _LISTED.sub("", text)).strip()
    if _BARE.match(text):
        text = f"{ASPECTS[0]} {text}"
    found: dict[str, int] = {}
    for name, digit in _NAMED.findall(text):
        found.setdefault(name, int(digit))
    return None if len(found) < len(ASPECTS) else (sum(found.values()) - len(ASPECTS)) / (4 * len(ASPECTS))


def consult_policy(engine: Engine, prompts: Sequence[Prompt]) -> list[str | None]:
    """The policy itself judges, greedily."""
    return [replies[0].text for replies in engine.sample(prompts, Sampling(1, temperature=0.0, max_tokens=32), seed=0)]


class Informs:
    """How much likelier the edit makes its own passage: the log-probability of the passage after the edit minus that after the
    bare title, in nats a word. Asks no question and needs no label; an edit that keeps what the passage says rates high."""

    def rate(self, engine: Engine, domain: Domain, problem: Problem, edits: Sequence[SelfEdit]) -> list[Rating]:
        """Unrated: an edit that does not fit the model's context together with the passage."""
        text = _text(domain, problem)

        def prompt(notes: str) -> Prompt:
            return Prompt(f"Notes:\n{notes}\n\nWrite the text that these notes were taken from.\n")

        notes = [problem.title, *(f"{problem.title}\n{edit.text.strip()}" for edit in edits)]
        asks = [Ask(problem.id, prompt(one), target=text, max_tokens=0) for one in notes]
        without, *after = _logprobs(engine, [Job(str(at), (), (ask,)) for at, ask in enumerate(asks)])
        return _gains(without, after, len(text.split()))


class Hints:
    """Gain in the answers' log-probability with the edit in the prompt and nothing trained, in nats a query: what the edit tells
    about the questions, whether or not it can be learnt from. Needs the questions, so labels unless those are the model's own.
    Probes are no questions about the problem, and are not asked."""

    asks = True

    def rate(self, engine: Engine, domain: Domain, problem: Problem, edits: Sequence[SelfEdit]) -> list[Rating]:
        """Unrated: an edit that does not fit the model's context together with a question."""
        own = {query.id for query in problem.queries if query.role == "target"}
        asks = [replace(ask, max_tokens=0) for ask in domain.ask(problem) if ask.query_id in own and ask.target]

        def told(notes: str) -> Job:
            return Job(notes, (), tuple(replace(one, prompt=replace(one.prompt, text=notes + one.prompt.text)) for one in asks))

        jobs = [told(""), *(told(f"Notes:\n{edit.text.strip()}\n\n") for edit in edits)]
        jobs = [replace(job, id=str(at)) for at, job in enumerate(jobs)]
        without, *after = _logprobs(engine, jobs)
        return _gains(without, after, len(asks))


def _text(domain: Domain, problem: Problem) -> str:
    return material(text_domain(domain, "a reward that reads the passage"), problem)


def _logprobs(engine: Engine, jobs: Sequence[Job]) -> list[float | None]:
    """Each job's targets' summed log-probability, in the jobs' order; None where it did not fit the context."""
    found: dict[str, float | None] = {}
    for finished in engine.run(jobs):
        values = [reply.target_logprob for reply in finished.replies if reply.target_logprob is not None]
        found[finished.job_id] = sum(values) if values else None
    return [found[job.id] for job in jobs]


def _gains(without: float | None, after: Sequence[float | None], share: int) -> list[Rating]:
    return [Rating(None if without is None or one is None else (one - without) / share) for one in after]


RATERS: dict[str, Rater] = {"rubric": Rubric(consult_policy), "informs": Informs(), "hints": Hints()}
