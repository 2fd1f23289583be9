"""pydantic's errors in a user's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from json import dumps
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def describe(
    error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel], at: str = "", keys: Iterable[str] = ()
) -> list[str]:
    """One line a field: `tuning.epohcs: unknown; did you mean epochs?`. `at`: what stands before every key; `keys`: all there
    are, for one of which only the end was given."""
    lines: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for one in error.errors():
        path = _path(one, raw)
        if one["type"] in _UNKNOWN:
            table = [name for one in _at(model, path[:-1]) for name in types(one)]
            start, end = at + "".join(f"{part}." for part in path[:-1]), f".{path[-1]}"
            messages = [(path, _suggest(path[-1], table, [key for key in keys if key.startswith(start) and key.endswith(end)]))]
        elif one["type"] == "value_error":
            # a table's own check names its fields itself, a line each: "rank: must be at least 1"
            messages = [_split(path, line) for line in str(one["ctx"]["error"]).splitlines()]
        else:
            messages = [(path, _plain(one))]
            key, value = at + ".".join(path), one["input"]
            given[key] = "" if isinstance(value, dict) else f", not {value!r}{_within(key, value, _at(model, path))}"
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


def _at(model: type[BaseModel], path: list[str]) -> list[type]:
    """The tables that the model says may stand at the path."""
    found: list[type] = [model]
    for part in path:
        found = [inner for one in found if part in (known := types(one)) for inner in tables(known[part])]
    return found


def not_numbers(value: object, kind: Any, key: str) -> Iterator[tuple[str, str]]:
    """Each key, `key` or below it, that wants a number and has `true` or a number in quotes, with what is wrong: pydantic would
    take these for the numbers they look like."""
    may_be = _alternatives(kind)
    if isinstance(value, dict):
        for one in may_be:
            below = types(one) if tables(one) == [one] else {}
            if get_origin(one) is dict:
                below = dict.fromkeys(value, get_args(one)[1])
            for name in [name for name in value if name in below]:
                yield from not_numbers(value[name], below[name], f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for element in {of for one in may_be if get_origin(one) is tuple for of in get_args(one)}:
            for one in value:
                yield from not_numbers(one, element, key)
    elif {int, float} & {*may_be} and type(value) not in may_be and _looks_like_a_number(value):
        yield key, f"{key}: must be a number, not {dumps(value)}"


def _alternatives(kind: Any) -> list[Any]:
    """The types that a value may have: `Annotated[int, ...] | None` is int and None."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [one for inner in get_args(kind) for one in _alternatives(inner)]
    return [kind]


def _looks_like_a_number(value: object) -> bool:
    if isinstance(value, str):
        with suppress(ValueError):
            float(value)
            return True
    return isinstance(value, bool)


def types(table: type) -> dict[str, Any]:
    """The types of a table's fields by their names, with what limits them."""
    if issubclass(table, BaseModel):
        return {name: Annotated[field.annotation, field] for name, field in table.model_fields.items()}
    return get_type_hints(table, include_extras=True)


def tables(kind: Any) -> list[type]:
    """The tables among what may stand at a key: `ShortlistTable | None`."""
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind)):
        return [kind]
    return [table for one in get_args(kind) for table in tables(one)]


def _suggest(name: str, table: Iterable[str], ends: list[str]) -> str:
    if ends:
        return f"unknown; did you mean {', '.join(ends[:-1])}{' or ' if ends[:-1] else ''}{ends[-1]}?"
    near = difflib.get_close_matches(name, table, n=1)
    return f"unknown; did you mean {near[0]}?" if near else f"unknown; known: {', '.join(table)}"


def _within(key: str, value: object, found: list[type]) -> str:
    """For a word where a table belongs: the field it was meant for, if the table's first takes it, as `model.name` does."""
    for table in found if isinstance(value, str) else []:
        first = next(iter(types(table)))
        with suppress(ValidationError):
            TypeAdapter(table).validate_python({first: value})
            return f"; did you mean {key}.{first}={value}?"
    return ""


def _split(path: list[str], line: str) -> tuple[list[str], str]:
    field, colon, message = line.partition(": ")
    return ([*path, field], message) if colon and field.isidentifier() else (path, line)


def _plain(error: ErrorDetails) -> str:
    if error["type"] == "string_pattern_mismatch":
        return "must be a plain name"
    if error["type"] in ("dataclass_type", "model_type"):
        return "must be a table"
    message = error["msg"].partition(", unable to parse")[0].replace("Input should be", "must be")
    return message.replace("a valid tuple", "a list").replace("a valid dictionary", "a table")
