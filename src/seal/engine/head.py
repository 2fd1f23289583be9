"""The language-model head: loss and its gradient in chunks, so that logits (tokens x vocabulary) never exist at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from seal.engine.pack import Targets

CHUNK = 256
"""Tokens whose logits exist at a time: 50 MB at a vocabulary of 49,152 in float32."""


class Head:
    """Hidden states to logits, with the scaling and soft caps some families add."""

    def __init__(self, model: PreTrainedModel) -> None:
        linear = model.get_output_embeddings()
        self.weight, self.bias = linear.weight, getattr(linear, "bias", None)
        config = model.config
        self.cap = getattr(config, "final_logit_softcapping", None)
        self.scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, h) -> (n, V) in at least float32."""
        out = F.linear(hidden, self.weight, self.bias)
        out = out if out.dtype == torch.float64 else out.float()
        if self.scale != 1.0:
            out = out * self.scale
        return out if self.cap is None else torch.tanh(out / self.cap) * self.cap

    def loss(self, hidden: Tensor, targets: Targets, slots: int) -> tuple[Tensor, Tensor]:
        """Sum over slots of each slot's weighted mean loss (a scalar with gradient), and the loss of each slot (K,).

        hidden: (N, h), packed. The sum over slots, never their mean: each slot gets the gradient it would get alone.
        """
        chosen = hidden.index_select(0, targets.position)
        per_token = _Loss.apply(chosen, self, targets.label, targets.weight)
        each = torch.zeros(slots, device=hidden.device, dtype=per_token.dtype)
        return per_token.sum(), each.index_add_(0, targets.slot, per_token.detach())

    @torch.no_grad()
    def logprobs(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """(n, h), (n,) -> (n,) log-probability of each label."""
        parts = []
        for start in range(0, len(labels), CHUNK):
            logits = self.logits(hidden[start : start + CHUNK])
            picked = logits.gather(1, labels[start : start + CHUNK, None]).squeeze(1)
            parts.append(picked - logits.logsumexp(1))
        return torch.cat(parts) if parts else hidden.new_zeros(0)


class _Loss(torch.autograd.Function):
    """Weighted negative log-likelihood of each token. The gradient is worked out with the loss: two products, not three."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, labels: Tensor, weights: Tensor) -> Tensor:
        grad = torch.empty_like(hidden)
        nll = torch.empty(
            len(labels), device=hidden.device, dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32
        )
        weights = weights.to(nll.dtype)
        for start in range(0, len(labels), CHUNK):
            part = slice(start, start + CHUNK)
            logits = head.logits(hidden[part])
            aim = labels[part, None]
            scored = logits.gather(1, aim)
            slope = None if head.cap is None else 1 - (logits / head.cap).square()
            top = logits.amax(1, keepdim=True)
            d = logits.sub_(top).exp_()  # becomes the gradient, in place of the logits
            total = d.sum(1, keepdim=True)
            weight = weights[part, None]
            nll[part] = ((total.log() + top - scored) * weight).squeeze(1)
            d.mul_(weight * head.scale / total).scatter_add_(1, aim, -weight * head.scale)
            if slope is not None:
                d.mul_(slope)
            grad[part] = d.to(hidden.dtype) @ head.weight
        ctx.save_for_backward(grad)
        return nll

    @staticmethod
    def backward(ctx: Any, dnll: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * dnll[:, None].to(grad.dtype), None, None, None
