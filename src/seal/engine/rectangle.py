"""Steps for models whose tokens meet outside attention, or in one of their own: the whole model sees rows side by side.

A causal model never looks to the right, so pads there change nothing, whatever its layers do along a row. What is decoded has its
pads at the left, over the model's own cache. Linear layers add every token's adapter as they do in the packed view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seal.engine.pack import Span, Step, spans_of
from seal.engine.place import placed

CACHES = "past_key_values", "cache_params"
"""What models of transformers call theirs."""


class Rectangle(NamedTuple):
    """Rows of a step, R of them in T places each, pads at the right."""

    ids: Tensor
    """(R, T)"""
    positions: Tensor
    """(R, T)"""
    mask: Tensor | None
    """(R, T), 1 where a token may be looked at; None: causality alone is enough."""
    spans: tuple[Span, ...]
    """By slot, of the R T places."""
    back: Tensor
    """(n,) place of each token."""


def rectangles(step: Step) -> list[Rectangle]:
    """The step's groups, in their order."""
    slots = _slots(step)
    found = []
    for group in step.groups:
        rows, width = group.shape
        ids = step.ids.index_select(0, group.rect).view(rows, width)
        positions = torch.arange(width, device=ids.device).expand(rows, width)  # in a row also over pads: no second text begins
        mask = None if group.mask is None else group.mask[:, 0, -1].long()  # the last place sees all that may be seen
        spans = spans_of([slots[row] for row in group.rows], [width] * rows)
        found.append(Rectangle(ids, positions, mask, spans, group.back))
    return found


def _slots(step: Step) -> list[int | None]:
    """Of every row."""
    slots: list[int | None] = []
    spans = list(reversed(step.spans))
    at = 0
    for length in step.lengths:
        at += length
        while spans and spans[-1].end < at:
            spans.pop()
        slots.append(spans[-1].slot if spans and spans[-1].start < at else None)
    return slots


@dataclass(slots=True)
class OwnCache:
    """What a model keeps of R rows while they are decoded, in its own way."""

    lengths: Tensor
    """(R,), tokens of every row so far."""
    mask: Tensor
    """(R, T), 1 where a token stands, so 0 at the left of shorter rows."""
    even: bool
    """Whether there are no pads."""
    store: Any = None
    """The model's own; None until the prompts are read."""

    @classmethod
    def of(cls, rows: Sequence[tuple[int | None, Sequence[int]]], device: torch.device) -> tuple[OwnCache, Step]:
        """An empty one for rows of a slot each, which come sorted by it, and the step that reads them."""
        lengths = [len(ids) for _, ids in rows]
        width = max(lengths)
        ids = [token for _, row in rows for token in (*[row[0]] * (width - len(row)), *row)]
        own = placed(lengths, device)
        ahead = torch.arange(width, device=device) - (width - own)[:, None]  # (R, T), below 0 at a pad
        spans = spans_of([slot for slot, _ in rows], [width] * len(rows))
        step = Step(placed(ids, device), ahead.clamp_min(0).flatten(), spans, (), (width,) * len(rows))
        return cls(own, (ahead >= 0).long(), min(lengths) == width), step

    def read(self, model: Any, takes: Mapping[str, Any], step: Step) -> Tensor:
        """Hidden states (R T, h) of the rows' next tokens. `takes`: what the model's forward can be told, by name."""
        ids = step.ids.view(len(self.lengths), -1)
        if self.store is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], 1)
        name = next(name for name in CACHES if name in takes)
        blind = self.even or (name == "cache_params" and self.store is not None)  # a state has taken in what came before
        told = {"attention_mask": None if blind else self.mask, "position_ids": step.positions.view(ids.shape)}
        said = model(input_ids=ids, use_cache=True, **{name: self.store}, **{key: told[key] for key in told if key in takes})
        self.store = getattr(said, name)
        hidden: Tensor = said.last_hidden_state
        return hidden.flatten(0, 1)

    @property
    def bytes(self) -> int:
        """What the model keeps, found wherever its cache has tensors."""
        found = [x.untyped_storage() for x in _tensors(self.store)]
        return sum({one.data_ptr(): one.nbytes() for one in found}.values())

    def advance(self) -> None:
        """After a token more of every row."""
        self.lengths = self.lengths + 1

    def keep(self, rows: Tensor) -> None:
        """These rows, in this order; one may come several times."""
        self.lengths, self.mask = self.lengths[rows], self.mask[rows]
        self.store.reorder_cache(rows)


def _tensors(held: Any) -> Iterator[Tensor]:
    """All that a cache, its layers and their tables hold."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, Mapping):
        for one in held.values():
            yield from _tensors(one)
    elif isinstance(held, (list, tuple)):
        for one in held:
            yield from _tensors(one)
    elif type(held).__module__.startswith("transformers"):
        yield from _tensors(vars(held))
