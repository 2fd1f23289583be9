"""`seal bench eval`: answering with many adapters at once against one after the other, and sampling against `generate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch

from seal.bench.clock import laps, machine, ratio, spread
from seal.bench.subject import Subject
from seal.bench.workload import questions
from seal.engine.attention import without_cudnn
from seal.engine.decode import Request, complete
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.sampling import sampler
from seal.engine.stack import Stack

ROWS, NEW = 16, 160
"""Self-edits sampled at once, and their tokens."""
TEMPERATURE, TOP_P = 1.0, 0.95
APART, TOGETHER, THEIRS, OURS = "one adapter at a time", "all adapters at once", "transformers generate", "our sampling"


def answering(subject: Subject, host: Host, *, slots: int, seed: int) -> tuple[dict[str, Callable[[], object]], int]:
    """The same questions put to all adapters at once and to one after the other; and how many tokens are decoded for them."""
    head = Head(host.model)
    sites = host.sites(subject.targets, subject.layers)
    stack = Stack(sites, slots, subject.rank, device=host.device, dtype=host.dtype, choices=host.choices)
    for slot in range(slots):
        stack.start(slot, rank=subject.rank, alpha=2.0 * subject.rank, sites=stack.sites, seed=slot)
    asked = questions(slots, int(host.model.config.vocab_size), seed)
    one = stack.like(1, host.dtype)

    def together() -> None:
        requests = [Request(prompt, slot, limit) for slot, own in enumerate(asked) for prompt, limit in own]
        complete(host, head, stack.routes(), requests)

    def one_at_a_time() -> None:
        for slot, own in enumerate(asked):
            one.copy_from(0, stack, slot)
            complete(host, head, one.routes(), [Request(prompt, 0, limit) for prompt, limit in own])

    return {APART: one_at_a_time, TOGETHER: together}, sum(limit for own in asked for _, limit in own)


@without_cudnn()  # theirs as ours
def bench_eval(subject: Subject, *, slots: int = 16, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Both sides decode the same number of tokens: no reply ends early but at the length the official round's had."""
    plain = subject.make()
    environment = machine(plain.device)
    host = Host(subject.make())
    head = Head(host.model)
    vocabulary = int(host.model.config.vocab_size)
    ways, tokens = answering(subject, host, slots=slots, seed=seed)
    random = Random(seed)
    prompts = [[random.randrange(vocabulary) for _ in range(200)] for _ in range(ROWS)]

    def sample() -> None:
        pick = sampler(TEMPERATURE, TOP_P, list(range(ROWS)), NEW, host.device)
        complete(host, head, None, [Request(prompt, None, NEW) for prompt in prompts], pick=pick)

    ids = torch.tensor(prompts, device=plain.device)

    def generate() -> None:
        with torch.no_grad():
            plain.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=TEMPERATURE,
                top_p=TOP_P,
                top_k=0,
                min_new_tokens=NEW,
                max_new_tokens=NEW,
                pad_token_id=0,
            )

    ways |= {THEIRS: generate, OURS: sample}
    ways[TOGETHER]()  # memory, and the choice of backends
    times = laps(ways, 1 if quick else 5, device=host.device)
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
            "ways": [_way(name, times[name], tokens) for name in (APART, TOGETHER)],
        },
        "sample": {
            "vs_generate": ratio(times[THEIRS], times[OURS]),
            "rows": ROWS,
            "tokens": NEW,
            "ways": [_way(name, times[name], ROWS * NEW) for name in (THEIRS, OURS)],
        },
    }


def _way(name: str, seconds: Sequence[float], tokens: int) -> dict[str, Any]:
    found = spread(list(seconds))
    return {"name": name, "seconds": found, "tokens_per_second": tokens / found["median"]}
