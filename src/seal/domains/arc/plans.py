"""What a plan for a puzzle may say, in two forms (the paper's, and a short one that small models can write), and its prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from random import Random
from typing import Any, Literal

from seal.domains.arc import tools as groups
from seal.domains.arc.transforms import Transform
from seal.edits.plan import STRATEGIES, Calls, Choice, Form, Number, Part, Plan, any_rate, official_arc
from seal.edits.tools import Tool, Toolbox
from seal.errors import EditFault, UserError
from seal.types import Bounds, Prompt

FormName = Literal["short", "paper"]
LOSSES = {"all": "all", "outputs": "outputs", "answer": "completion"}
"""The plan's words for which tokens carry loss, and ours."""
COLOURS = {"kept": False, "permuted": True}

PUZZLE_TOOLS = Toolbox("puzzle tool")
for _group in (groups.turns, groups.basic, groups.size, groups.doubled, groups.chain, groups.repeat, groups.concat):
    PUZZLE_TOOLS.register(_group)


@dataclass(frozen=True, slots=True)
class Choices:
    """A plan before it is written."""

    tools: tuple[str, ...] = ()
    colours: str = "kept"
    loss: str = "outputs"
    lr: float = 1e-3
    epochs: int = 2


@dataclass(frozen=True, slots=True)
class PlanForm:
    """A form of plans with the tools it may call."""

    name: FormName
    form: Form
    tools: Mapping[str, Tool]
    bounds: Bounds

    def read(self, text: str) -> Plan:
        """The plan in what the policy wrote. Raises EditFault for anything that is not exactly one within its bounds."""
        return self.form.read(text)

    def transforms(self, plan: Plan, random: Random) -> list[Transform]:
        """Those that the plan's calls give, without repetition."""
        found: dict[str, Transform] = {}
        for call in plan.calls:
            for transform in self.tools[call.tool].function(random, **call.arguments):
                found.setdefault(transform.name, transform)
        return list(found.values())

    @property
    def unchanged(self) -> bool:
        """Whether each task is also practised as it is: as in the paper's code, where a plan has the paper's form."""
        return self.name == "paper"

    def recolours(self, plan: Plan) -> bool:
        """Whether colours are permuted: the plan's choice, and where its form has none (the paper's), if it calls any tool."""
        return bool(plan.calls if self.name == "paper" else plan.settings["colours"])

    def draw(self, random: Random) -> Choices:
        """Any choices within the bounds, each as likely as any other; learning rates are round, even in the logarithm."""
        lr = any_rate(self.bounds.lr, random)
        names = list(self.tools)
        return Choices(
            tools=tuple(random.sample(names, random.randint(0, min(self.bounds.calls, len(names))))),
            colours=random.choice(list(COLOURS)),
            loss=random.choice([word for word, ours in LOSSES.items() if ours in self.bounds.loss]),
            lr=lr,
            epochs=random.randint(*self.bounds.epochs),
        )

    def write(self, choices: Choices) -> str:
        """The choices as a plan of this form. Raises UserError if they do not fit it."""
        if self.name == "paper":
            if choices.loss not in LOSSES:
                raise UserError(f"domain.grid.loss: must be one of {', '.join(LOSSES)}, not {choices.loss!r}")
            strategy = "train_using_all_tokens" if choices.loss == "all" else "train_using_output_tokens"
            switched = {f"use_{name}_augmentations": name in choices.tools for name in _PAPER}
            strange = {f"use_{name}_augmentations": True for name in choices.tools if name not in _PAPER}
            training = {"strategy": strategy, "learning_rate": choices.lr, "num_train_epochs": choices.epochs}
            plan: dict[str, Any] = {"data_generation": {**switched, **strange}, "training": training}
        else:
            chosen = {field.name: getattr(choices, field.name) for field in fields(Choices)}
            plan = {**chosen, "tools": list(choices.tools)}
        written = json.dumps(plan, default=str)
        try:
            self.read(written)
        except EditFault as error:
            raise UserError(f"domain.grid: no plan can be {written} ({error}); change the grid, or the bounds") from None
        return written

    def grid(self, *tables: Mapping[str, Sequence[Any]]) -> Iterator[Choices]:
        """Of each table every combination of the values given for the fields of Choices, the last field changing fastest."""
        names = [field.name for field in fields(Choices)]
        for values in tables:
            for name in values:
                if name not in names:
                    raise UserError(f"domain.grid.{name}: a plan has no such choice; it has {', '.join(names)}")
            for combination in product(*values.values()):
                found = dict(zip(values, combination, strict=True))
                tools = found.get("tools", ())
                if not isinstance(tools, list | tuple):
                    raise UserError(f'domain.grid.tools: each value is a list, as in tools = [["turns"], []], not {tools!r}')
                yield Choices(**{**found, "tools": tuple(tools)})


def plan_form(name: FormName, bounds: Bounds) -> PlanForm:
    """The form of that name, within the recipe's bounds. Raises UserError for a tool or a loss that the form does not have."""
    tools = PUZZLE_TOOLS.chosen(bounds.tools or _PAPER)
    if name == "paper":
        _refuse_beyond_paper(tools, bounds.calls)
    known = STRATEGIES if name == "paper" else LOSSES
    if not bounds.loss or any(one not in known.values() for one in bounds.loss):
        raise UserError(
            f"bounds.loss = {list(bounds.loss)}: with domain.plan = {name!r} a plan chooses among {', '.join(known.values())};"
            " name some of these alone"
        )
    losses = {word: ours for word, ours in known.items() if ours in bounds.loss}
    if name == "paper":
        tools = {**tools, "size": PUZZLE_TOOLS["doubled"]}  # what the paper's code has under that name
        return PlanForm(name, official_arc(bounds.lr, bounds.epochs, losses), tools, bounds)
    parts: dict[str, Part] = {
        "tools": Calls(tools, bounds.calls),
        "colours": Choice("colours", COLOURS),
        "loss": Choice("loss", losses),
        "lr": Number("lr", *bounds.lr),
        "epochs": Number("epochs", *bounds.epochs, whole=True),
    }
    return PlanForm(name, Form(parts, complete=True), tools, bounds)


def _refuse_beyond_paper(tools: Iterable[str], calls: int) -> None:
    """The paper's form has a switch for each of its tools, and any of them may be on."""
    has = f"the paper's form of a plan has the tools {', '.join(_PAPER)}"
    if missing := [one for one in _PAPER if one not in tools]:
        raise UserError(f"bounds.tools: {has}; {missing[0]!r} is missing")
    if strange := [one for one in tools if one not in _PAPER]:
        raise UserError(f"bounds.tools: {has}; {strange[0]!r} is none of them, domain.plan = 'short' takes any")
    if calls < len(_PAPER):
        raise UserError(f"bounds.calls = {calls}: {has}, and may call all {len(_PAPER)}; domain.plan = 'short' takes fewer")


_PAPER = ("basic", "size", "chain", "repeat")


def plan_prompt(pairs: str, form: PlanForm, *, examples: int, seed: int, system: str | None) -> Prompt:
    """The puzzle's pairs, then what a plan may say. The model's reply is the plan.

    `examples`: plans that show the form, one a line, drawn at random within the bounds by the `seed`: a small model that
    has only the form's description writes no JSON, and random ones say nothing about which plan is good.
    """
    head = "Each of these inputs becomes its output by one rule."
    if not examples:
        ask = "Choose how to train a model so that it learns the rule. Answer with a plan in JSON, in this form:"
        return Prompt(f"{head}\n\n{pairs}\n------\n{ask}\n{form.form.phrase()}\n\nPlan:\n", system=system)
    random = Random(seed)
    lines = "\n".join(form.write(form.draw(random)) for _ in range(examples))
    ask = "Plans of how to train a model so that it learns the rule, in JSON, one a line:"
    return Prompt(f"{head}\n\n{pairs}\n------\n{ask}\n{lines}\n", system=system)
