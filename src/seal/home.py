"""Where files lie that belong to no run: what comes with SEAL, and what it need not fetch or ask twice."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path


def data() -> Path:
    """The folder of what comes with seal: recipes, policies, documents."""
    return Path(str(resources.files("seal"))) / "data"


def home() -> Path:
    """The user's cache: `$SEAL_HOME`, else `$XDG_CACHE_HOME/seal`, else `~/.cache/seal`."""
    if own := os.environ.get("SEAL_HOME"):
        return Path(own).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "seal"
