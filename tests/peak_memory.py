"""Trains at the plan's step size in a process of its own and prints the plan's bytes, and the bytes that became resident.

python tests/peak_memory.py MODEL TARGETS LONGEST
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import torch

from seal.engine import Engine
from seal.models import open_model
from seal.types import Example, Job, Tuning

SLOTS, TOKENS = 4, 2048


def resident(what: str) -> int:
    """VmRSS: bytes resident now; VmHWM: most there ever were."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[what].split()[0]) * 1024


def jobs(tuning: Tuning, lengths: list[int]) -> list[Job]:
    """One a slot, each with a row of every length; a byte is a token."""
    rows = tuple(Example("".join(chr(97 + (at * at + length) % 26) for at in range(length))) for length in lengths)
    return [Job(str(slot), rows, (), tuning, slot) for slot in range(SLOTS)]


def main(path: str, targets: str, longest: int) -> None:
    """Small steps of mixed lengths first and last, so that a heap has every chance to get holes."""
    torch.set_num_threads(1)
    batch = TOKENS // SLOTS // longest
    tuning = Tuning(rank=16, alpha=32, epochs=1, batch=batch, targets=tuple(targets.split(",")))
    engine = Engine(open_model(path, device="cpu", dtype="float32"), slots=SLOTS, memory_gb=2)
    list(engine.run(jobs(tuning, [8])))  # what the first step of a process loads is no part of any plan
    ctypes.CDLL(None).malloc_trim(0)  # nor is what that step has freed and the heap has kept
    before = resident("VmRSS")
    size = engine.plan(tuning.rank, tuning.targets, longest=longest, slots=SLOTS)
    assert size.step_tokens == TOKENS
    for lengths in ([50, 90, 20, 70], [longest] * batch, [30, 110, 60, 40], [longest] * batch):
        found = list(engine.run(jobs(tuning, [min(length, longest) for length in lengths])))
        assert all(done.fault is None for done in found)
    print(json.dumps({"plan": size.bytes, "peak": resident("VmHWM") - before}))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
