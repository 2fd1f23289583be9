"""Many adapters in one set of weights, each bound to a key (parameter superposition, Cheung et al. 2019, arXiv 1902.05522).

A key is a rotation of a layer's inputs: signs, drawn by the key, in one fixed random basis (in the model's own, few coordinates
carry most of the length, and a sign does not hide them). Under a key its own adapter does what it did alone, and the others add
noise. By chance alone that noise is small in very wide layers only; here it is fitted away: every A is chosen, by least squares
over what all problems give the layer, to do under its own key what it did alone and under the others' nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
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


@dataclass(slots=True)
class Binding:
    """What adapters and their problems' inputs come to, so that one more is added without reading the others again."""

    square: dict[str, Tensor] = field(default_factory=dict)
    """By product (in, in): x^T x of every problem's inputs, each turned by its key."""
    wanted: dict[str, Tensor] = field(default_factory=dict)
    """By site (in, R): x^T times what each adapter does there on its own problem's inputs, side by side while that is narrower
    than their product with `b`, which alone counts."""
    b: dict[str, Tensor] = field(default_factory=dict)
    """By site (out, R): the adapters' B, side by side likewise."""

    def add(self, factors: Factors, inputs: Mapping[str, Tensor], sites: Mapping[str, str], key: int) -> None:
        """One more adapter, with its problem's inputs (d, in) by product; `sites`: the product of each site."""
        seen = {product: turned(inputs[product], key) for product in dict.fromkeys(sites[name] for name in factors)}
        for product, x in seen.items():
            _sum(self.square, product, x.t() @ x)
        for name, (a, b) in factors.items():
            product = sites[name]
            _beside(self.wanted, name, seen[product].t() @ (inputs[product] @ a.t()))
            _beside(self.b, name, b)
            self.wanted[name], self.b[name] = _narrowed(self.wanted[name], self.b[name])

    def factors(self, sites: Mapping[str, str]) -> Factors:
        """All of them as one: its rank is the sum of theirs, and no more than a layer is wide."""
        solved, made = {}, Factors()
        for name, wanted in self.wanted.items():
            product = sites[name]
            if product not in solved:
                square = self.square[product].clone()
                square.diagonal().add_(RIDGE * square.diagonal().mean())
                solved[product] = torch.linalg.lu_factor(square)
            made[name] = (torch.linalg.lu_solve(*solved[product], wanted).t().contiguous(), self.b[name])
        return made

    def save(self, path: Path) -> None:
        """Writes it as one safetensors file."""
        parts = {"square": self.square, "wanted": self.wanted, "b": self.b}
        tensors = {f"{part}/{name}": one.contiguous() for part, found in parts.items() for name, one in found.items()}
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path) -> Binding:
        """A binding out of what `save` wrote."""
        found = cls()
        for key, one in load_file(path).items():
            part, _, name = key.partition("/")
            getattr(found, part)[name] = one
        return found


def _sum(found: dict[str, Tensor], name: str, more: Tensor) -> None:
    found[name] = found[name] + more if name in found else more


def _beside(found: dict[str, Tensor], name: str, more: Tensor) -> None:
    found[name] = torch.cat([found[name], more], dim=1) if name in found else more


def _narrowed(wanted: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two factors of the same product, (in, R) and (out, R), R no more than a layer is wide: one more costs what the last did."""
    (inputs, rank), outputs = wanted.shape, len(b)
    if rank <= min(inputs, outputs):
        return wanted, b
    product, one = wanted @ b.t(), torch.eye(min(inputs, outputs))
    return (product, one) if outputs <= inputs else (one, product.t())
