"""Where SEAL keeps what it need not fetch or ask twice."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The user's cache: `$SEAL_HOME`, else `$XDG_CACHE_HOME/seal`, else `~/.cache/seal`."""
    if own := os.environ.get("SEAL_HOME"):
        return Path(own).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "seal"
