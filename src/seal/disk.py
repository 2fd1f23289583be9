"""What is on the disk, and stays there if the power fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def put_in_place(made: Path, place: Path) -> None:
    """Moves a file, in the place of an earlier one, or a folder with all that is in it. Returns when it is on the disk: what is
    found at `place`, after a power cut too, is whole."""
    for path in (*made.rglob("*"), made):
        _sync(path)
    made.replace(place)
    _sync(place.parent)


def _sync(path: Path) -> None:
    if sys.platform == "win32":  # it opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if path.is_file():  # there are file systems that cannot sync a folder
            raise
    finally:
        os.close(handle)
