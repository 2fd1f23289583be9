"""Every error of our own. A UserError is printed as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from seal.types import Fault

MOST = 10
"""Names that a message lists."""


class SealError(Exception):
    """Something went wrong that is not the user's mistake; the message says what and the way out."""


class UserError(SealError, ValueError):
    """The user's mistake (exit code 2): one line in the user's own words, with the way out."""


class EditFault(Exception):
    """A self-edit that cannot be used. Caught where the edit is read and kept as data, never shown as a crash."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(kind, message)


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """A UserError for a name nobody knows, with the nearest known ones: `unknown("style", "implcations", styles)`."""
    names = sorted(known)
    longer = [one for one in names if name and one.startswith(name)]
    near = sorted(longer, key=len)[:1] or difflib.get_close_matches(name, names, n=1)
    if near:
        hint = f"did you mean {near[0]!r}?"
    elif len(names) <= MOST:
        hint = f"known: {', '.join(names)}"
    else:
        nearest = difflib.get_close_matches(name, names, n=MOST, cutoff=0.0)
        hint = f"the nearest of the {len(names)} known: {', '.join(nearest)}"
    return UserError(f"no {what} named {name!r}; {hint}")
