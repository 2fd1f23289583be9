"""`seal export`: a run's edits and outcomes as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seal.cli.find import find_run
from seal.cli.options import RUNS, Json, Run, Runs


def export(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Instead of `export` in the run; made if needed.", show_default=False),
    ] = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """A run's self-edits, outcomes (of a run of streams: steps) and kept edits as JSON lines, and each round as a result file of
    the paper's form. The kept ones are a folder that `datasets.load_dataset("DIR/kept")` takes.

    Again, it takes the place of the earlier export. Nothing else in the folder is written over or deleted.

    Examples:
      seal export last
      seal export last --out exported --json
    """
    from seal.cli.output import print_json, writing
    from seal.report.export import write_export
    from seal.store import Store

    with Store.open(find_run(run, runs), write=False) as store:
        folder = out or store.export_path
        with writing(str(folder), "--out DIR puts the export elsewhere"):
            files = write_export(store, folder)
    if json:
        print_json({"out": str(folder), "files": files})
    else:
        print(f"in {folder}: {', '.join(files)}")
