"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seal.cli import complete

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the recipe's seed.")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", file_okay=False, help="Where runs are kept.")]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: its path, its name under --runs, or `last`.", autocompletion=complete.run)
]
Resume = Annotated[
    str | None,
    typer.Option("--resume", metavar="RUN", help="Go on with this run (`last`: the last).", autocompletion=complete.run),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="a.b=value...", help="Values instead of the recipe's.", show_default=False),
]

RUNS = complete.RUNS


def with_seed(overrides: list[str] | None, seed: int | None) -> list[str]:
    """The overrides, the seed's own option among them."""
    return [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
