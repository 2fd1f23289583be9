"""A linear layer whose tokens each pass through their own slot's adapter: y = W x + B_k (s_k A_k x).

The gradient of A and B goes straight into the bank's buffer; autograd carries only what flows on to the layer below.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seal.engine.pack import Span


class Route(NamedTuple):
    """One site's part of a stack, as a step uses it."""

    a: Tensor
    """(K, r, in)"""
    b: Tensor
    """(K, out, r)"""
    scale: list[float]
    """K"""
    grad_a: Tensor | None
    """(K, r, in), added to; None when nothing is trained."""
    grad_b: Tensor | None
    """(K, out, r)"""


def add_adapters(y: Tensor, x: Tensor, route: Route, spans: tuple[Span, ...]) -> list[Tensor]:
    """y (N, out) += each span's adapter of x (N, in), in place. Returns the scaled u = s A x of every span, (n, r)."""
    inner = []
    for slot, start, end in spans:
        u = torch.mm(x[start:end], route.a[slot].t()).mul_(route.scale[slot])
        y[start:end].addmm_(u, route.b[slot].t())
        inner.append(u)
    return inner


def _accumulate(grad: Tensor, left: Tensor, right: Tensor) -> None:
    """grad += left @ right, in the gradient's own precision."""
    if grad.dtype == left.dtype:
        grad.addmm_(left, right)
    else:
        grad.add_(torch.mm(left, right))


class _Routed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor, weight: Tensor, bias: Tensor | None, route: Route, spans: tuple[Span, ...]
    ) -> Tensor:
        y = F.linear(x, weight, bias)
        inner = add_adapters(y, x, route, spans)
        ctx.save_for_backward(x, weight, *inner)
        ctx.route, ctx.spans = route, spans
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *inner = ctx.saved_tensors
        route: Route = ctx.route
        if route.grad_a is None or route.grad_b is None:
            raise RuntimeError("a backward pass through a stack that is not trained")
        wants_dx = ctx.needs_input_grad[0]
        dx = torch.mm(dy, weight) if wants_dx else None
        for (slot, start, end), u in zip(ctx.spans, inner, strict=True):
            part = dy[start:end]
            du = torch.mm(part, route.b[slot]).mul_(route.scale[slot])
            _accumulate(route.grad_b[slot], part.t(), u)
            _accumulate(route.grad_a[slot], du.t(), x[start:end])
            if dx is not None:
                dx[start:end].addmm_(du, route.a[slot])
        return dx, None, None, None, None, None


def routed(x: Tensor, weight: Tensor, bias: Tensor | None, route: Route, spans: tuple[Span, ...], anchor: Tensor) -> Tensor:
    """(..., in) -> (..., out). `anchor`: any tensor that requires grad; it makes autograd visit layers whose input does not."""
    flat = x.reshape(-1, x.shape[-1])
    if torch.is_grad_enabled():
        y = _Routed.apply(flat, anchor, weight, bias, route, spans)
    else:
        y = F.linear(flat, weight, bias)
        add_adapters(y, flat, route, spans)
    return y.view(*x.shape[:-1], -1)
