"""pydantic's errors in a user's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def describe(error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel], at: str = "") -> list[str]:
    """One line a field: `tuning.epohcs: unknown; did you mean epochs?`. `at`: what stands before every key."""
    lines: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for one in error.errors():
        path = _path(one, raw)
        if one["type"] in _UNKNOWN:
            messages = [(path, _suggest(path[-1], _known(model, path[:-1])))]
        elif one["type"] == "value_error":
            # a table's own check names its fields itself, a line each: "rank: must be at least 1"
            messages = [_split(path, line) for line in str(one["ctx"]["error"]).splitlines()]
        else:
            messages = [(path, _plain(one))]
            given[at + ".".join(path)] = "" if isinstance(one["input"], dict) else f", not {one['input']!r}"
        for where, message in messages:
            lines.setdefault(at + ".".join(where), []).append(message)
    # what may be a word or a table, and is a table with a mistake in it: that it is not the word is no news
    told = {key: messages for key, messages in lines.items() if not any(other.startswith(f"{key}.") for other in lines)}
    return [f"{key}: {' or '.join(dict.fromkeys(messages))}{given.get(key, '')}" for key, messages in told.items()]


def _path(error: ErrorDetails, raw: Any) -> list[str]:
    """Where in the file: pydantic's location without the names of the types it tried."""
    path = []
    for place, part in enumerate(error["loc"], 1):
        if isinstance(raw, Mapping) and part in raw:
            raw = raw[str(part)]
        elif isinstance(raw, list) and isinstance(part, int):
            raw = raw[part]
        elif error["type"] != "missing" or place < len(error["loc"]):
            continue
        path.append(str(part))
    return path


def _known(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of a table, by what the model says may stand at the path."""
    tables: list[type] = [model]
    for part in path:
        tables = [inner for one in tables if part in (types := _types(one)) for inner in _tables(types[part])]
    return [name for one in tables for name in _types(one)]


def _types(table: type) -> dict[str, Any]:
    if issubclass(table, BaseModel):
        return {name: field.annotation for name, field in table.model_fields.items()}
    return get_type_hints(table)


def _tables(kind: Any) -> list[type]:
    """The tables among what may stand at a key: `ShortlistTable | None`."""
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind)):
        return [kind]
    return [table for one in get_args(kind) for table in _tables(one)]


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown; did you mean {near[0]}?" if near else f"unknown; known: {', '.join(known)}"


def _split(path: list[str], line: str) -> tuple[list[str], str]:
    field, colon, message = line.partition(": ")
    return ([*path, field], message) if colon and field.isidentifier() else (path, line)


def _plain(error: ErrorDetails) -> str:
    if error["type"] == "string_pattern_mismatch":
        return "must be a plain name"
    if error["type"] == "dataclass_type":
        return "must be a table"
    message = error["msg"].partition(", unable to parse")[0].replace("Input should be", "must be")
    return message.replace("a valid tuple", "a list").replace("a valid dictionary", "a table")
