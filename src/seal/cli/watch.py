"""`seal watch`: where a run stands, while it is going."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from seal.cli.find import find_run
from seal.cli.options import RUNS, Json, Run, Runs

PAUSE = 1.0
"""Seconds between two looks."""


def watch(
    run: Run,
    once: Annotated[bool, typer.Option("--once", help="Say where it stands now, and end.")] = False,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Where a run stands while it is going: the stage and the time left in it, the best self-edit and the last one.

    It only reads, from any terminal of the run's machine, and ends when the run does. What it says of time is
    about the stage at hand. Where stdout is no terminal it is printed once, when the run has ended; --json prints at once, one
    document.

    Examples:
      seal watch last
      seal watch last --once
      seal watch last --json
    """
    from rich.live import Live

    from seal.cli.output import console, print_json
    from seal.report.watch import watched

    path = find_run(run, runs)
    row = _look(path)
    if json:
        print_json(row)
        return
    out = console(piped=100)
    if once:
        out.print(watched(row))
        return
    try:
        with Live(watched(row), console=out, auto_refresh=False) as live:
            while row["status"] == "running":
                time.sleep(PAUSE)
                row = _look(path)
                live.update(watched(row), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _look(path: Path) -> dict[str, Any]:
    from seal.report.watch import watch_row
    from seal.store import Store

    with Store.look(path) as store:
        return watch_row(store, time.time())
