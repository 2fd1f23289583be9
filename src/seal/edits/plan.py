"""A plan: one JSON object in a self-edit, by which the model chooses settings and calls tools. Read strictly, within bounds.

A `Form` says which keys a plan has and what may stand there. The same form checks what the model wrote and describes itself in
the prompt. Whatever does not fit is an EditFault in the model's own words: counted, and never trained on.

>>> form = Form({"learning_rate": Number("lr", 1e-5, 1e-2), "epochs": Number("epochs", 1, 8, whole=True)})
>>> form.read('Here is my plan: {"learning_rate": 0.002}').settings
{'lr': 0.002}
>>> form.read('{"epochs": 99}')
Traceback (most recent call last):
    ...
seal.errors.EditFault: epochs: must be a whole number from 1 to 8, not 99
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any, Protocol

from seal.edits.tools import RESERVED, Tool, shown, unknown_name
from seal.errors import EditFault
from seal.types import Tuning

DEPTH = 8
"""Deepest nesting of a plan."""
DIGITS = 20
"""Longest whole number of a plan."""

# at the beginning of a line, or followed by a key or by nothing more: other braces within a sentence are text
_OPENS = re.compile(r"^[ \t]*\{|\{(?=\s*(?:[\"'“”‘’}]|\w+\s*:|\Z))", re.MULTILINE)
_FENCE = "```json"
_OPENED = re.compile(r"(?:<\w+>\s*)?```\w*\Z|<\w+>\Z")
_CLOSED = re.compile(r"(?:```\s*)?(?:</\w+>)?")
_PLAN = re.compile(r"\W*(?:\w+\W+){0,3}plan\W*:\W*", re.IGNORECASE)
_TUNING = frozenset(one.name for one in fields(Tuning))


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the model chose. What it did not choose is not in it."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """By our names: fields of `Tuning`, and a domain's own."""
    calls: tuple[Call, ...] = ()
    """In the order they were written; a tool switched on is a call without arguments."""

    def tuning(self, base: Tuning) -> Tuning:
        """`base` with the plan's choices in it."""
        return replace(base, **{name: value for name, value in self.settings.items() if name in _TUNING})

    def __add__(self, other: Plan) -> Plan:
        return Plan({**self.settings, **other.settings}, self.calls + other.calls)


class Part(Protocol):
    """What may stand at a key."""

    def take(self, given: Any, where: str) -> Plan:
        """What the value chooses. `where`: the keys that lead to it. Raises EditFault."""
        ...

    def phrase(self, indent: str) -> str:
        """What stands in the value's place when the form is shown to the model."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A number within bounds, both included."""

    setting: str
    low: float
    high: float
    whole: bool = False

    def take(self, given: Any, where: str) -> Plan:
        """Neither text nor true/false is a number, and 2.0 is not a whole one."""
        if isinstance(given, bool) or not isinstance(given, int if self.whole else (int, float)):
            raise EditFault("mistyped", f"{where}: must be {self.phrase('')}, not {shown(given)}")
        if not self.low <= given <= self.high:
            raise EditFault("out_of_bounds", f"{where}: must be {self.phrase('')}, not {shown(given)}")
        return Plan({self.setting: given if self.whole else float(given)})

    def phrase(self, indent: str) -> str:
        """`a number from 1e-05 to 0.01`."""
        return f"a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several words, each standing for a value of the setting."""

    setting: str
    words: Mapping[str, Any]

    def take(self, given: Any, where: str) -> Plan:
        """Letter by letter."""
        if not isinstance(given, str) or given not in self.words:
            kind = "out_of_bounds" if isinstance(given, str) else "mistyped"
            raise EditFault(kind, f"{where}: must be {self.phrase('')}, not {shown(given)}")
        return Plan({self.setting: self.words[given]})

    def phrase(self, indent: str) -> str:
        """`"all" or "completion"`."""
        return " or ".join(f'"{word}"' for word in self.words)


@dataclass(frozen=True, slots=True)
class Switch:
    """true calls the tool, or the group of tools, of that name."""

    tool: str

    def take(self, given: Any, where: str) -> Plan:
        """Only true and false."""
        if not isinstance(given, bool):
            raise EditFault("mistyped", f"{where}: must be true or false, not {shown(given)}")
        return Plan(calls=(Call(self.tool),) if given else ())

    def phrase(self, indent: str) -> str:
        """`true or false`."""
        return "true or false"


@dataclass(frozen=True, slots=True)
class Calls:
    """A list of calls: `"name"`, or `{"tool": "name", "argument": value}`."""

    tools: Mapping[str, Tool]
    most: int

    def take(self, given: Any, where: str) -> Plan:
        """Every call's arguments by its tool's own types."""
        if not isinstance(given, list):
            raise EditFault("mistyped", f"{where}: must be a list, not {shown(given)}")
        if len(given) > self.most:
            raise EditFault("out_of_bounds", f"{where}: {len(given)} calls; at most {self.most}")
        return Plan(calls=tuple(self._call(one, f"{where}[{place}]") for place, one in enumerate(given)))

    def phrase(self, indent: str) -> str:
        """One line a tool."""
        lines = "".join(f"\n{indent}  {tool.described}" for tool in self.tools.values())
        return f"[at most {self.most} of these calls]{lines}"

    def _call(self, given: Any, where: str) -> Call:
        arguments = dict(given) if isinstance(given, dict) else {RESERVED: given}
        name = arguments.pop(RESERVED, None)
        if not isinstance(name, str):
            raise EditFault("mistyped", f'{where}: must be a name or {{"{RESERVED}": name, ...}}, not {shown(given)}')
        if name not in self.tools:
            raise unknown_name("tool", name, self.tools, where)
        return Call(name, self.tools[name].read(arguments, where))


@dataclass(frozen=True, slots=True)
class Form:
    """The keys of a plan, or of an object within one."""

    parts: Mapping[str, Part]
    complete: bool = False
    """Every key must be there; False: what is left out is not chosen."""

    def read(self, text: str) -> Plan:
        """The plan in a self-edit that is nothing but a plan; words around it are passed over. Raises EditFault."""
        found = find(text)
        if found is None:
            raise EditFault("unreadable" if text.strip() else "empty", f"no JSON object in {text.strip()[:60]!r}")
        return self.take(found.value, "")

    def take(self, given: Any, where: str) -> Plan:
        """The plan of an object. Raises EditFault `unknown`, `missing`, `mistyped` or `out_of_bounds`."""
        if not isinstance(given, dict):
            raise EditFault("mistyped", f"{where}: must be an object, not {shown(given)}")
        for key in given:
            if key not in self.parts:
                raise unknown_name("key", key, self.parts, where)
        plan = Plan()
        for key, part in self.parts.items():
            path = f"{where}.{key}" if where else key
            if key in given:
                plan += part.take(given[key], path)
            elif self.complete:
                raise EditFault("missing", f"{path}: missing")
        return plan

    def phrase(self, indent: str = "") -> str:
        """The form as a prompt shows it: a JSON object with words in place of values."""
        inner = indent + "  "
        lines = [f'{inner}"{key}": {part.phrase(inner)}' for key, part in self.parts.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


STRATEGIES = {"train_using_all_tokens": "all", "train_using_output_tokens": "completion"}
"""The paper's words for which tokens carry loss, and ours."""


def official_arc(lr: tuple[float, float], epochs: tuple[int, int], strategies: Mapping[str, str] = STRATEGIES) -> Form:
    """The plan of the paper's ARC experiments (appendix A): four groups of tools and three settings, all to be stated.

    `strategies`: those of the paper's that a plan may choose.
    """
    groups = ("basic", "size", "chain", "repeat")
    training: dict[str, Part] = {
        "strategy": Choice("loss", strategies),
        "learning_rate": Number("lr", *lr),
        "num_train_epochs": Number("epochs", *epochs, whole=True),
    }
    tools = Form({f"use_{group}_augmentations": Switch(group) for group in groups}, complete=True)
    return Form({"data_generation": tools, "training": Form(training, complete=True)}, complete=True)


@dataclass(frozen=True, slots=True)
class Found:
    """A JSON object within a text."""

    value: dict[str, Any]
    before: str
    after: str
    """Text around it, without the fence it may stand in."""

    @property
    def words(self) -> str:
        """The text around it as one, without what else belongs to it: a fence behind words, a tag, a line such as `Plan:`."""
        before, after = self.before, self.after
        if opened := _OPENED.search(before):
            before, after = before[: opened.start()].rstrip(), _CLOSED.sub("", after, count=1).lstrip()
        above, _, last = before.rpartition("\n")
        if _PLAN.fullmatch(last):
            before = above.rstrip()
        return "\n".join(part for part in (before, after) if part)


def find(text: str) -> Found | None:
    """The first JSON object of a text, bare or in a code fence; None if nothing looks like one.

    Raises EditFault `unreadable` for what looks like one and is not strict JSON: NaN, a key twice, nesting beyond `DEPTH`.
    """
    opening = _OPENS.search(text)
    if opening is None:
        if _FENCE in text:
            raise EditFault("unreadable", f"no JSON object in {text[text.index(_FENCE) :][:60]!r}")
        return None
    start = opening.end() - 1
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise EditFault("unreadable", f"not JSON: {error.msg} at {text[error.pos :][:40]!r}") from None
    except RecursionError:
        raise EditFault("unreadable", "not a plan: nested too deeply") from None
    _refuse_strange(value)
    return Found(value, *_unfenced(text[:start], text[end:]))


def opens(line: str) -> bool:
    """Whether a plan begins in a line, though it may be cut off right behind its brace.

    >>> opens('Here it is: {'), opens('The set {1, 2} is finite.')
    (True, False)
    """
    return bool(_OPENS.search(line)) or _FENCE in line


def go_on(text: str, more: str) -> str:
    """A text and what was written on below it; of two plans one is made, at the end, in which the later one's keys stand.

    What cannot be read stays as it is, so that it is read as the fault it is.

    >>> go_on('Ada built it. {"epochs": 2, "style": "self-qa"}', 'It burnt. {"epochs": 4}')
    'Ada built it.\\nIt burnt.\\n{"epochs": 4, "style": "self-qa"}'
    """
    try:
        first, second = find(text), find(more)
    except EditFault:
        first = second = None
    if first is None or second is None:
        return f"{text.rstrip()}\n{more.lstrip()}"
    plan = json.dumps({**first.value, **second.value}, ensure_ascii=False)
    return "\n".join(part for part in (first.words, second.words, plan) if part)


def alone(text: str) -> str:
    """The plan without the words around it, where an edit is a plan and nothing else: what the policy is to learn."""
    found = find(text)
    return text.strip().removeprefix(found.before).removesuffix(found.after).strip() if found else text


def later(text: str, more: str) -> str:
    """The same of a text and what was written on below it: the later plan, where there is one.

    >>> later('{"epochs": 2}', 'Better: {"epochs": 4}'), later('{"epochs": 2}', "That is all.")
    ('{"epochs": 4}', '{"epochs": 2}')
    """
    try:
        return alone(more) if find(more) else text
    except EditFault:
        return more  # to be read as the fault it is


def any_rate(bounds: tuple[float, float], random: Random) -> float:
    """A round learning rate within the bounds, drawn evenly in the logarithm."""
    low, high = bounds
    return min(high, max(low, float(f"{low * (high / low) ** random.random():.0e}")))


def _unfenced(before: str, after: str) -> tuple[str, str]:
    above, _, last = before.rstrip().rpartition("\n")
    if last.lstrip().startswith("```"):
        before = above
        after = after.lstrip().removeprefix("```")
    return before.strip(), after.strip()


def _refuse_strange(value: Any) -> None:
    """No deeper than DEPTH, no half characters (a lone surrogate can be written neither to a file nor to a database)."""
    left: list[tuple[Any, int]] = [(value, 1)]
    while left:
        one, depth = left.pop()
        if depth > DEPTH:
            raise EditFault("unreadable", f"not a plan: nested more than {DEPTH} deep")
        if isinstance(one, str) and any("\ud800" <= char <= "\udfff" for char in one):
            raise EditFault("unreadable", "not a plan: it holds half a character (a lone surrogate)")
        inside: Sequence[Any] = [*one, *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else ()
        left += [(each, depth + 1) for each in inside]


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise EditFault("unreadable", f"key {twice[:60]!a} stands there twice")
    return found


def _constant(word: str) -> Any:
    raise EditFault("unreadable", f"{word} is no number of JSON")


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise EditFault("out_of_bounds", f"a number of {len(digits)} digits: {digits[:20]}...")
    return int(digits)


def _decimal(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise EditFault("out_of_bounds", f"{digits[:40]} is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_whole, parse_float=_decimal)
