"""`seal recipes`: the recipes that come with it."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer

from seal.cli import complete
from seal.cli.options import Json
from seal.errors import unknown


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(help="Print this one, to begin your own with.", show_default=False, autocompletion=complete.shipped),
    ] = None,
    json: Json = False,
) -> None:
    """The recipes that come with seal.

    Examples:
      seal recipes
      seal recipes bundled > my.toml
    """
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


def _about(path: Path) -> str:
    """The first sentence of the comment the recipe begins with, which says what it is."""
    lines = takewhile(lambda line: line.startswith("#"), _text(path).splitlines())
    return " ".join(line.lstrip("# ") for line in lines).partition(". ")[0].removesuffix(".")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
