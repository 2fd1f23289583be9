"""The language-model head: loss and its gradient in chunks, so that logits (tokens x vocabulary) never exist at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from seal.engine.pack import Targets
from seal.engine.prepacked import can_prepack, linear, prepack
from seal.engine.routing import ALIGNED


def chunk_bytes(device: torch.device) -> int:
    """Logits that exist at a time, in float32: 512 tokens at a vocabulary of 49,152 on a CPU, elsewhere 1,088 at one of 152,064,
    since few tokens do not fill a GPU."""
    return (100 if device.type == "cpu" else 640) << 20


class Head:
    """Hidden states to logits, with the scaling and soft caps some families add."""

    def __init__(self, model: PreTrainedModel) -> None:
        linear = model.get_output_embeddings()
        self.weight, self.bias = linear.weight, getattr(linear, "bias", None)
        config = model.config.get_text_config()
        self.cap = getattr(config, "final_logit_softcapping", None)
        self.scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
        self.chunk = max(ALIGNED, chunk_bytes(self.weight.device) // (4 * self.weight.shape[0]) // ALIGNED * ALIGNED)
        """Tokens whose logits exist at a time."""
        self._scratch: Tensor | None = None
        self._prepacked: Tensor | None = None

    @contextmanager
    def prepacked(self, wanted: bool = True) -> Iterator[None]:
        """Within: logits come from a copy of the weight that few rows are quicker with, where there is such a layout.

        If it was made further out, from that one. The weight must not change.
        """
        before = self._prepacked
        if before is None and wanted and self.prepacked_bytes():
            self._prepacked = prepack(self.weight)
        try:
            yield
        finally:
            self._prepacked = before

    def prepacked_bytes(self) -> int:
        """What that copy takes; 0 where there is none."""
        return self.weight.nbytes if can_prepack(self.weight.device, self.weight.dtype) else 0

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, h) -> (n, V) in at least float32."""
        return self._shaped(linear(hidden, self.weight, self.bias, self._prepacked))

    def columns(self, hidden: Tensor) -> Tensor:
        """(n, h) -> (V, n), the same transposed: the long side first is the quicker product on a CPU, by a fifth.

        Overwritten by the next call: a fresh 100 MB for every chunk costs as much in page faults as a tenth of the product.
        """
        size = self.weight.shape[0] * len(hidden)
        if self._scratch is None or self._scratch.numel() < size:
            self._scratch = hidden.new_empty(size)
        out = self._scratch[:size].view(-1, len(hidden))
        torch.mm(self.weight, hidden.t(), out=out)
        return self._shaped(out if self.bias is None else out.add_(self.bias[:, None]))

    def _shaped(self, out: Tensor) -> Tensor:
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

    def divergence(self, hidden: Tensor, before: Tensor, targets: Targets, slots: int) -> tuple[Tensor, Tensor]:
        """As `loss`, of the KL divergence from what `before` (M, h) said at the targets' places to what `hidden` (N, h) says."""
        per_token = _Divergence.apply(hidden.index_select(0, targets.position), self, before, targets.weight)
        each = torch.zeros(slots, device=hidden.device, dtype=per_token.dtype)
        return per_token.sum(), each.index_add_(0, targets.slot, per_token.detach())

    def logprob(self, hidden: Tensor, targets: Targets) -> Tensor:
        """(N, h), packed -> (M,) log-probability of each label, with gradient."""
        labels = targets.label
        return -_Loss.apply(hidden.index_select(0, targets.position), self, labels, torch.ones_like(labels, dtype=torch.float32))

    @torch.no_grad()
    def logprobs(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """(n, h), (n,) -> (n,) log-probability of each label."""
        parts = []
        for start in range(0, len(labels), self.chunk):
            logits = self.logits(hidden[start : start + self.chunk])
            picked = logits.gather(1, labels[start : start + self.chunk, None]).squeeze(1)
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
        for start in range(0, len(labels), head.chunk):
            part = slice(start, start + head.chunk)
            own, aim, weight = hidden[part], labels[None, part], weights[part]
            n = len(own)
            logits = head.columns(F.pad(own, (0, 0, 0, -n % ALIGNED)))
            scored = logits[:, :n].gather(0, aim)
            slope = None if head.cap is None else 1 - (logits / head.cap).square()
            top = logits.amax(0, keepdim=True)
            d = logits.sub_(top).exp_()  # becomes the gradient, in place of the logits
            total = d.sum(0, keepdim=True)
            nll[part] = (total.log() + top)[0, :n].sub_(scored[0]).mul_(weight)
            # softmax minus one at the label, times the total: the total, like the weight, is divided out of the smaller product
            d[:, :n].scatter_add_(0, aim, -total[:, :n])
            if slope is not None:
                d.mul_(slope)
            found = torch.mm(d.to(hidden.dtype).t(), head.weight)[:n]
            grad[part] = found * (weight * head.scale / total[0, :n])[:, None]
        ctx.save_for_backward(grad)
        return nll

    @staticmethod
    def backward(ctx: Any, dnll: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * dnll[:, None].to(grad.dtype), None, None, None


class _Divergence(torch.autograd.Function):
    """Weighted KL(before || now) of each token, over the vocabulary. The gradient is worked out with it."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, before: Tensor, weights: Tensor) -> Tensor:
        grad = torch.empty_like(hidden)
        found = []
        size = max(1, head.chunk // 4)  # of logits there are four here
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            logits = head.logits(hidden[part])
            now, then = logits.log_softmax(1), head.logits(before[part]).log_softmax(1)
            weight = weights[part].to(now.dtype)
            found.append((then.exp() * (then - now)).sum(1) * weight)
            d = now.exp() - then.exp()
            if head.cap is not None:
                d *= 1 - (logits / head.cap).square()
            grad[part] = (d.to(hidden.dtype) @ head.weight) * (weight * head.scale)[:, None]
        ctx.save_for_backward(grad)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, dfound: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * dfound[:, None].to(grad.dtype), None, None, None
