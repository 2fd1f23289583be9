"""`seal compare`: whether two runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seal.cli.find import find_run
from seal.cli.options import RUNS, Json, Runs
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.report.compare import Side

SIDE = "A run by path, by name, or `last`; several seeds of one, joined by commas; or a released result file (*.json)."


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN", help=SIDE)],
    b: Annotated[str, typer.Argument(metavar="RUN", help="The same.")],
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Say whether two runs differ: every condition both measured, paired by passage, with 95% intervals.

    The difference is shown twice: passages resampled one by one, and articles resampled whole where passages share one. The
    runs are said to differ if neither interval holds 0.

    Examples:
      seal compare 2026-01-31-bundled last
      seal compare seed0,seed1,seed2 other0,other1,other2 --json
      seal compare iter2.json gpt4_1.json
    """
    from seal.cli.output import console, print_json
    from seal.report import compare, render

    document = compare.comparison(_side(a, runs), _side(b, runs))
    if not document["table"]:
        raise UserError(f"{a} and {b} have nothing in common: no condition that both measured on the same passages")
    if json:
        print_json(document)
    else:
        console().print(render.comparison(document))


def _side(named: str, runs: Path) -> Side:
    from seal.report.compare import of_file, of_run, together

    names = [name for name in named.split(",") if name]
    if not names:
        raise UserError("seal compare needs two runs, for example: seal compare 2026-01-31-bundled last")
    sides = [of_file(Path(name).expanduser()) if name.endswith(".json") else of_run(find_run(name, runs)) for name in names]
    for side in sides:
        if not side.scores:
            raise UserError(f"{side.name} has measured nothing yet; `seal eval {side.name}` does")
    return together(sides)
