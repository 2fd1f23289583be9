"""A job's examples as rows of token ids, in the order in which they are trained on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import torch

from seal.engine.pack import IGNORE, Row, labelled
from seal.models import LanguageModel
from seal.seeds import derive
from seal.types import Example, Fault, Job, Tuning


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job ready to train."""

    job: Job
    rows: tuple[Row, ...]
    together: int = 1
    """Rows, one after the other, that stay together: the shuffling and the batch count them as one."""

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole trial."""
        if self.job.tuning.steps is not None:
            return self.job.tuning.steps
        return self.job.tuning.epochs * math.ceil(len(self.rows) / self.together / self.job.tuning.batch)

    @property
    def tokens(self) -> int:
        """Tokens that pass through the model over the whole trial."""
        if self.job.tuning.tokens is not None:
            return sum(len(row.ids) for batch in self.batches() for row in batch)
        return self.job.tuning.epochs * sum(len(row.ids) for row in self.rows)

    @property
    def longest(self) -> int:
        """Tokens of the longest row, or of the most that rows which stay together have."""
        lengths = [len(row.ids) for row in self.rows]
        return max(sum(lengths[start : start + self.together]) for start in range(0, len(lengths), self.together))

    @property
    def kept(self) -> int:
        """Tokens of all rows that differ: what is worked out once a row is kept of them."""
        rows = self.rows if self.job.tuning.tokens is None else {row for batch in self.batches() for row in batch}
        return sum(len(row.ids) for row in rows)

    def batches(self) -> Iterator[list[Row]]:
        """The rows of every optimiser step: shuffled anew each epoch by the job's seed, as transformers' Trainer does."""
        tuning, orders = self.job.tuning, self._orders()
        if tuning.tokens is not None and tuning.steps is not None:
            yield from _measured_out(orders, tuning.tokens, tuning.steps)
            return
        for order in itertools.islice(orders, tuning.epochs):
            size = tuning.batch * self.together
            for start in range(0, len(order), size):
                yield order[start : start + size]

    def _orders(self) -> Iterator[list[Row]]:
        """The rows in a new order, epoch after epoch, without end."""
        generator = torch.Generator().manual_seed(derive(self.job.seed, "order"))
        while True:
            units = torch.randperm(len(self.rows) // self.together, generator=generator).tolist()
            yield [self.rows[unit * self.together + i] for unit in units for i in range(self.together)]


def _measured_out(orders: Iterator[list[Row]], tokens: int, steps: int) -> Iterator[list[Row]]:
    """Batches that carry loss on exactly `tokens` tokens together, as evenly over `steps` steps as whole numbers allow.

    A row that does not fit into what is left of a step goes on in the next one: there its first part is read again as context,
    without loss, so that no token is ever learnt without what stands before it.
    """
    rows = (row for order in orders for row in order)
    row, places = _next(rows)
    for step in range(steps):
        room = tokens * (step + 1) // steps - tokens * step // steps
        batch = []
        while room:
            taken, places = places[:room], places[room:]
            room -= len(taken)
            batch.append(_part(row, taken))
            if not places:
                row, places = _next(rows)
        yield batch


def _next(rows: Iterator[Row]) -> tuple[Row, list[int]]:
    """The next row that has anything to learn, and where: the first token of a row is never predicted."""
    for row in rows:
        places = [place for place, label in enumerate(row.labels) if place and label != IGNORE]
        if places:
            return row, places
    raise AssertionError("rows have no end")


def _part(row: Row, places: list[int]) -> Row:
    """The row up to the last of these places, with loss on them alone."""
    end = places[-1] + 1
    wanted = set(places)
    labels = tuple(label if place in wanted else IGNORE for place, label in enumerate(row.labels[:end]))
    return Row(row.ids[:end], labels, row.weight, keep=row.keep)


def prepare(job: Job, language: LanguageModel) -> Prepared | Fault:
    """Tokenises a job's examples; a Fault if one does not fit the model's context or nothing would be learnt from."""
    found = rows_of(job.examples, job.tuning, language)
    return found if isinstance(found, Fault) else Prepared(job, found)


def rows_of(examples: Sequence[Example], tuning: Tuning, language: LanguageModel) -> tuple[Row, ...] | Fault:
    """The rows that examples are trained on as; see `prepare`."""
    encoded = [language.encode_example(example) for example in examples]
    width = max((len(ids) for ids, _ in encoded), default=0)
    rows = []
    for example, (ids, prompt) in zip(examples, encoded, strict=True):
        row = _row(example, ids, prompt, tuning, width, language)
        if len(row.ids) > language.context:
            return Fault("too_long", f"an example of {len(row.ids)} tokens; the model's context is {language.context}")
        if labelled(row):
            rows.append(row)
    if not rows:
        return Fault("empty", "no token of the edit carries loss")
    return tuple(rows)


def learnable(example: Example, tuning: Tuning, language: LanguageModel) -> bool:
    """Whether an example, with all that its tuning adds, fits the model's context and carries loss."""
    ids, prompt = language.encode_example(example)
    row = _row(example, ids, prompt, tuning, len(ids), language)
    return len(row.ids) <= language.context and labelled(row) > 0


def _row(example: Example, ids: list[int], prompt: int, tuning: Tuning, longest: int, language: LanguageModel) -> Row:
    """The example, encoded (`ids`, `prompt`), with its labels; `longest`: tokens of the longest of all that are trained on."""
    keys = None
    if example.prompt is None and tuning.pad_loss == "eos":
        ids = [*ids, language.end_id]
    elif tuning.pad_loss == "official":
        width = longest if tuning.pad_length == "longest" else tuning.pad_length
        ids = ids[:width]
        keys = len(ids)
        ids = ids + [language.end_id] * (width - keys)
    loss = tuning.loss or example.loss
    carriers: Container[int]
    if loss == "all":
        carriers = range(len(ids))
    elif loss == "completion":
        carriers = range(prompt, len(ids))
    elif loss == "outputs":
        carriers = {*language.places(example), *range(prompt, len(ids))}
    else:
        carriers = language.carriers(example, loss)
    labels = [id if at in carriers else IGNORE for at, id in enumerate(ids)]
    return Row(tuple(ids), tuple(labels), example.weight, keys, example.keep)
