"""What a tuning and its bounds must satisfy; `types` holds them as plain values."""

from __future__ import annotations

from seal.types import Bounds, Tuning


def tuning(value: Tuning) -> Tuning:
    """The tuning itself. Raises ValueError with one line a field that cannot be."""
    wrong = _outside(value, ("rank", "epochs", "batch", "pad_length", "layers"), least=1)
    wrong += _outside(value, ("tokens", "steps"), least=1)
    if (value.tokens is None) != (value.steps is None) or (value.tokens or 0) < (value.steps or 0):
        wrong.append("tokens: goes together with steps, and must be at least as many")
    if value.tokens is not None and value.pad_loss == "official":
        wrong.append('tokens: pad_loss "official" trains on padding, which would be counted; choose "none" or "eos"')
    wrong += _outside(value, ("warmup", "clip", "weight_decay"), least=0)
    wrong += [f"{name}: must be above 0, not {got}" for name in ("alpha", "lr") if (got := getattr(value, name)) <= 0]
    if not value.targets:
        wrong.append("targets: must name at least one layer")
    if wrong:
        raise ValueError("\n".join(wrong))
    return value


def bounds(value: Bounds) -> Bounds:
    """The bounds themselves. Raises ValueError with one line a field that cannot be."""
    wrong = _outside(value, ("examples", "calls"), least=1)
    for name in ("lr", "epochs"):
        low, high = getattr(value, name)
        if not 0 < low <= high:
            wrong.append(f"{name}: must be two numbers above 0, the lower one first, not [{low:g}, {high:g}]")
    if wrong:
        raise ValueError("\n".join(wrong))
    return value


def _outside(value: object, names: tuple[str, ...], least: int) -> list[str]:
    found = ((name, getattr(value, name)) for name in names)
    return [f"{name}: must be at least {least}, not {got}" for name, got in found if got not in (None, "longest") and got < least]
