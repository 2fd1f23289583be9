"""`seal compare`: whether two runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seal.cli import complete
from seal.cli.find import find_run
from seal.cli.options import RUNS, Json, Runs
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.report.compare import Side

SIDE = "A run by path, by name, or `last`; several seeds of one, joined by commas; or a released result file (*.json)."


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN", help=SIDE, autocompletion=complete.run)],
    b: Annotated[str, typer.Argument(metavar="RUN", help="The same.", autocompletion=complete.run)],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also both side by side, edits and curves, as one HTML file.")
    ] = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Say whether two runs differ: every condition both measured, paired by passage, with 95% intervals.

    The difference is shown twice: passages resampled one by one, and articles resampled whole where passages share one. The
    runs are said to differ if neither interval holds 0. Two runs of `seal adapt` are compared on the questions both were asked.

    Examples:
      seal compare 2026-01-31-bundled last
      seal compare seed0,seed1,seed2 other0,other1,other2 --json
      seal compare iter2.json gpt4_1.json
      seal compare 2026-01-31-bundled last --html both.html
      seal compare handbook-adapter/runs/2026-01-31-adapt other-adapter/runs/2026-02-01-adapt
    """
    from seal.cli.output import console, print_json
    from seal.report import compare, render

    document = _side_by_side(a, b, html, runs) if html else compare.comparison(_side(a, runs), _side(b, runs))
    if not document["table"] and not document.get("problems"):
        raise UserError(f"{a} and {b} have nothing in common: no condition that both measured on the same passages")
    if html:
        document = {"html": str(html), **document}
        _write(html, document)
    if json:
        print_json(document)
    else:
        console().print(render.comparison(document))
        if html:
            print(f"side by side in {html} ({html.stat().st_size / 1e6:.1f} MB); open it in any browser")


def _side_by_side(a: str, b: str, html: Path, runs: Path) -> dict[str, Any]:
    from seal.report.pair import pair_data

    for name in (a, b):
        if "," in name or name.endswith(".json"):
            raise UserError(f"--html {html}: takes two runs, and {name!r} is not one; leave --html out")
    return pair_data(find_run(a, runs), find_run(b, runs))


def _write(html: Path, document: dict[str, Any]) -> None:
    from seal.report.pair import pair_page

    try:
        html.write_text(pair_page(document), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html {html}: cannot be written ({error.strerror})") from None


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
