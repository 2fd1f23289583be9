"""The optimiser: all slots at once are the slots one by one, and an idle slot keeps every bit."""

from __future__ import annotations

import pytest
import torch
from elsewhere import NAME, elsewhere
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seal.engine.optimiser import AdamW

SLOT = st.tuples(st.sampled_from([0.0, 1e-3, 0.1]), st.sampled_from([0.0, 0.1, 5.0]), st.sampled_from([0.0, 0.3]))
"""Rate, clip (none, one that bites, one that seldom does) and decay."""


def state(of: AdamW) -> list[Tensor]:
    return [of.flat, of._first, of._second, of.grad, of._count[:, None]]


def bits(x: Tensor) -> Tensor:
    """Those of every number: a NaN is itself and -0 is not 0."""
    return x.view({4: torch.int32, 8: torch.int64}[x.itemsize])


def a_pair(slots: int, size: int, dtype: torch.dtype) -> tuple[AdamW, AdamW]:
    """The reference, and one that does all at once."""
    flat = torch.randn(slots, size, dtype=dtype)
    reference, ours = AdamW(flat.clone()), AdamW(flat)
    assert not ours.at_once
    ours.at_once = True
    return reference, ours


@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float64, 1e-12, 1e-300), (torch.float32, 1e-5, 1e-7)])
@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_all_at_once_is_one_by_one(dtype: torch.dtype, rtol: float, atol: float, data: st.DataObject, seed: int) -> None:
    """After steps of any slots, so that their counts differ, too."""
    torch.manual_seed(seed)
    slots, size = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 70))
    reference, ours = a_pair(slots, size, dtype)
    for busy in data.draw(st.lists(st.sets(st.integers(0, slots - 1), min_size=1), min_size=1, max_size=5)):
        own = {slot: data.draw(SLOT) for slot in sorted(busy)}
        for slot in busy:
            gradient = torch.randn(size, dtype=dtype) * 10.0 ** data.draw(st.integers(-4, 3))
            for one in (reference, ours):
                one.grad[slot] = gradient
        before = [x.clone() for x in state(ours)]
        for one in (reference, ours):
            one.step(list(own), *zip(*own.values(), strict=True))
        for found, wanted, was in zip(state(ours), state(reference), before, strict=True):
            torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol)
            idle = sorted(set(range(slots)) - busy)
            assert torch.equal(bits(found[idle]), bits(was[idle]))
        assert not ours.grad.any()


@pytest.mark.parametrize("at_once", [False, True])
def test_an_idle_slot_keeps_every_bit_and_a_slot_that_blew_up_stays_by_itself(at_once: bool) -> None:
    """The idle one has numbers that arithmetic with 0 and 1 would change."""
    found = []
    for harm in (1.0, torch.nan, torch.inf):
        torch.manual_seed(0)
        _, ours = a_pair(4, 6, torch.float32)
        ours.at_once = at_once
        for x in state(ours):
            x[2] = torch.tensor([-0.0, 0.0, torch.nan, -torch.inf, 1e-45, 1.0])[: x.shape[1]]
        before = [bits(x[2]).clone() for x in state(ours)]
        for _ in range(3):
            ours.grad[[0, 1, 3]] = torch.randn(3, 6)
            ours.grad[1, 4] *= harm
            ours.step([0, 1, 3], [0.1, 0.1, 0.2], [1.0, 1.0, 0.0], [0.1, 0.1, 0.0])
        assert all(torch.equal(bits(x[2]), was) for x, was in zip(state(ours), before, strict=True))
        assert bool(ours.flat[1].isfinite().all()) is (harm == 1)
        found.append(ours.flat[[0, 3]])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_on_a_gpu_many_slots_are_launched_as_one_is_and_nobody_waits() -> None:
    with elsewhere() as device:
        kernels = []
        for slots, rates in ((1, 1), (9, 1), (9, 3)):
            ours = AdamW(torch.ones(slots, 5, device=NAME))
            ours.grad.fill_(1.0)
            device.kernels.clear()
            ours.step(range(slots), [0.1 * (1 + slot % rates) for slot in range(slots)], [1.0] * slots, [0.0] * slots)
            kernels.append(device.kernels.total())
        assert not device.waits
        assert kernels == [kernels[0], kernels[0], kernels[0] + 2]
