"""Resident memory kept at what was planned: glibc's heap holds on to pages of freed tensors; here they go back in time."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path


def resident() -> int:
    """Bytes of this process that are in memory now. Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def trimmer() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`, which gives every free page of the heap back; None where there is no such thing."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


class Ceiling:
    """Keeps what becomes resident from now on near `size` bytes, as far as that is free pages of the heap.

    Trimming costs: pages given back are faulted in again. So it is done only past the limit, and again only once `size / 32` more
    has become resident.
    """

    def __init__(self, size: int) -> None:
        self._trim, self._step, self._limit = trimmer(), size // 32, 0
        if self._trim is not None:
            self._trim(0)  # what was free before is not counted
            self._limit = resident() + size
        self._next = self._limit

    def keep(self) -> None:
        """Trims the heap if it is time. Costs a hundredth of a millisecond if it is not."""
        if self._trim is not None and resident() > self._next:
            self._trim(0)
            self._next = max(self._limit, resident() + self._step)
