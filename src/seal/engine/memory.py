"""How many slots and tokens fit. On a CPU the kernel kills without an error, so it is worked out before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedConfig

from seal.engine.attention import SHORT
from seal.engine.head import chunk_bytes
from seal.engine.host import Host
from seal.engine.pack import pack
from seal.engine.rectangle import OwnCache
from seal.engine.stack import Site, parameters
from seal.machine import available, size

HOLES = 0.52
"""Bytes of holes for a byte of the norms' outputs, of q, k and v and of gate and up: the mean of 13 random models."""

FEW = 8
"""Slots that are worth having however long their steps are: what they trained is asked at once."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The bank's size and a step's token budget."""

    slots: int
    step_tokens: int
    """Most tokens in one forward and backward."""
    bytes_slot: int
    bytes_token: int
    bytes_fixed: int
    bytes_copies: int
    """Of the frozen weights' copies, as `seal.engine.layouts` has them; 0: none are made."""
    budget: int
    """Bytes the plan may use on top of the model."""

    @property
    def bytes(self) -> int:
        """What the plan needs on top of the model."""
        return self.bytes_fixed + self.bytes_copies + self.slots * self.bytes_slot + self.step_tokens * self.bytes_token


def typical(lengths: Sequence[int]) -> float:
    """How long a token's row is on average: what attention's weights follow."""
    return sum(length * length for length in lengths) / sum(lengths)


def heaviest(usual: Sequence[float]) -> float:
    """The typical length to plan for, of those of trials of which any may run together: the one whose tokens hold the most.

    Attention's weights grow with the row up to SHORT, and above it none are kept: where there are trials on both sides, SHORT,
    which no row holds more than (with heads wider than 170 a long row may, by a few hundredths of all that a token holds).
    """
    longest = max(usual)
    return SHORT if min(usual) <= SHORT < longest else longest


def token_bytes(
    config: PreTrainedConfig, sites: Sequence[Site], rank: int, length: float, itemsize: int, holes: float = HOLES
) -> int:
    """Bytes one token of a row of `length` holds between forward and backward, as the fused blocks save them.

    A decoder layer keeps both norms' outputs before their weights, the arranged q, k and v, the attention weights of a short row,
    gate and up, and the inputs of the products that have adapters. Models with other blocks keep about as much.

    Beside these stand holes on a CPU: glibc's heap does not use again all that a layer's forward frees (docs/log.md). What is
    above them, `seal.engine.heap` gives back.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    width = getattr(config, "head_dim", None) or hidden // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    qkv = (heads + 2 * shared) * width
    attention = heads * length if length <= SHORT else 4 * heads * width - qkv
    lowest = min(site.layer for site in sites)  # nothing is kept below it
    layers = config.num_hidden_layers - lowest
    passing = 4 * hidden + 3 * inner  # of the layer that is being worked at, and the head's rows
    holed = layers * (2 * hidden + qkv + 2 * inner) + passing
    return int(itemsize * ((1 + holes) * holed + layers * attention + adapter_numbers(sites, rank)))


class Measured:
    """Bytes that a model itself holds between forward and backward for a token of a row of some length, asked of the model: what
    linear attention and its like keep follows from no configuration. Rows lie side by side."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._known: dict[int, float] = {}
        self._cache: tuple[int, float] | None = None

    def __call__(self, length: float) -> float:
        """Measured on rows of as many tokens, up to 512; in longer ones a token holds more by what tokens 257 to 512 added."""
        if length <= 512:
            return self._of(max(1, math.ceil(length)))
        half, whole = self._of(256), self._of(512)
        return whole + max(0.0, whole - half) / 256 * (length - 512)

    def cache(self, tokens: int) -> int:
        """Bytes of the model's own cache for a row of so many: what every row has, and what every token adds."""
        if self._cache is None:
            few, many = self._cached(8), self._cached(16)
            self._cache = few - (many - few), (many - few) / 8
        every, each = self._cache
        return int(max(0, every) + each * tokens)

    @torch.no_grad()
    def _cached(self, tokens: int) -> int:
        cache, step = OwnCache.of([(None, [0] * tokens)], self.host.device)
        with self.host.using(step, None, cache):
            self.host.hidden()
        return cache.bytes

    def _of(self, length: int) -> float:
        if length not in self._known:
            model, kept = self.host.model, dict[int, Tensor]()

            def keep(x: Tensor) -> Tensor:
                return kept.setdefault(x.untyped_storage().data_ptr(), x)  # kept, its place is taken by no other

            embedding = model.get_input_embeddings()
            learns = embedding.register_forward_hook(lambda *told: told[2].detach().requires_grad_())
            row = [place % embedding.weight.shape[0] for place in range(length)]
            try:
                step = pack([row], [None], device=self.host.device)
                with torch.enable_grad(), saved_tensors_hooks(keep, lambda x: x), self.host.using(step, None):
                    self.host.hidden()
            finally:
                learns.remove()
            weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
            self._known[length] = sum(x.untyped_storage().nbytes() for at, x in kept.items() if at not in weights) / length
        return self._known[length]


def adapter_numbers(sites: Sequence[Site], rank: int) -> int:
    """Numbers a token holds for the adapters' own way back: what their products read, and u = s A x."""
    return sum({(site.layer, site.product): site.inputs for site in sites}.values()) + rank * len(sites)


def step_bytes(config: PreTrainedConfig, tokens: int, device: torch.device) -> int:
    """Bytes a step of so many tokens needs once: their logits, a chunk at most."""
    return min(chunk_bytes(device), 4 * config.vocab_size * tokens)


def answer_rows(config: PreTrainedConfig, tokens: int, itemsize: int, budget: int, measured: Measured | None = None) -> int:
    """How many rows of `tokens` (prompt and reply) can be answered at once: keys and values twice, while finished rows leave.

    `measured`: in place of what a configuration says.
    """
    if measured is not None:
        return max(1, budget // max(1, 2 * measured.cache(tokens)))
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    row = 2 * 2 * config.num_hidden_layers * shared * width * itemsize * tokens
    return max(1, int(budget // row))


def most(device: torch.device) -> tuple[int, int]:
    """Slots, and tokens of a step, that a plan has at most by itself."""
    return (64, 8192) if device.type == "cuda" else (8, 2048)


def plan(
    config: PreTrainedConfig,
    sites: Sequence[Site],
    rank: int,
    *,
    device: torch.device,
    itemsize: int,
    master: int,
    slots: int | None = None,
    memory: int | None = None,
    longest: int = 512,
    typical: float | None = None,
    step: int = 1,
    kept: int = 0,
    copies: int = 0,
    measured: Measured | None = None,
) -> Plan:
    """Slots and step tokens for a memory budget in bytes (default: 80% of what is available).

    `master`: bytes of an adapter parameter; a slot keeps five copies (weights, gradient, two moments, one to answer with).
    `longest`: tokens of the longest row, which must fit a step by itself; `typical`: of a token's row on average (default: the
    same). `step`: tokens of a slot's optimiser step: more slots than a step holds of them share nothing, and only delay what is
    done first. `kept`: tokens of a slot's rows, whose states below the lowest adapter are kept. `copies`: bytes of the weights'
    copies that train quicker, made where as much again is left. `measured`: in place of what a configuration says.

    Raises MemoryError if the longest row and `slots` (if not given, one) do not fit.
    """
    budget = memory if memory is not None else int(0.8 * available(device))
    below = kept if min(site.layer for site in sites) else 0
    per_slot = 5 * master * parameters(sites, rank) + below * config.hidden_size * itemsize
    holes = HOLES if device.type == "cpu" else 0.0

    def token(length: float) -> int:
        if measured is None:
            return token_bytes(config, sites, rank, length, itemsize, holes)
        return int((1 + holes) * (measured(length) + itemsize * adapter_numbers(sites, rank)))

    per_token = token(typical or longest)
    alone = longest * max(per_token, token(longest))
    least = step_bytes(config, longest, device) + (slots or 1) * per_slot + alone
    if least > budget:
        what = f"{slots or 1} adapter{'s' if slots and slots > 1 else ''} and a row of {longest} tokens"
        way = "shorter rows need less (edit.max_tokens, tuning.pad_length); engine.memory_gb says how much may be used"
        raise MemoryError(f"{what} need {size(least)} and {size(budget)} are free; {way}")
    copies = copies if least + 2 * copies <= budget else 0
    most_slots, most_tokens = most(device)
    free = budget - copies - step_bytes(config, max(longest, most_tokens), device)
    if slots is None:
        worth = max(FEW, math.ceil(most_tokens / max(1, step)))
        slots = max(1, min(most_slots, worth, (free - alone) // (2 * per_slot)))
    tokens = max(longest, min(most_tokens, (free - slots * per_slot) // per_token))
    return Plan(slots, tokens, per_slot, per_token, step_bytes(config, tokens, device), copies, budget)
