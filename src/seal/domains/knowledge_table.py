"""The knowledge domain's own table of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from seal.domains.knowledge import Knowledge, Own
from seal.domains.passages import SQUAD_SPLITS, read_passages
from seal.domains.table import DomainTable, Split
from seal.edits.styles import STYLES, Style, style
from seal.edits.text_plan import TextPlans
from seal.edits.text_tools import TEXT_TOOLS
from seal.edits.tools import Tool, refuse_undrawn
from seal.errors import UserError
from seal.grading.grade import Grader
from seal.grading.graders import GRADERS, JUDGE, grader
from seal.grading.judge import Judge, Judging, SelfJudge
from seal.named import refuse_unknown
from seal.types import Bounds, Tuning

SETS: dict[str, tuple[Split, ...]] = {"bundled": ("train", "dev", "test"), "squad": ("train", "test")}


def _known_style(name: str) -> str:
    refuse_unknown("style", name, STYLES)
    return name


def _known_grader(name: str) -> str:
    refuse_unknown("grader", name, {*GRADERS, JUDGE})
    return name


def _bounded(judging: Judging) -> Judging:
    least = {"at_once": 1, "retries": 0, "timeout": 0.001, "calls": 0, "price_in": 0, "price_out": 0, "reply_tokens": 1}
    for name, bound in least.items():
        value = getattr(judging, name)
        if value is not None and value < bound:
            raise ValueError(f"{name}: must be {bound} or more, not {value}")
    return judging


def _known_data(data: str | dict[Split, str]) -> str | dict[Split, str]:
    if isinstance(data, str) and data not in SETS:
        raise UserError(
            f"data = {data!r}: a file needs its split, as in data = {{ test = {data!r} }}; by name: {', '.join(SETS)}"
        )
    if isinstance(data, dict) and data.get("dev") == "squad":
        raise UserError(f"data.dev = 'squad': squad has {' and '.join(SQUAD_SPLITS)} only; name a file, or leave dev out")
    return data


class KnowledgeTable(DomainTable):
    """What a recipe says about passages, questions and self-edits.

    `data` is the name of a data set with splits of its own, `"bundled"` or `"squad"`, or a source for each split:
    `data = { train = "squad", dev = "mine.json", test = "bundled" }`; a split that is not named does not exist.
    """

    data: Annotated[str | dict[Split, str], AfterValidator(_known_data)] = "bundled"
    """Where the passages come from."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Passages used of each split, from its beginning; None = all."""
    style: Annotated[str, AfterValidator(_known_style)] = "implications"
    """What the policy is asked to write: implications, implications-long, implications-very-long, implications-chain-of-thought,
    rewrite, self-qa, atomic-facts, none, or a Style of your own as `module:name`."""
    reading: Literal["official", "whole", "clean"] = "official"
    """`official`: as the paper's code reads it, a line an example. `whole`: the same with its lines left together, as in its
    continued pretraining. `clean`: without list markers, headings and repetitions."""
    grader: Annotated[str, AfterValidator(_known_grader)] = "recall"
    """How answers are graded: recall, f1, exact, contains, values, calibrated, judge, or a function of your own as
    `module:function`."""
    judge: Literal["self"] | Annotated[Judging, AfterValidator(_bounded)] | None = None
    """Who the grader `judge` is: `"self"`, the policy, or a table with the model and its endpoint."""
    train_on_passage: Own = True
    """The passage itself is trained on too, after the edit's examples. `"sentences"`: and each of its sentences before it, so
    that an edit is worth what it adds to them."""
    plan: Literal["alone"] | bool = False
    """A self-edit may hold a JSON object that says how it is learnt and calls tools, within the recipe's `bounds`. `"alone"`: it
    is such an object and nothing else."""
    shown_plans: Annotated[int, Field(ge=0)] = 0
    """Of plans alone: random ones that show the policy what one looks like, instead of a description of the form; small models
    need them."""

    @model_validator(mode="after")
    def _names_its_judge(self) -> Self:
        if (self.grader == JUDGE) != (self.judge is not None):
            raise ValueError("judge: goes with grader 'judge': \"self\", or a table with its model; with no other grader")
        return self

    @model_validator(mode="after")
    def _plans_fit(self) -> Self:
        if self.shown_plans and self.plan != "alone":
            raise ValueError('shown_plans: show what a plan alone looks like; set plan = "alone", or leave them out')
        if self.plans_alone:
            for name in ("style", "reading"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name}: with plan 'alone' no text is written that could have one; leave it out")
        return self

    @property
    def plans_alone(self) -> bool:
        """What `plan` says."""
        return self.plan == "alone"

    def _grader(self) -> Grader:
        if self.judge is None:
            return grader(self.grader)
        return SelfJudge() if self.judge == "self" else Judge(self.judge)

    def rooted(self, folder: Path) -> Self:
        """Files by their whole paths."""
        data, judge = self.data, self.judge
        if not isinstance(data, str):
            data = {split: one if one in SETS else str(folder / Path(one).expanduser()) for split, one in data.items()}
        if isinstance(judge, Judging) and judge.cache is not None:
            judge = replace(judge, cache=str(folder / Path(judge.cache).expanduser()))
        return self.model_copy(update={"data": data, "judge": judge})

    def build(self, tuning: Tuning, bounds: Bounds) -> Knowledge:
        """The domain, its passages read. Raises UserError for a bad or missing file, or a tool that does not exist."""
        sources = self.data if isinstance(self.data, dict) else dict.fromkeys(SETS[self.data], self.data)
        chosen, *others = (self._style(name) for name in (self.style, *bounds.styles))
        tools = TEXT_TOOLS.chosen(bounds.tools)
        return Knowledge(
            problems={split: read_passages(source, split)[: self.limit] for split, source in sources.items()},
            style=chosen,
            tuning=tuning,
            bounds=bounds,
            grader=self._grader(),
            train_on_passage=self.train_on_passage,
            plans=self._plans(chosen, others, tools, bounds) if self.plan else None,
        )

    def _plans(self, chosen: Style, others: Sequence[Style], tools: dict[str, Tool], bounds: Bounds) -> TextPlans:
        if not self.plans_alone:
            return TextPlans(chosen, {one.name: one for one in others}, tools, bounds)
        alone = "with domain.plan = 'alone' no text is written"
        if others:
            raise UserError(f"bounds.styles: {alone} that could have one; leave them out")
        if "reverse" in tools:
            raise UserError(f"bounds.tools: {alone} that 'reverse' could turn round; leave it out")
        if not (tools or self.train_on_passage):
            raise UserError("bounds.tools: with domain.plan = 'alone' tools make what is learnt; name some (docs/plans.md)")
        if self.shown_plans:
            refuse_undrawn(tools.values())
        return TextPlans(None, {}, tools, bounds, self.shown_plans, fewest=0 if self.train_on_passage else 1)

    def _style(self, name: str) -> Style:
        found = style(name)
        return {"official": found, "whole": found.whole(), "clean": found.cleaned()}[self.reading]
