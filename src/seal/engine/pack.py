"""The packed view of a step: every sequence of every slot laid end to end, so that no padding enters a shared matrix product.

Attention alone needs rows again; `Group` says how to get there and back. Both are worked out once a step, on the host.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from seal.engine.place import placed

IGNORE = -100
"""A label that carries no loss (the convention of transformers)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of token ids, as a slot trains on it."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    """The ids themselves, IGNORE where a token carries no loss. Not shifted."""
    weight: float = 1.0
    keys: int | None = None
    """Tokens that may be attended to; those after it are pads that only predict. None: all of them."""
    keep: bool = False
    """`Example.keep`: its loss is how far the model has moved from what it said before."""

    @classmethod
    def of(cls, ids: Sequence[int]) -> Row:
        """Every token but the first carries loss."""
        return cls(tuple(ids), tuple(ids))


class Span(NamedTuple):
    """Tokens `start` to `end` of the packed step belong to `slot`."""

    slot: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of similar length, as a rectangle (R, T) for attention."""

    rect: Tensor
    """(R * T,) index into the packed tokens. A pad points at its own row's last token: masked values still meet a weight of 0,
    and 0 * NaN is NaN, so a row that blew up must not stand in another one."""
    back: Tensor
    """(n,) index into the flattened rectangle, for each packed token of this group in order."""
    tokens: Tensor | None
    """(n,) packed positions of this group's tokens; None when the group is the whole step in order."""
    shape: tuple[int, int]
    """(R, T)"""
    mask: Tensor | None
    """(R, 1, T, T)-broadcastable, True = may attend; None: causality alone is enough, since pads stand on the right."""
    rows: tuple[int, ...]
    """The numbers of these rows in the step."""

    def to(self, device: torch.device) -> Group:
        """The same on a device."""
        tokens = None if self.tokens is None else placed(self.tokens, device)
        mask = None if self.mask is None else placed(self.mask, device)
        return Group(placed(self.rect, device), placed(self.back, device), tokens, self.shape, mask, self.rows)


class Order(NamedTuple):
    """Where the tokens of several groups stand when one group follows the other."""

    tokens: Tensor
    """(N,) packed position of each of them."""
    back: Tensor
    """(N,) the place of each packed token."""

    @classmethod
    def of(cls, groups: Sequence[Group], device: torch.device) -> Order | None:
        """On the device, from groups on the host; None: one group, in order."""
        if len(groups) == 1:
            return None
        tokens = torch.cat([group.tokens for group in groups if group.tokens is not None])
        return cls(placed(tokens, device), placed(tokens.argsort(), device))


@dataclass(frozen=True, slots=True)
class Step:
    """Everything the patched model needs to know about the tokens that pass through it."""

    ids: Tensor
    """(N,)"""
    positions: Tensor
    """(N,) starting at 0 in every sequence."""
    spans: tuple[Span, ...]
    """By slot, in order, covering the packed tokens; empty: the base model alone."""
    groups: tuple[Group, ...]
    lengths: tuple[int, ...]
    """Of each row."""
    order: Order | None = None
    """None: the step is one group at most."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Where the loss of a packed step lies. M = positions that predict a labelled token."""

    position: Tensor
    """(M,) packed index of the token that predicts."""
    label: Tensor
    """(M,) the token it should predict."""
    weight: Tensor
    """(M,) weight of the row over the slot's number of labelled tokens in the whole optimiser step."""
    slot: Tensor
    """(M,)"""
    row: Tensor
    """(M,) which of the packed rows it is in."""

    def only(self, chosen: Tensor) -> Targets:
        """Those that a mask (M,) chooses."""
        return Targets(*(getattr(self, one.name)[chosen] for one in fields(self)))


_RECTANGLE = 2000
"""What a rectangle more costs on a CPU, in places of an attention matrix: a dozen small calls a layer."""
_LAUNCHED = 100_000
"""The same elsewhere, where each of these calls is a launch: a GPU fills many places of a matrix in its time. An estimate."""


def _rectangles(lengths: Sequence[int], device: torch.device) -> list[list[int]]:
    """Rows gathered by length so that padded attention and the number of rectangles together cost least."""
    one_more = _RECTANGLE if device.type == "cpu" else _LAUNCHED
    sizes = sorted(set(lengths), reverse=True)
    upto = list(itertools.accumulate((lengths.count(size) for size in sizes), initial=0))
    best, cut = [0], [0]  # of the n largest sizes: the least cost, and where the last rectangle of that way begins
    for n in range(1, len(sizes) + 1):
        ways = [(best[first] + (upto[n] - upto[first]) * sizes[first] ** 2 + one_more, first) for first in range(n)]
        cost, first = min(ways)
        best.append(cost)
        cut.append(first)
    found: list[list[int]] = []
    end = len(sizes)
    while end:
        inside = set(sizes[cut[end] : end])
        found.insert(0, [row for row, length in enumerate(lengths) if length in inside])
        end = cut[end]
    return found


def _groups(
    lengths: Sequence[int], starts: Sequence[int], keys: Sequence[int | None], members: Sequence[Sequence[int]]
) -> list[Group]:
    """On the host. `members`: the rows of each."""
    total = sum(lengths)
    groups = []
    for rows in members:
        width = max(lengths[row] for row in rows)
        span = torch.arange(width)
        own = torch.tensor([lengths[row] for row in rows])
        start = torch.tensor([starts[row] for row in rows])
        real = span[None] < own[:, None]  # (R, T)
        rect = (start[:, None] + torch.minimum(span[None], own[:, None] - 1)).flatten()
        back = real.flatten().nonzero().squeeze(1)
        limits = torch.tensor([own[i] if keys[row] is None else keys[row] for i, row in enumerate(rows)])
        mask = None
        if bool((limits < own).any()):
            causal = span[None, :, None] >= span[None, None, :]  # (1, T, T)
            mask = (causal & (span[None, None, :] < limits[:, None, None]))[:, None]
        groups.append(Group(rect, back, None if len(back) == total else rect[back], (len(rows), width), mask, tuple(rows)))
    return groups


def pack(
    rows: Sequence[Sequence[int]],
    slots: Sequence[int | None],
    keys: Sequence[int | None] | None = None,
    *,
    device: torch.device,
    one: bool = False,
) -> Step:
    """Lays rows end to end. They must come sorted by slot; a slot of None is the base model. `one`: in one group."""
    lengths = [len(row) for row in rows]
    starts = [0]
    for length in lengths[:-1]:
        starts.append(starts[-1] + length)
    members = [list(range(len(rows)))] if one else _rectangles(lengths, device)
    groups = _groups(lengths, starts, keys or [None] * len(rows), members)
    return Step(
        ids=placed([token for row in rows for token in row], device),
        positions=placed(torch.cat([torch.arange(length) for length in lengths]), device),
        spans=spans_of(slots, lengths),
        groups=tuple(group.to(device) for group in groups),
        lengths=tuple(lengths),
        order=Order.of(groups, device),
    )


def spans_of(slots: Sequence[int | None], lengths: Sequence[int]) -> tuple[Span, ...]:
    """Where each slot's tokens lie, of rows that lie end to end and come sorted by slot; None, the base model, has no span."""
    spans: list[Span] = []
    end = 0
    for slot, length in zip(slots, lengths, strict=True):
        start, end = end, end + length
        if slot is None:
            continue
        if spans and spans[-1].slot == slot:
            spans[-1] = spans[-1]._replace(end=end)
        else:
            spans.append(Span(slot, start, end))
    return tuple(spans)


class Tree:
    """Rows that are read and not trained on, as a prefix tree: what rows of a slot begin with alike is one token of the step.

    It passes through every product once; attention alone, in one rectangle, sees each row whole.
    """

    def __init__(self) -> None:
        self.places: list[list[int]] = []
        """Of every row: where its tokens lie in the step."""
        self.longest = 0
        """Tokens of the longest row."""
        self._ids: list[int] = []
        self._at: list[tuple[int, int]] = []
        """Of every token: the first row that has it, and its position there."""
        self._slots: list[int | None] = []
        self._new: list[int] = []
        """Of every row: its slot, and how many of its tokens no row before it has."""
        self._after: dict[tuple[int | None, int, int], int] = {}
        """The place of a slot's token behind another one; -1 stands before the first."""

    def __len__(self) -> int:
        return len(self._ids)

    def begun(self, ids: Sequence[int], slot: int | None) -> list[int]:
        """Where the tokens lie with which the row begins like another of its slot."""
        places: list[int] = []
        for token in ids:
            place = self._after.get((slot, places[-1] if places else -1, token))
            if place is None:
                break
            places.append(place)
        return places

    def add(self, ids: Sequence[int], slot: int | None) -> None:
        """One row more. They must come sorted by slot; a slot of None is the base model."""
        places = self.begun(ids, slot)
        self._new.append(len(ids) - len(places))
        for position in range(len(places), len(ids)):
            self._after[slot, places[-1] if places else -1, ids[position]] = len(self._ids)
            places.append(len(self._ids))
            self._at.append((len(self.places), position))
            self._ids.append(ids[position])
        self.places.append(places)
        self.longest = max(self.longest, len(ids))
        self._slots.append(slot)

    def step(self, device: torch.device) -> Step:
        """All rows, at least one."""
        width = self.longest
        rect = [place for row in self.places for place in (*row, *[row[-1]] * (width - len(row)))]
        back = [row * width + position for row, position in self._at]
        rows = len(self.places)
        group = Group(placed(rect, device), placed(back, device), None, (rows, width), None, tuple(range(rows)))
        return Step(
            ids=placed(self._ids, device),
            positions=placed([position for _, position in self._at], device),
            spans=spans_of(self._slots, self._new),
            groups=(group,),
            lengths=tuple(map(len, self.places)),
        )


def targets(rows: Sequence[Row], slots: Sequence[int], totals: dict[int, int], *, device: torch.device) -> Targets:
    """Shifts the labels once. `totals`: labelled tokens of each slot in the whole optimiser step, this pack being part of it."""
    position, label, weight, slot_of, row_of = [], [], [], [], []
    start = 0
    for number, (row, slot) in enumerate(zip(rows, slots, strict=True)):
        for i, token in enumerate(row.labels[1:]):
            if token != IGNORE:
                position.append(start + i)
                label.append(token)
                weight.append(row.weight / totals[slot])
                slot_of.append(slot)
                row_of.append(number)
        start += len(row.ids)
    return Targets(
        placed(position, device, torch.long),
        placed(label, device, torch.long),
        placed(weight, device, torch.float64),
        placed(slot_of, device, torch.long),
        placed(row_of, device, torch.long),
    )


def labelled(row: Row) -> int:
    """How many of a row's tokens carry loss: the first is never predicted."""
    return sum(token != IGNORE for token in row.labels[1:])
