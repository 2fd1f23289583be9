"""A linear layer whose tokens each pass through their own slot's adapter: y = W x + s_k B_k A_k x.

The gradient of A and B goes straight into the bank's buffer; autograd carries only what flows on to the layer below. Two backends
do the small products: `Split` one slot at a time, `Grouped` all slots in one call. `fastest` measures which this machine prefers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from seal.engine.pack import Span


class Route(NamedTuple):
    """One site's part of a stack."""

    a: Tensor
    """(K, r, in)"""
    b: Tensor
    """(K, out, r)"""
    grad_a: Tensor | None = None
    """(K, r, in), added to; None when nothing is trained."""
    grad_b: Tensor | None = None
    """(K, out, r)"""


@dataclass(frozen=True, slots=True)
class Routes:
    """What a stack of adapters offers to a step."""

    sites: dict[str, Route]
    """By the linear layer's path in the model."""
    scale: Sequence[float]
    """alpha / rank of every slot, (K,)."""
    backends: dict[str, Backend]
    """By path."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Which tokens of a step belong to which slot."""

    spans: tuple[Span, ...]
    """Sorted by slot, one a slot at most; together they cover all N tokens."""
    ends: Tensor
    """(K,) int32: where each slot's tokens end; an idle slot's end is its neighbour's."""
    scale: Tensor
    """(N, 1): alpha / rank of each token's adapter."""


class Backend(Protocol):
    """How the adapters' products are done. Everything happens in place."""

    def forward(self, x: Tensor, y: Tensor, route: Route, shares: Shares) -> Tensor:
        """y (N, out) += each token's adapter of x (N, in). Returns u = s A x, (N, r)."""
        ...

    def backward(self, dy: Tensor, x: Tensor, u: Tensor, dx: Tensor | None, route: Route, shares: Shares) -> None:
        """Adds to the route's gradients, and to dx (N, in) if anybody wants it."""
        ...


class Split:
    """One slot at a time: the reference."""

    def forward(self, x: Tensor, y: Tensor, route: Route, shares: Shares) -> Tensor:
        u = x.new_empty(x.shape[0], route.a.shape[1])
        for slot, start, end in shares.spans:
            part = torch.mm(x[start:end], route.a[slot].t(), out=u[start:end]).mul_(shares.scale[start:end])
            y[start:end].addmm_(part, route.b[slot].t())
        return u

    def backward(self, dy: Tensor, x: Tensor, u: Tensor, dx: Tensor | None, route: Route, shares: Shares) -> None:
        assert route.grad_a is not None
        assert route.grad_b is not None
        for slot, start, end in shares.spans:
            part = dy[start:end]
            du = torch.mm(part, route.b[slot]).mul_(shares.scale[start:end])
            _accumulate(route.grad_b[slot], part.t(), u[start:end])
            _accumulate(route.grad_a[slot], du.t(), x[start:end])
            if dx is not None:
                dx[start:end].addmm_(du, route.a[slot])


class Grouped:
    """All slots in one call of torch's grouped product."""

    def forward(self, x: Tensor, y: Tensor, route: Route, shares: Shares) -> Tensor:
        u = F.grouped_mm(x, route.a.transpose(1, 2), offs=shares.ends).mul_(shares.scale)
        y.add_(F.grouped_mm(u, route.b.transpose(1, 2), offs=shares.ends))
        return u

    def backward(self, dy: Tensor, x: Tensor, u: Tensor, dx: Tensor | None, route: Route, shares: Shares) -> None:
        assert route.grad_a is not None
        assert route.grad_b is not None
        dy, ends = dy.contiguous(), shares.ends
        du = F.grouped_mm(dy, route.b, offs=ends).mul_(shares.scale)
        route.grad_b.add_(F.grouped_mm(dy.t(), u, offs=ends))
        route.grad_a.add_(F.grouped_mm(du.t(), x, offs=ends))
        if dx is not None:
            dx.add_(F.grouped_mm(du, route.a, offs=ends))


def _accumulate(grad: Tensor, left: Tensor, right: Tensor) -> None:
    """grad += left @ right, in the gradient's own precision."""
    if grad.dtype == left.dtype:
        grad.addmm_(left, right)
    else:
        grad.add_(torch.mm(left, right))


class _Routed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor, weight: Tensor, bias: Tensor | None, route: Route, shares: Shares, backend: Backend
    ) -> Tensor:
        y = F.linear(x, weight, bias)
        u = backend.forward(x, y, route, shares)
        ctx.save_for_backward(x, weight, u)
        ctx.route, ctx.shares, ctx.backend = route, shares, backend
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, u = ctx.saved_tensors
        dx = torch.mm(dy, weight) if ctx.needs_input_grad[0] else None
        ctx.backend.backward(dy, x, u, dx, ctx.route, ctx.shares)
        return dx, None, None, None, None, None, None


def routed(
    x: Tensor, weight: Tensor, bias: Tensor | None, route: Route, shares: Shares, backend: Backend, anchor: Tensor
) -> Tensor:
    """(..., in) -> (..., out). `anchor`: any tensor that requires grad; it makes autograd visit layers whose input does not."""
    flat = x.reshape(-1, x.shape[-1])
    if torch.is_grad_enabled() and route.grad_a is not None:
        y: Tensor = _Routed.apply(flat, anchor, weight, bias, route, shares, backend)
    else:
        y = F.linear(flat, weight, bias)
        backend.forward(flat, y, route, shares)
    return y.view(*x.shape[:-1], -1)


def share(spans: Sequence[Span], scale: Sequence[float], *, device: torch.device, dtype: torch.dtype) -> Shares:
    """`scale`: of every slot, (K,)."""
    ends: list[int] = []
    reached = {span.slot: span.end for span in spans}
    for slot in range(len(scale)):
        ends.append(reached.get(slot, ends[-1] if ends else 0))
    tokens = [scale[span.slot] for span in spans for _ in range(span.end - span.start)]
    return Shares(
        tuple(spans), torch.tensor(ends, dtype=torch.int32).to(device), torch.tensor(tokens, dtype=dtype).to(device)[:, None]
    )


def backends(device: torch.device, dtype: torch.dtype, rank: int) -> dict[str, Backend]:
    """Those that can run here. torch's grouped product wants rows of whole 16 bytes, and no float64."""
    found: dict[str, Backend] = {"split": Split()}
    fits = rank * dtype.itemsize % 16 == 0 and dtype != torch.float64
    if hasattr(F, "grouped_mm") and fits and (device.type == "cpu" or dtype == torch.bfloat16):
        found["grouped"] = Grouped()
    return found


@lru_cache(maxsize=64)
def fastest(slots: int, tokens: int, inputs: int, outputs: int, rank: int, device: torch.device, dtype: torch.dtype) -> str:
    """The backend that is quickest here, forward and backward, for a site of this shape with `tokens` tokens a slot."""
    choice = backends(device, dtype, rank)
    if len(choice) == 1 or slots == 1:  # with one slot there is nothing to group, and a choice by the clock is one less
        return "split"
    flat = torch.zeros(2, slots, rank * (inputs + outputs), device=device, dtype=dtype)
    a = flat[0, :, : rank * inputs].view(slots, rank, inputs)
    b = flat[0, :, rank * inputs :].view(slots, outputs, rank)
    route = Route(a, b, torch.zeros_like(a), torch.zeros_like(b))
    spans = [Span(slot, slot * tokens, (slot + 1) * tokens) for slot in range(slots)]
    shares = share(spans, [1.0] * slots, device=device, dtype=dtype)
    x = torch.randn(slots * tokens, inputs, device=device, dtype=dtype)
    y = torch.randn(slots * tokens, outputs, device=device, dtype=dtype)

    def seconds(backend: Backend) -> float:
        began = time.perf_counter()
        u = backend.forward(x, y, route, shares)
        backend.backward(y, x, u, x, route, shares)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    times = {name: min(seconds(backend) for _ in range(7)) for name, backend in choice.items()}
    return min(times, key=lambda name: times[name])
