"""What a strategy of learning in sequence is, and what it is given to work with."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from seal.domains.probes import NO_TEXTS, ask_probes
from seal.protocols import Engine
from seal.stats import mean
from seal.types import Ask, Cost, Example, Fault, Finished, Job, Problem, Prompt, Query, Reply, Sampling, SelfEdit, Tuning

S = TypeVar("S")

Worn = tuple[tuple[Path, float] | tuple[Path, float, int], ...]
"""What a model wears: PEFT directories with their weights. Its weights are the base's plus all of them, added in this order. A
superposed one has a key besides."""


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
    fault: Fault | None = None
    """Why nothing could be learnt, be it the edit's or its training's: nobody refused it."""


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
    also: tuple[Example, ...] = ()
    """What is trained on beside the edit's examples: earlier ones, what is held (`Example.keep`)."""
    protected: tuple[Path, ...] = ()
    """Directions that its adapter does not act on (`Job.protected`)."""
    drawn: tuple[Example, ...] = ()
    """Examples of earlier edits that strategies around this one have drawn: none is drawn twice, so that a gate does not measure
    what is learnt again or protected."""


class Strategy(Protocol):
    """How one more self-edit is learnt and kept. One file each; `docs/continual.md` says how to write one."""

    beside: bool
    """It holds adapters beside each other and chooses among them when asked: how often it chooses right is counted."""
    independent: bool
    """It learns a step as if there were no other: without one, the rest is as if that had never been learnt."""

    def learn(self, step: Step, bench: Workbench) -> Kept:
        """Learns the step's edit on top of what was kept, and says what is kept of it."""
        ...

    def wears(self, kept: Sequence[Kept], chosen: Kept | None) -> Worn:
        """What the model wears while the chosen one of `kept` answers. None: none was chosen, or what is asked belongs to no
        problem (a probe, a new edit)."""
        ...

    def chosen(self, kept: Sequence[Kept], problem: Problem, query: Query) -> Kept | None:
        """Whose adapter answers the question, where there is a choice."""
        ...

    def held(self, kept: Sequence[Kept]) -> Sequence[Path]:
        """The adapters that have to be at hand to answer anything, beside one set of weights."""
        ...


class Around(Generic[S]):
    """What stands around another strategy: of its own it says how an edit is learnt, the rest is as the inner one has it."""

    draws = False
    """It draws examples of earlier edits (`remembered.earlier`), so no step of it is independent of the others."""

    def __init__(self, inner: Strategy, settings: S) -> None:
        self.inner, self.settings = inner, settings
        self.beside, self.independent = inner.beside, inner.independent and not self.draws
        self.shares: bool = isinstance(inner, Around) and (inner.draws or inner.shares)
        """A strategy within it draws too."""

    def wears(self, kept: Sequence[Kept], chosen: Kept | None) -> Worn:
        """As the inner strategy has it."""
        return self.inner.wears(kept, chosen)

    def chosen(self, kept: Sequence[Kept], problem: Problem, query: Query) -> Kept | None:
        """As the inner strategy has it."""
        return self.inner.chosen(kept, problem, query)

    def held(self, kept: Sequence[Kept]) -> Sequence[Path]:
        """As the inner strategy has it."""
        return self.inner.held(kept)


def merged(kept: Sequence[Kept]) -> Worn:
    """Every step's adapter at its weight, in the steps' order: one set of weights for all questions."""
    return tuple((one.adapter, one.weight) for one in kept if one.adapter is not None and one.weight)


NO_GUARDS = Problem("guards", "", NO_TEXTS, ())


@dataclass(frozen=True, slots=True)
class Workbench:
    """The engine as a strategy uses it: always from named adapters, so that no call depends on the one before."""

    engine: Engine
    probes: Problem
    """What the base model knows: questions and held texts."""
    policy: Path | None = None
    """The trained policy every stream starts from; None: the base model."""
    guards: Problem = NO_GUARDS
    """Others of the kind, which the evaluation does not ask: strategies look at these."""
    _said: dict[tuple[Sequence[Prompt], Sampling, int], tuple[Reply, ...]] = field(default_factory=dict)
    _inputs: dict[Any, tuple[Path, dict[str, float]]] = field(default_factory=dict)
    _scratch: tempfile.TemporaryDirectory[str] = field(default_factory=lambda: tempfile.TemporaryDirectory(prefix="seal-"))
    _trained: dict[tuple[Worn, Job], tuple[Path, Finished]] = field(default_factory=dict)
    _spared: list[float] = field(default_factory=list)

    def wear(self, worn: Worn) -> Engine:
        """The engine with the policy and these adapters in its weights."""
        own: Worn = () if self.policy is None else ((self.policy, 1.0),)
        self.engine.wear((*own, *worn))
        return self.engine

    def train(self, worn: Worn, step: Step) -> Finished:
        """One fresh adapter learns the step's examples on top of what is worn, with the edit's tuning; saved as PEFT has it.

        What was trained before on the same, by whichever strategy, is copied; it says what it cost then.
        """
        job = Job(step.problem.id, (*step.edit.examples, *step.also), (), step.edit.tuning, step.seed)
        alike, path = (worn, job), step.folder / "adapter"
        if alike in self._trained and not step.protected:
            made, finished = self._trained[alike]
            if made != path:
                shutil.copytree(made, path, dirs_exist_ok=True)
            self._spared.append(finished.cost.train_seconds)
            return finished
        (finished,) = self.wear(worn).run([replace(job, save=path, protected=step.protected)])
        if not finished.fault and not step.protected:
            self._trained[alike] = path, finished
        return finished

    @property
    def spared_seconds(self) -> float:
        """What the trainings that were copied would have taken: a strategy is not quicker for coming after another."""
        return sum(self._spared)

    def scored(self, examples: Sequence[Example]) -> list[Example]:
        """Those that can be scored: a text that just fits the context when it is learnt does not with a chat's turn around it."""
        return [one for one in examples if self.engine.fits(_asked(one))]

    def logprob(self, worn: Worn, examples: Sequence[Example]) -> float | None:
        """Mean log-probability of the completions of those that can be scored, in nats an example; None if there are none."""
        return self._mean(worn, [_asked(one, str(at)) for at, one in enumerate(examples)])

    def guard_logprob(self, worn: Worn) -> float | None:
        """Mean log-probability of the guards' answers and held texts, but for what is too long to be scored."""
        return self._mean(worn, [Ask(one.query_id, one.prompt, one.target, 0) for one in ask_probes(self.guards) if one.target])

    def said(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> tuple[Reply, ...]:
        """What the model of before the stream says to each of these, once."""
        key = (tuple(prompts), how, seed)
        if key not in self._said:
            replies = self.wear(()).sample(prompts, how, seed=seed) if prompts else []
            self._said[key] = tuple(one for (one,) in replies)
        return self._said[key]

    def inputs_before(
        self, texts: Sequence[Example], tuning: Tuning, *, share: float, most: int
    ) -> tuple[Path, dict[str, float]]:
        """`Engine.inputs` of the model of before the stream, once: a file that is there as long as the workbench is."""
        key = (tuple(texts), tuning, share, most)
        if key not in self._inputs:
            path = Path(self._scratch.name) / f"inputs-{len(self._inputs)}.safetensors"
            self._inputs[key] = path, self.wear(()).inputs(texts, tuning, path, share=share, most=most)
        return self._inputs[key]

    def _mean(self, worn: Worn, asks: Sequence[Ask]) -> float | None:
        fits = tuple(ask for ask in asks if self.engine.fits(ask))  # one that does not would be the fault of all
        if not fits:
            return None
        (finished,) = self.wear(worn).run([Job("logprob", (), fits)])
        if finished.fault:
            raise RuntimeError(f"nothing could be scored: {finished.fault.message}")
        return mean(one.target_logprob for one in finished.replies)


def _asked(one: Example, id: str = "") -> Ask:
    return Ask(id, one.prompt or Prompt(""), one.completion, 0)


def kept_of(step: Step, finished: Finished) -> Kept:
    """The step's adapter in full, or nothing if its training failed."""
    return (
        of_fault(step, finished.fault, finished.cost)
        if finished.fault
        else Kept(step.number, step.problem, step.edit, step.folder / "adapter", cost=finished.cost)
    )


def of_fault(step: Step, fault: Fault, cost: Cost | None = None) -> Kept:
    """Nothing was learnt: the model's mistake, counted."""
    why = f"{fault.kind}: {fault.message}"
    return Kept(step.number, step.problem, step.edit, None, 0.0, why, cost or Cost(), fault=fault)
