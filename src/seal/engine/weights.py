"""The policy's weights: the base model's, and adapters added to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seal.engine.export import Factors, is_bound, load_adapter, save_adapter
from seal.engine.host import Host
from seal.engine.superpose import turned
from seal.errors import UserError


class Weights:
    """What a host's linear layers hold. The base weights that an adapter changes are kept, so every change can be taken back."""

    def __init__(self, host: Host, name: str) -> None:
        """`name`: the model's, for messages."""
        self.host, self.name = host, name
        self._added: list[Factors] = []
        self._worn: tuple[Any, ...] | None = None
        """What `wear` made of them; None: they were made otherwise."""
        self.version = 0
        """How often they have changed: 0 is the base model."""
        self._base: dict[str, Tensor] = {}

    def add(self, factors: Factors) -> None:
        """What was learnt comes to what there is, and is part of the weights from now on."""
        self._worn = None
        self._added = [_narrowed(_joined([*self._added, factors]))]
        self._merge()

    def load(self, path: Path | None) -> None:
        """Back to the base model, then the policy at `path` (any PEFT adapter of this model) if there is one."""
        self.wear([] if path is None else [(path, 1.0)])

    def wear(self, adapters: Sequence[tuple[Path, float] | tuple[Path, float, int]]) -> None:
        """The base model, then these PEFT adapters, each times its weight, added in this order; a superposed one with a key.

        The weights depend on the list alone: the same list gives the same bits whatever was worn before. What is worn already
        costs nothing.
        """
        worn = tuple((*one, _stamp(one[0])) for one in adapters)
        if worn == self._worn:
            return
        self._worn = None  # until it is, should a file be none
        self._added = [_scaled(_opened(path, *key), weight) for path, weight, *key in adapters]
        self._merge()
        self._worn = worn

    def export(self, path: Path) -> None:
        """The whole change since the base model as one PEFT adapter: what was added stands side by side in its rank, up to the
        rank that a layer's weight can have."""
        save_adapter(path, _joined(self._added) or self._nothing(), self.host.model)

    def _nothing(self) -> Factors:
        """A change of exactly zero on one layer: PEFT refuses an adapter of no layers."""
        name, linear = next(iter(self.host.linears.items()))
        return {name: (torch.zeros(1, linear.in_features), torch.zeros(linear.out_features, 1))}

    @torch.no_grad()
    def _merge(self) -> None:
        """base + the product of all that was added, always from the kept base weights: the same adapters give the same bits on
        every path."""
        self.version += 1
        for name, weight in self._base.items():
            self.host.linears[name].weight.copy_(weight)
        for name, (a, b) in _joined(self._added).items():
            linear = self.host.linears.get(name)
            if linear is None or linear.weight.shape != (b.shape[0], a.shape[1]):
                raise UserError(f"the policy is for another model: {self.name} has no layer {name} of its shape")
            weight = linear.weight
            if name not in self._base:
                self._base[name] = weight.detach().cpu().clone()
            delta = b.to(weight.device, self.host.master) @ a.to(weight.device, self.host.master)
            weight.copy_(weight.to(self.host.master) + delta)


def _stamp(path: Path) -> tuple[tuple[int, int, int], ...] | None:
    """Which files it is: an adapter that is written anew at the same path is another one, and one whose settings change too."""
    try:
        found = [(path / name).stat() for name in ("adapter_model.safetensors", "adapter_config.json")]
    except OSError:
        return None  # reading it says what is wrong
    return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)


def _scaled(factors: Factors, weight: float) -> Factors:
    return factors if weight == 1 else {name: (a, b * weight) for name, (a, b) in factors.items()}


def _opened(path: Path, key: int | None = None) -> Factors:
    """The adapter there, under its key if it has one. Raises UserError for a superposed one without."""
    factors = load_adapter(path)
    if key is not None:
        return {name: (turned(a, key), b) for name, (a, b) in factors.items()}
    if is_bound(path):
        raise UserError(
            f"{path}: adapters bound to keys (a superposition), which say nothing without one; in Python it is put on with one,"
            " engine.wear([(path, 1.0, key)]): a problem's key is the number of its step, as seal undo --out DIR says it"
        )
    return factors


def _narrowed(factors: Factors) -> Factors:
    """The same products in no more rank than their layers can have, so that a policy ends growing with its rounds. Done
    whenever something is added, so that a policy that was loaded and one that was not have the same bits."""
    return {name: _narrow(a, b) if len(a) > min(a.shape[1], len(b)) else (a, b) for name, (a, b) in factors.items()}


def _narrow(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    product, (outputs, inputs) = b @ a, (len(b), a.shape[1])
    return (torch.eye(inputs), product) if inputs <= outputs else (product, torch.eye(outputs))


def _joined(parts: Sequence[Factors]) -> Factors:
    """One adapter of all, side by side in its rank."""
    names = dict.fromkeys(name for factors in parts for name in factors)
    found = {name: [factors[name] for factors in parts if name in factors] for name in names}
    return {name: (torch.cat([a for a, _ in own]), torch.cat([b for _, b in own], dim=1)) for name, own in found.items()}
