"""What a recipe names as `module:name`: a reward, a tool, a domain of one's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


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
