"""`seal compare`: whether two runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seal.cli import complete
from seal.cli.find import find_run
from seal.cli.options import RUNS, Json, Runs
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.report.compare import Side

SIDE = (
    "A run by path, by name, or `last`; several seeds of one, joined by commas; or a released result file (*.json). "
    "RUN:CONDITION: that condition alone, against the other side's."
)


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN", help=SIDE, autocompletion=complete.run)],
    b: Annotated[str, typer.Argument(metavar="RUN", help="The same.", autocompletion=complete.run)],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also both side by side, edits and curves, as one HTML file.")
    ] = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Say whether two runs differ: every condition both measured, paired by passage or puzzle, with 95% intervals.

    The difference is shown twice: passages resampled one by one, and articles resampled whole where passages share one. The
    runs are said to differ if neither interval holds 0. Of puzzles, correct plans are compared. Two runs of `seal adapt` are
    compared on the questions both were asked. A condition named on both sides: these two are paired, of two runs or of one.

    Examples:
      seal compare 2026-01-31-bundled last
      seal compare last:seal 2026-01-31-bundled:untrained
      seal compare seed0,seed1,seed2 other0,other1,other2 --json
      seal compare iter2.json gpt4_1.json
      seal compare 2026-01-31-bundled last --html both.html
      seal compare handbook-adapter/runs/2026-01-31-adapt other-adapter/runs/2026-02-01-adapt
    """
    from seal.cli.output import print_json, print_whole
    from seal.report import compare, pair, render

    sides = _side(a, runs), _side(b, runs)
    document = pair.pair_data(*sides) if html else compare.comparison(*sides)
    if not document["table"] and not document.get("problems"):
        raise _nothing(sides)
    if html:
        document = {"html": str(html), **document}
        _write(html, document)
    if json:
        print_json(document)
    else:
        print_whole(render.comparison(document))
        if html:
            print(f"side by side in {html} ({html.stat().st_size / 1e6:.1f} MB); open it in any browser")


def _nothing(sides: Sequence[Side]) -> UserError:
    for side in sides:
        if not side.scores:
            return UserError(f"{side.name} has measured nothing yet; `seal eval {side.name}` does")
    a, b = (side.name for side in sides)
    return UserError(
        f"{a} and {b} have nothing in common: nothing was measured on the same problems, by the same questions, in both"
    )


def _write(html: Path, document: dict[str, Any]) -> None:
    from seal.cli.output import writing
    from seal.report.pair import pair_page

    with writing(f"--html {html}"):
        html.write_text(pair_page(document), encoding="utf-8")


def _side(named: str, runs: Path) -> Side:
    from seal.report.compare import of_file, of_run, only, together

    whole = ":" not in named or Path(named).exists()  # a path may have a colon of its own
    joined, _, condition = (named, "", "") if whole else named.rpartition(":")
    names = [name for name in joined.split(",") if name]
    if not names:
        raise UserError("seal compare needs two runs, for example: seal compare 2026-01-31-bundled last")
    sides = [of_file(Path(name).expanduser()) if name.endswith(".json") else of_run(find_run(name, runs)) for name in names]
    side = together(sides)
    return only(side, condition) if condition else side
