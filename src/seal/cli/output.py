"""What is printed: text on a terminal or into a file, or one JSON document; and what else is written."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table

from seal.errors import UserError

UNSEEN = dict.fromkeys(
    [*(code for code in range(32) if chr(code) not in "\t\n"), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
"""What a terminal obeys and nobody sees: a model's text, or a document's, may hold any of it."""


class _Seen(Console):
    """Prints text as text: no escape sequences in it, no turning of what follows, no pictures for `:pig:`."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for one in super().render(renderable, options):
            yield one if one.control else one._replace(text=one.text.translate(UNSEEN))


def console(piped: int = 200) -> Console:
    """Stdout for rich: as wide as the terminal; `piped`: where there is none. By default wide enough for every table."""
    return _Seen(width=None if sys.stdout.isatty() else piped, highlight=False, emoji=False)


def print_whole(part: RenderableType) -> None:
    """Part of a report, with every number and name in its tables whole: in a narrow terminal a table goes without lines, and in
    one too narrow for its longest words, beyond the edge.
    """
    if isinstance(part, Group):
        for inner in part.renderables:
            print_whole(inner)
        return
    out = console()
    if isinstance(part, Table):
        out.width = max(out.width, _fit(part, out))
    out.print(part)


def _fit(table: Table, out: Console) -> int:
    """Sets the widths of the columns of a table that is too wide, and gives the table's. Left to itself, rich would narrow the
    widest columns below their longest words, and cut those.
    """
    endless = out.options.update(width=10_000)
    whole = Measurement.get(out, endless, table)
    if whole.maximum <= out.width:
        return whole.maximum
    if whole.minimum > out.width:
        table.box, table.padding, table.show_edge = SIMPLE_HEAD, (0,), False
        whole = Measurement.get(out, endless, table)
    spare = max(0, out.width - whole.minimum)
    for column in table.columns:
        cells = [Measurement.get(out, endless, cell) for cell in (column.header, *column.cells)]
        least = max(cell.minimum for cell in cells)
        column.width = min(max(cell.maximum for cell in cells), least + spare)
        spare -= column.width - least
    return whole.minimum


def print_json(document: object) -> None:
    """The one JSON document of a command."""
    print(json.dumps(document, allow_nan=False))


@contextmanager
def writing(what: str, way_out: str = "") -> Iterator[None]:
    """Around what writes a file, `what` as the user knows it. Raises UserError, with the way out, if it cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: cannot be written ({error.strerror}){way_out and f'; {way_out}'}") from None


def refuse_unwritable(option: str, path: Path) -> None:
    """Raises UserError, with the option that names it, if no file could be written there."""
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file")
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise UserError(f"{option} {path}: there is no folder {path.parent}, or it cannot be written to")


def read_tables(path: Path) -> dict[str, Any]:
    """The tables a run has by now."""
    from seal.report.curve import curve_table
    from seal.report.results import result_rows
    from seal.report.tables import training_table
    from seal.store import Store

    with Store.open(path, write=False) as store:
        return {
            "run": str(path),
            "training": training_table(store),
            "table": result_rows(store),
            "curve": curve_table(store),
        }


def print_tables(tables: dict[str, Any]) -> None:
    """What `read_tables` gives, as text."""
    from seal.report import render
    from seal.report.results import result

    if tables["training"]:
        print_whole(render.training(tables["training"]))
    if tables["table"]:
        print_whole(result(tables["table"]))
    if tables["curve"]:
        print_whole(render.curve(tables["curve"]))


def print_run(path: Path, json: bool) -> None:
    """A run's tables and how to look further, or the same as one document."""
    tables = read_tables(path)
    if json:
        print_json(tables)
        return
    print_tables(tables)
    print(f"the run is in {path}; to read its self-edits with their answers: seal show {shlex.quote(str(path))}")
