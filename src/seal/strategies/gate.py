"""gate: a step is accepted, shrunk or refused by what it does to what was known (in the manner of STABLE's merge gate).

Nothing is asked that the evaluation asks of the stream's problems: gain is measured on the new edit's own examples, harm on
those of earlier edits and on the guards. Around a strategy that holds adapters beside each other the edit's examples are put to
its own adapter, whichever a question about it would be put to, and nothing else can be harmed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, isfinite

from seal.edits.clashes import clashes
from seal.strategies.base import Around, Kept, Step, Workbench, Worn
from seal.strategies.remembered import earlier
from seal.strategies.settings import GateSettings
from seal.types import Example


class Gate(Around[GateSettings]):
    """Stands around another strategy."""

    draws = True

    def learn(self, step: Step, bench: Workbench) -> Kept:
        """What the inner strategy learnt, at the weight that the bound allows."""
        before = self.inner.wears(step.before, None)
        own = bench.scored(step.edit.examples)
        if not own:
            why = "refused: no example of it is short enough to be scored"
            return Kept(step.number, step.problem, step.edit, None, 0.0, why)
        # by the model of before the stream: merged edits make it worse at any text, and the bound is for a sound model
        told = bench.logprob((), own)
        surprise = 0.0 if told is None else -told * len(own) / max(1, _tokens(bench, own))
        if surprise > self.settings.surprise:
            why = f"refused: {surprise:.2f} nats a token, more than {self.settings.surprise:g}"
            return Kept(step.number, step.problem, step.edit, None, 0.0, why, facts={"surprise": surprise})
        contrary = clashes(step.edit.examples)
        if contrary > self.settings.clash:
            why = f"refused: {contrary:.0%} of its lines contradict another, more than {self.settings.clash:.0%}"
            return Kept(step.number, step.problem, step.edit, None, 0.0, why, facts={"surprise": surprise, "clash": contrary})
        drawn, step = earlier(step, self.settings.earlier, shares=self.shares)
        one = self.inner.learn(step, bench)
        if one.adapter is None:
            return one
        judge = _Judge(self, step, bench, one, before, drawn)
        weight = largest(judge.harm, self.settings.bound, self.settings.halvings)
        facts = {**one.facts, "surprise": surprise, "clash": contrary, "harm": judge.harm(1.0)}
        harmful = f"harm {facts['harm']:.3f}, more than {self.settings.bound:g}"
        if weight == 0:
            return replace(one, weight=0.0, why=f"refused: {harmful}", facts=facts)
        facts["gain"] = gain = judge.gain(weight, own, bench.logprob(before, own) if before else told)
        if not gain > 0:  # nor is what is not a number a gain
            return replace(one, weight=0.0, why=f"refused: gains nothing ({gain:.3f} nats an example)", facts=facts)
        return replace(one, weight=weight, why="" if weight == 1 else f"shrunk to {weight:g}: {harmful}", facts=facts)


def largest(harm: Callable[[float], float], bound: float, halvings: int) -> float:
    """The largest weight of 0 to 1, by bisection, whose harm is within the bound. A higher bound never gives a smaller weight."""
    if harm(1.0) <= bound:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(halvings):
        middle = (low + high) / 2
        if harm(middle) <= bound:
            low = middle
        else:
            high = middle
    return low


class _Judge:
    """What a step does at a weight. Each weight is measured once."""

    def __init__(self, gate: Gate, step: Step, bench: Workbench, one: Kept, before: Worn, drawn: Sequence[Example]) -> None:
        self._gate, self._step, self._bench, self._one, self._earlier = gate, step, bench, one, drawn
        self._old = bench.logprob(before, self._earlier)
        self._known = bench.guard_logprob(before)
        self._harm: dict[float, float] = {}

    def harm(self, weight: float) -> float:
        """The larger fall of log-probability, of earlier edits' examples or of the guards, as a share of what it was."""
        if weight not in self._harm:
            worn = self._gate.inner.wears(self._kept(weight), None)
            old, known = self._bench.logprob(worn, self._earlier), self._bench.guard_logprob(worn)
            self._harm[weight] = max(_fall(self._old, old), _fall(self._known, known))
        return self._harm[weight]

    def gain(self, weight: float, own: Sequence[Example], before: float | None) -> float:
        """What the edit's own examples gain, in nats an example."""
        kept = self._kept(weight)
        after = self._bench.logprob(self._gate.inner.wears(kept, kept[-1]), own)
        return 0.0 if before is None or after is None else after - before

    def _kept(self, weight: float) -> list[Kept]:
        return [*self._step.before, replace(self._one, weight=weight)]


def _fall(before: float | None, after: float | None) -> float:
    """As a share of what it was; without end where the model gives no number any more."""
    if before is None or after is None:
        return 0.0
    fall = (before - after) / abs(before or 1.0)
    return fall if isfinite(fall) else inf


def _tokens(bench: Workbench, examples: Sequence[Example]) -> int:
    return sum(bench.engine.count(replace(example, prompt=None)) for example in examples)
