"""Runs of every kind: how one begins, what it is one of, and the command that goes on with it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from seal.errors import UserError

if TYPE_CHECKING:
    from seal.config import Recipe
    from seal.store import Store

Kind = Literal["train", "eval", "continual", "solvable", "adapt"]
VERBS: dict[Kind, str] = {
    "train": "seal train",
    "eval": "seal eval",
    "continual": "seal continual",
    "solvable": "seal arc solvable",
    "adapt": "seal adapt",
}
"""What makes a run of each kind."""


@contextmanager
def new_run(recipe: Recipe, name: str, root: Path, kind: Kind, flags: str = "") -> Iterator[Store]:
    """A new run; whatever stops it says how to go on, `flags` behind.

    Files in its recipe are kept by their whole paths, so that it can be gone on with from any folder.
    """
    from seal.config import dump
    from seal.loops import build
    from seal.store import Store, keys

    whole = dump(recipe.rooted(Path.cwd()))
    with Store.create(root, name, whole, build.environment(recipe)) as store, resumable(go_on(kind, store.path) + flags):
        store.set_state(keys.KIND, kind)
        yield store


def kind_of(store: Store) -> Kind:
    """What made a run; of one that does not say so yet, what its content shows."""
    from seal.loops.solvable import GRID
    from seal.store import keys

    kind: Kind | None = store.get_state(keys.KIND)
    if kind is not None:
        return kind
    if any(phase == GRID for phase, _ in store.rounds()):
        return "solvable"
    states: dict[str, Kind] = {keys.EVALUATION: "eval", keys.CONTINUAL: "continual", keys.ADAPT_DOCUMENTS: "adapt"}
    return next((kind for state, kind in states.items() if store.get_state(state)), "train")


def refuse_other(store: Store, *kinds: Kind) -> None:
    """Raises UserError, with the command that goes on with it, if a run is none of these: another loop in it would take for its
    own what it finds there."""
    own = kind_of(store)
    if own not in kinds:
        raise UserError(
            f"{store.path} is a run of `{VERBS[own]}`, not of `{VERBS[kinds[0]]}`; {go_on(own, store.path)} goes on with it"
        )


def go_on(kind: Kind, path: Path) -> str:
    """The command that goes on with a run."""
    if kind == "adapt":
        return "the same `seal adapt` again"
    typed = shlex.quote(str(path))
    return f"{VERBS[kind]} --resume {typed}" if kind in ("train", "solvable") else f"{VERBS[kind]} {typed}"


def beside_resume(recipe: str | None, overrides: Sequence[str] | None, seed: int | None) -> list[str]:
    """The overrides given with --resume: without a recipe the first of them stands in its place. Raises UserError for a recipe or
    a seed: the run has its own."""
    if recipe and "=" not in recipe:
        raise UserError(f"--resume goes on with the recipe of its run; leave {recipe!r} out")
    if seed is not None:
        raise UserError("--resume goes on with the seed of its run; leave --seed out")
    return [*([recipe] if recipe else []), *(overrides or [])]


@contextmanager
def resumable(command: str) -> Iterator[None]:
    """Whatever stops the work, the user is told the command that goes on with it. An update that diverged would diverge again."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted, nothing is lost\nresume with: {command}", file=sys.stderr)
        raise typer.Exit(130) from None
    except FloatingPointError:
        raise
    except Exception as error:
        error.add_note(f"resume with: {command}")
        raise
