"""Reading JSON that somebody else wrote: every mistake is one line that names file, record and field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from seal.errors import UserError


def load_json(path: Path) -> Any:
    """The content of a JSON file. Raises UserError if it is absent, not text or not JSON."""
    return loads(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None


def load_lines(path: Path) -> list[Any]:
    """The records of a JSON Lines file, one a line; empty lines are passed over. Raises UserError as `load_json` does."""
    lines = enumerate(_text(path).split("\n"), 1)  # not splitlines: a string may hold other line separators
    return [loads(line, f"{path}: line {number}", line=True) for number, line in lines if line.strip()]


def loads(content: str, where: str, *, line: bool = False) -> Any:
    """What a JSON text says; `where` names it in the UserError. `line`: it is one line, whose number `where` tells."""
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if line else f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{where}: not JSON ({place}: {error.msg})") from None
    except ValueError:  # Python turns no more than 4,300 digits into a number
        raise UserError(f"{where}: holds a number of too many digits to be read") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply to be read") from None


def value(record: Any, field: str, where: str) -> Any:
    """Any field of a record that must be there; `where` names file and record in the UserError."""
    if not isinstance(record, dict):
        raise UserError(f"{where}: must be an object with the field {field!r}, not {_kind(record)}")
    if field not in record:
        raise UserError(f"{where}: field {field!r} is missing")
    return record[field]


def text(record: Any, field: str, where: str, *, blank: bool = False) -> str:
    """A text field; `blank` allows one with nothing in it."""
    found = value(record, field, where)
    if not isinstance(found, str):
        raise UserError(f"{where}: field {field!r} must be text, not {_kind(found)}")
    if not blank and not found.strip():
        raise UserError(f"{where}: field {field!r} is empty")
    if any("\ud800" <= char <= "\udfff" for char in found):
        raise UserError(f"{where}: field {field!r} holds half a character (a lone surrogate)")
    return found


def records(record: Any, field: str, where: str) -> list[Any]:
    """A field that holds a list."""
    found = value(record, field, where)
    if not isinstance(found, list):
        raise UserError(f"{where}: field {field!r} must be a list, not {_kind(found)}")
    return found


def number(record: Any, field: str, where: str) -> float:
    """A field that holds a finite number."""
    return finite(value(record, field, where), f"{where}: field {field!r}")


def finite(found: Any, what: str) -> float:
    """A finite number; `what` names it in the UserError."""
    try:
        if isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found):
            return float(found)
    except OverflowError:  # a whole number larger than any float
        pass
    raise UserError(f"{what} must be a finite number, not {_kind(found)}")


def _kind(found: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "true/false", type(None): "null"}
    shown = repr(found)
    return names.get(type(found)) or (shown if len(shown) <= 40 else f"{shown[:40]}...")
