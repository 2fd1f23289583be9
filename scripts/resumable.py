"""What the scripts that measure something share: a run by name, made once and gone on with, and progress on stderr."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seal.config import Recipe, dump
from seal.loops import build
from seal.store import Store


def open_run(name: str, recipe: Recipe) -> Store:
    """The run of that name under runs/, whatever day it was made on; a new one if there is none."""
    found = sorted(Path("runs").glob(f"*-{name}"))
    return (
        Store.open(found[-1], write=True) if found else Store.create(Path("runs"), name, dump(recipe), build.environment(recipe))
    )


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
