"""Attention over packed sequences without leakage between them, and over a key-value cache while decoding.

Registered with transformers as an attention implementation, so it serves every model that goes through that interface.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seal.engine.pack import Group, Order, Step


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Within: attention on a GPU is torch's own and not cuDNN's, then what it was. Elsewhere nobody looks at that.

    On recent GPUs torch from 2.11 on prefers cuDNN's, which works out a plan for every shape that is new to it. Packed steps and
    decoding have new shapes all the time.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


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


class _InOrder(torch.autograd.Function):
    """(N, H, D), one group after the other -> packed. Each token has one place, so the gradient is a gather, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Order) -> Tensor:
        ctx.order = order
        return x.index_select(0, order.back)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.index_select(0, ctx.order.tokens), None


def _rows(x: Tensor, group: Group, heads: int) -> Tensor:
    """(h, N, D) -> (heads, R, T, D): heads are the batch and rows the heads, since attention does not care which is which."""
    rect = _ToRect.apply(x, group)
    if x.shape[0] != heads:  # grouped queries: each key head serves heads / h query heads
        rect = rect.repeat_interleave(heads // x.shape[0], dim=0)
    return rect.view(heads, *group.shape, x.shape[2])


SHORT = 512
"""Up to this many tokens a row, keeping the attention weights for the way back costs less than working them out again."""


@dataclass(frozen=True, slots=True)
class Block:
    """One group's rectangle (R, T) among the tiles; keys and values follow the queries."""

    tiles: slice
    """Its part of the arranged rows: (H + 2 h) R T of them."""
    outs: slice
    """Its part of the arranged outputs: H R T rows."""
    shape: tuple[int, int]
    ahead: Tensor
    """(T, T), True where a key comes after the query."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Where every head of every token stands when each row's heads lie together, worked out once a step.

    With (N, H + 2 h, D) read as rows of D, one gather brings a step into the order its products want, and one brings it back.
    Query heads that share a key head stand below each other in one matrix, so that keys and values are never repeated.
    """

    gather: Tensor
    """Packed rows in tile order."""
    back: Tensor
    """Tile of every packed row, (N (H + 2 h),)."""
    out_gather: Tensor
    """The same for outputs, whose packed rows are (N H,)."""
    out_back: Tensor
    pads: Tensor
    """Output tiles that are no token's."""
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, groups: Sequence[Group], heads: int, shared: int) -> Tiles:
        """`heads`: H, of the queries; `shared`: h, of the keys and values."""
        device, wide = groups[0].rect.device, heads + 2 * shared
        gather, out_gather, pads, blocks = [], [], [], []
        total = sum(len(group.back) for group in groups)
        back = torch.empty(total, wide, dtype=torch.long, device=device)
        out_back = torch.empty(total, heads, dtype=torch.long, device=device)
        at = out_at = 0
        for group in groups:
            rows, length = group.shape
            token = group.rect.view(rows, length)
            head = torch.arange(heads, device=device).view(shared, -1)
            queries = token[None, :, None, :] * wide + head[:, None, :, None]  # (h, R, G, T)
            key = torch.arange(heads, wide, device=device)[:, None, None]
            pairs = (token[None] * wide + key).flatten()  # (2 h, R, T)
            gather += [queries.flatten(), pairs]
            out_gather.append((token[None, :, None, :] * heads + head[:, None, :, None]).flatten())
            real = torch.zeros(rows * length, dtype=torch.bool, device=device)
            real[group.back] = True
            pads.append(out_at + (~real).view(1, rows, 1, length).expand(queries.shape).flatten().nonzero()[:, 0])
            own = slice(None) if group.tokens is None else group.tokens
            size, pair = queries.numel(), pairs.numel()
            place = torch.arange(size, device=device).view(queries.shape).permute(1, 3, 0, 2).reshape(rows * length, heads)
            out_back[own] = out_at + place[group.back]
            follows = torch.arange(pair, device=device).view(2 * shared, rows * length).t()
            back[own] = at + torch.cat([place, size + follows], 1)[group.back]
            ahead = torch.ones(length, length, dtype=torch.bool, device=device).triu_(1)
            blocks.append(Block(slice(at, at + size + pair), slice(out_at, out_at + size), group.shape, ahead))
            at, out_at = at + size + pair, out_at + size
        return cls(torch.cat(gather), back.flatten(), torch.cat(out_gather), out_back.flatten(), torch.cat(pads), tuple(blocks))


class _Short(torch.autograd.Function):
    """Rotary positions and causal attention of short rows by plain batched products, the weights kept for the way back.

    A flash kernel is made for long rows: at 30 to 200 tokens on a CPU these products take less time.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, tiles: Tiles, heads: int, scale: float) -> Tensor:
        total, wide, width = qkv.shape
        shared = (wide - heads) // 2
        turned = torch.empty_like(qkv)
        rotate(qkv[:, : heads + shared], cos, sin, out=turned[:, : heads + shared])
        turned[:, heads + shared :].copy_(qkv[:, heads + shared :])
        flat = turned.view(-1, width).index_select(0, tiles.gather)
        out = flat.new_empty(len(tiles.out_gather), width)
        saved = []
        for block in tiles.blocks:
            (_, length), (q, k, v) = block.shape, _cut(flat[block.tiles], block, heads, shared)
            weights = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
            weights = weights.view(-1, length, length).masked_fill_(block.ahead, -torch.inf).softmax(-1).view(weights.shape)
            torch.bmm(weights, v, out=out[block.outs].view(q.shape))
            saved.append(weights)
        ctx.save_for_backward(cos, sin, flat, *saved)
        ctx.tiles, ctx.shape, ctx.heads, ctx.scale = tiles, qkv.shape, heads, scale
        return out.index_select(0, tiles.out_back).view(total, heads, width)

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin, flat, *saved = ctx.saved_tensors
        tiles, heads, (_, wide, width) = ctx.tiles, ctx.heads, ctx.shape
        shared = (wide - heads) // 2
        dout = dout.reshape(-1, width).index_select(0, tiles.out_gather).index_fill_(0, tiles.pads, 0)
        dflat = torch.empty_like(flat)
        for block, weights in zip(tiles.blocks, saved, strict=True):
            q, k, v = _cut(flat[block.tiles], block, heads, shared)
            dq, dk, dv = _cut(dflat[block.tiles], block, heads, shared)
            do = dout[block.outs].view(q.shape)
            ds = torch._softmax_backward_data(torch.bmm(do, v.transpose(1, 2)), weights, -1, weights.dtype)
            torch.baddbmm(dq, ds, k, beta=0, alpha=ctx.scale, out=dq)
            torch.baddbmm(dk, ds.transpose(1, 2), q, beta=0, alpha=ctx.scale, out=dk)
            torch.bmm(weights.transpose(1, 2), do, out=dv)
        turned = dflat.index_select(0, tiles.back).view(ctx.shape)
        dqkv = torch.empty_like(turned)
        rotate(turned[:, : heads + shared], cos, -sin, out=dqkv[:, : heads + shared])
        dqkv[:, heads + shared :].copy_(turned[:, heads + shared :])
        return dqkv, None, None, None, None, None


def _cut(flat: Tensor, block: Block, heads: int, shared: int) -> tuple[Tensor, Tensor, Tensor]:
    """A block's queries (h R, G T, D), keys and values (h R, T, D)."""
    (rows, length), width = block.shape, flat.shape[1]
    q, k, v = flat.split([heads * rows * length, shared * rows * length, shared * rows * length])
    return q.view(shared * rows, -1, width), k.view(-1, length, width), v.view(-1, length, width)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, out: Tensor) -> Tensor:
    """Rotary positions: x cos + (-x2, x1) sin, where x1 and x2 are the halves of x. x, out: (N, H, D); cos, sin: (N, 1, D)."""
    half = x.shape[-1] // 2
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotate(x, cos, sin, out=torch.empty_like(x))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return rotate(dy, cos, -sin, out=torch.empty_like(dy)), None, None


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate` as one autograd function: fewer passes over memory than transformers' own."""
    y: Tensor = _Rotate.apply(x, cos, sin)
    return y


def short(groups: Sequence[Group], device: torch.device) -> bool:
    """Whether `attend_short` is the quicker way for a step of these groups."""
    return device.type == "cpu" and all(group.mask is None and group.shape[1] <= SHORT for group in groups)


def attend_short(qkv: Tensor, cos: Tensor, sin: Tensor, tiles: Tiles, heads: int, scale: float) -> Tensor:
    """Rotary positions and causal attention inside each sequence. qkv (N, H + 2 h, D); cos, sin (N, 1, D). Returns (N, H, D)."""
    out: Tensor = _Short.apply(qkv, cos, sin, tiles, heads, scale)
    return out


LINED = 16
"""A GPU's kernels read a mask whose lines are whole multiples of so many numbers, and copy any other one first."""


class Near:
    """Where a token looks that looks back to `window` tokens, itself among them: a mask for each group of a step."""

    def __init__(self, window: int) -> None:
        self.window = window
        self._masks: dict[int, Tensor] = {}

    def mask(self, group: Group, like: Tensor) -> Tensor | None:
        """(T, T) or (1, R, T, T): 0 where it looks, -inf elsewhere, lined as a GPU's kernels read it; None: rows are shorter.
        The same tensor for every layer, since each keeps it for the way back."""
        width = group.shape[1]
        if width <= self.window:
            return None
        if id(group) not in self._masks:
            seen = torch.ones(width, width, dtype=torch.bool, device=like.device).tril_().triu_(1 - self.window)
            if group.mask is not None:
                seen = group.mask.transpose(0, 1) & seen
            lined = like.new_zeros(*seen.shape[:-1], -(-width // LINED) * LINED)[..., :width]
            self._masks[id(group)] = lined.masked_fill_(~seen, -torch.inf)
        return self._masks[id(group)]


def packed(q: Tensor, k: Tensor, v: Tensor, step: Step, scale: float | None, near: Near | None = None) -> Tensor:
    """Causal attention inside each sequence. q (H, N, D); k, v (h, N, D), h dividing H. Returns (N, H, D).

    `near`: how far tokens look back; None: to the row's beginning.
    """
    parts = [_flash(q, k, v, group, scale, near) for group in step.groups]
    if step.order is None:
        return parts[0]
    out: Tensor = _InOrder.apply(torch.cat(parts), step.order)
    return out


def _flash(q: Tensor, k: Tensor, v: Tensor, group: Group, scale: float | None, near: Near | None) -> Tensor:
    """The same through torch's own kernels. Returns (n, H, D)."""
    heads, _, width = q.shape
    mask = None if group.mask is None else group.mask.transpose(0, 1)  # (1, R, T, T)
    if near is not None and (banded := near.mask(group, q)) is not None:
        mask = banded
    rows = [_rows(x, group, heads) for x in (q, k, v)]
    rect = F.scaled_dot_product_attention(rows[0], rows[1], rows[2], attn_mask=mask, is_causal=mask is None, scale=scale)
    out: Tensor = _ToPacked.apply(rect.reshape(heads, -1, width), group)
    return out.transpose(0, 1)


@dataclass(slots=True)
class Cache:
    """Keys and values of R rows while they are decoded, right-padded: row i holds `lengths[i]` tokens."""

    size: int
    """L: the longest a row can get, in tokens; away from the CPU a multiple of LINED."""
    lengths: Tensor
    """(R,)"""
    longest: int
    """Largest of `lengths`, known on the host."""
    unread: int
    """Rows whose prompt is still to be read; 0: what comes now is one new token a row."""
    layers: dict[int, Tensor] = field(default_factory=dict)
    """(R, 2 h, L, D) of every layer: its key heads, then its value heads."""
    _at: Tensor | None = None
    """(R 2 h,): where this step's tokens go, L rows a head."""
    _bias: dict[int | None, Tensor] = field(default_factory=dict)
    """By window, (R, 1, 1, longest + 1 or a few more): 0 where a row's new token may attend, -inf elsewhere."""

    def __post_init__(self) -> None:
        self.size = self._lined(self.size)

    def _lined(self, tokens: int) -> int:
        return tokens if self.lengths.device.type == "cpu" else -(-tokens // LINED) * LINED

    def fill(self, layer: int, k: Tensor, v: Tensor, group: Group) -> None:
        """Takes the keys and values of the next rows' whole prompts: k, v (h, N, D)."""
        rows, prompt = group.shape
        both = torch.cat([k, v]).index_select(1, group.rect).view(-1, rows, prompt, k.shape[2])
        if layer not in self.layers:
            self.layers[layer] = both.new_zeros(self.unread, len(both), self.size, k.shape[2])
        first = len(self.layers[layer]) - self.unread
        self.layers[layer][first : first + rows, :, :prompt] = both.transpose(0, 1)

    def spread(self, rows: Tensor) -> None:
        """Row i goes on from the keys and values that row `rows[i]` was filled with."""
        for layer, store in self.layers.items():
            self.layers[layer] = store.index_select(0, rows)

    def attend(self, layer: int, qkv: Tensor, scale: float | None, window: int | None = None) -> Tensor:
        """One new token a row: (R, H + 2 h, D), rotated. Returns (R, H, D). `window`: as `Near` has it."""
        store = self.layers[layer]
        rows, pair, _, width = store.shape
        if self._at is None:  # the same for every layer
            self._at = (
                torch.arange(rows * pair, device=qkv.device).view(rows, pair) * self.size + self.lengths[:, None]
            ).flatten()
        bias = self._bias.get(window)
        if bias is None:  # the same for every layer that looks back as far
            at, end = torch.arange(self._lined(self.longest + 1), device=qkv.device), self.lengths[:, None]
            hidden = at > end if window is None else (at > end) | (at <= end - window)
            bias = self._bias[window] = qkv.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None, None]
        q, kv = qkv.split([qkv.shape[1] - pair, pair], 1)
        store.view(-1, width).index_copy_(0, self._at, kv.reshape(-1, width))
        keys, values = store[:, :, : bias.shape[3]].chunk(2, 1)
        grouped = q.unflatten(1, (pair // 2, -1))  # (R, h, H / h, D): the queries that share a key head read it once
        out = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=bias, scale=scale)
        return out.flatten(1, 2)

    def advance(self) -> None:
        """After a token has passed through all layers. A row that is done but still here may stand at its end."""
        self.lengths = (self.lengths + 1).clamp_(max=self.size - 1)
        self.longest = min(self.longest + 1, self.size - 1)
        self._at, self._bias = None, {}

    def keep(self, rows: Tensor) -> None:
        """Drops every row but these (at least one), in this order."""
        self.lengths = self.lengths[rows]
        self.longest = int(self.lengths.max())
        self._at, self._bias = None, {}
        self.spread(rows)
