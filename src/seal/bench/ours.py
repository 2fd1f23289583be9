"""Our engine, taking the same rows K at a time: every slot busy, as a bank that is refilled is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seal.engine import Bank
from seal.engine.host import Host
from seal.engine.pack import Row
from seal.engine.routing import Product
from seal.types import Tuning


class Ours:
    """A bank of `slots` adapters."""

    def __init__(self, host: Host, tuning: Tuning, slots: int, steps: int, laid: Mapping[str, Product]) -> None:
        """`laid`: the host's products as `Host.copied` gave them."""
        self.host, self.tuning, self.slots, self.steps, self.laid = host, tuning, slots, steps, laid
        self.bank = Bank(host, slots=slots, rank=tuning.rank, targets=tuning.targets, layers=tuning.layers, step_tokens=8192)
        self.start()

    def start(self) -> None:
        """A fresh adapter in every slot."""
        for slot in range(self.slots):
            self.bank.start(slot, self.tuning, steps=self.steps, seed=slot)

    def train(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """`slots` rows a step, one a slot. Returns each step's losses by slot."""
        whole = [Row(tuple(row), tuple(row)) for row in rows]
        losses = []
        with self.host.reading(self.laid):
            for start in range(0, len(whole), self.slots):
                batch = {slot: [row] for slot, row in enumerate(whole[start : start + self.slots])}
                losses.append(self.bank.step(batch).tolist())
        return losses

    def train_first(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """The same in a trial's first epoch: what the layers below the adapters make of each row is worked out again."""
        self.bank.forget()
        return self.train(rows)
