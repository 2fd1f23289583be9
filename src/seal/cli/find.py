"""Which run or recipe a user means."""

from __future__ import annotations

import re
from pathlib import Path

from seal.errors import UserError, unknown


def find_run(name: str, root: Path) -> Path:
    """The directory of a run: a path, a name under `root`, the newest that was called so, or `last`.

    Raises UserError with the nearest name.
    """
    from seal.store import runs, undated

    if (found := _found(name, root)) is not None:
        return found
    if Path(name).is_dir():
        return _with_name(Path(name))  # which says of itself that it is none
    if not (known := [info.name for info in runs(root) if info.status != "unreadable"]):
        raise UserError(f"no run {name!r}: there are none in {root}; `seal train RECIPE` makes one, --runs DIR looks elsewhere")
    raise unknown("run", name, {"last", *(known if undated(name) != name else map(undated, known))})


def is_recipe(name: str, root: Path) -> bool:
    """Whether a recipe is meant, rather than a run under `root`. Raises UserError if it is neither."""
    from seal.config import shipped
    from seal.store import runs

    if name.endswith(".toml") or name in shipped():
        return True
    if name == "last" or Path(name).is_dir() or _found(name, root) is not None:
        return False
    raise unknown("recipe or run", name, ["last", *shipped(), *(info.name for info in runs(root))])


def refuse_run(name: str, root: Path) -> None:
    """Raises UserError, with the ways to use it, if a run is meant where a new one needs a recipe."""
    from seal.config import shipped

    if name not in shipped() and _found(name, root) is not None:
        raise UserError(f"{name} is a run, not a recipe; --resume {name} goes on with it, --from {name} begins a new one with it")


def _found(name: str, root: Path) -> Path | None:
    """The run that is meant, if there is one."""
    from seal.store import is_run, names, runs, undated

    for path in (root / name, Path(name)):
        if is_run(path):
            return _with_name(path)
    there = names(root)
    # -2, -3: the second and third of a day
    called = {
        one for one in there if undated(one) == name or (undated(first := re.sub(r"-\d+$", "", one)) == name and first in there)
    }
    if name == "last":
        called = set(there)
    if not called:
        return None
    known = (info for info in reversed(runs(root)) if info.status != "unreadable")
    return next((info.path for info in known if info.name in called), None)


def _with_name(path: Path) -> Path:
    """`.` has a name too."""
    return path if path.name not in ("", "..") else path.resolve()
