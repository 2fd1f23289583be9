"""K adapters side by side in one flat buffer (K, P): a slot is a row, so starting, copying or exporting one is a row copy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seal.engine.routing import Backend, Choices, Route, Routes, Shape


@dataclass(frozen=True, slots=True)
class Site:
    """A linear layer that takes an adapter."""

    name: str
    """Its path in the model, e.g. `model.layers.0.self_attn.q_proj`."""
    inputs: int
    outputs: int
    layer: int
    """Index of its decoder layer."""
    product: str
    """The product it is part of: layers that read the same input share one."""
    start: int = 0
    """Where its outputs begin among the product's."""

    @property
    def target(self) -> str:
        """The last part of its path, as `Tuning.targets` names it."""
        return self.name.rpartition(".")[2]


class Stack:
    """Adapters of one shape: for each site A (K, r, in) and B (K, out, r), views of one buffer. Smaller ranks end in zeros.

    In the buffer the A of sites that share a product stand next to each other, so that they can be used as one.
    """

    def __init__(
        self, sites: Sequence[Site], slots: int, rank: int, *, device: torch.device, dtype: torch.dtype, choices: Choices
    ) -> None:
        self.sites, self.slots, self.rank, self.choices = tuple(sites), slots, rank, choices
        self.products = {name: [s for s in sites if s.product == name] for name in dict.fromkeys(s.product for s in sites)}
        self.size = parameters(sites, rank)
        self.flat = torch.zeros(slots, self.size, device=device, dtype=dtype)
        self.scale = [0.0] * slots
        joint, self.b = self.views(self.flat)
        self.a = {
            site.name: part
            for name, found in self.products.items()
            for site, part in zip(found, joint[name].chunk(len(found), 1), strict=True)
        }

    def like(self, slots: int, dtype: torch.dtype) -> Stack:
        """An empty one of the same shape."""
        return Stack(self.sites, slots, self.rank, device=self.flat.device, dtype=dtype, choices=self.choices)

    def views(self, flat: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A of every product (K, m r, in) and B of every site (K, out, r) as views of a buffer shaped like `flat`."""
        a: dict[str, Tensor] = {}
        b: dict[str, Tensor] = {}
        at = 0

        def view(rows: int, columns: int) -> Tensor:
            nonlocal at
            at += rows * columns
            return flat[:, at - rows * columns : at].view(flat.shape[0], rows, columns)

        for name, found in self.products.items():
            a[name] = view(len(found) * self.rank, found[0].inputs)
            b.update({site.name: view(site.outputs, self.rank) for site in found})
        return a, b

    @torch.no_grad()
    def start(self, slot: int, *, rank: int, alpha: float, sites: Iterable[Site], seed: int) -> None:
        """A fresh adapter: A uniform in +-1/sqrt(in) as PEFT draws it, B zero. The draw depends on the seed and the site's
        place among `sites` only, so not on the slot, the stack's rank or the device. Sites not named stay exactly zero."""
        if not 0 < rank <= self.rank:
            raise ValueError(f"rank {rank} does not fit a stack of rank {self.rank}")
        self.flat[slot].zero_()
        self.scale[slot] = alpha / rank
        generator = torch.Generator().manual_seed(seed)
        for site in sites:
            draw = torch.rand(rank, site.inputs, generator=generator, dtype=torch.float32)
            bound = 1 / math.sqrt(site.inputs)
            self.a[site.name][slot, :rank].copy_((draw * 2 - 1) * bound)

    @torch.no_grad()
    def take_out(self, slot: int, directions: Mapping[str, Tensor], flat: Tensor) -> None:
        """Projects A of a slot, in a buffer shaped like `flat`, off orthonormal directions (d, in) of each product's inputs."""
        if directions:
            joint, _ = self.views(flat)
            for name in directions.keys() & joint.keys():
                a, away = joint[name][slot], directions[name]
                a.sub_((a @ away.t()) @ away)

    @torch.no_grad()
    def copy_from(self, slot: int, other: Stack, other_slot: int) -> None:
        """Takes over an adapter of another stack of the same shape."""
        self.flat[slot].copy_(other.flat[other_slot])
        self.scale[slot] = other.scale[other_slot]

    def routes(self, *, dtype: torch.dtype | None = None, grad: Tensor | None = None) -> Routes:
        """The stack as layers use it, computing in `dtype`. `grad`: (K, P), where gradients are added; None: nothing trains."""
        flat = self.flat if dtype is None else self.flat.to(dtype)  # a copy, made once a step, where they differ
        a, b = self.views(flat)
        grad_a, grad_b = ({}, {}) if grad is None else self.views(grad)
        routes = {}
        for name, found in self.products.items():
            routes[name] = Route(
                a[name],
                tuple(b[site.name] for site in found),
                tuple(slice(site.start, site.start + site.outputs) for site in found),
                grad_a.get(name),
                tuple(grad_b[site.name] for site in found if grad_b),
            )
        known: dict[tuple[int, int], dict[str, Backend]] = {}

        def backends(busy: int, tokens: int) -> dict[str, Backend]:
            size = min(self.slots, _power(busy)), _power(tokens)  # measured at powers of two only
            if size not in known:
                known[size] = self._backends(*size, trained=grad is not None)
            return known[size]

        return Routes(routes, self.scale, backends)

    def _backends(self, busy: int, tokens: int, *, trained: bool) -> dict[str, Backend]:
        """The quickest of every product, for a step in which so many slots have `tokens` each."""
        return {
            name: self.choices.backend(
                Shape(self.slots, busy, tokens, found[0].inputs, tuple(site.outputs for site in found), self.rank, trained)
            )
            for name, found in self.products.items()
        }

    def factors(self, slot: int, rank: int) -> dict[str, tuple[Tensor, Tensor]]:
        """A (rank, in) and B (out, rank) of every site this slot adapts, the scale folded into B; float32 copies on the CPU."""
        found = {}
        for site in self.sites:
            a, b = self.a[site.name][slot, :rank], self.b[site.name][slot, :, :rank]
            if bool(a.any()):
                found[site.name] = (a.detach().float().cpu().clone(), (b.detach() * self.scale[slot]).float().cpu().clone())
        return found


def _power(n: int) -> int:
    """The least power of two that is not below `n`."""
    return 1 << max(0, n - 1).bit_length()


def parameters(sites: Iterable[Site], rank: int) -> int:
    """P: the number of parameters of one adapter."""
    return sum(rank * (site.inputs + site.outputs) for site in sites)
