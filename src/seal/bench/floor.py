"""The time that could not be saved: the products a step cannot do without, at the best rate `torch.mm` reaches here."""

from __future__ import annotations

import time
from collections import Counter

import torch
from torch import nn
from transformers import PreTrainedModel

from seal.engine.place import settle


def _best(seconds_each: float, *operands: torch.Tensor) -> float:
    """Shortest time of one product over a few short series."""
    out = torch.mm(*operands)
    n = max(1, int(0.02 / max(1e-7, seconds_each)))
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(n):
            torch.mm(*operands, out=out)
        settle(out.device)
        best = min(best, (time.perf_counter() - began) / n)
    return best


def rate(model: PreTrainedModel, tokens: int) -> float:
    """FLOP/s of the model's own products, forward and back to the input, with `tokens` rows, each in its quickest layout."""
    head = model.get_output_embeddings()
    shapes = Counter((m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
    shapes[(head.weight.shape[1], head.weight.shape[0])] += 1
    like = head.weight
    total, seconds = 0.0, 0.0
    for (inputs, outputs), count in shapes.items():
        n = min(tokens, 512) if outputs == len(like) else tokens  # the head's logits exist for a chunk of tokens at a time
        w = torch.randn(outputs, inputs, device=like.device, dtype=like.dtype)
        x, y = (torch.randn(n, size, device=like.device, dtype=like.dtype) for size in (inputs, outputs))
        flops = 2.0 * n * inputs * outputs
        guess = flops / 1e11 if like.device.type == "cpu" else flops / 3e14
        forward = min(_best(guess, x, w.t()), _best(guess, w, x.t()))
        backward = min(_best(guess, y, w), _best(guess, w.t(), y.t()))
        share = count * tokens / n
        total += 2 * flops * share
        seconds += (forward + backward) * share
    return total / seconds


def floor_seconds(products: int, lora: int, tokens: int, flops_a_second: float) -> float:
    """Forward and dX for every frozen weight, forward, dX and dW for every trained one."""
    return (4.0 * products + 6.0 * lora) * tokens / flops_a_second
