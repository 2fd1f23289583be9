"""What of the machine may be used, by made-up control groups."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seal.config import load
from seal.loops import build
from seal.machine import GIB, available, cores, threads, use_threads

CPU = torch.device("cpu")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Control groups as a job's process finds them: its own line, and files by name with what they say."""
    monkeypatch.setattr("seal.machine._MINE", tmp_path / "mine")
    monkeypatch.setattr("seal.machine._GROUPS", tmp_path / "groups")

    def made(mine: str, files: dict[str, object]) -> None:
        (tmp_path / "mine").write_text(mine)
        for name, content in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")

    return made


MIB = 1 << 20
LIMITS = {
    "slurm": (
        "0::/system.slice/job_7/step_0/task_0\n",
        {
            "system.slice/memory.max": "max",
            "system.slice/memory.current": 900 * MIB,
            "system.slice/job_7/memory.max": 100 * MIB,
            "system.slice/job_7/memory.current": 80 * MIB,
            "system.slice/job_7/memory.stat": f"anon {20 * MIB}\ninactive_file {50 * MIB}\nactive_file {10 * MIB}",
            "system.slice/job_7/step_0/memory.max": "max",
            "system.slice/job_7/step_0/memory.current": 80 * MIB,
            "system.slice/job_7/step_0/task_0/memory.max": "max",
            "system.slice/job_7/step_0/task_0/memory.current": 80 * MIB,
        },
    ),
    "the first version": (
        "9:name=systemd:/elsewhere\n4:memory:/slurm/job_7/step_0\n1:cpu,cpuacct:/\n",
        {
            "memory/memory.limit_in_bytes": 9223372036854771712,
            "memory/memory.usage_in_bytes": 900 * MIB,
            "memory/slurm/job_7/memory.limit_in_bytes": 100 * MIB,
            "memory/slurm/job_7/memory.usage_in_bytes": 80 * MIB,
            "memory/slurm/job_7/memory.stat": f"inactive_file 0\ntotal_inactive_file {50 * MIB}",
            "memory/slurm/job_7/step_0/memory.limit_in_bytes": 9223372036854771712,
            "memory/slurm/job_7/step_0/memory.usage_in_bytes": 80 * MIB,
        },
    ),
    "a container, which is not shown where it is": (
        "0::/docker/abc\n",
        {
            "memory.max": 100 * MIB,
            "memory.current": 30 * MIB,
            "memory.stat": "anon 1",
        },
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
@pytest.mark.parametrize("mine", LIMITS)
def test_what_is_available_is_within_every_control_group_around(mine: str, groups: Callable[..., None]) -> None:
    """Files that give way are free, as they are in what the machine has."""
    groups(*LIMITS[mine])
    assert available(CPU) == 70 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_without_control_groups_the_machines_memory_is_available(groups: Callable[..., None], tmp_path: Path) -> None:
    assert available(CPU) > 70 * MIB
    groups("0::/\n", {"memory.max": "max", "memory.current": 1 << 60})
    assert available(CPU) > 70 * MIB


def test_what_is_available_is_some_of_what_the_machine_has() -> None:
    assert 0 < available(CPU) < 1 << 50


def test_what_torch_keeps_of_a_gpu_and_does_not_use_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a first run: 80 GiB, of which 10 are free, and of the 69 that torch has 15 are the model's weights."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 69 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 15 * GIB)
    assert available(torch.device("cuda")) == 64 * GIB


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
@pytest.mark.parametrize(
    ("mine", "files", "count"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "max 100000"}, 64),
        ("0::/pod/one", {"pod/cpu.max": "350000 100000", "pod/one/cpu.max": "max 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("1:cpu,cpuacct:/docker/abc\n0::/", {"cpu/cpu.cfs_quota_us": 200000, "cpu/cpu.cfs_period_us": 100000}, 2),
        ("1:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, 64),
    ],
)
def test_torch_has_no_more_threads_than_a_quota_of_cores_allows(
    mine: str, files: dict[str, object], count: int, groups: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    groups(mine, files)
    use_threads(None)
    assert (cores(), threads(), told) == (count, count, [count] if count < 64 else [])
    assert build.environment(load("bundled"))["threads"] == count
    assert build.environment(load("bundled", ["model.device=cpu"]))["dtype"] == "float32"
    use_threads(5)
    assert told[-1] == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert (cores(), threads()) == (count, 64)


def test_an_engine_has_the_threads_that_may_be_used(lively_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int | None] = []
    monkeypatch.setattr("seal.machine.use_threads", told.append)
    for values in ([], ["engine.threads=3"]):
        build.engine(load("bundled", [f"model.name={lively_path}", "model.device=cpu", *values])).close()
    assert told == [None, 3]
