"""pydantic's errors in a user's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

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
    return [f"{key}: {' or '.join(dict.fromkeys(messages))}{given.get(key, '')}" for key, messages in lines.items()]


def _path(error: ErrorDetails, raw: Any) -> list[str]:
    """Where in the file: pydantic's location without the names of the types it tried."""
    path = []
    for part in error["loc"]:
        if isinstance(raw, Mapping) and part in raw:
            raw = raw[str(part)]
        elif isinstance(raw, list) and isinstance(part, int):
            raw = raw[part]
        elif error["type"] != "missing":
            continue
        path.append(str(part))
    return path


def _known(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of a table, seen in the model's defaults."""
    defaults = {name: field.default for name, field in model.model_fields.items()}
    for part in path:
        value = defaults[part]
        if value is PydanticUndefined:
            return []
        names = type(value).model_fields if isinstance(value, BaseModel) else value.__dataclass_fields__
        defaults = {name: getattr(value, name) for name in names}
    return list(defaults)


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
