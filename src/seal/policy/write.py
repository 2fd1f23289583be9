"""The policy writes self-edits, and each is read once: what cannot be read stays, as a fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from seal.errors import EditFault
from seal.protocols import Domain, Engine
from seal.seeds import derive
from seal.types import Ask, Job, Problem, Prompt, Reply, Sampling, SelfEdit

BATCH = 16
"""Edits sampled at once: fixed, so that a resumed run draws them in the same batches."""


def write(
    engine: Engine, domain: Domain, problems: Sequence[Problem], how: Sampling, *, phase: str, round: int, seed: int
) -> Iterator[list[SelfEdit]]:
    """`how.n` edits of every problem, a batch at a time, each to be kept whole. A batch's seed is made of its problems' ids."""
    size = max(1, BATCH // how.n)
    for start in range(0, len(problems), size):
        batch = problems[start : start + size]
        prompts = [domain.edit_prompt(problem) for problem in batch]
        replies = engine.sample(prompts, how, seed=derive(seed, "edits", round, *(problem.id for problem in batch)))
        yield [
            read(domain, problem, prompt, reply, id=f"{phase}/{round}/{problem.id}/{index}", round=round, index=index)
            for problem, prompt, own in zip(batch, prompts, replies, strict=True)
            for index, reply in enumerate(own)
        ]


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
    learnt, or leaves no room for more, stays as it is.
    """
    by_id = {problem.id: problem for problem in problems}
    known = {edit.id: edit for edit in edits}
    jobs = []
    for edit in edits:
        drawn = derive(seed, edit.round, edit.problem_id, edit.index)
        ask = Ask(edit.id, edit.prompt, None, how.max_tokens, "", how.temperature, how.top_p, drawn)
        if edit.fault is None:
            jobs.append(Job(edit.id, edit.examples, (ask,), edit.tuning, drawn))
        else:
            yield replace(edit, id=f"{phase}/{edit.round}/{edit.problem_id}/{edit.index}")
    for finished in engine.run(jobs):
        edit = known[finished.job_id]
        id = f"{phase}/{edit.round}/{edit.problem_id}/{edit.index}"
        if finished.fault is not None:
            yield replace(edit, id=id)
            continue
        (reply,) = finished.replies
        both = replace(reply, text=f"{edit.text.rstrip()}\n{reply.text.lstrip()}", tokens=edit.tokens + reply.tokens)
        yield read(domain, by_id[edit.problem_id], edit.prompt, both, id=id, round=edit.round, index=edit.index)


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
    """A reply as a SelfEdit, with its examples and tuning, or its fault.

    A reply that was cut at its limit loses its last, unfinished line (if it has more than one): neither the inner loop nor the
    policy shall learn half a sentence.
    """
    text = reply.text if reply.ended else reply.text.rpartition("\n")[0] or reply.text
    try:
        if not (reply.ended or reply.tokens):
            raise EditFault("too_long", "its prompt fills the model's context and leaves no room for a reply")
        reading = domain.read_edit(problem, text)
        if not reading.examples:
            raise EditFault("empty", "nothing to train on was read out of it")
    except EditFault as error:
        return SelfEdit(id, problem.id, text, round, index, prompt, tokens=reply.tokens, source=source, fault=error.fault)
    return SelfEdit(
        id, problem.id, text, round, index, prompt, reading.examples, reading.tuning, reply.tokens, source, cut=reading.cut
    )
