"""`seal recipes`: the recipes that come with it, and what a recipe may say."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby, takewhile
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from seal.cli import complete
from seal.cli.options import Json
from seal.errors import unknown


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Print this one, to begin your own with. With --keys: only keys that begin so.",
            show_default=False,
            autocompletion=complete.shipped,
        ),
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Every key a recipe may have, with its type, its default and what it means.")
    ] = False,
    json: Json = False,
) -> None:
    """The recipes that come with seal.

    Examples:
      seal recipes
      seal recipes bundled > my.toml
      seal recipes --keys
      seal recipes --keys update.tuning
    """
    if keys:
        _reference(name or "", json)
        return
    from seal.cli.output import print_json
    from seal.config import shipped

    known = shipped()
    if name is not None and name not in known:
        raise unknown("recipe", name, known)
    chosen = known if name is None else {name: known[name]}
    if json:
        rows = [{"name": one, "about": _about(path), "path": str(path), "text": _text(path)} for one, path in chosen.items()]
        print_json({"recipes": rows})
    elif name is not None:
        print(_text(known[name]), end="")
    else:
        width = max(map(len, known))
        for one, path in known.items():
            print(f"{one:{width}}  {_about(path)}")


def _reference(prefix: str, json: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from seal.cli.output import console, print_json
    from seal.config import reference

    known = reference()
    chosen = [one for one in known if one.key.startswith(prefix)]
    if not chosen:
        raise unknown("key", prefix, {one.key for one in known})
    if json:
        print_json({"keys": [asdict(one) for one in chosen]})
        return
    for kind, some in groupby(chosen, lambda one: one.kind):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1), title=kind and f'domain.kind = "{kind}"', title_justify="left")
        table.add_column("key", no_wrap=True)
        for head, most in (("type", 25), ("default", 25), ("what it means", None)):
            table.add_column(head, max_width=most, overflow="fold")
        for one in some:
            default = "–" if one.default is None else dumps(one.default)
            table.add_row(one.key, escape(one.type), escape(default), escape(one.about))
        console(piped=130).print(table)


def _about(path: Path) -> str:
    """The first sentence of the comment the recipe begins with, which says what it is."""
    lines = takewhile(lambda line: line.startswith("#"), _text(path).splitlines())
    return " ".join(line.lstrip("# ") for line in lines).partition(". ")[0].removesuffix(".")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
