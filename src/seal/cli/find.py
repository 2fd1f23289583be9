"""Which run or recipe a user means."""

from __future__ import annotations

from pathlib import Path

from seal.errors import UserError, unknown


def find_run(name: str, root: Path) -> Path:
    """The directory of a run: a path, a name under `root`, or `last`. Raises UserError with the nearest name."""
    from seal.store import runs

    known = [info for info in runs(root) if info.status != "unreadable"]
    if name == "last" and known:
        return known[-1].path
    for path in (root / name, Path(name)):
        if path.is_dir():
            return path if path.name not in ("", "..") else path.resolve()  # `.` has a name too
    if not known:
        raise UserError(f"no run {name!r}: there are none in {root}; `seal train RECIPE` makes one, --runs DIR looks elsewhere")
    raise unknown("run", name, ["last", *(info.name for info in known)])


def is_recipe(name: str, root: Path) -> bool:
    """Whether a recipe is meant, rather than a run under `root`. Raises UserError if it is neither."""
    from seal.config import shipped
    from seal.store import runs

    if name.endswith(".toml") or name in shipped():
        return True
    if name == "last" or (root / name).is_dir() or Path(name).is_dir():
        return False
    raise unknown("recipe or run", name, ["last", *shipped(), *(info.name for info in runs(root))])


def refuse_run(name: str, root: Path) -> None:
    """Raises UserError, with the ways to use it, if a run is meant where a new one needs a recipe."""
    from seal.config import shipped
    from seal.store import is_run, names

    there = (name == "last" and names(root)) or is_run(root / name) or is_run(Path(name))
    if there and name not in shipped():
        raise UserError(f"{name} is a run, not a recipe; --resume {name} goes on with it, --from {name} begins a new one with it")
