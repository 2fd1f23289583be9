"""What of this machine may be used: a process has no more than the control groups it is in, whatever the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

GIB, MIB = 1 << 30, 1 << 20
_MEMINFO = Path("/proc/meminfo")
_GROUPS, _MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_MEMORY = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""A group's limit, what it has, and which of its statistics says how much of that are files that give way: in the second version
of control groups, and in the first."""


def size(bytes: int) -> str:
    """As people read it: `1.3 GiB`, `20.5 MiB`."""
    return f"{bytes / GIB:.1f} GiB" if bytes >= GIB // 10 else f"{bytes / MIB:.1f} MiB"


def available(device: torch.device) -> int:
    """Bytes that can still be taken: free memory of the GPU, or of the machine within the limits of its control groups.

    What torch has of the GPU and does not use is free, too: it keeps what an earlier bank gave back.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(kept)
    if not is_measured(device):  # no Linux: half of what there is, if even that can be known
        known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if known else 4 * GIB
    fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
    return min([int(fields["MemAvailable"].split()[0]) * 1024, *(left for group in _groups("memory") for left in _left(group))])


def is_measured(device: torch.device) -> bool:
    """Whether `available` is what is free there, and no guess."""
    return device.type == "cuda" or _MEMINFO.exists()


def cores() -> int:
    """CPU cores that this process may keep busy: those it may run on, or fewer where a control group has a quota of them."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu"):
        words = _words(group / "cpu.max") or [*_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us")]
        if len(words) == 2 and words[0].isdigit():  # `max` and -1 are none
            count = min(count, int(words[0]) // int(words[1]))
    return max(1, count)


def threads() -> int:
    """CPU threads for torch: as many as it chose, which knows of no quota, but no more than `cores`. `OMP_NUM_THREADS` is the
    user's own word."""
    chosen = torch.get_num_threads()
    return chosen if "OMP_NUM_THREADS" in os.environ else min(chosen, cores())


def use_threads(wanted: int | None) -> None:
    """So many CPU threads for torch; None: `threads`."""
    if (number := wanted or threads()) != torch.get_num_threads():
        torch.set_num_threads(number)


def _left(group: Path) -> Iterator[int]:
    """Bytes a control group may still take, if it has a limit."""
    for most, taken, files in _MEMORY:
        limit, used, statistics = (_words(group / name) for name in (most, taken, "memory.stat"))
        if used and "".join(limit).isdigit():  # `max` is none
            giving_way = dict(zip(statistics[::2], statistics[1::2], strict=False)).get(files, "0")
            yield max(0, int(limit[0]) - int(used[0]) + int(giving_way))


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the control groups this process is in, each before the one around it: SLURM and systemd set their limits
    some way up. A group that is not shown in here, as in a container, is left out."""
    for line in _MINE.read_text().splitlines() if _MINE.exists() else []:
        _, controllers, path = line.split(":", 2)  # the second version has one tree for all, whose name is empty
        if controller in controllers.split(",") or not controllers:
            root, inside = _GROUPS / (controllers and controller), Path(path.strip("/"))
            yield from (root / group for group in (inside, *inside.parents))


def _words(file: Path) -> list[str]:
    """What a file says; nothing if there is none, or it may not be read."""
    try:
        return file.read_text().split()
    except OSError:
        return []
