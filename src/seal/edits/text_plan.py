"""Text edits with a plan, a JSON object that says how they are learnt: words that may hold one, or a plan alone."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from seal.edits.plan import Call, Calls, Choice, Form, Number, Part, Plan, alone, any_rate, find, later
from seal.edits.plan import go_on as both
from seal.edits.reading import sequence
from seal.edits.styles import Style
from seal.edits.text_tools import Rows, Source
from seal.edits.tools import Tool
from seal.errors import EditFault, SealError
from seal.types import Bounds, Example, Prompt

_HOW = "how to train a model so that it can answer questions about this passage"
_OFFER = "After it you may write one JSON object that says how it is to be learnt. Every key of it may be left out:\n"


@dataclass(frozen=True, slots=True)
class Written:
    """What was read out of a text edit."""

    examples: tuple[Example, ...]
    """The words' own first, then each tool's, in the order of the calls."""
    plan: Plan = field(default_factory=Plan)
    asks: tuple[Prompt, ...] = ()
    """What tools put to the model, when it has not replied yet."""
    text: str | None = None
    """The plan, where it is all that the edit is."""


@dataclass(frozen=True, slots=True)
class TextPlans:
    """How text edits with plans are asked for and read."""

    style: Style | None
    """How the text is asked for, and read unless the plan says otherwise. None: an edit is a plan and nothing else."""
    styles: dict[str, Style]
    """Those a plan may say its text is in."""
    tools: dict[str, Tool]
    bounds: Bounds
    shown: int = 0
    """Random plans that show the policy what a plan alone looks like, instead of a description of the form."""
    fewest: int = 0
    """Tools that such a plan calls at least: 1 where nothing else is learnt."""

    @property
    def form(self) -> Form:
        """What a plan may say within the bounds. What leaves no choice is not offered."""
        bounds = self.bounds
        offered: dict[str, Part] = {
            "learning_rate": Number("lr", *bounds.lr),
            "epochs": Number("epochs", *bounds.epochs, whole=True),
            "loss_on": Choice("loss", {kind: kind for kind in bounds.loss}),
            "style": Choice("style", {name: name for name in self.styles}),
            "tools": Calls(self.tools, bounds.calls),
        }
        empty = {"loss_on": not bounds.loss, "style": not self.styles, "tools": not self.tools}
        return Form({key: part for key, part in offered.items() if not empty.get(key)}, complete=self.style is None)

    def prompt(self, title: str, context: str, seed: int = 0) -> Prompt:
        """The style's prompt, with the plan offered before the passage; or, where an edit is a plan alone, the request for one.

        `seed`: it draws the plans that are shown.
        """
        if self.style is None:
            return self._plan_prompt(f"Passage:\n{title}\n{context}\n\n", Random(seed))
        offered = replace(self.style, task=f"{self.style.task.rstrip()}\n\n{_OFFER}{self.form.phrase()}\n\n")
        return offered.prompt(title, context)

    def _plan_prompt(self, passage: str, random: Random) -> Prompt:
        """The plans shown are a conversation's earlier replies: a small chat model writes one more of them; with all of them in
        one message it writes prose. Drawn at random, they say nothing about which plan is good."""
        if not self.shown:
            return Prompt(f"{passage}Choose {_HOW}. Answer with a plan in JSON, in this form:\n{self.form.phrase()}\n")
        asked = [f"{passage}Write a plan, in JSON, of {_HOW}.\n", *["Write another plan.\n"] * self.shown]
        return Prompt(asked[-1], turns=tuple((ask, self.draw(random)) for ask in asked[:-1]))

    def draw(self, random: Random) -> str:
        """Any plan alone within the bounds, its tools by their names; learning rates evenly in the logarithm."""
        names = list(self.tools)
        any_of = {
            "learning_rate": any_rate(self.bounds.lr, random),
            "epochs": random.randint(*self.bounds.epochs),
            "loss_on": random.choice(self.bounds.loss or ("all",)),
            "tools": random.sample(names, random.randint(self.fewest, min(self.bounds.calls, len(names)))),
        }
        return json.dumps({key: any_of[key] for key in self.form.parts})

    def go_on(self, text: str, more: str) -> str:
        """Words below words, and of both plans one; of plans alone the later one."""
        return later(text, more) if self.style is None else both(text, more)

    def read(self, title: str, context: str, text: str, replies: Sequence[str] | None = None) -> Written:
        """Words and plan of an edit. `replies`: what the model wrote to `asks`, in order. Raises EditFault.

        A plan may stand without words if it calls tools. Nothing that looks like a plan is ever taken for words. Where an edit is
        a plan alone, words around it are passed over.
        """
        if self.style is None:
            plan = self.form.read(text)
            rows, asks = self._run(plan.calls, Source(title, context), replies)
            return Written(_documents(title, rows), plan, asks, alone(text))
        found = find(text)
        if found is not None and find(found.after) is not None:
            raise EditFault("unreadable", "more than one plan")
        plan = self.form.take(found.value, "") if found else Plan()
        words = found.words if found else text
        style = self.styles.get(plan.settings.get("style", ""), self.style)
        segments = style.read(words) if words.strip() or not plan.calls else []
        rows, asks = self._run(plan.calls, Source(title, context, tuple(segments)), replies)
        examples = _documents(title, [*segments, *rows])
        if not examples and not asks:
            raise EditFault("empty", "the tools it calls made nothing to learn")
        return Written(examples, plan, asks)

    def _run(self, calls: Sequence[Call], source: Source, replies: Sequence[str] | None) -> tuple[Rows, tuple[Prompt, ...]]:
        rows: Rows = []
        asks: list[Prompt] = []
        for call in calls:
            tool = self.tools[call.tool]
            made = tool.function(source, **call.arguments)
            if not tool.asks_the_model:
                rows += _rows(tool, made)
                continue
            try:
                prompts = _listed(tool, next(made), Prompt)
                asks += prompts
                if replies is not None:
                    made.send(list(replies[len(asks) - len(prompts) : len(asks)]))
                    raise SealError(f"tool {tool.name!r} yields twice; all its prompts go into one list")
            except StopIteration as end:
                rows += _rows(tool, end.value)
        if len(asks) > self.bounds.examples:
            raise EditFault("out_of_bounds", f"tools: {len(asks)} texts for the model to write; at most {self.bounds.examples}")
        return rows, () if replies is not None else tuple(asks)


def _documents(title: str, rows: Rows) -> tuple[Example, ...]:
    return tuple(row if isinstance(row, Example) else Example(sequence(title, row)) for row in rows)


def _rows(tool: Tool, made: object) -> Rows:
    """What a tool made, without blank texts: such a row would be the title alone."""
    return [row for row in _listed(tool, made, str, Example) if isinstance(row, Example) or row.strip()]


def _listed(tool: Tool, made: object, *kinds: type) -> list[Any]:
    """What a tool gave, if it is a list of those kinds. Raises SealError, naming the tool, for anything else."""
    if not (isinstance(made, list | tuple) and all(isinstance(one, kinds) for one in made)):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise SealError(f"tool {tool.name!r} gave {reprlib.repr(made)}; it must give a list of {wanted}")
    return list(made)
