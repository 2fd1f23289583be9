"""Blocks every Llama-like model shares, each as one autograd function: fewer passes over memory, fewer saved tensors.

A block is replaced only where its module is recognised by what it holds; anything else runs as transformers has it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attend = Callable[..., tuple[Tensor, None]]
"""transformers' attention interface: (module, query, key, value, mask, scaling=...) -> (output, None)."""


class _Norm(torch.autograd.Function):
    """y = w * x / rms(x), the mean and the root in at least float32. The weight is frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normal = (wide * scale).to(x.dtype)
        ctx.save_for_backward(normal, weight, scale)
        return normal * weight

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        normal, weight, scale = ctx.saved_tensors
        dn = dy * weight
        along = (dn * normal).sum(-1, keepdim=True, dtype=scale.dtype).div_(normal.shape[-1])
        return dn.sub_(normal * along.to(dn.dtype)).mul_(scale.to(dn.dtype)), None, None


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        dup = F.silu(gate).mul_(dy)
        dgate = torch.ops.aten.silu_backward(dy * up, gate)
        return dgate, dup


class _Rotate(torch.autograd.Function):
    """Rotary positions: x cos + (-x2, x1) sin, where x1 and x2 are the halves of x. x: (N, H, D); cos, sin: (N, 1, D)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        half = x.shape[-1] // 2
        y = x * cos
        y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
        y[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        half = dy.shape[-1] // 2
        dx = dy * cos
        dx[..., :half].addcmul_(dy[..., half:], sin[..., half:])
        dx[..., half:].addcmul_(dy[..., :half], sin[..., :half], value=-1)
        return dx, None, None


def patch(module: nn.Module, attend: Attend) -> bool:
    """Gives a module the fused forward if it is one of the known blocks; `unpatch` takes it back.

    `attend`: what transformers would call for attention.
    """
    if _is_attention(module):
        module.forward = lambda *args, **named: _attention(module, attend, *args, **named)
        return True
    if _is_norm(module):
        weight, eps = module.get_parameter("weight"), float(getattr(module, "variance_epsilon"))  # noqa: B009
        module.forward = lambda x: _Norm.apply(x, weight, eps) if torch.is_grad_enabled() else _norm(x, weight, eps)
        return True
    if _is_gated(module):
        module.forward = lambda x: module.down_proj(_SwiGLU.apply(module.gate_proj(x), module.up_proj(x)))  # type: ignore
        return True
    return False


def unpatch(module: nn.Module) -> None:
    """The module's own forward again."""
    del module.forward


def _attention(
    module: Any, attend: Attend, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], *_: Any, **named: Any
) -> tuple[Tensor, None]:
    cos, sin = (one[0, :, None] for one in position_embeddings)  # (N, 1, D)
    projections = (module.q_proj, module.k_proj, module.v_proj)
    q, k, v = (project(hidden_states)[0].unflatten(-1, (-1, module.head_dim)) for project in projections)
    q, k = _Rotate.apply(q, cos, sin), _Rotate.apply(k, cos, sin)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    out, _weights = attend(module, q, k, v, None, scaling=module.scaling, sliding_window=named.get("sliding_window"))
    return module.o_proj(out.flatten(2)), None


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x if x.dtype == torch.float64 else x.float()
    scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (wide * scale).to(x.dtype) * weight


def _is_norm(module: nn.Module) -> bool:
    """Llama's RMSNorm and its many copies: a weight, an epsilon called `variance_epsilon`, no bias, no offset of one."""
    parameters = dict(module.named_parameters())
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon") and list(parameters) == ["weight"]


def _is_gated(module: nn.Module) -> bool:
    """A SwiGLU block of three linear layers."""
    linears = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    silu = (
        isinstance(getattr(module, "act_fn", None), nn.SiLU) or type(getattr(module, "act_fn", None)).__name__ == "SiLUActivation"
    )
    return silu and all(isinstance(linear, nn.Linear) for linear in linears) and len(list(module.children())) <= 4


def _is_attention(module: nn.Module) -> bool:
    """Llama's attention and its copies: four linear layers and nothing else, rotary positions over the whole head."""
    children = dict(module.named_children())
    known = set(children) == {"q_proj", "k_proj", "v_proj", "o_proj"} and all(isinstance(c, nn.Linear) for c in children.values())
    whole = all(hasattr(module, name) for name in ("head_dim", "scaling", "layer_idx"))
    return known and whole and getattr(module, "sliding_window", None) is None and "position_embeddings" in _parameters(module)


def _parameters(module: nn.Module) -> list[str]:
    return list(inspect.signature(module.forward).parameters)
