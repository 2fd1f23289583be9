"""How far the numbers of each routing backend lie from the reference's, on a product of a model's own widths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from seal.engine.pack import Span
from seal.engine.routing import Choices, backends, master, share
from seal.engine.stack import Site, Stack


def apart(
    sites: Sequence[Site], lengths: Sequence[int], rank: int, *, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> dict[str, float]:
    """By backend that can run here: its largest difference from `Split` in anything it works out, forward and back, as a share of
    the largest number there.

    `sites`: the layers of one product that have adapters; `lengths`: tokens of each slot, 0 where it is idle.
    """
    generator, slots, tokens = torch.Generator().manual_seed(seed), len(lengths), sum(lengths)

    def draw(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    ends = list(itertools.accumulate(lengths))
    spans = [Span(slot, end - length, end) for slot, (length, end) in enumerate(zip(lengths, ends, strict=True)) if length]
    shares = share(spans, [1 + slot / slots for slot in range(slots)], device=device, dtype=dtype)
    stack = Stack(sites, slots, rank, device=device, dtype=master(dtype), choices=Choices(device, dtype))
    stack.flat.copy_(draw(slots, stack.size, dtype=stack.flat.dtype))
    inputs, outputs = sites[0].inputs, max(site.start + site.outputs for site in sites)
    x, y, dx, dy = draw(tokens, inputs), draw(tokens, outputs), draw(tokens, inputs), draw(tokens, outputs)
    found: dict[str, tuple[Tensor, ...]] = {}
    for name, backend in backends(device, dtype, rank, trained=False).items():
        (route,) = stack.routes(dtype=dtype, grad=torch.zeros_like(stack.flat)).products.values()
        assert route.grad_a is not None
        out, down = y.clone(), dx.clone()
        u = backend.forward(x, out, route, shares)
        backend.backward(dy, x, u, down, route, shares)
        found[name] = (u, out, down, route.grad_a, *route.grad_b)
    return {name: _apart(results, found["split"]) for name, results in found.items()}


def _apart(results: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """NaN where one of them has a NaN."""
    pairs = [(own.double(), other.double()) for own, other in zip(results, reference, strict=True)]
    shares = [(own - other).abs().max() / other.abs().max() for own, other in pairs]
    return float(torch.stack(shares).max())
