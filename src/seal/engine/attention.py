"""Attention over packed sequences without leakage between them, and over a key-value cache while decoding.

Registered with transformers as an attention implementation, so it serves every model that goes through that interface.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seal.engine.pack import Group


class _ToRect(torch.autograd.Function):
    """(H, N, D) -> (H, R*T, D). Each token stands in the rectangle once, so the gradient is the gather back, no scatter-add."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group, ctx.tokens = group, x.shape[1]
        return x.index_select(1, group.rect)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.index_select(1, ctx.group.back)
        if ctx.group.tokens is None:
            return grad, None
        full = grad.new_zeros(grad.shape[0], ctx.tokens, grad.shape[2])
        return full.index_copy_(1, ctx.group.tokens, grad), None


class _ToPacked(torch.autograd.Function):
    """(H, R*T, D) -> (H, n, D), pads dropped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group, ctx.size = group, x.shape[1]
        return x.index_select(1, group.back)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(grad.shape[0], ctx.size, grad.shape[2]).index_copy_(1, ctx.group.back, grad), None


def _rows(x: Tensor, group: Group, heads: int) -> Tensor:
    """(h, N, D) -> (heads, R, T, D): heads are the batch and rows the heads, since attention does not care which is which."""
    rect = _ToRect.apply(x, group)
    if x.shape[0] != heads:  # grouped queries: each key head serves heads / h query heads
        rect = rect.repeat_interleave(heads // x.shape[0], dim=0)
    return rect.view(heads, *group.shape, x.shape[2])


SHORT = 512
"""Up to this many tokens a row, keeping the attention weights for the way back costs less than working them out again."""


class _Short(torch.autograd.Function):
    """Causal attention of short rows by plain batched products, the weights kept for the way back.

    A flash kernel is made for long rows: at 30 to 200 tokens on a CPU these products take less time. Query heads that share a
    key head stand below each other in one matrix, so that keys and values are never repeated.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, groups: tuple[Group, ...], scale: float) -> Tensor:
        ctx.groups, ctx.scale, ctx.shape = groups, scale, q.shape
        out = q.new_empty(q.shape[1], q.shape[0], q.shape[2])
        saved: list[Tensor] = []
        for group in groups:
            qr, kr, vr = (_stack(x.transpose(0, 1).index_select(0, group.rect), k.shape[0], group) for x in (q, k, v))
            length = group.shape[1]
            weights = torch.baddbmm(qr.new_empty(()), qr, kr.transpose(1, 2), beta=0, alpha=scale)
            ahead = torch.ones(length, length, dtype=torch.bool, device=q.device).triu_(1)
            weights = weights.view(-1, length, length).masked_fill_(ahead, -torch.inf).softmax(-1).view(weights.shape)
            part = _unstack(torch.bmm(weights, vr), k.shape[0], group)
            if group.tokens is None:
                out = part
            else:
                out.index_copy_(0, group.tokens, part)
            saved += (qr, kr, vr, weights)
        ctx.save_for_backward(*saved)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        heads, total, width = ctx.shape
        shared = ctx.saved_tensors[1].shape[0] // ctx.groups[0].shape[0]
        grads = [dout.new_empty(total, h, width) for h in (heads, shared, shared)]
        for at, group in enumerate(ctx.groups):
            qr, kr, vr, weights = ctx.saved_tensors[4 * at : 4 * at + 4]
            rect = dout.new_zeros(group.rect.shape[0], heads, width)
            rect.index_copy_(0, group.back, dout if group.tokens is None else dout.index_select(0, group.tokens))
            do = _stack(rect, shared, group)
            ds = torch._softmax_backward_data(torch.bmm(do, vr.transpose(1, 2)), weights, -1, weights.dtype)
            parts = (
                torch.baddbmm(ds.new_empty(()), ds, kr, beta=0, alpha=ctx.scale),
                torch.baddbmm(ds.new_empty(()), ds.transpose(1, 2), qr, beta=0, alpha=ctx.scale),
                torch.bmm(weights.transpose(1, 2), do),
            )
            for i, part in enumerate(parts):
                own = _unstack(part, shared, group)
                if group.tokens is None:
                    grads[i] = own
                else:
                    grads[i].index_copy_(0, group.tokens, own)
        return *(grad.transpose(0, 1) for grad in grads), None, None


def _stack(x: Tensor, shared: int, group: Group) -> Tensor:
    """(R * T, H, D) -> (h * R, H / h * T, D)."""
    (rows, length), width = group.shape, x.shape[2]
    return x.view(rows, length, shared, -1, width).permute(2, 0, 3, 1, 4).reshape(shared * rows, -1, width)


def _unstack(x: Tensor, shared: int, group: Group) -> Tensor:
    """The way back, pads dropped: (h * R, H / h * T, D) -> (n, H, D)."""
    (rows, length), width = group.shape, x.shape[2]
    x = x.view(shared, rows, -1, length, width).permute(1, 3, 0, 2, 4)
    return x.reshape(rows * length, -1, width).index_select(0, group.back)


def packed(q: Tensor, k: Tensor, v: Tensor, groups: tuple[Group, ...], scale: float | None) -> Tensor:
    """Causal attention inside each sequence. q (H, N, D); k, v (h, N, D), h dividing H. Returns (N, H, D)."""
    total, width = q.shape[1:]
    if q.requires_grad and q.device.type == "cpu" and all(group.mask is None and group.shape[1] <= SHORT for group in groups):
        short: Tensor = _Short.apply(q, k, v, groups, width**-0.5 if scale is None else scale)
        return short
    parts = [_flash(q, k, v, group, scale) for group in groups]
    if len(parts) == 1:
        return parts[0]
    order = torch.cat([group.tokens for group in groups if group.tokens is not None])
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(total, device=order.device))
    return torch.cat(parts).index_select(0, inverse)


def _flash(q: Tensor, k: Tensor, v: Tensor, group: Group, scale: float | None) -> Tensor:
    """The same through torch's own kernels. Returns (n, H, D)."""
    heads, _, width = q.shape
    mask = None if group.mask is None else group.mask.transpose(0, 1)  # (1, R, T, T)
    rows = [_rows(x, group, heads) for x in (q, k, v)]
    rect = F.scaled_dot_product_attention(rows[0], rows[1], rows[2], attn_mask=mask, is_causal=mask is None, scale=scale)
    out: Tensor = _ToPacked.apply(rect.reshape(heads, -1, width), group)
    return out.transpose(0, 1)


@dataclass(slots=True)
class Cache:
    """Keys and values of R rows while they are decoded, one (h, R, L, D) pair a layer, right-padded: row i holds `lengths[i]`."""

    size: int
    """L: the longest a row can get, in tokens."""
    lengths: Tensor
    """(R,)"""
    longest: int
    """Largest of `lengths`, known on the host."""
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def fill(self, layer: int, k: Tensor, v: Tensor, group: Group) -> None:
        """Takes a whole prompt's keys and values: k, v (h, N, D)."""
        heads, _, width = k.shape
        rows, prompt = group.shape
        for store, new in ((self.keys, k), (self.values, v)):
            store[layer] = new.new_zeros(heads, rows, self.size, width)
            store[layer][:, :, :prompt] = new.index_select(1, group.rect).view(heads, rows, prompt, width)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        """One new token a row: q (H, R, D); k, v (h, R, D). Returns (R, H, D)."""
        heads, rows, width = q.shape
        groups = k.shape[0]
        at = torch.arange(rows, device=q.device)
        self.keys[layer][:, at, self.lengths] = k
        self.values[layer][:, at, self.lengths] = v
        seen = self.longest + 1
        mask = torch.arange(seen, device=q.device)[None] <= self.lengths[:, None]  # (R, L)
        grouped = q.view(groups, heads // groups, rows, width).transpose(1, 2)  # (h, R, G, D)
        out = F.scaled_dot_product_attention(
            grouped, self.keys[layer][:, :, :seen], self.values[layer][:, :, :seen], attn_mask=mask[None, :, None], scale=scale
        )
        return out.permute(1, 0, 2, 3).reshape(rows, heads, width)

    def advance(self) -> None:
        """After a token has passed through all layers. A row that is done but still here may stand at its end."""
        self.lengths = (self.lengths + 1).clamp_(max=self.size - 1)
        self.longest = min(self.longest + 1, self.size - 1)

    def keep(self, rows: Tensor) -> None:
        """Drops every row but these (at least one), in this order."""
        self.lengths = self.lengths[rows]
        self.longest = int(self.lengths.max())
        for store in (self.keys, self.values):
            for layer, value in store.items():
                store[layer] = value.index_select(1, rows)
