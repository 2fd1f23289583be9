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


def packed(q: Tensor, k: Tensor, v: Tensor, groups: tuple[Group, ...], scale: float | None) -> Tensor:
    """Causal attention inside each sequence. q (H, N, D); k, v (h, N, D), h dividing H. Returns (N, H, D)."""
    heads, total, width = q.shape
    parts = []
    for group in groups:
        mask = None if group.mask is None else group.mask.transpose(0, 1)  # (1, R, T, T)
        rect = F.scaled_dot_product_attention(
            _rows(q, group, heads),
            _rows(k, group, heads),
            _rows(v, group, heads),
            attn_mask=mask,
            is_causal=mask is None,
            scale=scale,
        )
        parts.append(_ToPacked.apply(rect.reshape(heads, -1, width), group))
    if len(parts) == 1:
        return parts[0].transpose(0, 1)
    order = torch.cat([group.tokens for group in groups if group.tokens is not None])
    joined = torch.cat(parts, dim=1)
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(total, device=order.device))
    return joined.index_select(1, inverse).transpose(0, 1)


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
