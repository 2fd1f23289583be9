"""File names of a run: `<root>/<date>-<name>/` with recipe.toml, environment.json, run.db, policy/, report.html and export/; of a
stream adapters/, of a grid of plans solvable.json."""

from __future__ import annotations

import datetime
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from seal.errors import UserError

if sys.platform != "win32":
    import fcntl

RECIPE = "recipe.toml"
ENVIRONMENT = "environment.json"
DATABASE = "run.db"
POLICY = "policy"
ADAPTERS = "adapters"
REPORT = "report.html"
EXPORT = "export"
RECORD = "solvable.json"
LOCK = "lock"

Status = Literal["done", "running", "stopped", "unreadable"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A line of `seal runs`."""

    path: Path
    name: str
    """The directory's name, which is how a user calls the run, with its date or without."""
    status: Status
    created: str
    """ISO time to the second; empty if the run cannot be read."""


def make(root: Path, name: str) -> Path:
    """A new directory `<root>/<date>-<name>`, with -2, -3, ... where that is taken."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"a run cannot be called {name!r}: use letters, digits, '_', '-' and '.'")
    stem = f"{datetime.date.today().isoformat()}-{name}"
    root.mkdir(parents=True, exist_ok=True)
    path, number = root / stem, 1
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            path = root / f"{stem}-{number}"
        else:
            return path


def undated(name: str) -> str:
    """What a run was called when it was made, of its directory's name: `2026-01-31-bundled` is `bundled`."""
    return re.sub(r"^\d{4}-\d\d-\d\d-", "", name)


def acquire(path: Path) -> BaseFileLock:
    """The run's lock, which the system lets go of however the process ends. Raises UserError if another process has it."""
    lock = FileLock(path / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0.5)  # a moment's patience: `is_locked` holds it briefly too
    except Timeout:
        if isinstance(lock, SoftFileLock):  # which it becomes where there is no flock: nobody lets go of that for a dead process
            file = path / LOCK
            way = f"its file system has no locks, and {file} is there in place of one; if nothing runs there, delete that file"
            raise UserError(f"{path} may be in use by another process: {way}") from None
        raise UserError(f"{path} is in use by another process; wait until that is done, or stop it") from None
    return lock


def is_locked(path: Path) -> bool:
    """Whether a process is writing to the run. Only looks: no file is made or touched."""
    if sys.platform == "win32":
        try:
            with FileLock(path / LOCK, timeout=0):
                return False
        except Timeout:
            return True
    try:
        with (path / LOCK).open("rb") as file:  # closing it lets go again
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # none was ever made, or a folder that may not be read
        return False
    return False
