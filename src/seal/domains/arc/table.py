"""The ARC domain's own table of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from seal.domains.arc.codecs import codec
from seal.domains.arc.domain import Arc, Sight
from seal.domains.arc.leave_out import Limits
from seal.domains.arc.plans import FormName, plan_form
from seal.domains.arc.puzzles import LARGEST, SETS, Puzzle, by_id, dataset, read_puzzles, to_problem
from seal.domains.arc.record import Record, read_record, shipped_records
from seal.domains.arc.tools import INVERTIBLE
from seal.domains.arc.views import LeaveOne
from seal.domains.arc.vote import vote
from seal.domains.table import DomainTable, Split
from seal.edits.tools import refuse_undrawn
from seal.errors import UserError, unknown
from seal.types import Bounds, Problem, Tuning

POOL = "pool"
"""The split in which `seal arc solvable` looks for puzzles."""


def _tables(grid: object) -> object:
    return [grid] if isinstance(grid, dict) else grid


def _known_codec(name: str) -> str:
    return name if name == "auto" else codec(name).name


def _known_vote(name: str) -> str:
    vote(name)
    return name


def _known_transform(name: str) -> str:
    if name not in INVERTIBLE:
        raise unknown("invertible transform", name, INVERTIBLE)
    return name


class ArcTable(DomainTable):
    """What a recipe says about puzzles, plans and answering.

    `data` is a data set (`arc-agi-1`, `arc-agi-2`: its training part and its evaluation part are train and test), the record of
    `seal arc solvable` (its splits hold the puzzles it found solvable; `none` yet = only the pool), or a source for each split: a
    data set, a challenge file, a folder, or a list of puzzle ids.
    """

    data: str | dict[Split, str | tuple[str, ...]] = "arc-agi-1"
    """Where the puzzles come from."""
    any_model: bool = False
    """Whether `data` may be a record that another model made: its solvable puzzles and best plans are then that model's."""
    pool: str | tuple[str, ...] = "arc-agi-1"
    """Where `seal arc solvable` looks for puzzles: a data set, a challenge file, a folder, or a list of ids."""
    side: Annotated[int, Field(ge=1, le=LARGEST)] = LARGEST
    """Most rows and columns of a puzzle's grids: larger puzzles are left out (and refused in a list of ids), larger augmented
    grids are cut."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Puzzles used of each split, from its beginning; None = all."""
    codec: Annotated[str, AfterValidator(_known_codec)] = "auto"
    """How grids are written: rows, spaced-rows, lists; auto = what costs the model's tokenizer the least of these; paper = as in
    its code, the pairs in a chat model's system message."""
    system: str | None = None
    """A chat model's system message; with codec `paper` that of the plan's prompt alone."""
    plan: FormName = "short"
    """The form of a plan: our `short` one, or the `paper`'s."""
    shown_plans: Annotated[int, Field(ge=0)] = 0
    """Random plans that show the policy what one looks like, instead of a description of the form; small models need them."""
    tokens: Annotated[int, Field(ge=1)] = 20_000
    """Most tokens a trial trains on, all epochs together: more epochs mean fewer examples."""
    rounds: Annotated[int, Field(ge=1)] | None = None
    """How often each task made of the example pairs is practised, in other orders and colours (with plan `paper` also once as it
    is); None = up to `bounds.examples`."""
    views: Annotated[tuple[Annotated[str, AfterValidator(_known_transform)], ...], Field(min_length=1)] = tuple(INVERTIBLE)
    """The transforms under which a test input is asked."""
    orders: Annotated[int, Field(ge=1)] = 1
    """Orders of the example pairs under each of them."""
    leave_one: LeaveOne = False
    """Also ask with each example pair left out; paper = never with all of them: without each in `orders` orders under the first
    transform of `views`, and in one of these ways, drawn, under each of the others."""
    vote: Annotated[str, AfterValidator(_known_vote)] = "hierarchical"
    """How answers become two attempts: hierarchical, logprob."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of the answers: 0 = greedy; above, each view's answer is drawn."""
    grid: Annotated[tuple[dict[str, tuple[Any, ...]], ...], BeforeValidator(_tables)] = ()
    """The plans `seal arc solvable` tries: of each table every combination of its values of tools, colours, loss, lr, epochs."""
    shares: dict[Split, Annotated[float, Field(ge=0, le=1)]] = Field(default={"train": 0.45, "dev": 0.1, "test": 0.45})
    """How the puzzles it finds solvable are divided."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError("shares: must add up to 1")
        if self.codec == "paper" and self.plan != "paper":
            raise ValueError("codec: 'paper' has no loss on the outputs of shown pairs; it goes with plan 'paper'")
        return self

    @property
    def plans_alone(self) -> bool:
        """Always."""
        return True

    def rooted(self, folder: Path) -> Self:
        """Records, challenge files and folders by their whole paths."""
        if isinstance(self.data, dict):
            data: object = {split: _rooted(one, folder) for split, one in self.data.items()}
        else:
            data = self.data if self.data in ("none", *shipped_records()) else _rooted(self.data, folder)
        return self.model_copy(update={"data": data, "pool": _rooted(self.pool, folder)})

    def build(self, tuning: Tuning, bounds: Bounds) -> Arc:
        """The domain, its puzzles read. Raises UserError for a bad or missing source, a listed puzzle beyond `side`, or a tool
        that plans cannot be drawn with."""
        record = self._record()
        splits = self._splits(record)
        form = plan_form(self.plan, bounds)
        if self.shown_plans:
            refuse_undrawn(form.tools.values())
        return Arc(
            problems={split: self._problems(found) for split, found in splits.items()},
            left_out={split: sum(puzzle.side > self.side for puzzle in found) for split, found in splits.items()},
            form=form,
            codec=None if self.codec == "auto" else codec(self.codec),
            system=self.system,
            tuning=tuning,
            limits=Limits(bounds.examples, self.side, self.tokens, self.rounds),
            sight=Sight(
                tuple(INVERTIBLE[name] for name in self.views),
                self.orders,
                self.leave_one,
                vote(self.vote),
                by_logprob=self.vote == "logprob",
                temperature=self.temperature,
            ),
            record=record,
            shown_plans=self.shown_plans,
        )

    def _record(self) -> Record | None:
        named = isinstance(self.data, str) and self.data not in SETS and self.data != "none"
        return read_record(str(self.data)) if named else None

    def _splits(self, record: Record | None) -> Mapping[str, tuple[Puzzle, ...]]:
        named = record is not None or self.data == "none"
        pool = {POOL: self._source(self.pool)} if named or self.grid else {}
        if record is not None:
            known = {puzzle.id: puzzle for puzzle in pool[POOL]}
            strange = [id for ids in record.splits.values() for id in ids if id not in known]
            if strange:
                raise UserError(f"{self.data}: the record has puzzle {strange[0]}, which is not in domain.pool = {self.pool!r}")
            return {**{split: tuple(known[id] for id in ids) for split, ids in record.splits.items()}, **pool}
        if self.data == "none":
            return pool
        if isinstance(self.data, str):
            return {"train": dataset(self.data, "train"), "test": dataset(self.data, "eval"), **pool}
        return {**{split: self._source(one) for split, one in self.data.items()}, **pool}

    def _source(self, source: str | tuple[str, ...]) -> tuple[Puzzle, ...]:
        if isinstance(source, str):
            return read_puzzles(source)
        found = by_id(source)
        for puzzle in found:
            if puzzle.side > self.side:
                raise UserError(
                    f"ARC puzzle {puzzle.id!r} is named, and its largest grid has {puzzle.side} rows or columns, more than"
                    f" domain.side = {self.side}; take it off the list, or raise domain.side"
                )
        return found

    def _problems(self, puzzles: tuple[Puzzle, ...]) -> list[Problem]:
        return [to_problem(puzzle) for puzzle in puzzles if puzzle.side <= self.side][: self.limit]


def _rooted(source: str | tuple[str, ...], folder: Path) -> str | tuple[str, ...]:
    """A file by its whole path; data sets and ids stay as they are."""
    if not isinstance(source, str) or source in SETS:
        return source
    return str(folder / Path(source).expanduser())
