"""Training jobs in slots: longest first, and a slot is refilled as soon as its trial is done."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from seal.engine.bank import Bank
from seal.engine.directions import load_directions
from seal.engine.pack import Row
from seal.engine.rows import Prepared
from seal.types import Cost, Fault, Job


@dataclass(frozen=True, slots=True)
class Done:
    """A trial whose training has ended; its adapter is still in its slot until the next event is asked for."""

    job: Job
    slot: int
    cost: Cost
    losses: tuple[float, ...]
    fault: Fault | None = None


@dataclass(slots=True)
class _Tenant:
    prepared: Prepared
    batches: Iterator[list[Row]]
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)

    def done(self, slot: int, fault: Fault | None = None) -> Done:
        return Done(self.prepared.job, slot, Cost(self.tokens, self.steps, self.seconds), tuple(self.losses), fault)


def train(bank: Bank, jobs: Sequence[Prepared]) -> Iterator[int | Done]:
    """Trains every job. Yields the number of tokens after each step, and a Done for each trial that ended.

    A trial whose loss is not finite is retired as a fault; its neighbours share nothing with it but the base weights.
    """
    queue = sorted(jobs, key=lambda prepared: prepared.steps)  # the longest is taken from the end
    slots: dict[int, _Tenant] = {}
    while queue or slots:
        for slot in range(bank.stack.slots):
            if slot not in slots and queue:
                prepared = queue.pop()
                job = prepared.job
                away = load_directions(job.protected, bank.host.device, bank.host.master)
                bank.start(slot, job.tuning, steps=prepared.steps, seed=job.seed, protected=away)
                slots[slot] = _Tenant(prepared, prepared.batches())
        began = time.perf_counter()
        batches = {slot: next(tenant.batches) for slot, tenant in slots.items()}
        sizes = {slot: sum(len(row.ids) for row in rows) for slot, rows in batches.items()}
        losses = bank.step(batches).tolist()
        seconds, total = time.perf_counter() - began, sum(sizes.values())
        ended: list[Done] = []
        for slot, tenant in list(slots.items()):
            tenant.steps += 1
            tenant.tokens += sizes[slot]
            tenant.seconds += seconds * sizes[slot] / total
            tenant.losses.append(losses[slot])
            if not math.isfinite(losses[slot]):
                ended.append(tenant.done(slot, Fault("nan", f"the loss of step {tenant.steps} is not a number")))
            elif tenant.steps == tenant.prepared.steps:
                whole = bool(bank.stack.flat[slot].isfinite().all())
                fault = None if whole else Fault("nan", f"the last step, {tenant.steps}, left weights that are not numbers")
                ended.append(tenant.done(slot, fault))
            else:
                continue
            del slots[slot]
        yield total
        yield from ended
