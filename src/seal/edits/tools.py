"""Tools a plan may call: plain functions with a name, types and a docstring.

What the model is told of a tool and how its arguments are checked both come from the function's signature. Parameters before
the `/` are the domain's own (a passage, a puzzle); those after it are the model's to give.

>>> puzzle_tools = Toolbox("puzzle tool")
>>> @puzzle_tools.register
... def rotate(grid: list[list[int]], /, quarters: Literal[1, 2, 3] = 1) -> list[list[int]]:
...     '''Turns the grid to the left.'''
...     return grid if quarters == 0 else rotate([list(row) for row in zip(*grid)][::-1], quarters - 1)
>>> puzzle_tools["rotate"].described
'{"tool": "rotate", "quarters": 1 or 2 or 3 (else 1)}: Turns the grid to the left.'
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from seal.errors import EditFault, UserError, unknown
from seal.named import find

F = TypeVar("F", bound=Callable[..., Any])

RESERVED = "tool"
"""The key of a call that names the tool; no parameter may be called so."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What the model may give a tool."""

    name: str
    type: Any
    """As annotated: `int`, `Literal[...]`, `list[str]`, `Annotated[int, Field(ge=1, le=5)]`, ..."""
    adapter: TypeAdapter[Any]
    """Checks a value against the type."""
    required: bool
    default: Any = None

    def read(self, given: Any, where: str) -> Any:
        """The argument, checked against the type and never converted. Raises EditFault `mistyped`."""
        try:
            return self.adapter.validate_json(json.dumps(given), strict=True)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]["msg"].replace("Input should be", "must be")
            raise EditFault("mistyped", f"{where}.{self.name}: {wrong}, not {shown(given)}") from None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function a plan may call."""

    name: str
    function: Callable[..., Any]
    doc: str
    """The first paragraph of its docstring, on one line."""
    parameters: tuple[Parameter, ...]

    @property
    def asks_the_model(self) -> bool:
        """It is a generator function: it yields a list of prompts once and is sent what the model wrote to each."""
        return inspect.isgeneratorfunction(self.function)

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of its arguments, as function-calling models want it."""
        properties = {one.name: one.adapter.json_schema() for one in self.parameters}
        required = [one.name for one in self.parameters if one.required]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    @property
    def described(self) -> str:
        """One line for a prompt: how it is called, and what it does."""
        call = [f'"{RESERVED}": "{self.name}"', *(f'"{one.name}": {_phrase(one)}' for one in self.parameters)]
        return f"{{{', '.join(call)}}}: {self.doc}"

    def read(self, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The arguments of a call, checked. Raises EditFault `unknown`, `missing` or `mistyped`."""
        known = {one.name: one for one in self.parameters}
        for name in arguments:
            if name not in known:
                raise unknown_name("argument", name, known, where)
        for one in self.parameters:
            if one.required and one.name not in arguments:
                raise EditFault("missing", f"{where}.{one.name}: missing")
        return {name: known[name].read(given, where) for name, given in arguments.items()}


class Toolbox(dict[str, Tool]):
    """Tools of one kind by name."""

    def __init__(self, what: str) -> None:
        """`what`: the word for them in messages, as in "text tool"."""
        super().__init__()
        self.what = what

    def register(self, function: F) -> F:
        """A decorator: the function is a tool from now on, under its own name. Raises UserError if it cannot be one."""
        self[function.__name__] = as_tool(function)
        return function

    def chosen(self, names: Iterable[str]) -> dict[str, Tool]:
        """Those a recipe names, by their own name or as `module:function`. Raises UserError."""
        found = [self._find(name) for name in names]
        return {tool.name: tool for tool in found}

    def _find(self, name: str) -> Tool:
        found = find(self.what, name, self)
        return found if isinstance(found, Tool) else as_tool(found)


def as_tool(function: Callable[..., Any]) -> Tool:
    """A function as a tool. Raises UserError saying what it lacks: a docstring, the parameter before the `/`, or a type that the
    model's JSON can be checked by."""
    if not inspect.isfunction(function):
        raise UserError(f"tool {function!r} is not a function")
    name = function.__name__
    doc = inspect.getdoc(function)
    if not doc:
        raise UserError(f"tool {name!r} has no docstring; the model is told what it does by it")
    parameters = inspect.signature(function).parameters.values()
    mine = [one for one in parameters if one.kind is not one.POSITIONAL_ONLY]
    if len(parameters) - len(mine) != 1:
        raise UserError(f"tool {name!r} must have one parameter before a `/`: what it works on, as in `def {name}(source, /)`")
    try:
        types = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise UserError(f"tool {name!r}: {error}; import what its types name outside `if TYPE_CHECKING`") from None
    return Tool(name, function, " ".join(doc.split("\n\n")[0].split()), tuple(_parameter(name, one, types) for one in mine))


def refuse_undrawn(tools: Iterable[Tool]) -> None:
    """Raises UserError for a tool that no drawn plan can call: an argument without a default has no value to be drawn."""
    for tool in tools:
        for one in tool.parameters:
            if one.required:
                raise UserError(
                    f"bounds.tools: domain.shown_plans call {tool.name!r} by its name alone, and its argument {one.name!r}"
                    " has no default; give it one, take the tool out, or set domain.shown_plans = 0"
                )


def _parameter(tool: str, one: inspect.Parameter, types: Mapping[str, Any]) -> Parameter:
    where = f"tool {tool!r}: parameter {one.name!r}"
    if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) or one.name == RESERVED:
        raise UserError(f"{where} cannot be given by a model; name each parameter, and none {RESERVED!r}")
    if one.name not in types:
        raise UserError(f"{where} has no type, as in `{one.name}: int = 1`; put it before a `/` if it is not the model's")
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(types[one.name])
    except PydanticSchemaGenerationError:
        raise UserError(f"{where}: no JSON can be a {types[one.name]}; put it before a `/` if it is not the model's") from None
    required = one.default is one.empty
    try:
        json.dumps(None if required else one.default)
    except (TypeError, ValueError):
        raise UserError(f"{where}: no JSON can be its default {one.default!r}, and the model is told it") from None
    return Parameter(one.name, types[one.name], adapter, required, None if required else one.default)


def _phrase(one: Parameter) -> str:
    """`1 or 2 or 3 (else 1)`."""
    return _words(one.type) + ("" if one.required else f" (else {json.dumps(one.default)})")


def _words(type: Any) -> str:
    arguments = get_args(type)
    if get_origin(type) is Literal:
        return " or ".join(json.dumps(value) for value in arguments)
    if get_origin(type) in (Union, UnionType):
        return " or ".join(_words(one) for one in arguments)
    if get_origin(type) is Annotated:
        limits = TypeAdapter(type).json_schema()
        low, high = limits.get("minimum"), limits.get("maximum")
        return _words(arguments[0]) + (f" from {low} to {high}" if None not in (low, high) else "")
    plain = {int: "whole number", float: "number", bool: "true or false", str: "text", NoneType: "null"}
    return plain.get(type) or ("list" if get_origin(type) in (list, tuple) else "value")


def shown(value: Any) -> str:
    """A value as the model wrote it, cut to a line's length."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def unknown_name(what: str, name: str, known: Iterable[str], where: str) -> EditFault:
    """The fault of a key or a tool nobody offers, with the nearest one offered."""
    message = str(unknown(what, name[:60], known))
    return EditFault("unknown", f"{where}: {message}" if where else message)
