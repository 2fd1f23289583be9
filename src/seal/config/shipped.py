"""What comes with seal, by name."""

from __future__ import annotations

from pathlib import Path

from seal.home import data


def shipped() -> dict[str, Path]:
    """The recipes."""
    return {path.stem: path for path in sorted((data() / "recipes").glob("*.toml"))}


def shipped_policies() -> dict[str, Path]:
    """The trained policies."""
    return {path.name: path for path in sorted((data() / "policies").glob("*")) if path.is_dir()}
