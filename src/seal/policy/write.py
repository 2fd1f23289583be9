"""The policy writes self-edits, and each is read once: what cannot be read stays, as a fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from seal.errors import EditFault, SealError
from seal.ids import edit_id
from seal.offers import AsksAnew, FinishesEdits, GoesOn, HoldsPlans
from seal.protocols import Domain, Engine
from seal.seeds import derive
from seal.text import sentences
from seal.types import Ask, Fault, Job, Problem, Prompt, Reading, Reply, Sampling, SelfEdit

BATCH = 16
"""Edits sampled at once, where a run's beginning says nothing else."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What the policy wrote, not yet read."""

    id: str
    problem: Problem
    prompt: Prompt
    reply: Reply
    round: int = 0
    index: int = 0
    source: str = "policy"


def write(
    engine: Engine,
    domain: Domain,
    problems: Sequence[Problem],
    how: Sampling,
    *,
    phase: str,
    round: int,
    seed: int,
    at_once: int | None = None,
) -> Iterator[list[SelfEdit]]:
    """`how.n` edits of every problem, a batch at a time, each to be kept whole. A batch's seed is made of its problems' ids.

    `at_once`: edits of a batch, but always whole problems; None: `BATCH`. What is drawn depends on it, so a run keeps its own.
    """
    size = max(1, (at_once or BATCH) // how.n)
    for start in range(0, len(problems), size):
        batch = problems[start : start + size]
        ids = [problem.id for problem in batch]
        prompts = [_prompts(domain, problem, how.n, derive(seed, "prompts", round, problem.id)) for problem in batch]
        asked = [(problem, prompt) for problem, own in zip(batch, prompts, strict=True) for prompt in own]
        each = _each(domain, how.n, prompts)
        replies = engine.sample([prompt for _, prompt in asked], replace(how, n=each), seed=derive(seed, "edits", round, *ids))
        written = [(*one, reply) for one, own in zip(asked, replies, strict=True) for reply in own]
        drafts = [
            Draft(edit_id(phase, round, problem.id, place % how.n), problem, prompt, reply, round, place % how.n)
            for place, (problem, prompt, reply) in enumerate(written)
        ]
        yield read_batch(engine, domain, drafts, how, seed=derive(seed, "tools", round, *ids))


def _each(domain: Domain, n: int, prompts: Sequence[Sequence[Prompt]]) -> int:
    """Replies to each prompt. Raises SealError unless there is one a problem for all its n edits, or one for each of them."""
    counts = {len(own) for own in prompts}
    if counts not in ({1}, {n}):
        raise SealError(
            f"domain {domain.name!r}: edit_prompts gives {', '.join(map(str, sorted(counts)))} prompts for {n} edits; it is one"
            " for every problem, or one for each edit of every problem"
        )
    return n // counts.pop()


def _prompts(domain: Domain, problem: Problem, n: int, seed: int) -> Sequence[Prompt]:
    return domain.edit_prompts(problem, n, seed) if isinstance(domain, AsksAnew) else [domain.edit_prompt(problem)]


def asks_anew(domain: Domain, problem: Problem) -> bool:
    """Whether each edit of the problem is asked for with another prompt."""
    return len(_prompts(domain, problem, 2, 0)) > 1


def under_others(domain: Domain, edits: Sequence[SelfEdit], n: int, seed: int) -> list[SelfEdit]:
    """Every edit n times, each under another prompt of its problem than the one it was written under.

    What an edit earns does not depend on what else its prompt happened to show, and neither should how likely it becomes: a
    policy that learns each edit under its own prompt learns to copy out of it.
    """
    problems = {problem.id: problem for problem in domain.problems("train")}
    return [
        replace(edit, prompt=prompt)
        for edit in edits
        for prompt in _prompts(domain, problems[edit.problem_id], n, derive(seed, "others", edit.id))
    ]


def read_batch(engine: Engine, domain: Domain, drafts: Sequence[Draft], how: Sampling, *, seed: int) -> list[SelfEdit]:
    """Every draft as a SelfEdit. What their tools put to the model is sampled as one further batch, with the same settings.

    A reply to a tool that was cut at its limit loses its last line too, one of a single line what follows its last sentence.
    """
    found = [_reading(domain, draft) for draft in drafts]
    asks = [ask for one in found if isinstance(one, Reading) for ask in one.asks]
    sampled = engine.sample(asks, replace(how, n=1), seed=seed) if asks else []
    replies = iter([own[0] for own in sampled])
    edits = []
    for draft, one in zip(drafts, found, strict=True):
        if isinstance(one, Reading) and one.asks:
            own = [next(replies) for _ in one.asks]
            edits.append(_edit(domain, draft, _finished(domain, draft, own), sum(reply.tokens for reply in own)))
        else:
            edits.append(_edit(domain, draft, one))
    return edits


def write_on(
    engine: Engine,
    domain: Domain,
    problems: Sequence[Problem],
    edits: Sequence[SelfEdit],
    how: Sampling,
    *,
    phase: str,
    seed: int,
) -> Iterator[SelfEdit]:
    """Every edit with what the model that learnt it writes next: a job of its own, whose one ask is the edit's own prompt.

    Text and examples are those of both, so that what is learnt in the end is all that was written. An edit that cannot be
    learnt, or leaves no room for more, stays as it is. What tools put to the model is sampled last.
    """
    by_id = {problem.id: problem for problem in problems}
    known = {edit.id: edit for edit in edits}
    jobs = []
    for edit in edits:
        drawn = derive(seed, edit.round, edit.problem_id, edit.index)
        ask = Ask(edit.id, edit.prompt, max_tokens=how.max_tokens, temperature=how.temperature, top_p=how.top_p, seed=drawn)
        if edit.fault is None:
            jobs.append(Job(edit.id, edit.examples, (ask,), edit.tuning, drawn))
        else:
            yield replace(edit, id=_id(edit, phase))
    asking = []
    for finished in engine.run(jobs):
        edit = known[finished.job_id]
        if finished.fault is not None:
            yield replace(edit, id=_id(edit, phase))
            continue
        (reply,) = finished.replies
        both = Reply(_both(domain, edit.text, reply), edit.tokens + reply.tokens)
        draft = Draft(_id(edit, phase), by_id[edit.problem_id], edit.prompt, both, edit.round, edit.index)
        found = _reading(domain, draft)
        if isinstance(found, Reading) and found.asks:
            asking.append(draft)
        else:
            yield _edit(domain, draft, found)
    for draft in asking:
        drawn = derive(seed, "tools", draft.round, draft.problem.id, draft.index)
        yield from read_batch(engine, domain, [draft], how, seed=drawn)


def _id(edit: SelfEdit, phase: str) -> str:
    return edit_id(phase, edit.round, edit.problem_id, edit.index)


def _both(domain: Domain, text: str, reply: Reply) -> str:
    """A reply that was cut loses its last line, and here there is a text without it."""
    more = _whole_edit(domain, reply)
    if not more.strip():
        return text.rstrip()
    return domain.go_on(text, more) if isinstance(domain, GoesOn) else f"{text.rstrip()}\n{more.lstrip()}"


def read(
    domain: Domain,
    problem: Problem,
    prompt: Prompt,
    reply: Reply,
    *,
    id: str,
    round: int = 0,
    index: int = 0,
    source: str = "policy",
) -> SelfEdit:
    """A reply as a SelfEdit, with its examples and tuning, or its fault; a tool that needs the model is a fault here.

    A reply that was cut at its limit loses its last, unfinished line (if it has more than one): neither the inner loop nor the
    policy shall learn half a sentence. A line in which a plan opens stays: half a plan is a fault, and no words without a plan.
    """
    draft = Draft(id, problem, prompt, reply, round, index, source)
    found = _reading(domain, draft)
    if isinstance(found, Reading) and found.asks:
        found = Fault("out_of_bounds", "a tool it calls needs the model, and there is none here")
    return _edit(domain, draft, found)


def unwritten(
    domain: Domain, problem: Problem, found: Reading, *, id: str, source: str, round: int = 0, index: int = 0
) -> SelfEdit:
    """An edit that nobody wrote: what a domain makes of the problem itself."""
    draft = Draft(id, problem, domain.edit_prompt(problem), Reply(""), round, index, source)
    return _edit(domain, draft, found)


def _whole(reply: Reply) -> str:
    return reply.text if reply.ended else reply.text.rpartition("\n")[0]


def _whole_reply(reply: Reply) -> str:
    """What a tool is told of a reply: of one that was cut in its first line the whole sentences, if there is one."""
    if (lines := _whole(reply)).strip() or reply.ended:
        return lines
    *whole, _ = sentences(f"{reply.text} X")  # a sentence is at its end where a capital begins the next
    begin = reply.text[: len(reply.text) - len(reply.text.lstrip())]  # what a prompt's opening goes on with
    return begin + " ".join(whole) if whole else ""


def _whole_edit(domain: Domain, reply: Reply) -> str:
    last = reply.text.rpartition("\n")[2]
    return reply.text if isinstance(domain, HoldsPlans) and domain.opens_plan(last) else _whole(reply)


def _text(domain: Domain, draft: Draft) -> str:
    """What is read and learnt of it."""
    return _whole_edit(domain, draft.reply) or draft.reply.text


def _reading(domain: Domain, draft: Draft) -> Reading | Fault:
    try:
        if not (draft.reply.ended or draft.reply.tokens):
            raise EditFault("too_long", "its prompt fills the model's context and leaves no room for a reply")
        return domain.read_edit(draft.problem, _text(domain, draft))
    except EditFault as error:
        return error.fault


def _finished(domain: Domain, draft: Draft, replies: Sequence[Reply]) -> Reading | Fault:
    if not isinstance(domain, FinishesEdits):
        raise SealError(f"domain {domain.name!r} lets tools ask the model, and has no method finish_edit")
    try:
        return domain.finish_edit(draft.problem, _text(domain, draft), [_whole_reply(reply) for reply in replies])
    except EditFault as error:
        return error.fault


def _edit(domain: Domain, draft: Draft, found: Reading | Fault, asked: int = 0) -> SelfEdit:
    """`asked`: tokens the model wrote for the edit's tools."""
    if isinstance(found, Reading) and not found.examples:
        found = Fault("empty", "nothing to train on was read out of it")
    edit = SelfEdit(
        draft.id,
        draft.problem.id,
        _text(domain, draft),
        draft.round,
        draft.index,
        draft.prompt,
        tokens=draft.reply.tokens + asked,
        source=draft.source,
    )
    if isinstance(found, Fault):
        return replace(edit, fault=found)
    text = edit.text if found.text is None else found.text
    return replace(edit, text=text, examples=found.examples, tuning=found.tuning, cut=found.cut)
