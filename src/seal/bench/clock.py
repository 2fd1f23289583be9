"""Measuring in turns: every way once a lap, so that what slows the machine slows all of them."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from seal.engine.place import settle

QUICK = 270.0
"""Seconds that a quick bench has: with what is imported before it, it ends after less than five minutes."""


def laps(
    ways: Mapping[str, Callable[[], object]], n: int, within: float | None = None, *, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of every way, which runs on `device`, in each of `n` laps; says on stderr how far it is.

    `within`: seconds that all laps may take; after the first none is begun that would not end in time, and that is said.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    began = time.perf_counter()
    for lap in range(n):
        if within is not None and lap and (lap + 1) / lap * (taken := time.perf_counter() - began) > within:
            print(f"no lap {lap + 1}: one takes {taken / lap:.0f} s here", file=sys.stderr, flush=True)
            break
        for name, way in ways.items():
            print(f"lap {lap + 1} of {n}: {name}", file=sys.stderr, flush=True)
            times[name].append(timed(way, device))
    return times


def timed(way: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until the device has done all of it."""
    settle(device)
    began = time.perf_counter()
    way()
    settle(device)
    return time.perf_counter() - began


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratio(slow: list[float], quick: list[float]) -> float:
    """Median over laps of slow / quick in the same lap."""
    return statistics.median(a / b for a, b in zip(slow, quick, strict=True))


def machine(device: torch.device) -> dict[str, Any]:
    """What the times depend on; a busy machine is told on stderr."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): times will be too long and ratios may be off", file=sys.stderr)
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "load": load,
    }
