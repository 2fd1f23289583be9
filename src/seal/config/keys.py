"""Every key of a recipe, with its type in plain words, its default and its field's docstring."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from textwrap import dedent
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from seal.config.mistakes import tables, types
from seal.config.recipe import DOMAINS, Recipe

_PLAIN = {str: "text", bool: "true or false", int: "whole number", float: "number"}
_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the reference."""

    key: str
    type: str
    default: object
    """None: nothing, which is written by leaving it out."""
    about: str
    kind: str | None = None
    """The `domain.kind` whose key it is; None: every recipe's."""


def reference() -> list[Key]:
    """All keys, in the order of the tables; those of [domain] last, kind by kind."""
    known = " | ".join(f'"{kind}"' for kind in DOMAINS)
    kind_itself = Key("domain.kind", known, "knowledge", "What there is to learn; `module:Table` is one of your own.")
    brought = [replace(one, kind=kind) for kind, table in DOMAINS.items() for one in _keys(table, "domain.")]
    return [*_keys(Recipe), kind_itself, *brought]


def names(table: type, at: str = "") -> list[str]:
    """The keys of a table and of the tables in it."""
    return [f"{at}{name}" for name, *_ in _fields(table)]


def _keys(table: type, at: str = "") -> Iterator[Key]:
    for name, kind, default, owner in _fields(table):
        yield Key(at + name, _words(kind), default, _docstrings(owner).get(name.rpartition(".")[2], ""))


def _fields(table: type, value: object = None) -> Iterator[tuple[str, Any, Any, type]]:
    """Name, type, default and table of every field. `value`: the table as it is by default, for its fields may differ from one
    place to another."""
    given = {name: one.default for name, one in inspect.signature(table).parameters.items() if one.default is not one.empty}
    for name, kind in types(table).items():
        default, inner = getattr(value, name, given.get(name)), tables(kind)
        if not isinstance(default, tuple(inner)):
            yield name, kind, default, table
        for one in inner:
            for below, *rest in _fields(one, default if isinstance(default, one) else None):
                yield f"{name}.{below}", *rest


def _docstrings(table: type) -> dict[str, str]:
    """The string below each field, as one line."""
    (body,) = (one.body for one in ast.parse(dedent(inspect.getsource(table))).body if isinstance(one, ast.ClassDef))
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return ", ".join([_words(inner[0]), *_limits(inner[1:])])
    if origin is Literal:
        return " | ".join(f'"{one}"' for one in inner)
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in inner if one is not NoneType)
    if origin in (tuple, dict):
        several = re.sub(r'\b(?<!")(number|table|list|value)\b', r"\1s", _words(inner[origin is dict]))
        return f"{'table of' if origin is dict else 'list of' if ... in inner else 'two'} {several}"
    return _PLAIN.get(kind) or ("table" if tables(kind) else "value")


def _limits(metadata: Sequence[Any]) -> list[str]:
    found = [limit for one in metadata for limit in getattr(one, "metadata", [one])]
    return [f"{word} {getattr(one, name)}" for one in found for name, word in _LIMITS.items() if hasattr(one, name)]
