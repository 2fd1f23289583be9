"""What comes with seal, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def shipped() -> dict[str, Path]:
    """The recipes."""
    return {path.stem: path for path in sorted((_data() / "recipes").glob("*.toml"))}


def shipped_policies() -> dict[str, Path]:
    """The trained policies."""
    return {path.name: path for path in sorted((_data() / "policies").glob("*")) if path.is_dir()}


def _data() -> Path:
    return Path(str(resources.files("seal"))) / "data"
