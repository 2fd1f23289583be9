"""Numbers that the host worked out, brought to where the model is, and the wait for what is worked out there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def placed(
    values: Tensor | Sequence[int] | Sequence[float] | Sequence[bool], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """The values as a tensor on the device. Nobody waits for what a GPU has still to do: the copy takes its turn.

    Not on Apple's, which may copy what is no longer there (pytorch issue 189690).
    """
    return torch.as_tensor(values, dtype=dtype).to(device, non_blocking=device.type != "mps")


def settle(device: torch.device) -> None:
    """Returns when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
