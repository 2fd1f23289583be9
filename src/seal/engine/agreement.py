"""Whether a model that is patched says what it said before: asked of it whenever one is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from seal.engine.attention import Cache
from seal.engine.head import Head
from seal.engine.pack import Step, Tree, pack
from seal.engine.place import placed
from seal.engine.rectangle import OwnCache


def asked(model: PreTrainedModel) -> Tensor:
    """Two rows of six tokens from all over the vocabulary: what a model is asked when it is opened."""
    size = model.get_input_embeddings().weight.shape[0]
    return (torch.arange(1, 13, device=model.device) * size // 14).view(2, 6)


@torch.no_grad()
def said_alone(model: PreTrainedModel) -> Tensor:
    """What the model, not patched yet, says to them, in the order of `said_together`. The rows of a batch do not meet."""
    ids = asked(model)
    first, second = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
    return torch.cat([second[:3], first[4:5], second[3:4], first[5:], second[4:5]])


@torch.no_grad()
def said_together(model: PreTrainedModel, states: Callable[[Step, Cache], Tensor]) -> Tensor:
    """The same from packed rows, (7, V): to three tokens of the second row behind four of the first, then to one more of both,
    twice. `states`: the hidden states (N, h) of a step over a cache."""
    (first, second), device = asked(model).tolist(), model.device
    cache = Cache(size=6, lengths=torch.tensor([4, 3], device=device), longest=4, unread=2)
    tree = Tree()
    tree.add(first[:4], None)
    tree.add(second[:3], None)
    said = [states(tree.step(device), cache)[4:]]
    cache.unread = 0
    for step in range(2):
        new = pack([[first[4 + step]], [second[3 + step]]], [None, None], device=device)
        said.append(states(replace(new, positions=cache.lengths), cache))
        cache.advance()
    return Head(model).logits(torch.cat(said))


@torch.no_grad()
def said_beside(model: PreTrainedModel, states: Callable[[Step, OwnCache | None], Tensor]) -> Tensor:
    """The same, (7, V), from rows side by side: first without a cache, then over the model's own, in which they change places."""
    (first, second), device = asked(model).tolist(), model.device
    said = [states(pack([first[:4], second[:3]], [None, None], device=device), None)[4:]]
    cache, prompts = OwnCache.of([(None, second[:3]), (None, first[:4])], device)
    states(prompts, cache)
    cache.keep(placed([1, 0], device))
    for at in range(2):
        new = pack([[first[4 + at]], [second[3 + at]]], [None, None], device=device)
        said.append(states(replace(new, positions=cache.lengths), cache))
        cache.advance()
    return Head(model).logits(torch.cat(said))


def agree(found: Tensor, wanted: Tensor, dtype: torch.dtype, *, each: bool = False) -> bool:
    """Whether rows (7, V) say together what each says alone. `each`: what is read, and what either row decodes, for itself, as
    pads may change one row only.

    A wrong model is off by half to all of what it says (eight families with random weights), rounding in bfloat16 by 0.01 to 0.02
    of it. Half of the tokens have to be off: of one, rounding may turn which experts it goes to.
    """
    off = apart(found, wanted)
    limit = 0.01 if _exact(dtype) else 0.2
    if each:
        return max(float(off[:3].median()), float(off[3::2].mean()), float(off[4::2].mean())) <= limit
    return float(off.median()) <= limit


def alike(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    """Whether logits (n, V) are the same up to rounding: of hidden states, one large dimension would hide all others."""
    return float(apart(found, wanted).mean()) <= (1e-4 if _exact(dtype) else 0.05)


def _exact(dtype: torch.dtype) -> bool:
    return dtype in (torch.float32, torch.float64)


def apart(found: Tensor, wanted: Tensor) -> Tensor:
    """How far logits (n, V) are from those wanted, as a share of how far these are from their mean: one number a token, (n,).

    A constant added to all logits of a token says nothing.
    """
    off, spread = (x - x.mean(1, keepdim=True) for x in (found - wanted, wanted))
    return off.norm(dim=1) / spread.norm(dim=1).clamp_min(1e-30)
