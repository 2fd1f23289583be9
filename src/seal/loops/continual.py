"""Learning in sequence: a stream of problems, each edit learnt and kept, everything seen so far asked again after every step."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from random import Random
from statistics import fmean, median
from typing import Any, NamedTuple

from seal.domains.probes import NO_TEXTS, ask_probes, grade_probes
from seal.edits.harmful import harmful
from seal.errors import UserError
from seal.loops.evaluate import Evaluation, edits_of
from seal.loops.refuse import refuse_changed, refuse_trained
from seal.loops.stages import Stages
from seal.protocols import Domain, Notify, nobody
from seal.rewards import score
from seal.seeds import derive
from seal.stats import mean
from seal.store import Store, keys
from seal.strategies import Kept, Step, Strategy, Workbench, Worn, of_fault
from seal.types import Answer, Ask, Cost, Fault, Finished, Job, Problem, Query, SelfEdit

ROUND = 0
ALONE = 5
"""Questions that are asked one by one at a stream's end."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Problems in the order they are learnt, none twice."""

    name: str
    """`0`, `1`, ...; with several seeds `0.0`, `0.1`, ...: the same problems, trained with another seed."""
    problems: tuple[Problem, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Course:
    """What is learnt in sequence, and what is asked."""

    streams: tuple[Stream, ...]
    strategies: Mapping[str, Strategy]
    """By the name the recipe gives them."""
    edits: Evaluation
    """Where the edits come from: its one condition, over the problems of all streams. Every strategy learns the same edits,
    within the evaluation's budget if it has one."""
    ends: bool = False
    """After a step only what was just learnt is asked; before the stream and after its last step everything, with the probes."""
    harmful: str | None = None
    """What is made of about half of the edits first (`edits.harmful`), to see what is refused."""


def streams(problems: Sequence[Problem], *, number: int, length: int, seeds: int, seed: int) -> tuple[Stream, ...]:
    """Streams drawn by the seed, each without repetition, as the paper's code does. Raises UserError if there are too few."""
    if len(problems) < length:
        raise UserError(f"continual.length = {length}: the split has {len(problems)} problems, and none is learnt twice")
    made = []
    for one in range(number):
        drawn = tuple(Random(derive(seed, "stream", one)).sample(list(problems), length))
        for again in range(seeds):
            name = str(one) if seeds == 1 else f"{one}.{again}"
            made.append(Stream(name, drawn, derive(seed, "training", again)))
    return tuple(made)


def continual(bench: Workbench, domain: Domain, store: Store, course: Course, *, seed: int, notify: Notify = nobody) -> None:
    """Every step of every stream under every strategy that the store does not have. A step is kept whole, or not at all."""
    problems = course.edits.problems
    refuse_trained(store, problems)
    refuse_changed(store, course.edits.split, problems)
    store.put_problems([*problems, bench.probes])
    (source,) = course.edits.conditions
    writer = course.edits.policy if source == "seal" else None
    bench.engine.wear(() if writer is None else ((writer, 1.0),))  # the streams may start from other weights
    stages = Stages(bench.engine, domain, store, source, ROUND, seed, notify, course.edits.budget)
    edits = {edit.problem_id: edit for edit in edits_of(stages, course.edits) if edit.index == 0}
    if course.harmful:
        edits |= {id: _harmed(edit, course.harmful, seed) for id, edit in edits.items() if derive(seed, "harmful", id) % 2}
        for edit in (one for one in edits.values() if one.source == course.harmful):
            store.set_state(f"{keys.HARMED}{edit.id}", {"kind": edit.source, "examples": [asdict(one) for one in edit.examples]})
    run = _Run(bench, domain, store, edits, course.ends)
    total = sum(len(stream.problems) for stream in course.streams)
    for name, strategy in course.strategies.items():
        done = sum(run.has(name, stream, number + 1) for stream in course.streams for number in range(len(stream.problems)))
        notify(f"steps of {name}", done, total)
        for stream in course.streams:
            for _ in run.follow(name, strategy, stream):
                done += 1
                notify(f"steps of {name}", done, total)


def step_key(strategy: str, stream: str, step: int) -> str:
    """Where a step is in the store's state; step 0 is the base row."""
    return f"{keys.STEPS}{strategy}/{stream}/{step}"


class Recorded(NamedTuple):
    """A step as the store has it."""

    strategy: str
    stream: str
    number: int
    """0: the base row."""
    record: dict[str, Any]


def steps(store: Store) -> list[Recorded]:
    """Every step there is, in the order of the store's keys, which is by strategy and stream."""
    split = ((key.removeprefix(keys.STEPS).split("/"), record) for key, record in store.states(keys.STEPS).items())
    return [Recorded(strategy, stream, int(number), record) for (strategy, stream, number), record in split]


@dataclass(frozen=True, slots=True)
class _Part:
    """Queries of a problem that are put to the same weights."""

    problem: Problem
    queries: list[Query]

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        return self.problem.id, tuple(query.id for query in self.queries)

    @property
    def asked(self) -> Problem:
        """The problem with these queries alone."""
        return replace(self.problem, queries=tuple(self.queries))


@dataclass(slots=True)
class _Run:
    bench: Workbench
    domain: Domain
    store: Store
    edits: Mapping[str, SelfEdit]
    ends: bool
    known: dict[tuple[Worn, str, tuple[str, ...]], tuple[Answer, ...]] = field(default_factory=dict)
    """What was answered by exactly these weights: it is not asked again."""

    def has(self, name: str, stream: Stream, number: int) -> bool:
        """Whether the store has this step."""
        return self.store.get_state(step_key(name, stream.name, number)) is not None

    def follow(self, name: str, strategy: Strategy, stream: Stream) -> Iterator[None]:
        """The stream's steps; yields after each that the store did not have."""
        kept: list[Kept] = []
        for number in range(len(stream.problems) + 1):
            record = self.store.get_state(step_key(name, stream.name, number))
            if number == 0:
                if record is None:
                    row = self._row(strategy, kept, *self._seen(stream, 0))
                    self.store.set_state(step_key(name, stream.name, 0), {"order": [p.id for p in stream.problems], **row})
                continue
            problem = stream.problems[number - 1]
            if record is None:
                began, spared = time.perf_counter(), self.bench.spared_seconds
                one = self._learn(name, strategy, stream, tuple(kept))
                learnt = time.perf_counter() - began + self.bench.spared_seconds - spared
                row = self._row(strategy, [*kept, one], *self._seen(stream, number))
                if number == len(stream.problems):
                    row["alone"] = self._alone(strategy, [*kept, one], stream.problems)
                self.store.set_state(
                    step_key(name, stream.name, number), {**self._written(one), "learning_seconds": learnt, **row}
                )
                yield
            else:
                one = self._read(record, problem)
            kept.append(one)

    def _learn(self, name: str, strategy: Strategy, stream: Stream, before: tuple[Kept, ...]) -> Kept:
        number = len(before) + 1
        problem = stream.problems[number - 1]
        edit = self.edits[problem.id]
        folder = self.store.adapter_dir(name, stream.name, number)
        step = Step(number, problem, edit, before, derive(stream.seed, problem.id, edit.index), folder)
        return of_fault(step, edit.fault) if edit.fault else strategy.learn(step, self.bench)

    def _seen(self, stream: Stream, number: int) -> tuple[Sequence[Problem], bool]:
        """What is asked after a step (0: before the first), and whether the probes are too."""
        if number in (0, len(stream.problems)):
            return stream.problems, True
        if self.ends:
            return stream.problems[number - 1 : number], False
        return stream.problems[: number + 1], True  # and the next one: what the steps so far did for it

    def _row(self, strategy: Strategy, kept: Sequence[Kept], problems: Sequence[Problem], probed: bool) -> dict[str, Any]:
        began = time.perf_counter()
        asked = self._ask(strategy, kept, [*problems, *self.probes] if probed else problems)
        cells, probes = asked[: len(problems)], [one for found in asked[len(problems) :] for one in found]
        return {
            "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "row": {
                problem.id: {"score": score(found), "answers": [asdict(one) for one in found]}
                for problem, found in zip(problems, cells, strict=True)
            },
            "probes": {
                "score": score(probes),
                "logprob": mean(one.metrics.get("logprob") for one in probes),
            },
            "routing": _routing(strategy, kept),
            "asking_seconds": time.perf_counter() - began,
        }

    def _alone(self, strategy: Strategy, kept: Sequence[Kept], problems: Sequence[Problem]) -> dict[str, float] | None:
        """What a question costs that comes by itself, from choosing to the answer: a few, of problems all over the stream.

        Each is asked twice in a row: the second time what it wears is worn already, as it always is in one set of weights.
        """
        first: list[float] = []
        again: list[float] = []
        tokens: list[float] = []
        for problem in _spread(problems):
            query = problem.queries[0]
            job = Job(problem.id, (), tuple(self._asks(_Part(problem, [query]))))
            for taken in (first, again):
                began = time.perf_counter()
                (finished,) = self.bench.wear(_worn(strategy, kept, problem, query)).run([job])
                taken.append(time.perf_counter() - began)
            tokens.append(float(sum(reply.tokens for reply in finished.replies)))
        if not first:
            return None
        held = sum(file.stat().st_size for path in strategy.held(kept) for file in path.iterdir())
        return {
            "questions": len(first),
            "seconds": median(first),
            "worn_seconds": median(again),
            "tokens": fmean(tokens),
            "held_mb": held / 1e6,
        }

    def _ask(self, strategy: Strategy, kept: Sequence[Kept], problems: Sequence[Problem]) -> list[list[Answer]]:
        """Every query of every problem by what the strategy wears for it; those that wear the same are asked together."""
        by_worn: dict[Worn, dict[str, _Part]] = {}
        for problem in problems:
            for query in problem.queries or [None]:
                parts = by_worn.setdefault(_worn(strategy, kept, problem, query), {})
                parts.setdefault(problem.id, _Part(problem, [])).queries.extend([query] if query else [])
        found: dict[str, list[Answer]] = {problem.id: [] for problem in problems}
        for worn, parts in by_worn.items():
            new = [part for part in parts.values() if (worn, *part.key) not in self.known]
            if new:
                jobs = [Job(part.problem.id, (), tuple(self._asks(part))) for part in new]
                finished = {one.job_id: one for one in self.bench.wear(worn).run(jobs)}
                self.known.update({(worn, *part.key): self._graded(part, finished[part.problem.id]) for part in new})
            for part in parts.values():
                found[part.problem.id] += self.known[worn, *part.key]
        return list(found.values())

    def _asks(self, part: _Part) -> list[Ask]:
        if part.problem in self.probes:
            return ask_probes(part.asked)
        wanted = {query.id for query in part.queries}
        return [ask for ask in self.domain.ask(part.problem) if ask.query_id in wanted]

    def _graded(self, part: _Part, finished: Finished) -> tuple[Answer, ...]:
        if finished.fault:
            return tuple(Answer(query.id, "", None) for query in part.queries)
        if part.problem in self.probes:
            return tuple(grade_probes(part.asked, finished.replies))
        return tuple(self.domain.grade(part.asked, finished.replies))

    @property
    def probes(self) -> tuple[Problem, Problem]:
        """Their questions, which are asked like any other, and their texts, which belong to no question."""
        known = self.bench.probes
        return replace(known, payload=NO_TEXTS), replace(known, id=f"{known.id}/texts", queries=())

    def _written(self, one: Kept) -> dict[str, Any]:
        adapter = one.adapter and str(one.adapter.relative_to(self.store.path))
        return {
            "step": one.step,
            "problem": one.problem.id,
            "edit": one.edit.id,
            "source": one.edit.source,
            "adapter": adapter,
            "weight": one.weight,
            "why": one.why,
            "cost": asdict(one.cost),
            "facts": {name: value for name, value in one.facts.items() if isfinite(value)},  # JSON has no other number
            "fault": one.fault and asdict(one.fault),
        }

    def _read(self, record: Mapping[str, Any], problem: Problem) -> Kept:
        adapter = record["adapter"] and self.store.path / record["adapter"]
        edit, cost = self.edits[problem.id], Cost(**record["cost"])
        fault = Fault(**record["fault"]) if record.get("fault") else None
        return Kept(record["step"], problem, edit, adapter, record["weight"], record["why"], cost, record["facts"], fault)


def _worn(strategy: Strategy, kept: Sequence[Kept], problem: Problem, query: Query | None) -> Worn:
    """What the model wears to be asked this; None: a text, which belongs to no problem."""
    return strategy.wears(kept, None if query is None else strategy.chosen(kept, problem, query))


def _harmed(edit: SelfEdit, kind: str, seed: int) -> SelfEdit:
    """One with a fault has no words to do harm to."""
    return edit if edit.fault else replace(edit, examples=harmful(edit.examples, kind, seed=derive(seed, edit.id)), source=kind)


def _routing(strategy: Strategy, kept: Sequence[Kept]) -> float | None:
    """Share of the questions about what was learnt that are put to its own adapter; None where there is no choice."""
    if not strategy.beside:
        return None
    chosen = [
        strategy.chosen(kept, one.problem, query) is one
        for one in kept
        if one.adapter is not None and one.weight
        for query in one.problem.queries
    ]
    return mean(map(float, chosen))


def _spread(problems: Sequence[Problem]) -> list[Problem]:
    """A few that ask something, from the first to the last."""
    asking = [problem for problem in problems if problem.queries]
    few = min(ALONE, len(asking))
    return [asking[place * len(asking) // few] for place in range(few)]
