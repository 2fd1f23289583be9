"""What a recipe names: one of ours by its name, or anybody's as `module:name`, be it a reward, a grader, a tool or a domain."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Mapping
from inspect import isclass, signature
from pathlib import Path
from typing import Any

from seal.errors import UserError, unknown


def refuse_unknown(what: str, name: str, ours: Collection[str]) -> None:
    """Raises UserError if it is none of ours, with the nearest known name. Anybody's is looked for once it is used: a recipe may
    be read where its modules are not."""
    if ":" not in name and name not in ours:
        raise unknown(what, name, ours)


def find(what: str, name: str, ours: Mapping[str, Any], *, form: str = "a function") -> Any:
    """One of ours by its name, or anybody's as `module:name`. Raises UserError if there is none. `what`: the word for it in
    messages, as in "reward"; `form`: what the module must have."""
    refuse_unknown(what, name, ours)
    if ":" not in name:
        return ours[name]
    try:
        return named(name)
    except ImportError as error:
        raise UserError(f"{what} {name!r}: {error}; it must be an importable module and {form} in it") from None


def refuse_class(what: str, found: object) -> None:
    """Raises UserError for a class, which can be called and is not what was meant."""
    if isclass(found):
        raise UserError(f"{what} is a class; name an object of it, such as `mine = {found.__name__}()` in that module")


def refuse_other_arguments(what: str, function: object, *arguments: str) -> None:
    """Raises UserError if it cannot be called with so many arguments, all by their places."""
    if not callable(function):
        raise UserError(f"{what} is not a function; it must be an importable module and a function in it")
    try:
        signature(function).bind(*arguments)
    except TypeError as error:
        raise UserError(f"{what} must take ({', '.join(arguments)}): {error}") from None
    except ValueError:  # something built in, of which nobody knows what it takes
        pass


def named(reference: str) -> Any:
    """What `module:name` stands for. Modules in the working directory are found too, after all that are installed.

    Raises ImportError if there is none, and says where it was looked for. What the module itself raises is its own affair.
    """
    module, _, name = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # for good: what is found there may import its neighbours later
    where = "a module is looked for in this directory, in those that PYTHONPATH names and among what is installed"
    if not module:
        raise ImportError(f"no module is named ({where})")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{error} ({where})") from None
    except Exception as error:
        error.add_note(f"that is from importing {module!r}, for {reference!r}")
        raise
    try:
        return getattr(found, name)
    except AttributeError as error:
        raise ImportError(f"{error} ({where})") from None
