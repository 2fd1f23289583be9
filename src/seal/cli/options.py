"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seal.cli import complete
from seal.errors import UserError

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the recipe's seed.")]
Slots = Annotated[
    int | None, typer.Option("--slots", min=1, metavar="K", help="Adapters trained at once: short for engine.slots=K.")
]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", file_okay=False, help="Where runs are kept.")]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run: its path, its name under --runs (its date may be left out: the newest called so), or `last`.",
        autocompletion=complete.run,
    ),
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


def with_options(
    overrides: list[str] | None, *, seed: int | None = None, slots: int | None = None, update: str | None = None
) -> list[str]:
    """The overrides, and what the verb's own options say of the recipe. Raises UserError if an override says otherwise."""
    found = list(overrides or [])
    options = (("--seed", "seed", seed), ("--slots", "engine.slots", slots), ("--update", "update.method", update))
    for option, key, value in options:
        if value is None:
            continue
        chosen = f"{key}={value}"
        if other := next((one for one in found if one.startswith(f"{key}=") and one != chosen), None):
            raise UserError(f"{option} {value} and {other!r} do not go together; leave one of them out")
        found.append(chosen)
    return found
