"""AdamW over the rows of one buffer: every slot has its own rate, step count, decay and clip, and idle slots are not touched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
        self._count = [torch.zeros((), device=flat.device) for _ in range(flat.shape[0])]

    def reset(self, slot: int) -> None:
        """Forgets a slot's moments and step count, so that nothing leaks into its next tenant."""
        for buffer in (self.grad, self._first, self._second):
            buffer[slot].zero_()
        self._count[slot].zero_()

    @torch.no_grad()
    def step(self, slots: Sequence[int], rates: Sequence[float], clips: Sequence[float], decays: Sequence[float]) -> None:
        """One update of each of these slots from its row of `grad`, which is then zeroed. A clip of 0 is none."""
        for slot, rate, clip, decay in zip(slots, rates, clips, decays, strict=True):
            grad = self.grad[slot]
            scale = ((torch.linalg.vector_norm(grad) + 1e-6) / clip).clamp_(min=1.0) if clip else None
            if scale is not None and grad.dtype == torch.float64:  # the kernel divides as it reads, but takes only a float32
                grad.div_(scale)
                scale = None
            torch._fused_adamw_(
                [self.flat[slot]],
                [grad],
                [self._first[slot]],
                [self._second[slot]],
                [],
                [self._count[slot].add_(1)],
                amsgrad=False,
                lr=rate,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=decay,
                eps=EPS,
                maximize=False,
                grad_scale=scale,
            )
            grad.zero_()
