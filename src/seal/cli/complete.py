"""What the shell completes: names of runs and recipes. Nothing is opened but the folder of the runs."""

from __future__ import annotations

from pathlib import Path

import typer

RUNS = Path("runs")
"""Where runs are kept, unless --runs says otherwise."""


def run(context: typer.Context, incomplete: str) -> list[str]:
    """Names of runs under --runs, without their dates and with them, and `last`."""
    from seal.store import names, undated

    found = names(Path(context.params.get("runs") or RUNS))
    known = dict.fromkeys([*(["last"] if found else []), *map(undated, found), *found])
    return [name for name in known if name.startswith(incomplete)]


def shipped(incomplete: str) -> list[str]:
    """Names of the recipes that come with seal."""
    from seal import config

    return [name for name in config.shipped() if name.startswith(incomplete)]


def recipe(incomplete: str) -> list[str]:
    """The same, and TOML files here."""
    files = [str(path) for path in sorted(Path().glob("*.toml"))]
    return [*shipped(incomplete), *(name for name in files if name.startswith(incomplete))]


def recipe_or_run(context: typer.Context, incomplete: str) -> list[str]:
    """Both."""
    return list(dict.fromkeys([*recipe(incomplete), *run(context, incomplete)]))
