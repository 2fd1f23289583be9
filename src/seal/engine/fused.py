"""Blocks every Llama-like model shares, each as one autograd function: fewer passes over memory, fewer saved tensors.

A block is replaced only where its module is recognised by what it holds; anything else runs as transformers has it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seal.engine.routing import is_tall, tall

Multiply = Callable[[Tensor], Tensor]
"""(N, in) -> (N, out) of several linear layers as one product, their outputs side by side."""


class Hooks(Protocol):
    """What a block asks of the engine."""

    def join(self, linears: Sequence[nn.Linear]) -> Multiply:
        """The layers, which read the same input, as one product."""
        ...

    def attend(self, module: nn.Module, qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary positions and attention: (N, H + 2 h, D), (N, 1, D) twice -> (N, H, D)."""
        ...


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
    """silu(gate) * up of gate and up side by side: (N, 2 inner) -> (N, inner)."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        gate, up = both.chunk(2, -1)
        out = _like(both, gate.shape[1])
        torch.ops.aten.silu.out(gate, out=out)
        return out.mul_(up)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        grad = _like(both, both.shape[1])
        (gate, up), (dgate, dup) = both.chunk(2, -1), grad.chunk(2, -1)
        torch.ops.aten.silu.out(gate, out=dup)
        dup.mul_(dy)
        torch.mul(dy, up, out=dgate)
        torch.ops.aten.silu_backward.grad_input(dgate, gate, grad_input=dgate)
        return grad


def _like(x: Tensor, width: int) -> Tensor:
    return tall(x, width) if is_tall(x) else x.new_empty(len(x), width)


def patch(module: nn.Module, hooks: Hooks) -> bool:
    """Gives a module the fused forward if it is one of the known blocks; `unpatch` takes it back."""
    if _is_attention(module):
        module.forward = _attention(module, hooks)
        return True
    if _is_norm(module):
        weight, eps = module.get_parameter("weight"), float(getattr(module, "variance_epsilon"))  # noqa: B009
        module.forward = lambda x: _Norm.apply(x, weight, eps) if torch.is_grad_enabled() else norm(x, weight, eps)
        return True
    if _is_gated(module):
        module.forward = _gated(module, hooks)
        return True
    return False


def unpatch(module: nn.Module, before: Callable[..., Any] | None) -> None:
    """The forward that the module had: `before`, if somebody had set one on it, else that of its class."""
    del module.forward
    if before is not None:
        module.forward = before


def _attention(module: Any, hooks: Hooks) -> Callable[..., tuple[Tensor, None]]:
    project = hooks.join([module.q_proj, module.k_proj, module.v_proj])

    def forward(hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], *_: Any, **__: Any) -> tuple[Tensor, None]:
        cos, sin = (one[0, :, None] for one in position_embeddings)  # (N, 1, D)
        qkv = project(hidden_states[0]).unflatten(-1, (-1, module.head_dim))
        return module.o_proj(hooks.attend(module, qkv, cos, sin).flatten(1)[None]), None

    return forward


def _gated(module: Any, hooks: Hooks) -> Callable[[Tensor], Tensor]:
    project = hooks.join([module.gate_proj, module.up_proj])

    def forward(x: Tensor) -> Tensor:
        down: Tensor = module.down_proj(_SwiGLU.apply(project(x.reshape(-1, x.shape[-1]))))
        return down.view(x.shape)

    return forward


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm without a way back."""
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
    return known and whole and _turns(module) and not _has_window(module)


def _turns(module: Any) -> bool:
    """Whether it has rotary positions; some layers of SmolLM3 are handed them and do without."""
    return "position_embeddings" in _parameters(module) and bool(getattr(module, "use_rope", True))


def _has_window(module: Any) -> bool:
    """Whether a layer looks back so many tokens only. Mistral's and its copies' say so in the configuration alone."""
    return getattr(module, "sliding_window", getattr(getattr(module, "config", None), "sliding_window", None)) is not None


def _parameters(module: nn.Module) -> list[str]:
    return list(inspect.signature(module.forward).parameters)
