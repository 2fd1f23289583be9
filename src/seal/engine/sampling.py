"""Temperature and nucleus sampling without a sort of the vocabulary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seal.engine.place import placed

Pick = Callable[[Tensor, Tensor, int], Tensor]
"""Chooses tokens: logits (R, V), which of the original rows they are (R,), the step's number -> (R,) token ids."""

_BUCKETS = 0x3F80 + 1
"""How many values the upper 16 bits of a float32 between 0 and 1 can take."""
_UPPER = 1 if sys.byteorder == "little" else 0
"""Which half of a float32 in memory they are."""


def greedy(logits: Tensor, rows: Tensor, step: int) -> Tensor:
    """The likeliest token."""
    return logits.argmax(1)


def sampler(temperature: float, top_p: float, seeds: Sequence[int], limit: int, device: torch.device) -> Pick:
    """Temperature and nucleus sampling. Each row draws from its own seed, so its text does not depend on the batch around it."""
    if temperature == 0:
        return greedy
    draws = torch.stack([torch.rand(limit, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds])
    draws = placed(draws, device)

    def pick(logits: Tensor, rows: Tensor, step: int) -> Tensor:
        # a row without a number for its logits (float16 overflows) has no likeliest token; any one will do, as for `greedy`
        ranked = _Ranked((logits / temperature).softmax(1).nan_to_num_())
        _, nucleus = ranked.reach(ranked.total.clamp(max=top_p), beyond=False)  # the token that crosses the threshold is kept
        chosen, _ = ranked.reach(draws[rows, step] * nucleus, beyond=True)
        return chosen

    return pick


class _Ranked:
    """The tokens of each row from the likeliest down, as far as two look-ups need it.

    Sorting a vocabulary of 49,152 for 16 rows takes nearly as long on a CPU as all products of a model of 135 million weights.
    Here tokens fall into buckets by the leading bits of their probability, which order as the numbers do, and only the bucket
    that is asked for is sorted.
    """

    def __init__(self, probs: Tensor) -> None:
        """probs: (R, V)"""
        self.probs = probs
        self.bits = probs.float().view(torch.int16).unflatten(1, (-1, 2))[:, :, _UPPER].contiguous()
        mass = probs.new_zeros(len(probs), _BUCKETS, dtype=torch.float64)
        self.reached = mass.scatter_add_(1, self.bits.long(), probs.double()).flip(1).cumsum(1)
        self.total = self.reached[:, -1]

    def reach(self, wanted: Tensor, *, beyond: bool) -> tuple[Tensor, Tensor]:
        """The first token at which the mass so far reaches `wanted` (R,), or goes beyond it, and the mass with that token."""
        bucket = torch.searchsorted(self.reached, wanted[:, None], right=beyond).clamp_(max=_BUCKETS - 1)
        before = torch.where(bucket > 0, self.reached.gather(1, (bucket - 1).clamp_(min=0)), 0.0)
        inside = self.bits == (_BUCKETS - 1 - bucket).short()  # both of 16 bits: numbers of unlike types take twice as long
        count = inside.view(torch.int8).sum(1, keepdim=True, dtype=torch.int32).clamp_(min=1)
        best, tokens = torch.where(inside, self.probs, 0.0).topk(int(count.max()), dim=1)  # those of other buckets come last
        mass = best.double().cumsum(1).add_(before)
        place = torch.searchsorted(mass, wanted[:, None], right=beyond).minimum(count - 1)
        return tokens.gather(1, place)[:, 0], mass.gather(1, place)[:, 0]
