"""What the scripts that measure something share: a run by name, made once and gone on with, and progress on stderr."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from seal.cli.own_recipe import known_recipe
from seal.config import Recipe, dump, flat
from seal.errors import UserError
from seal.loops import build
from seal.store import Store


def open_run(name: str, recipe: Recipe) -> Store:
    """The run of that name under runs/, whatever day it was made on; a new one if there is none. Raises UserError if it was begun
    with another recipe; [engine], track and the recipe's name may be others."""
    found = sorted(Path("runs").glob(f"????-??-??-{name}"))
    if not found:
        return Store.create(Path("runs"), name, dump(recipe), build.environment(recipe))
    store = Store.open(found[-1], write=True)
    was, now = _settings(known_recipe(store)), _settings(recipe)
    if other := [key for key in {**was, **now} if was.get(key) != now.get(key)]:
        store.close()
        begun = ", ".join(f"{key} = {was.get(key)!r}, not {now.get(key)!r}" for key in other)
        raise UserError(f"{store.path} was begun with {begun}; give the same recipe, or another name")
    return store


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What a measurement depends on, by `a.b`."""
    return flat(recipe.model_dump(mode="json", exclude_none=True, exclude={"engine", "track", "name"}))


def say(what: str, done: int, total: int) -> None:
    """A Notify."""
    print(f"{what} {done}/{total}", file=sys.stderr, flush=True)


def arguments(description: str | None, *, edits: int, **more: int) -> argparse.Namespace:
    """`NAME RECIPE [a.b=value ...] --split --limit --edits`, and `more` whole numbers by name."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="what the run is called under runs/")
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="a.b=value")
    parser.add_argument("--split", default="dev", choices=("train", "dev"))
    parser.add_argument("--limit", type=int, default=8, help="problems, from the split's beginning")
    for name, number in {"edits": edits, **more}.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    return parser.parse_intermixed_args()
