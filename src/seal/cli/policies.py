"""A policy that the user names: where it is, what it has learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seal.errors import UserError

if TYPE_CHECKING:
    from seal.types import Problem


def named_policy(name: str) -> Path:
    """A policy that comes with seal, by its name, or any folder."""
    from seal.config import shipped_policies

    return shipped_policies().get(name, Path(name).expanduser())


def refuse_no_adapter(policy: Path, key: str) -> None:
    """Raises UserError if there is no adapter at `policy`, which the user gave as `key`."""
    if (policy / "adapter_config.json").is_file():
        return
    found = sorted(one.parent for place in ("", "policy/") for one in policy.glob(f"{place}round-*/adapter_config.json"))
    raise UserError(
        f"{key} {policy}: no PEFT adapter there (no adapter_config.json)"
        + (f"; there are {', '.join(map(str, found))}" if found else "")
    )


def run_of(adapter: Path) -> Path | None:
    """The run that an adapter lies in, however deep; None: it lies in none."""
    from seal.store import is_run

    return next((folder for folder in adapter.resolve().parents if is_run(folder)), None)


def learnt_by(policy: Path) -> set[str]:
    """Ids of what an adapter was trained on, as far as its `seal.json`, or else the run it lies in, says what that was."""
    from seal.loops.continual import steps
    from seal.loops.refuse import trained_on
    from seal.models.adapter import read_trained
    from seal.store import Store

    said, run = read_trained(policy), run_of(policy)
    if said or run is None:
        return said
    with Store.open(run, write=False) as origin:
        return trained_on(origin) | {one.record["problem"] for one in steps(origin) if one.number > 0}


def refuse_learnt(policy: Path, problems: Sequence[Problem]) -> None:
    """A policy must not be measured on what it was trained on, as far as that is known."""
    from seal.loops.refuse import refuse_among

    why = f"is one of those that the policy {policy} was trained on; measure others, or another policy"
    refuse_among(learnt_by(policy), problems, why)
