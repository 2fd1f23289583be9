"""A decode step without transformers' module tree: one token a row through a Llama-like decoder, as one plain loop.

Walking the modules costs an eighth of such a step on a CPU. They remain the reference: `Host` uses this loop only where it says
the same as they do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seal.engine.attention import Cache
from seal.engine.fused import Multiply


@dataclass(frozen=True, slots=True)
class Norm:
    """RMSNorm."""

    weight: Tensor
    eps: Tensor
    """(1,)"""
    mean: Tensor
    """(h,): the product of a row with it is the row's mean."""

    @classmethod
    def of(cls, module: Any) -> Norm:
        """What a module that `fused` knows as one holds."""
        weight = module.weight.detach()
        mean = torch.full_like(weight, 1 / len(weight), dtype=torch.promote_types(weight.dtype, torch.float32))
        return cls(weight, mean.new_tensor([float(module.variance_epsilon)]), mean)

    def __call__(self, x: Tensor) -> Tensor:
        """(R, h) -> (R, h). Half the calls of `fused.norm`, which for a few rows is half the time."""
        wide = x.to(self.mean.dtype)
        scale = torch.addmv(self.eps, wide * wide, self.mean).rsqrt_()
        return (wide * scale[:, None]).to(x.dtype).mul_(self.weight)


@dataclass(frozen=True, slots=True)
class Layer:
    """What a decoder layer computes with; products carry their adapters."""

    index: int
    scale: float
    before: Norm
    qkv: Multiply
    out: Multiply
    after: Norm
    gate_up: Multiply
    down: Multiply


@dataclass(frozen=True, slots=True)
class Compact:
    """The decoder as a loop over its layers."""

    embed: nn.Module
    rotary: nn.Module
    heads: tuple[int, int]
    """Those that are rotated (queries and keys, H + h), and those that are not (values, h)."""
    layers: tuple[Layer, ...]
    norm: Norm

    @torch.no_grad()
    def __call__(self, ids: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """One token a row, (R,) and where it stands in its row (R,) -> last hidden states (R, h). Writes to the cache."""
        x = self.embed(ids).clone()
        cos, sin = self._turns(x, positions)
        for layer in self.layers:
            qkv = layer.qkv(layer.before(x)).view(cos.shape)
            turned = qkv.view(sin.shape).flip(2).mul_(sin).view(cos.shape).addcmul_(qkv, cos)
            x += layer.out(cache.attend(layer.index, turned, layer.scale).flatten(1))
            gate, up = layer.gate_up(layer.after(x)).chunk(2, 1)
            x += layer.down(F.silu(gate).mul_(up))
        return self.norm(x)

    def _turns(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Once for all layers: cos of every head (R, H + 2 h, D), sin by halves (R, H + 2 h, 2, D / 2), the first one negative.

        Values turn by nothing and go along with the keys.
        """
        turning, still = self.heads
        cos, sin = (one[0, :, None].expand(-1, turning, -1) for one in self.rotary(x[None], positions[None]))
        none = cos.new_zeros(len(cos), still, cos.shape[2])
        cos, sin = torch.cat([cos, none + 1], 1), torch.cat([sin, none], 1).unflatten(2, (2, -1))
        sin[:, :, 0].neg_()
        return cos, sin


def compact(inner: Any, known: Collection[nn.Module], multiply: Callable[[nn.Linear], Multiply]) -> Compact | None:
    """The compact step of a decoder all of whose parts are `known` (fused) blocks in the usual places; None for any other.

    `multiply`: a linear layer -> the product it is part of, with its adapters.
    """
    parts = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
    layers = list(getattr(inner, "layers", ()))
    usual = all(
        dict(layer.named_children()).keys() == parts and all(part in known for part in layer.children()) for layer in layers
    )
    if not (layers and usual and getattr(inner, "norm", None) in known and hasattr(inner, "rotary_emb")):
        return None
    attention = layers[0].self_attn
    queries, keys = (linear.out_features // attention.head_dim for linear in (attention.q_proj, attention.k_proj))
    return Compact(
        inner.get_input_embeddings(),
        inner.rotary_emb,
        (queries + keys, keys),
        tuple(
            Layer(
                layer.self_attn.layer_idx,
                float(layer.self_attn.scaling),
                Norm.of(layer.input_layernorm),
                multiply(layer.self_attn.q_proj),
                multiply(layer.self_attn.o_proj),
                Norm.of(layer.post_attention_layernorm),
                multiply(layer.mlp.gate_proj),
                multiply(layer.mlp.down_proj),
            )
            for layer in layers
        ),
        Norm.of(inner.norm),
    )
