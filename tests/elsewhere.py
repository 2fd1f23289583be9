"""A device that is not the CPU, on every machine: its tensors refuse the CPU's, and are computed here.

A wrong device is the one mistake in code for GPUs that needs none to be seen, and so is waiting for the GPU where nothing has to.
torch lets a backend be written in Python; this one has the numbers of a CPU and the manners of a GPU. It says that it is not
available, so that no library takes it for an accelerator by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C import _only_lift_cpu_tensors, _set_only_lift_cpu_tensors
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "elsewhere"
COPIES = {"aten::copy_", "aten::_to_copy"}
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
"""What takes a list of indices that lie on the CPU, too, as its second argument."""
READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select", "aten::is_nonzero", "aten::_unique2"}
"""What waits for the device, since the CPU goes on with the answer; copies to the CPU do, too."""
NO_WORK = ("aten::empty", "aten::new_empty", "aten::detach", "aten::alias", "aten::_unsafe_view", "aten::_reshape_alias")


class _Module(backend_registration._DummyBackendModule):
    def is_available(self) -> bool:
        return False

    def device_count(self) -> int:
        return 0


class _Hooks(backend_registration._DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return False

    def has_primary_context(self, dev_id: int) -> bool:
        return False


backend_registration._setup_privateuseone_for_python_backend(NAME, _Module(), _Hooks())


class There(Tensor):
    """A tensor of the device; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        """`held`: on the CPU."""
        like = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        there: There = torch.Tensor._make_wrapper_subclass(cls, held.shape, device=torch.device(NAME, 0), **like)
        there.held = held
        return there

    def tolist(self) -> Any:
        """torch has no such thing for subclasses."""
        return self.cpu().tolist()

    @property
    def data(self) -> Tensor:
        """Without its gradient."""
        return Tensor.data.__get__(self)

    @data.setter
    def data(self, new: There) -> None:
        Tensor.data.__set__(self, new)
        self.held = new.held

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"There({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on {NAME} outside of `elsewhere`")


def _sides(values: Any) -> tuple[bool, bool]:
    """Whether there are tensors of the device among them, and tensors of the CPU; single numbers may be of either."""
    tensors = [one for one in tree_leaves(values) if isinstance(one, Tensor)]
    return any(isinstance(one, There) for one in tensors), any(one.dim() and not isinstance(one, There) for one in tensors)


class Elsewhere(TorchDispatchMode):
    """While it is on, the device can be used."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        """Work that was put on the device, by name."""
        self.waits: Counter[str] = Counter()
        """What the CPU waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        inside, outside = _sides((args, kwargs))
        if name in INDEXED:
            outside = _sides([args[0], *args[2:]])[1]
        if inside and outside and name not in COPIES:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        asked = kwargs.get("device")
        arrives = inside if asked is None else torch.device(asked).type == NAME
        if name == "aten::copy_":
            arrives = isinstance(args[0], There)
        own_args, own_kwargs = tree_map_only(There, lambda one: one.held, (args, kwargs))
        if asked is not None:
            own_kwargs["device"] = torch.device("cpu")
        with _disable_current_modes():
            out = func(*own_args, **own_kwargs)
        if self._waits(name, args, kwargs, inside, arrives):
            self.waits[name] += 1
        elif (inside or arrives) and not func.is_view and not name.startswith(NO_WORK):
            self.kernels[name] += 1
        if not arrives:
            return args[0] if name == "aten::copy_" else out
        out = tree_map_only(Tensor, lambda one: one if isinstance(one, There) else There(one), out)
        return return_and_correct_aliasing(func, args, kwargs, out) if inside and name != "aten::_to_copy" else out

    @staticmethod
    def _waits(name: str, args: Any, kwargs: Any, inside: bool, arrives: bool) -> bool:
        """Whether the CPU would wait: it reads something, or copies and does not say that it need not wait."""
        if name in COPIES:
            leaves = isinstance(args[1] if name == "aten::copy_" else args[0], There)
            free = kwargs.get("non_blocking") or (name == "aten::copy_" and args[2:] == (True,))
            return (leaves and not arrives) or (arrives and not leaves and not free)
        # a mask is counted before it is an index
        indices = [one for one in args[1] if one is not None] if name in INDEXED else []
        asks = any(not isinstance(one, There) or one.dtype == torch.bool for one in indices)
        return inside and (name in READS or asks)


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """The device, as `device="elsewhere"`."""
    before = _only_lift_cpu_tensors()
    _set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) goes by way of the CPU, where the mode sees it
    try:
        with Elsewhere() as device:
            yield device
    finally:
        _set_only_lift_cpu_tensors(before)
