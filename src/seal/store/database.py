"""The SQLite file under a Store: connections, transactions, rows. It knows SQL and nothing of self-edits."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seal.errors import SealError, UserError
from seal.store.schema import TABLES, VERSION

_MEASURED = {"train_seconds", "answer_seconds"}
"""Columns that differ from one hour of a machine to the next; the first measurement stays."""


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Whatever the disk or SQLite complains about leaves as a SealError that says what to do."""
    try:
        yield
    except (sqlite3.Error, OSError, NotImplementedError) as error:  # the last: an older filelock where there is no flock
        raise SealError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> object:
    # sqlite3 says so by its own code, a plain file by the system's; of a quota that is used up sqlite3 knows nothing
    name, number = getattr(error, "sqlite_errorname", ""), getattr(error, "errno", None)
    if name == "SQLITE_FULL" or number in (errno.ENOSPC, errno.EDQUOT):
        what = "the disk is full, or your quota of it"
    elif name in ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC"):
        what = "the disk could not be written (is a quota used up?)"
    elif number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"cannot be written to ({os.strerror(number)})"
    else:
        return error
    return f"{what}; what was kept is safe: free some space, then go on with --resume"


class Database:
    """A connection to one file, opened with WAL: readers and the one writer do not wait for each other.

    Raises SealError for whatever SQLite or the disk complains about, UserError for a file of another version of seal.
    """

    def __init__(self, path: Path, *, write: bool, still: bool = False) -> None:
        """`still`: nobody is expected to write while this is open, so SQLite makes no files beside the database. Ignored where a
        writer's -wal file is; implied for a reader who may not write to the folder, in which SQLite could make none."""
        self.path = path
        with guarded(path):
            uri = f"{path.absolute().as_uri()}?mode={'rwc' if write else 'ro'}"
            still = still or not (write or os.access(path.parent, os.W_OK))
            if still and not path.with_name(f"{path.name}-wal").exists():
                uri += "&immutable=1"
            elif not write and path.with_name(f"{path.name}-shm").exists():
                uri += "&readonly_shm=1"  # a reader that does not see another machine's locks would begin the writer's index anew
            # autocommit: transactions are begun and ended by hand
            self._connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            try:
                self._prepare(write)
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self, write: bool) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if write:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")  # after a power cut too
            self._connection.execute("PRAGMA foreign_keys = ON")
            if version == 0:  # new, or killed before its tables were committed
                self._connection.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
                version = VERSION
        if version != VERSION:
            raise UserError(f"{self.path} has schema {version}, this seal reads {VERSION}; use the version that wrote it")

    def close(self) -> None:
        """What was committed stays."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is put inside, or nothing of it."""
        with guarded(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All SELECTs inside see the same moment, whatever another process commits meanwhile."""
        with guarded(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Every row a SELECT finds."""
        with guarded(self.path):
            return self._connection.execute(sql, values).fetchall()

    def put(self, table: str, row: Mapping[str, Any], key: Sequence[str]) -> bool:
        """Adds a row; False if it was there already. Raises SealError if the key is there with other content."""
        columns = ", ".join(f'"{name}"' for name in row)
        where = " AND ".join(f'"{name}" = ?' for name in key)
        there = self.all(f"SELECT {columns} FROM {table} WHERE {where}", *(row[name] for name in key))
        if not there:
            marks = ", ".join("?" * len(row))
            self._connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row.values()))
            return True
        other = [name for name in row if row[name] != there[0][name] and name not in _MEASURED]
        if other:
            named = " ".join(str(row[name]) for name in key)
            raise SealError(f"{self.path}: {table} already has {named!r} with another {', '.join(other)}")
        return False

    def replace(self, table: str, row: Mapping[str, Any]) -> None:
        """Inside a transaction: adds a row or takes the place of the one with its key."""
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT OR REPLACE INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
