"""K adapters that train at once on one frozen base model: one forward and one backward for all of them.

bank = Bank(model, slots=8, rank=16, targets=("q_proj", "v_proj"))
for slot, text in enumerate(texts):
    bank.start(slot, Tuning(rank=16, alpha=32, lr=1e-3), steps=20, seed=slot)
for _ in range(20):
    losses = bank.step({slot: [row(text)] for slot, text in enumerate(texts)})
bank.save(0, "adapter-0")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from seal.engine.export import save_adapter
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.objective import Part, loss, together
from seal.engine.optimiser import AdamW, Rate
from seal.engine.pack import Row, Targets, labelled, pack, targets
from seal.engine.place import placed
from seal.engine.routing import Routes
from seal.engine.stack import Stack
from seal.types import Objective, Tuning


class Bank:
    """A training stack on a model. `host` may be shared by several banks; a model given by itself is patched until `close`."""

    def __init__(
        self,
        model: PreTrainedModel | Host,
        *,
        slots: int,
        rank: int,
        targets: Sequence[str] = ("q_proj", "v_proj"),
        layers: int | None = None,
        step_tokens: int = 4096,
        objective: Objective | None = None,
    ) -> None:
        """`objective`: None for the rows' weighted mean loss; another one needs a bank of one slot, or ValueError is raised.

        Raises UserError if the model cannot be run or lacks a target; one given by itself is then as it was.
        """
        if objective is not None and slots != 1:
            raise ValueError(f"{objective} needs a bank of one slot, not {slots}")
        self.objective = objective
        self.host = model if isinstance(model, Host) else Host(model)
        try:
            sites, device = self.host.sites(targets, layers), self.host.device
            self.stack = Stack(sites, slots, rank, device=device, dtype=self.host.master, choices=self.host.choices)
            self.optimiser = AdamW(self.stack.flat)
        except BaseException:
            if not isinstance(model, Host):
                self.close()
            raise
        self.head = Head(self.host.model)
        self.step_tokens = step_tokens
        """Most tokens in one forward; a larger step is taken in parts, with the same result up to reduction order."""
        self._depth = min(site.layer for site in self.stack.sites)
        """Layers below it have no adapter: what they make of a row is the same in every epoch."""
        self._lower: dict[int, dict[Row, Tensor]] = {}
        self._held: dict[Row, Tensor] = {}
        """Last hidden states (M, h) of the base model where a row that is kept predicts."""
        self._protected: dict[int, Mapping[str, Tensor]] = {}
        self._tunings: dict[int, Tuning] = {}
        self._rates: dict[int, Rate] = {}
        self._done: dict[int, int] = {}

    def start(self, slot: int, tuning: Tuning, *, steps: int, seed: int, protected: Mapping[str, Tensor] | None = None) -> None:
        """Puts a fresh adapter in a slot: it will take `steps` optimiser steps. Raises ValueError if it does not fit the bank.

        `protected`: by product, orthonormal directions (d, in) of its inputs that the adapter never acts on (`directions`).
        """
        names = {site.name for site in self.host.sites(tuning.targets, tuning.layers)}
        sites = [site for site in self.stack.sites if site.name in names]
        if len(sites) != len(names):
            raise ValueError(f"targets {tuning.targets} on layers {tuning.layers} are not all in this bank")
        self.stack.start(slot, rank=tuning.rank, alpha=tuning.alpha, sites=sites, seed=seed)
        self.optimiser.reset(slot)
        self._lower[slot] = {}
        self._protected[slot] = {} if protected is None else protected
        self.stack.take_out(slot, self._protected[slot], self.stack.flat)
        self._tunings[slot] = tuning
        self._rates[slot] = Rate(tuning.lr, steps, tuning.schedule, tuning.warmup)
        self._done[slot] = 0

    def step(self, batches: Mapping[int, Sequence[Row]]) -> Tensor:
        """One optimiser step of every slot named, each on its own rows. Returns the loss of every slot (K,), 0 where idle."""
        slots = sorted(batches)
        totals = {slot: sum(labelled(row) for row in batches[slot]) for slot in slots}
        pairs = [(slot, row) for slot in slots for row in batches[slot] if totals[slot]]
        routes = self.stack.routes(dtype=self.host.dtype, grad=self.optimiser.grad)
        losses = self._gradients(pairs, totals, routes)
        for slot in slots:
            self.stack.take_out(slot, self._protected[slot], self.optimiser.grad)
        tunings = [self._tunings[slot] for slot in slots]
        self.optimiser.step(
            slots,
            [self._rates[slot].at(self._done[slot]) for slot in slots],
            [tuning.clip for tuning in tunings],
            [tuning.weight_decay for tuning in tunings],
        )
        for slot in slots:
            self.stack.take_out(slot, self._protected[slot], self.stack.flat)  # AdamW does not step along the gradient
            self._done[slot] += 1
        return losses

    def save(self, slot: int, path: Path | str) -> None:
        """Writes a slot's adapter as a PEFT directory."""
        tuning = self._tunings[slot]
        save_adapter(Path(path), self.stack.factors(slot, tuning.rank), self.host.model)

    def forget(self) -> None:
        """Drops what layers below the lowest adapter made of rows: the next step works it out again, as a trial's first does."""
        for kept in self._lower.values():
            kept.clear()

    def close(self) -> None:
        """Gives the model back as it was. Its weights were never touched."""
        self.host.close()

    def _gradients(self, pairs: Sequence[tuple[int, Row]], totals: dict[int, int], routes: Routes) -> Tensor:
        """Adds the whole step's gradients. Of a part that a GPU's memory does not hold, half is tried, from now on."""
        while True:
            losses = torch.zeros(self.stack.slots, device=self.host.device, dtype=self.host.master)
            try:
                for part in _parts(pairs, self.step_tokens, together(self.objective)):
                    losses += self._backward(part, totals, routes, len(pairs))
                return losses
            except torch.OutOfMemoryError:
                longest = max(len(row.ids) for _, row in pairs)
                if self.step_tokens <= longest:
                    raise
                self.step_tokens = max(longest, min(self.step_tokens, sum(len(row.ids) for _, row in part)) // 2)
            for slot in totals:  # what the part that broke off had already added
                self.optimiser.grad[slot].zero_()
            torch.cuda.empty_cache()

    def _backward(self, part: Sequence[tuple[int, Row]], totals: dict[int, int], routes: Routes, all_rows: int) -> Tensor:
        slots, rows = [slot for slot, _ in part], [row for _, row in part]
        step = pack([row.ids for row in rows], slots, [row.keys for row in rows], device=self.host.device)
        aim = targets(rows, slots, totals, device=self.host.device)
        states, held = self._states(part), self._before([row for row in rows if row.keep])
        if self.objective is not None:
            with torch.no_grad(), self.host.using(step, None):
                hidden = self.host.hidden(self._depth, states) if states is not None else self.host.hidden()
                before = self.head.logprobs(hidden.index_select(0, aim.position), aim.label)
        with torch.enable_grad(), self.host.using(step, routes):
            hidden = self.host.hidden(self._depth, states) if states is not None else self.host.hidden()
            if self.objective is None:
                total, each = self._loss(hidden, held, aim, rows)
            else:
                weight = torch.tensor([row.weight for row in rows], device=before.device, dtype=before.dtype)
                logprob = self.head.logprob(hidden, aim)
                total = loss(self.objective, Part(logprob, before, aim.row, weight, totals[0], all_rows))
                each = total.detach()[None]
            total.backward()
        return each

    def _loss(self, hidden: Tensor, held: Tensor | None, aim: Targets, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """What is learnt of the rows, and how far those that are kept have moved from `held`; the sum, and of each slot (K,)."""
        if held is None:
            return self.head.loss(hidden, aim, self.stack.slots)
        keep = placed([row.keep for row in rows], hidden.device)[aim.row]
        total, each = self.head.divergence(hidden, held, aim.only(keep), self.stack.slots)
        if not bool(keep.all()):
            learnt, of_slot = self.head.loss(hidden, aim.only(~keep), self.stack.slots)
            total, each = total + learnt, each + of_slot
        return total, each

    @torch.no_grad()
    def _before(self, rows: Sequence[Row]) -> Tensor | None:
        """The base model's last hidden states (M, h) where these rows predict, each row's worked out once; None without rows."""
        if not rows:
            return None
        new = list(dict.fromkeys(row for row in rows if row not in self._held))
        if new:
            none = [None] * len(new)
            step = pack([row.ids for row in new], none, [row.keys for row in new], device=self.host.device)
            places = targets(new, [0] * len(new), {0: 1}, device=self.host.device)
            with self.host.using(step, None):
                hidden = self.host.hidden()
            states = hidden.index_select(0, places.position).split([labelled(row) for row in new])
            self._held.update(zip(new, states, strict=True))
        return torch.cat([self._held[row] for row in rows])

    def _states(self, part: Sequence[tuple[int, Row]]) -> Tensor | None:
        """Hidden states (N, h) of these rows below the lowest adapter, each row's worked out once; None: nothing to reuse."""
        if not self.host.divides(self._depth):
            return None
        new = [(slot, row) for slot, row in part if row not in self._lower[slot]]
        if new:
            step = pack([row.ids for _, row in new], [None] * len(new), [row.keys for _, row in new], device=self.host.device)
            with self.host.using(step, None):
                found = self.host.lower(self._depth).split(step.lengths)
            for (slot, row), states in zip(new, found, strict=True):
                self._lower[slot][row] = states.clone()  # a view would hold all the others' as long as this one is held
        return torch.cat([self._lower[slot][row] for slot, row in part])


def _parts(pairs: Sequence[tuple[int, Row]], limit: int, together: int = 1) -> list[list[tuple[int, Row]]]:
    """Cuts a step's rows, in order, into parts of at most `limit` tokens. Rows that are `together` stay so."""
    parts: list[list[tuple[int, Row]]] = []
    size = 0
    for start in range(0, len(pairs), together):
        unit = pairs[start : start + together]
        tokens = sum(len(row.ids) for _, row in unit)
        if not parts or size + tokens > limit:
            parts.append([])
            size = 0
        parts[-1] += unit
        size += tokens
    return parts
