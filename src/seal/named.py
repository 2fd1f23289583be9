"""What a recipe names as `module:name`: a reward, a tool, a domain of one's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def named(reference: str) -> Any:
    """What `module:name` stands for. Modules in the working directory are found too, after all that are installed.

    Raises ImportError if there is none, and says where it was looked for.
    """
    module, _, name = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # for good: what is found there may import its neighbours later
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: no module name at all
        where = "a module is looked for in this directory, in those that PYTHONPATH names and among what is installed"
        raise ImportError(f"{error} ({where})") from None
