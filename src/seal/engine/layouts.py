"""How the frozen weights lie for a training's products on a CPU: the quickest way there is measured on the model's own weights.

Processors differ. All products of a layer of the embedded model, one core, GFLOP/s forward and back, weights not in the cache:
an AMD EPYC does 96 as they lie and 108 from oneDNN's layout, both ways, at 1,635 rows; an Intel Xeon at 831 rows 110 and 111
as they lie, 103 and 105 from that layout, and at 49 rows 65 as they lie, 76 from the transpose and 71 from oneDNN's forward,
83 and 72 back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from seal.engine.prepacked import can_prepack, prepack
from seal.engine.routing import Product

Ahead = Literal["plain", "tall", "transposed", "packed"]
Back = Literal["plain", "packed"]
Way = TypeVar("Way", bound=str)
SMALL = 1 << 26
"""Bytes of weights that few rows are measured with, read in turn so that they come from memory; a model of less is at home in
the cache."""
MOST = 1024
"""Tokens; with more of them the ways differ as with these."""
WORTH = 0.95
"""What is not plain takes at most so much of the time, so that no chance decides between what is alike."""
_LAPS = 3


class Layout(NamedTuple):
    """How products read their weights."""

    ahead: Ahead = "tall"
    """Forward: the weight as it lies (`tall`: where a product's outputs are better laid out (out, N), so), its transpose once
    more, or a copy in oneDNN's own layout."""
    back: Back = "plain"
    """The same for the gradient of the input, which as it lies needs no transpose."""

    @property
    def copies(self) -> int:
        """How many copies of the weights that takes."""
        return sum(_COPY[way] is not _none for way in self)

    def of(self, product: Product) -> Product:
        """The product with its copies."""
        weight = product.weight
        return product._replace(
            tall=product.tall and self.ahead == "tall",
            copy=_COPY[self.ahead](weight),
            copy_back=_COPY[self.back](weight.t()),
        )


def _none(weight: Tensor) -> None:
    return None


_COPY: Mapping[str, Callable[[Tensor], Tensor | None]] = {
    "plain": _none,
    "tall": _none,
    "transposed": lambda weight: weight.t().contiguous(),
    "packed": lambda weight: prepack(weight.contiguous()),
}
AS_THEY_LIE = Layout()
ANSWERING = Layout("packed")
"""For a few rows, which read each weight once: half the time of the weight as it lies."""


def quickest(products: Sequence[Product], tokens: int, *, room: bool) -> Layout:
    """For steps of so many tokens. `room`: whether there is memory for copies."""
    some = _some(products, SMALL * 64 // max(64, tokens))
    weight = some[0].weight
    packs = room and can_prepack(weight.device, weight.dtype)
    possible = {"plain": True, "tall": True, "transposed": room, "packed": packs}
    ahead: list[Ahead] = [way for way in get_args(Ahead) if possible[way]]
    back: list[Back] = [way for way in get_args(Back) if possible[way]]
    sizes = {size for one in some for size in one.weight.shape}
    x = {size: torch.randn(tokens, size, device=weight.device).to(weight.dtype) for size in sizes}
    forward = _times({way: [Layout(way).of(one) for one in some] for way in ahead}, lambda one: one(x[one.weight.shape[1]]))
    backward = {way: [Layout("plain", way).of(one) for one in some] for way in back}
    return Layout(_best(forward), _best(_times(backward, lambda one: one.back(x[one.weight.shape[0]]))))


def _some(products: Sequence[Product], size: int) -> list[Product]:
    """The first of them: one of each shape at least, and so many bytes of weights."""
    some: list[Product] = []
    shapes = {one.weight.shape for one in products}
    for one in products:
        if size <= 0 and not shapes:
            break
        if size > 0 or one.weight.shape in shapes:
            some.append(one)
            size -= one.weight.nbytes
            shapes.discard(one.weight.shape)
    return some


@torch.no_grad()
def _times(ways: Mapping[Way, Sequence[Product]], multiply: Callable[[Product], Tensor]) -> dict[Way, float]:
    """Seconds of each way, the ways by turns: the sum of every product's best of a few laps."""
    best = {way: [float("inf")] * len(products) for way, products in ways.items()}
    for _ in range(_LAPS):
        for way, products in ways.items():
            for at, one in enumerate(products):
                began = time.perf_counter()
                multiply(one)
                best[way][at] = min(best[way][at], time.perf_counter() - began)
    return {way: sum(each) for way, each in best.items()}


def _best(times: Mapping[Way, float]) -> Way:
    """The quickest, if it is worth it."""
    return min(times, key=lambda way: times[way] * (WORTH if way == "plain" else 1))
