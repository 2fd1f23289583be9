"""`seal report`: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seal.cli.find import find_run
from seal.cli.options import RUNS, Json, Run, Runs


def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Instead of report.html in the run.", show_default=False)
    ] = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Everything a run did as one HTML file that opens anywhere, without a network: the table, the rounds, every reward, and each
    problem with its self-edits and answers, to be searched.

    Examples:
      seal report last
      seal report last --out last.html
      seal report last --json
    """
    from seal.cli.output import print_json, writing
    from seal.report.page import page, report_data
    from seal.store import Store

    with Store.open(find_run(run, runs), write=False) as store:
        data = report_data(store)
        path = out or store.report_path
    with writing(str(path), "--out FILE.html puts the report elsewhere"):
        path.write_text(page(data), encoding="utf-8")
    if json:
        print_json({"report": str(path), **data})
    else:
        print(f"the report is in {path} ({path.stat().st_size / 1e6:.1f} MB); open it in any browser")
