"""Numbers that the host worked out, brought to where the model is; the wait for what is worked out there, and its failures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

OF_THE_DEVICE = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))
"""RuntimeErrors that say nothing about a shape; older torch lacks the second."""


def placed(
    values: Tensor | Sequence[int] | Sequence[float] | Sequence[bool], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """The values as a tensor on the device. Nobody waits for what a GPU has still to do: the copy takes its turn. CUDA
    promises that up to 64 KB, 8,192 places; for more it may wait."""
    return torch.as_tensor(values, dtype=dtype).to(device, non_blocking=True)


def settle(device: torch.device) -> None:
    """Returns when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
