"""AdamW over the rows of one buffer: every slot has its own rate, step count, decay and clip, and idle slots are not touched."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seal.engine.place import placed
from seal.types import Schedule

BETAS = (0.9, 0.999)
EPS = 1e-8


@dataclass(frozen=True, slots=True)
class Rate:
    """A slot's learning rate over its life."""

    peak: float
    steps: int
    schedule: Schedule = "linear"
    warmup: int = 0

    def at(self, done: int) -> float:
        """The rate of the step after `done` finished ones, as transformers' schedules give it."""
        if done < self.warmup:
            return self.peak * done / max(1, self.warmup)
        through = (done - self.warmup) / max(1, self.steps - self.warmup)
        if self.schedule == "linear":
            return self.peak * max(0.0, 1 - through)
        if self.schedule == "cosine":
            return self.peak * max(0.0, 0.5 * (1 + math.cos(math.pi * through)))
        return self.peak


class AdamW:
    """torch's fused AdamW on one row a slot. Buffers are (K, P) in the bank's precision."""

    def __init__(self, flat: Tensor) -> None:
        self.flat, self.grad = flat, torch.zeros_like(flat)
        self._first, self._second = torch.zeros_like(flat), torch.zeros_like(flat)
        self._count = torch.zeros(len(flat), device=flat.device)  # float32, as the kernel wants it
        # On a CPU nothing is launched, and slot by slot a gradient is read once less: the kernel scales it as it reads.
        self.at_once = flat.device.type != "cpu"
        """Whether the slots of a step are updated together."""

    def reset(self, slot: int) -> None:
        """Forgets a slot's moments and step count, so that nothing leaks into its next tenant."""
        for buffer in (self.grad, self._first, self._second):
            buffer[slot].zero_()
        self._count[slot].zero_()

    @torch.no_grad()
    def step(self, slots: Sequence[int], rates: Sequence[float], clips: Sequence[float], decays: Sequence[float]) -> None:
        """One update of each of these slots from its row of `grad`, which is then zeroed. A clip of 0 is none."""
        update = self._together if self.at_once else self._one_by_one
        update(slots, rates, clips, decays)

    def _one_by_one(self, slots: Sequence[int], rates: Sequence[float], clips: Sequence[float], decays: Sequence[float]) -> None:
        """The reference."""
        for slot, rate, clip, decay in zip(slots, rates, clips, decays, strict=True):
            grad = self.grad[slot]
            scale = _excess(torch.linalg.vector_norm(grad), clip) if clip else None
            if scale is not None and grad.dtype == torch.float64:  # the kernel divides as it reads, but takes only a float32
                grad.div_(scale)
                scale = None
            self._count[slot].add_(1)
            self._fused([slot], rate, decay, scale)
            grad.zero_()

    def _together(self, slots: Sequence[int], rates: Sequence[float], clips: Sequence[float], decays: Sequence[float]) -> None:
        """As many launches for all slots as for one: the kernel takes many rows, but one rate and decay, so a call more for each.

        It is still the fused kernel, because an update spelt out with a rate a row goes over the buffers twice as often.
        """
        if any(clips):
            own = dict(zip(slots, clips, strict=True))
            limit = placed([own.get(slot, 0.0) for slot in range(len(self.grad))], self.grad.device, self.grad.dtype)
            scale = _excess(torch.linalg.vector_norm(self.grad, dim=1), limit).masked_fill_(limit == 0, 1)
            self.grad.div_(scale[:, None])  # by 1 where a slot is idle or has no clip: no bit changes
        torch._foreach_add_([self._count[slot] for slot in slots], 1)
        alike: dict[tuple[float, float], list[int]] = defaultdict(list)
        for slot, rate, decay in zip(slots, rates, decays, strict=True):
            alike[rate, decay].append(slot)
        for (rate, decay), found in alike.items():
            self._fused(found, rate, decay, None)
        torch._foreach_zero_([self.grad[slot] for slot in slots])

    def _fused(self, slots: Sequence[int], rate: float, decay: float, scale: Tensor | None) -> None:
        """torch's kernel on these rows, whose steps are counted. `scale`: what their gradients are divided by."""
        torch._fused_adamw_(
            [self.flat[slot] for slot in slots],
            [self.grad[slot] for slot in slots],
            [self._first[slot] for slot in slots],
            [self._second[slot] for slot in slots],
            [],
            [self._count[slot] for slot in slots],
            amsgrad=False,
            lr=rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=decay,
            eps=EPS,
            maximize=False,
            grad_scale=scale,
        )


def _excess(norm: Tensor, limit: Tensor | float) -> Tensor:
    """How many times too large gradients of this norm are, at least once, as torch's clip_grad_norm_ has it."""
    return norm.add(1e-6).div_(limit).clamp_(min=1.0)
