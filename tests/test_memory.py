"""The plan keeps within its budget, because a kernel that runs out of memory on a CPU gives no second chance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_tiny
from transformers import LlamaConfig

from seal.engine import Engine
from seal.engine.memory import GIB, Plan, answer_rows, available, plan, step_bytes, token_bytes
from seal.engine.stack import Site, parameters
from seal.models import open_model
from seal.types import ALL_LINEAR

CONFIG = LlamaConfig(hidden_size=576, intermediate_size=1536, num_hidden_layers=30)
SITES = [Site(f"model.layers.{layer}.self_attn.q_proj", 576, 576, layer, "q") for layer in range(30)]
CPU = torch.device("cpu")


def planned(memory: int, *, rank: int = 16, longest: int = 128, slots: int | None = None, device: torch.device = CPU) -> Plan:
    return plan(CONFIG, SITES, rank, device=device, itemsize=4, master=4, memory=memory, longest=longest, slots=slots)


@given(
    memory=st.integers(0, 4 * GIB),
    rank=st.integers(1, 256),
    longest=st.integers(1, 8192),
    slots=st.none() | st.integers(1, 16),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_a_plan_keeps_its_budget_or_is_refused(memory: int, rank: int, longest: int, slots: int | None, device: str) -> None:
    slot, token = 5 * 4 * parameters(SITES, rank), token_bytes(CONFIG, SITES, rank, longest, 4)
    try:
        found = planned(memory, rank=rank, longest=longest, slots=slots, device=torch.device(device))
    except MemoryError:
        assert step_bytes(CONFIG) + (slots or 1) * slot + longest * token > memory
        return
    assert found.bytes <= memory
    assert found.budget == memory
    assert found.slots >= 1
    assert found.step_tokens >= longest
    if slots is not None:
        assert found.slots == slots


def test_more_memory_is_more_slots_and_tokens_up_to_a_limit() -> None:
    plans = [planned(memory * GIB // 4) for memory in (2, 3, 4, 8, 200)]
    assert [one.slots for one in plans] == sorted(one.slots for one in plans)
    assert [one.step_tokens for one in plans] == sorted(one.step_tokens for one in plans)
    assert (plans[-1].slots, plans[-1].step_tokens) == (8, 2048)
    assert plans[0].slots < plans[-1].slots or plans[0].step_tokens < plans[-1].step_tokens


def test_a_refusal_says_how_much_is_needed() -> None:
    with pytest.raises(MemoryError, match=r"^1 adapter and a row of 4000 tokens need \d+\.\d GiB and 0\.5 GiB are free"):
        planned(GIB // 2, longest=4000)
    with pytest.raises(MemoryError, match=r"^64 adapters and a row of 128 tokens need"):
        planned(GIB // 2, slots=64)


def test_the_engine_takes_the_number_of_slots_it_is_told(tiny_path: Path) -> None:
    for slots, memory in ((2, 1.0), (7, 0.1)):
        engine = Engine(open_model(str(tiny_path), device="cpu"), slots=slots, memory_gb=memory)
        found = engine.plan(8, ("q_proj",))
        assert (found.slots, found.budget) == (slots, int(memory * GIB))
        assert engine.plan(8, ("q_proj",), slots=1).slots == 1
        engine.close()


def test_rows_that_are_answered_at_once_fit_their_memory() -> None:
    for tokens in (10, 200, 4000):
        rows = answer_rows(CONFIG, tokens, 4, GIB)
        kept = 2 * 30 * 32 * 18 * 4 * tokens  # keys and values of 32 heads of 18 in 30 layers
        assert rows == 1 or 2 * rows * kept <= GIB < 2 * (rows + 1) * kept
    assert answer_rows(CONFIG, 100_000, 4, 1) == 1


def test_what_is_available_is_some_of_what_the_machine_has() -> None:
    assert 0 < available(CPU) < 1 << 50


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc, and the heap's holes are glibc's")
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ALL_LINEAR], ids=["qv", "all"])
def test_what_becomes_resident_is_within_a_tenth_of_the_plan(targets: tuple[str, ...], tmp_path: Path) -> None:
    """In a process of its own, at the plan's own step size."""
    model = make_tiny(tmp_path / "middle", hidden=384, layers=4)
    command = [sys.executable, str(Path(__file__).with_name("peak_memory.py")), str(model), ",".join(targets), "128"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    found = json.loads(said.stdout)
    assert found["peak"] == pytest.approx(found["plan"], rel=0.1)


def test_copies_of_the_weights_are_made_only_where_as_much_is_left() -> None:
    def with_copies(memory: int) -> Plan:
        return plan(CONFIG, SITES, 16, device=CPU, itemsize=4, master=4, memory=memory, longest=128, copies=GIB)

    assert (with_copies(4 * GIB).bytes_copies, with_copies(2 * GIB).bytes_copies) == (GIB, 0)
    assert with_copies(2 * GIB) == planned(2 * GIB)
    assert with_copies(3 * GIB).bytes <= 3 * GIB
    assert with_copies(3 * GIB).step_tokens < planned(3 * GIB).step_tokens or with_copies(3 * GIB).slots < planned(3 * GIB).slots
