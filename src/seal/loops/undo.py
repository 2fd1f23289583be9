"""A stream without one of its steps: what that was, which adapters are left, and the model of those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seal.errors import UserError
from seal.loops.continual import steps
from seal.store import Store
from seal.strategies import Workbench, bind, binds
from seal.strategies import strategy as named


def undone(store: Store, strategy: str | None, stream: str, step: int) -> dict[str, Any]:
    """What a step was, to be taken back. `strategy` None: the run's only one. Raises UserError if there is no such step.

    `merged`: its adapters are one set of weights, added up; `bound`: one set of weights, by keys; `exact`: the adapters of the
    other steps are what they would be if this one had never been learnt.
    """
    known = sorted({one.strategy for one in steps(store)})
    if strategy is None and len(known) == 1:
        strategy = known[0]
    if not known:
        raise UserError(f"{store.path} has learnt nothing in sequence; name a run of `seal continual`")
    if strategy not in known:
        raise UserError(f"--strategy NAME: {store.path} has {', '.join(known)}")
    own = _learnt(store, strategy, stream, step)
    record, later, made = own[step], sum(number > step for number in own), named(strategy)
    return {
        "strategy": strategy,
        "stream": stream,
        **{name: record[name] for name in ("step", "problem", "edit", "made", "weight", "why")},
        "scores": {id: cell["score"] for id, cell in record["row"].items()},
        "later": later,
        "merged": not made.beside,
        "bound": binds(made),
        "exact": made.independent or not later,
    }


def adapters_without(store: Store, strategy: str, stream: str, without: int | None = None) -> list[tuple[Path, float]]:
    """The adapters of the stream's steps but one with their weights, in order. Raises UserError if there is no such step."""
    left = _left(store, strategy, stream, without)
    return [(store.path / record["adapter"], record["weight"]) for record in left.values()]


def problems_without(store: Store, strategy: str, stream: str, without: int) -> dict[str, int]:
    """Ids of what these adapters have learnt, each with its step: in a superposition, its key."""
    return {record["problem"]: number for number, record in _left(store, strategy, stream, without).items()}


def write_without(bench: Workbench, store: Store, strategy: str, stream: str, without: int, out: Path) -> None:
    """Writes the model without a step as one adapter: those of the other steps merged, or of a superposition bound anew. What is
    fitted depends on all that are bound, so the run's own set of weights still has a trace of the one. Raises UserError if there
    is none to bind."""
    if not binds(named(strategy)):
        bench.wear(tuple(adapters_without(store, strategy, stream, without)))  # as the run did: on the policy, if there is one
        bench.engine.export(out)
        return
    left = _left(store, strategy, stream, without)
    if not left:
        raise UserError(f"--step {without}: no other step of stream {stream} was kept; without it there is the base model")
    bind([(store.path / record["adapter"], number) for number, record in left.items()], bench.engine, out)


def _left(store: Store, strategy: str, stream: str, without: int | None) -> dict[int, dict[str, Any]]:
    """The steps but one that were kept."""
    learnt = _learnt(store, strategy, stream, without).items()
    return {number: record for number, record in learnt if number != without and record["adapter"] and record["weight"]}


def _learnt(store: Store, strategy: str, stream: str, step: int | None) -> dict[int, dict[str, Any]]:
    """The stream's steps from 1 on, in order. Raises UserError if `step` is none of them."""
    own = {one.number: one.record for one in steps(store) if (one.strategy, one.stream) == (strategy, stream)}
    learnt = {number: own[number] for number in sorted(own) if number}
    if step is not None and step not in learnt:
        streams = dict.fromkeys(one.stream for one in steps(store) if one.strategy == strategy)
        there = f"steps 1 to {len(learnt)}" if own else f"the streams {', '.join(streams)}"
        raise UserError(f"--stream {stream} --step {step}: {strategy} has {there} in {store.path}")
    return learnt
