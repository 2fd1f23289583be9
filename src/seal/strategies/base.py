"""What a strategy of learning in sequence is, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from seal.domains.probes import ask_probes
from seal.protocols import Engine
from seal.types import Ask, Cost, Example, Fault, Finished, Job, Problem, Prompt, Query, SelfEdit

Worn = tuple[tuple[Path, float], ...]
"""What a model wears: PEFT directories with their weights. Its weights are the base's plus all of them, added in this order."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a step left behind: its adapter, how much of it counts, and why."""

    step: int
    """From 1."""
    problem: Problem
    edit: SelfEdit
    adapter: Path | None
    """None: nothing was trained (the edit has a fault)."""
    weight: float = 1.0
    """0: refused; below 1: shrunk."""
    why: str = ""
    """Why it was shrunk or refused."""
    cost: Cost = field(default_factory=Cost)
    facts: dict[str, float] = field(default_factory=dict)
    """What the strategy measured on the way, by name."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a stream, about to be learnt."""

    number: int
    """From 1."""
    problem: Problem
    edit: SelfEdit
    """Readable: an edit with a fault is never put to a strategy."""
    before: tuple[Kept, ...]
    """What the earlier steps left, in order."""
    seed: int
    folder: Path
    """Where this step's adapters go; its own is `folder / "adapter"`."""


class Strategy(Protocol):
    """How one more self-edit is learnt and kept. One file each; `docs/continual.md` says how to write one."""

    beside: bool
    """It holds adapters beside each other and chooses among them when asked: how often it chooses right is counted."""

    def learn(self, step: Step, bench: Bench) -> Kept:
        """Learns the step's edit on top of what was kept, and says what is kept of it."""
        ...

    def wears(self, kept: Sequence[Kept], problem: Problem, query: Query | None) -> Worn:
        """What the model wears to be asked this. `query` None: something that belongs to no problem (a probe, a new edit)."""
        ...


def merged(kept: Sequence[Kept]) -> Worn:
    """Every step's adapter at its weight, in the steps' order: one set of weights for all questions."""
    return tuple((one.adapter, one.weight) for one in kept if one.adapter is not None and one.weight)


@dataclass(frozen=True, slots=True)
class Bench:
    """The engine as a strategy uses it: always from named adapters, so that no call depends on the one before."""

    engine: Engine
    probes: Problem
    """What the base model knows: questions and held texts."""
    policy: Path | None = None
    """The trained policy every stream starts from; None: the base model."""

    def wear(self, worn: Worn) -> Engine:
        """The engine with the policy and these adapters in its weights."""
        own: Worn = () if self.policy is None else ((self.policy, 1.0),)
        self.engine.wear((*own, *worn))
        return self.engine

    def train(self, worn: Worn, step: Step, examples: Sequence[Example], save: Path | None = None) -> Finished:
        """One fresh adapter learns the examples on top of what is worn, with the edit's tuning; saved as a PEFT directory."""
        job = Job(step.problem.id, tuple(examples), (), step.edit.tuning, step.seed, save or step.folder / "adapter")
        (finished,) = self.wear(worn).run([job])
        return finished

    def logprob(self, worn: Worn, examples: Sequence[Example]) -> float | None:
        """Mean log-probability of the examples' completions, in nats an example; None if there are none."""
        asks = [Ask(str(at), one.prompt or Prompt(""), one.completion, 0) for at, one in enumerate(examples)]
        return self._mean(worn, asks)

    def probe_logprob(self, worn: Worn) -> float | None:
        """Mean log-probability of the probes' answers and held texts."""
        return self._mean(worn, [Ask(one.query_id, one.prompt, one.target, 0) for one in ask_probes(self.probes) if one.target])

    def _mean(self, worn: Worn, asks: Sequence[Ask]) -> float | None:
        if not asks:
            return None
        (finished,) = self.wear(worn).run([Job("logprob", (), tuple(asks))])
        found = [one.target_logprob for one in finished.replies if one.target_logprob is not None]
        return sum(found) / len(found) if found else None


def kept_of(step: Step, finished: Finished) -> Kept:
    """The step's adapter in full, or nothing if its training failed."""
    return (
        of_fault(step, finished.fault, finished.cost)
        if finished.fault
        else Kept(step.number, step.problem, step.edit, step.folder / "adapter", cost=finished.cost)
    )


def of_fault(step: Step, fault: Fault, cost: Cost | None = None) -> Kept:
    """Nothing was learnt: the model's mistake, counted."""
    return Kept(step.number, step.problem, step.edit, None, 0.0, f"{fault.kind}: {fault.message}", cost or Cost())
