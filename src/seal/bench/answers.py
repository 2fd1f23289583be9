"""`seal bench eval`: answering with many adapters at once against one after the other, and sampling against `generate`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import torch

from seal.bench.clock import QUICK, laps, machine, ratio, spread
from seal.bench.subject import Subject
from seal.bench.workload import questions
from seal.engine.attention import without_cudnn
from seal.engine.decode import Request, complete, prepacked
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.sampling import sampler
from seal.engine.stack import Stack

ROWS, NEW = 16, 160
"""Self-edits sampled at once, and their tokens."""
TEMPERATURE, TOP_P = 1.0, 0.95
SHARE = 0.4
"""Of what is left of a quick bench's time, for `generate`: it stops then, and our sampling draws as many tokens."""
APART, TOGETHER, THEIRS, OURS = "one adapter at a time", "all adapters at once", "transformers generate", "our sampling"


class Answers:
    """The same questions put to all adapters at once, and to one after the other."""

    def __init__(self, subject: Subject, host: Host, *, slots: int, seed: int, until: float) -> None:
        """`until`: when those that are asked one after the other have to be done, by `time.perf_counter`; others are left out."""
        self.until = until
        self.host, self.head = host, Head(host.model)
        sites = host.sites(subject.targets, subject.layers)
        self.stack = Stack(sites, slots, subject.rank, device=host.device, dtype=host.dtype, choices=host.choices)
        for slot in range(slots):
            self.stack.start(slot, rank=subject.rank, alpha=2.0 * subject.rank, sites=self.stack.sites, seed=slot)
        self.one = self.stack.like(1, host.dtype)
        self.questions = questions(slots, int(host.model.config.vocab_size), seed)
        self.asked = slots
        """How many were, when they were last asked one after the other."""
        self._laying = 0.0

    @property
    def tokens(self) -> int:
        """How many are decoded for all questions."""
        return self._tokens(len(self.questions))

    def _tokens(self, adapters: int) -> int:
        return sum(limit for own in self.questions[:adapters] for _, limit in own)

    def together(self) -> None:
        """All adapters at once."""
        requests = [Request(prompt, slot, limit) for slot, own in enumerate(self.questions) for prompt, limit in own]
        with prepacked(self.host, self.head):
            complete(self.host, self.head, self.stack.routes(), requests)

    def one_at_a_time(self) -> None:
        """One after the other, the first whatever it takes; says on stderr if some are left out."""
        self.asked, began = 0, time.perf_counter()
        with prepacked(self.host, self.head):  # once: the frozen weights are the same for every adapter
            first = time.perf_counter()
            self._laying = first - began
            for slot, own in enumerate(self.questions):
                if slot and first + (time.perf_counter() - first) * (slot + 1) / slot > self.until:
                    print(f"time for {slot} of {len(self.questions)} adapters one after the other", file=sys.stderr, flush=True)
                    break
                self.one.copy_from(0, self.stack, slot)
                complete(self.host, self.head, self.one.routes(), [Request(prompt, 0, limit) for prompt, limit in own])
                self.asked = slot + 1

    def whole(self, seconds: Sequence[float]) -> list[float]:
        """What all adapters would have taken one after the other, by their tokens, where so many seconds went by."""
        left_out = self.tokens / self._tokens(self.asked) - 1
        return [one + left_out * (one - self._laying) for one in seconds]


@without_cudnn()  # theirs as ours
def bench_eval(subject: Subject, *, slots: int = 16, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Both sides decode the same number of tokens: no reply ends early but at the length the official round's had.

    `quick`: one lap, with fewer adapters one after the other and fewer tokens a sample where QUICK seconds are too short for all.
    """
    until = time.perf_counter() + QUICK if quick else math.inf
    plain = subject.make()
    environment = machine(plain.device)
    host = Host(subject.make())
    head = Head(host.model)
    vocabulary = int(host.model.config.vocab_size)
    answers = Answers(subject, host, slots=slots, seed=seed, until=until)
    random = Random(seed)
    prompts = [[random.randrange(vocabulary) for _ in range(200)] for _ in range(ROWS)]
    ids = torch.tensor(prompts, device=plain.device)
    new = NEW

    def generate() -> None:
        nonlocal new
        with torch.no_grad():
            found = plain.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=TEMPERATURE,
                top_p=TOP_P,
                top_k=0,
                min_new_tokens=NEW,
                max_new_tokens=NEW,
                max_time=SHARE * (until - time.perf_counter()),
                pad_token_id=0,
            )
        new = found.shape[1] - ids.shape[1]

    def sample() -> None:
        pick = sampler(TEMPERATURE, TOP_P, list(range(ROWS)), new, host.device)
        with prepacked(host, head):
            complete(host, head, None, [Request(prompt, None, new) for prompt in prompts], pick=pick)

    answers.together()  # memory, and the choice of backends
    ways = {TOGETHER: answers.together, THEIRS: generate, OURS: sample, APART: answers.one_at_a_time}
    times = laps(ways, 1 if quick else 5, device=host.device)
    times[APART] = answers.whole(times[APART])
    host.close()
    return {
        "model": subject.name,
        "quicker": host.quicker,
        "rank": subject.rank,
        "targets": list(subject.targets),
        "dtype": str(plain.dtype).removeprefix("torch."),
        "environment": environment,
        "answer": {
            "vs_one_at_a_time": ratio(times[APART], times[TOGETHER]),
            "adapters": slots,
            "one_at_a_time": answers.asked,
            "ways": [_way(name, times[name], answers.tokens) for name in (APART, TOGETHER)],
        },
        "sample": {
            "vs_generate": ratio(times[THEIRS], times[OURS]),
            "rows": ROWS,
            "tokens": new,
            "ways": [_way(name, times[name], ROWS * new) for name in (THEIRS, OURS)],
        },
    }


def _way(name: str, seconds: Sequence[float], tokens: int) -> dict[str, Any]:
    found = spread(list(seconds))
    return {"name": name, "seconds": found, "tokens_per_second": tokens / found["median"]}
