"""A directory in the user's cache that is either whole or not there: built beside, moved in at once, checked on every open."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from seal.errors import UserError

MANIFEST = "manifest.json"
_DAY = 86_400


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(directory: Path, about: dict[str, str]) -> None:
    """Record size, time and sha256 of every file, last of all: a directory without a manifest is not whole."""
    files = {path.name: _stamp(path) | {"sha256": sha256(path)} for path in sorted(directory.iterdir()) if path.name != MANIFEST}
    _write(directory / MANIFEST, {"about": about, "files": files})


def damage(directory: Path) -> str | None:
    """What is wrong with a directory, in words; None: it is whole.

    Sizes and times are looked at on every call (microseconds); a file whose time changed is read through again, and if it is
    still the same its new time is recorded.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
        files = manifest["files"]
        touched = []
        for name, known in files.items():
            now = _stamp(directory / name)
            if now["size"] != known["size"]:
                return f"{name} has {now['size']:,} bytes instead of {known['size']:,}"
            if now["mtime_ns"] != known["mtime_ns"]:
                if sha256(directory / name) != known["sha256"]:
                    return f"{name} is not what was written"
                touched.append((known, now))
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"it cannot be read: {error}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    for known, now in touched:
        known.update(now)
    if touched:
        with suppress(OSError):  # a cache that may only be read is as good
            _write(directory / MANIFEST, manifest)
    return None


@contextmanager
def alone(path: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Hold the lock file `path`, which no other process holds meanwhile; `waiting` is called if it has to be waited for.

    The system drops the lock of a process that dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A fresh directory that is gone afterwards; what a killed process left there is removed first."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """A fresh directory of one's own beside `path`, to make it in, gone afterwards; what killed processes left a day ago and
    longer is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begins, ends = f".{path.name}-", ".partial"
    for left in path.parent.glob(f"{glob.escape(begins)}*{ends}"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - _DAY:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=begins, suffix=ends, dir=path.parent) as made:
        yield Path(made)


def build(directory: Path, fill: Callable[[Path], dict[str, str]]) -> None:
    """Let `fill` write into a fresh directory beside, then put that in the place of `directory`. The caller holds the lock.

    `fill` returns what the manifest shall say about the source.
    """
    with scratch(directory.with_name(f".{directory.name}.partial")) as partial:
        write_manifest(partial, fill(partial))
        if directory.exists():
            shutil.rmtree(directory)
        partial.rename(directory)


def need_space(directory: Path, bytes_needed: int) -> None:
    """Raise UserError if the disk that holds `directory` has less room than that."""
    free = shutil.disk_usage(directory).free
    if free < bytes_needed:
        raise disk_full(directory, bytes_needed)


def disk_full(directory: Path, bytes_needed: int) -> UserError:
    """The error for a disk without room."""
    free = shutil.disk_usage(directory).free
    return UserError(
        f"the disk is full: {directory} needs {bytes_needed / 1e6:,.0f} MB and has {free / 1e6:,.0f} MB; "
        "make room, or set SEAL_HOME to a directory on another disk"
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there was no room; pip and libraries written in Rust say it in words only."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(
        words in str(error) for words in ("os error 28", "No space left")
    )


def _stamp(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _write(path: Path, content: dict) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1))
    os.replace(partial, path)
