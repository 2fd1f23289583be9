"""Many adapters in one set of weights, each bound to a key (parameter superposition, Cheung et al. 2019, arXiv 1902.05522).

A key is a rotation of a layer's inputs: signs, drawn by the key, in one fixed random basis (in the model's own, few coordinates
carry most of the length, and a sign does not hide them). Under a key its own adapter does what it did alone, and the others add
noise. By chance alone that noise is small in very wide layers only; here it is fitted away: every A is chosen, by least squares
over what all problems give the layer, to do under its own key what it did alone and under the others' nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from seal.engine.export import Factors
from seal.seeds import derive

RIDGE = 0.2
"""Of the mean squared length of an input: below it, what is asked of a direction is not fitted. A question is never quite what
was read, and a closer fit makes more noise of the rest (docs/log.md)."""


def turned(a: Tensor, key: int) -> Tensor:
    """(r, in) -> A R, R the rotation of the key: orthogonal, symmetric, its own inverse."""
    basis = _basis(a.shape[1]).to(a)
    draw = torch.Generator().manual_seed(derive(key, "key", a.shape[1]))
    signs = torch.randint(0, 2, (a.shape[1],), generator=draw).to(a) * 2 - 1
    return ((a @ basis) * signs) @ basis.t()


@lru_cache(8)
def _basis(width: int) -> Tensor:
    draw = torch.Generator().manual_seed(derive(0, "basis", width))
    return torch.linalg.qr(torch.randn(width, width, generator=draw, dtype=torch.float32))[0]


def superposed(held: Sequence[tuple[Factors, Mapping[str, Tensor], int]]) -> Factors:
    """Adapters, each with its problem's inputs by site (d, in) and its key, as one: its rank is the sum of theirs."""
    made: Factors = {}
    for name in dict.fromkeys(name for factors, _, _ in held for name in factors):
        own = [(factors[name], inputs[name], key) for factors, inputs, key in held if name in factors]
        seen = torch.cat([turned(x, key) for _, x, key in own])  # (D, in), by key
        wanted = torch.block_diag(*(x @ a.t() for (a, _), x, _ in own))  # (D, R): each adapter on its own problem's inputs
        square = seen.t() @ seen
        square.diagonal().add_(RIDGE * square.diagonal().mean())
        a = torch.linalg.solve(square, seen.t() @ wanted).t()
        made[name] = (a.contiguous(), torch.cat([b for (_, b), _, _ in own], dim=1))
    return made
