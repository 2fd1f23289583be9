"""The engine: holds the policy, runs inner fine-tunes many at a time, answers, samples. Grades nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file

from seal.engine.bank import Bank
from seal.engine.decode import Continued, Request, complete, prepacked
from seal.engine.directions import directions, save_directions
from seal.engine.export import Factors, load_adapter, save_adapter
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.layouts import Layout
from seal.engine.memory import Measured, Plan, answer_rows, heaviest, plan, typical
from seal.engine.objective import together
from seal.engine.routing import Routes
from seal.engine.rows import Prepared, learnable, prepare, rows_of
from seal.engine.sampling import greedy, sampler
from seal.engine.scheduler import Done, train
from seal.engine.stack import Stack
from seal.engine.superpose import Binding
from seal.engine.weights import Weights
from seal.machine import GIB, available
from seal.models import LanguageModel
from seal.models.adapter import WEIGHTS, refuse_foreign
from seal.protocols import Notify, nobody
from seal.seeds import derive
from seal.types import Absorbed, Ask, Cost, Example, Fault, Finished, Job, Objective, Prompt, Reply, Sampling, Tuning

_ALONE = 64
"""Tokens that weights are laid out for with one slot, whatever its steps have: jobs do not depend on each other then."""
_NO_SCORE = Fault("nan", "what the trained adapter answers has a score that is not a number")
_TOO_LONG = Fault("too_long", "a question with its answer is longer than the model's context")


class Engine:
    """One model on one device. Jobs start from the policy's present weights and leave no trace in them."""

    def __init__(
        self, language: LanguageModel, *, slots: int | None = None, memory_gb: float | None = None, progress: Notify = nobody
    ) -> None:
        """`slots`: adapters trained at once (default: what fits); `memory_gb`: GiB to use beside the model's weights."""
        self.language, self.slots = language, slots
        self.memory = None if memory_gb is None else int(memory_gb * GIB)
        self._held = 0
        """Bytes of these that trials in training hold while others are answered."""
        self.progress = progress
        self.host = Host(language.model)
        self.head = Head(language.model)
        self._rows = 1024 if self.host.device.type == "cuda" else 128
        """Most questions answered at once."""
        self._measured = None if self.host.packs else Measured(self.host)
        self.weights = Weights(self.host, language.name)

    # -- inner loop -------------------------------------------------------------------------------------------------------

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        """Every job once, in any order. A job without examples is answered by the policy as it stands."""
        jobs = [replace(job, asks=tuple(map(self._ending, job.asks))) for job in jobs]
        for job in jobs:
            if job.save is not None:
                refuse_foreign(job.save, WEIGHTS)  # before anything is trained
        untrained = [job for job in jobs if not job.examples]
        yield from self._answer_unchanged(untrained)
        prepared: list[Prepared] = []
        rows = cache(lambda examples, tuning: rows_of(examples, tuning, self.language))  # repeats of a trial share theirs
        for job in jobs:
            if job.examples:
                ready = rows(job.examples, job.tuning) if all(map(self.fits, job.asks)) else _TOO_LONG
                if isinstance(ready, Fault):
                    yield Finished(job.id, fault=ready)
                else:
                    prepared.append(Prepared(job, ready))
        if prepared:
            yield from self._train_and_answer(prepared)

    def _answer_unchanged(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        # a product's last bits depend on how many rows it has, and one slot promises that jobs do not depend on each other
        most = 1 if self.slots == 1 else self._rows
        fits = []
        for job in jobs:
            if all(map(self.fits, job.asks)):
                fits.append(job)
            else:
                yield Finished(job.id, fault=_TOO_LONG)
        for batch in _batches(fits, lambda job: len(job.asks), most):
            began = time.perf_counter()
            answers = self._answer([(None, ask) for job in batch for ask in job.asks], None)
            yield from self._finish([(job, Cost(), ()) for job in batch], answers, time.perf_counter() - began)

    def _train_and_answer(self, prepared: list[Prepared]) -> Iterator[Finished]:
        targets = tuple(dict.fromkeys(t for p in prepared for t in p.job.tuning.targets))
        rank = max(p.job.tuning.rank for p in prepared)
        depths = {p.job.tuning.layers for p in prepared}
        layers = None if None in depths else max(depth for depth in depths if depth is not None)
        wanted = None if self.slots is None else min(self.slots, len(prepared))
        usual = heaviest([_typical(p) for p in prepared])
        longest, kept = max(p.longest for p in prepared), max(p.kept for p in prepared)
        step = _step_tokens(prepared)
        size = self.plan(rank, targets, layers, longest=longest, typical=usual, step=step, kept=kept, slots=wanted)
        slots = min(size.slots, len(prepared))
        size, layout = self._laid_out(size, _ALONE if slots == 1 else slots * step)
        self._held = size.bytes_copies + slots * size.bytes_slot
        try:
            with self.host.below(size.bytes):
                bank = Bank(self.host, slots=slots, rank=rank, targets=targets, layers=layers, step_tokens=size.step_tokens)
                shelf = bank.stack.like(slots, self.host.dtype)
                with self.host.laid(layout):
                    yield from self._through(bank, shelf, prepared)
        finally:
            self._held = 0

    def _laid_out(self, size: Plan, tokens: int) -> tuple[Plan, Layout]:
        """How the frozen weights lie for steps of so many tokens, and the plan with the copies that this takes."""
        layout = self.host.layout(tokens, room=size.bytes_copies > 0)
        return replace(size, bytes_copies=layout.copies * self.host.copy_bytes()), layout

    def _through(self, bank: Bank, shelf: Stack, prepared: Sequence[Prepared]) -> Iterator[Finished]:
        """Every job through the bank; trained adapters wait on the shelf until it is full, then all are asked at once."""
        total, trained = sum(p.tokens for p in prepared), 0
        waiting: list[Done] = []
        for event in train(bank, prepared):
            if isinstance(event, int):
                trained += event
                self.progress("train", trained, total)
                continue
            if event.fault is not None:
                yield Finished(event.job.id, cost=event.cost, losses=event.losses, fault=event.fault)
                continue
            if event.job.save is not None:
                bank.save(event.slot, event.job.save)
            shelf.copy_from(len(waiting), bank.stack, event.slot)
            waiting.append(event)
            if len(waiting) == shelf.slots:
                yield from self._answer_trained(waiting, shelf)
                waiting = []
        yield from self._answer_trained(waiting, shelf)

    def _answer_trained(self, waiting: Sequence[Done], shelf: Stack) -> Iterator[Finished]:
        began = time.perf_counter()
        answers = self._answer([(place, ask) for place, done in enumerate(waiting) for ask in done.job.asks], shelf)
        seconds = time.perf_counter() - began
        yield from self._finish([(done.job, done.cost, done.losses) for done in waiting], answers, seconds)

    def _answer(self, asked: Sequence[tuple[int | None, Ask]], shelf: Stack | None) -> list[Reply]:
        """Replies to every ask by the adapter at its place on the shelf (None: by the policy), as many at once as is safe."""
        language = self.language
        requests = [
            Request(
                self._opening(ask.prompt),
                slot,
                ask.max_tokens,
                language.encode_target(ask.target) if ask.target else None,
                ask.logprob,
            )
            for slot, ask in asked
        ]
        routes = None if shelf is None else shelf.routes()
        continued = self._in_batches(requests, lambda batch: self._continue(requests[batch], asked[batch], routes))
        return [self._reply(one, ask.query_id, ask.view) for one, (_, ask) in zip(continued, asked, strict=True)]

    def _in_batches(self, requests: Sequence[Request], complete_some: Callable[[slice], list[Continued]]) -> list[Continued]:
        """All requests, as many at once as is safe. Where a GPU's memory does not hold a batch, it and the rest go in halves.

        `complete_some`: is told which. The copies of the weights that decode quicker are made once for all.
        """
        longest = max((len(one.prompt) + max(one.limit, len(one.target or ())) for one in requests), default=1)
        prepack, memory = self._room()
        most = min(
            self._rows,
            answer_rows(self.language.model.config.get_text_config(), longest, self.host.dtype.itemsize, memory, self._measured),
        )
        found: list[Continued] = []
        with prepacked(self.host, self.head, prepack and any(request.limit for request in requests)):
            while len(found) < len(requests):
                batch = slice(len(found), min(len(found) + most, len(requests)))
                try:
                    found += complete_some(batch)
                    continue
                except torch.OutOfMemoryError:
                    most = (batch.stop - batch.start) // 2
                    if not most:
                        raise
                torch.cuda.empty_cache()  # here, where nothing of the batch is held any more
        return found

    def _room(self) -> tuple[bool, int]:
        """Whether there is memory for the copies of the weights that decode quicker, and the bytes left beside them.

        What trials hold is no part of what is available, but of what was stated. The plan has left a step's tokens beside it.
        """
        memory = int(0.8 * available(self.host.device)) if self.memory is None else self.memory - self._held
        copies = self.head.prepacked_bytes() + (0 if self.host.reads_copies else self.host.copy_bytes())
        return (True, memory - copies) if 2 * copies <= memory else (False, memory)

    def _continue(
        self, requests: Sequence[Request], asked: Sequence[tuple[int | None, Ask]], routes: Routes | None
    ) -> list[Continued]:
        """Replies as they are asked for: the greedy ones in one batch, those that are drawn alike in another."""
        ways = [(ask.temperature, ask.top_p) for _, ask in asked]
        found: dict[int, Continued] = {}
        for way in dict.fromkeys(ways):
            at = [place for place, own in enumerate(ways) if own == way]
            own = [requests[place] for place in at]
            limit, seeds = max(request.limit for request in own), [asked[place][1].seed for place in at]
            pick = sampler(*way, seeds, limit, self.host.device) if way[0] else greedy
            replies = complete(self.host, self.head, routes, own, pick=pick, stops=self.language.stop_ids)
            found |= zip(at, replies, strict=True)
        return [found[place] for place in range(len(asked))]

    def inputs(self, examples: Sequence[Example], tuning: Tuning, path: Path, *, share: float, most: int) -> dict[str, float]:
        """Writes the directions that the inputs of the tuning's layers use while the policy reads the examples: see `directions`.

        Returns how many a layer has on average, and of how many.
        """
        rows = [self.language.encode_example(one)[0] for one in examples if self.count(one) <= self.language.context]
        sites = self.host.sites(tuning.targets, tuning.layers)
        found = directions(self.host, rows, {site.product for site in sites}, share=share, most=most)
        save_directions(path, found)
        return {
            "directions": sum(len(one) for one in found.values()) / len(found),
            "of": sum(one.shape[1] for one in found.values()) / len(found),
        }

    def superpose(self, held: Sequence[tuple[Path, Path, int]], path: Path, binding: Path, before: Path | None = None) -> None:
        """Writes PEFT adapters as one, each bound to its key; beside each, the `inputs` of what its problem gives the layers.

        `binding`: a file by which others can be added later; `before`: that of those which these are added to.
        """
        sites = {site.name: site.product for site in self.host.sites({name.rpartition(".")[2] for name in self.host.linears})}
        bound = Binding() if before is None else Binding.load(before)
        for adapter, inputs, key in held:
            bound.add(load_adapter(adapter), load_file(inputs), sites, key)
        bound.save(binding)
        save_adapter(path, bound.factors(sites), self.language.model, bound=True)

    def count(self, example: Example) -> int:
        """Tokens of an example as a training row."""
        return len(self.language.encode_example(example)[0])

    def _opening(self, prompt: Prompt) -> list[int]:
        """A prompt's tokens, at least one: something has to come before the first that is new."""
        return self.language.encode_prompt(prompt) or [self.language.end_id]

    def fits(self, ask: Ask) -> bool:
        """Whether the model's context holds the prompt with the reply, and with the target."""
        prompt, target = self.language.encode_prompt(ask.prompt), self.language.encode_target(ask.target or "")
        return len(prompt) + max(ask.max_tokens, len(target)) <= self.language.context

    def _ending(self, ask: Ask) -> Ask:
        """A drawn reply ends where the context does, as it does in `sample`; a greedy one is an answer, and has to fit whole."""
        if not ask.temperature:
            return ask
        room = self.language.context - len(self.language.encode_prompt(ask.prompt))
        return replace(ask, max_tokens=min(ask.max_tokens, max(1, room)))

    def _reply(self, one: Continued, query_id: str = "", view: str = "") -> Reply:
        return Reply(self.language.decode(one.ids), len(one.ids), one.ended, query_id, view, one.target_logprob, one.logprob)

    def _finish(
        self, done: Sequence[tuple[Job, Cost, tuple[float, ...]]], replies: list[Reply], seconds: float
    ) -> Iterator[Finished]:
        everything = max(1, sum(reply.tokens for reply in replies))
        at = 0
        for job, cost, losses in done:
            own = tuple(replies[at : at + len(job.asks)])
            at += len(own)
            tokens = sum(reply.tokens for reply in own)
            share = Cost(cost.train_tokens, cost.train_steps, cost.train_seconds, tokens, seconds * tokens / everything)
            if job.examples and not all(map(_is_scored, own)):
                yield Finished(job.id, cost=share, losses=losses, fault=_NO_SCORE)
            else:
                yield Finished(job.id, own, share, losses)

    # -- the policy -------------------------------------------------------------------------------------------------------

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        """`how.n` replies to each prompt. Each is drawn from its own seed, `derive(seed, prompt, n)`, whatever its batch.

        A prompt that leaves no room in the context has empty replies, which have not ended.
        """
        openings = [self._opening(prompt) for prompt in prompts]
        rooms = [max(0, self.language.context - len(opening)) for opening in openings]
        drawn = [(i, n) for i, room in enumerate(rooms) if room for n in range(how.n)]
        requests = [Request(openings[i], None, min(how.max_tokens, rooms[i])) for i, _ in drawn]
        seeds = [derive(seed, i, n) for i, n in drawn]

        def draw(batch: slice) -> list[Continued]:
            pick = sampler(how.temperature, how.top_p, seeds[batch], how.max_tokens, self.host.device)
            return complete(self.host, self.head, None, requests[batch], pick=pick, stops=self.language.stop_ids)

        found = iter(self._in_batches(requests, draw))
        return [[self._reply(next(found) if room else Continued()) for _ in range(how.n)] for room in rooms]

    def absorb(self, examples: Sequence[Example], tuning: Tuning, *, seed: int, objective: Objective | None = None) -> Absorbed:
        """The policy learns and its weights change for good: supervised fine-tuning, unless an `objective` says otherwise.

        What is longer than the context or carries no loss is left out, and what has a loss only together with it too. Raises
        FloatingPointError if the weights or the loss are no numbers any more; the policy is then what it was.
        """
        at_once = together(objective)
        units = [examples[start : start + at_once] for start in range(0, len(examples), at_once)]
        learnt = tuple(e for unit in units if all(learnable(one, tuning, self.language) for one in unit) for e in unit)
        left_out = len(examples) - len(learnt)
        ready = prepare(Job("policy", learnt, (), tuning, seed), self.language)
        if not isinstance(ready, Prepared):  # there is nothing to learn from
            return Absorbed(left_out=len(examples))
        factors, losses = self._learn(replace(ready, together=at_once), objective)
        self.weights.add(factors)
        return Absorbed(losses, left_out)

    def _learn(self, ready: Prepared, objective: Objective | None) -> tuple[Factors, tuple[float, ...]]:
        """One training to its end, alone in a bank: its factors and losses. Raises FloatingPointError."""
        tuning, trained = ready.job.tuning, 0
        size = self.plan(
            tuning.rank, tuning.targets, tuning.layers, longest=ready.longest, typical=_typical(ready), kept=ready.kept, slots=1
        )
        size, layout = self._laid_out(size, _step_tokens([ready]))
        with self.host.below(size.bytes), self.host.laid(layout):
            bank = Bank(
                self.host,
                slots=1,
                rank=tuning.rank,
                targets=tuning.targets,
                layers=tuning.layers,
                step_tokens=size.step_tokens,
                objective=objective,
            )
            for event in train(bank, [ready]):
                if isinstance(event, int):
                    trained += event
                    self.progress("policy", trained, ready.tokens)
                elif event.fault is not None:
                    raise FloatingPointError(f"the update failed: {event.fault.message}; lower its learning rate")
                else:
                    return bank.stack.factors(event.slot, tuning.rank), event.losses
        raise AssertionError("a training ends in factors or in a fault")

    def export(self, path: Path) -> None:
        """The policy's whole change since the base model as one PEFT adapter: rounds stand side by side in its rank."""
        self.weights.export(path)

    def load(self, path: Path | None) -> None:
        """Back to the base model, then the policy at `path` (any PEFT adapter of this model) if there is one."""
        self.weights.load(path)

    def wear(self, adapters: Sequence[tuple[Path, float] | tuple[Path, float, int]]) -> None:
        """The base model, then these PEFT adapters, each times its weight, added in this order; a superposed one with a key.

        The weights depend on the list alone: the same list gives the same bits whatever was worn before. What is worn already
        costs nothing.
        """
        self.weights.wear(adapters)

    def plan(
        self,
        rank: int,
        targets: Sequence[str],
        layers: int | None = None,
        *,
        longest: int = 512,
        typical: float | None = None,
        step: int = 1,
        kept: int = 0,
        slots: int | None = None,
    ) -> Plan:
        """What fits this machine: see `seal.engine.memory`."""
        return plan(
            self.language.model.config.get_text_config(),
            self.host.sites(targets, layers),
            rank,
            device=self.host.device,
            itemsize=self.host.dtype.itemsize,
            master=self.host.master.itemsize,
            slots=slots or self.slots,
            memory=self.memory,
            longest=longest,
            typical=typical,
            step=step,
            kept=kept if self.host.packs else 0,
            copies=2 * self.host.copy_bytes(),
            measured=self._measured,
        )

    def remember_routing(self, known: Mapping[str, str], measured: Callable[[dict[str, str]], None] | None) -> None:
        """Takes what an earlier process measured to be quickest, and tells `measured` all that is known when more is used."""
        self.host.choices.remember(known, measured)

    def close(self) -> None:
        """Gives the model back as it was; what the policy learnt stays in its weights."""
        self.host.choices.measured = None
        self.host.close()


def _is_scored(reply: Reply) -> bool:
    """Whether the scores that were asked for are numbers: weights that are may still make a float16 model overflow."""
    return all(score is None or math.isfinite(score) for score in (reply.target_logprob, reply.logprob))


def _typical(one: Prepared) -> float:
    return typical([len(row.ids) for row in one.rows])


def _step_tokens(prepared: Sequence[Prepared]) -> int:
    """How many tokens a step of one of them has, on average."""
    return sum(one.tokens for one in prepared) // max(1, sum(one.steps for one in prepared))


def _batches(jobs: Sequence[Job], size: Callable[[Job], int], limit: int) -> Iterator[list[Job]]:
    batch: list[Job] = []
    for job in jobs:
        if batch and sum(map(size, batch)) + size(job) > limit:
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch
