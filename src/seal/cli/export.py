"""`seal export`: a run's edits and outcomes as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seal.cli.find import find_run
from seal.cli.options import RUNS, Json, Run, Runs
from seal.errors import UserError


def export(
    run: Run,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the files; made if it is not there.")],
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """A run's self-edits, outcomes and kept edits as JSON lines, and each round as a result file of the paper's form. The kept
    ones are a folder that `datasets.load_dataset("DIR/kept")` takes.

    Examples:
      seal export last --out exported
      seal export last --out exported --json
    """
    from seal.cli.output import print_json
    from seal.report.export import export_files
    from seal.store import Store

    with Store.open(find_run(run, runs), write=False) as store:
        files = export_files(store)
    try:
        for name, content in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from None
    if json:
        print_json({"out": str(out), "files": list(files)})
    else:
        print(f"in {out}: {', '.join(files)}")
