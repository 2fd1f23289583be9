"""How the outcomes of a round change the policy. Each way learns from the edits that its own selection kept:

rest_em    the kept edits alike                        any rule of `select`
weighted   each as much as it earned                   selection.earning
gradient   better ones likelier, worse ones less so    selection.differing
dpo        the best of a group before the worst        selection.extremes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, pstdev

from seal.policy.selection import Groups
from seal.protocols import Engine
from seal.types import Absorbed, Example, PolicyGradient, Preference, SelfEdit, Tuning


def rest_em(engine: Engine, kept: Sequence[SelfEdit], tuning: Tuning, *, seed: int) -> Absorbed:
    """The M-step of ReST-EM (paper, section 3.1): supervised fine-tuning on prompt -> kept edit."""
    return engine.absorb([_example(edit) for edit in kept], tuning, seed=seed)


def weighted(engine: Engine, kept: Sequence[SelfEdit], groups: Groups[SelfEdit], tuning: Tuning, *, seed: int) -> Absorbed:
    """The same, each edit's loss weighed by its reward. Weights have mean 1, so that the learning rate means what it meant."""
    earned = {one.item.id: one.reward for group in groups for one in group if one.reward is not None}
    usual = fmean(earned[edit.id] for edit in kept)
    return engine.absorb([_example(edit, earned[edit.id] / usual) for edit in kept], tuning, seed=seed)


def gradient(
    engine: Engine, kept: Sequence[SelfEdit], groups: Groups[SelfEdit], tuning: Tuning, how: PolicyGradient, *, seed: int
) -> Absorbed:
    """One pass of a group-normalised policy gradient (GRPO, arXiv 2402.03300) over edits the policy itself has just written.

    It is on-policy in its first optimiser step; ratios and clip answer for those that follow, if the tuning has more.
    """
    better = advantages(groups)
    examples = [_example(edit, better[edit.id]) for edit in kept]
    return engine.absorb(examples, _whole(tuning), seed=seed, objective=how)


def dpo(engine: Engine, kept: Sequence[SelfEdit], tuning: Tuning, how: Preference, *, seed: int) -> Absorbed:
    """Direct preference optimisation (arXiv 2305.18290). `kept`: best, worst, best, worst; two are one of a batch."""
    return engine.absorb([_example(edit) for edit in kept], _whole(tuning), seed=seed, objective=how)


def advantages(groups: Groups[SelfEdit]) -> dict[str, float]:
    """By edit id: its reward minus the mean of its group's, over their standard deviation; nothing for what has no reward."""
    found: dict[str, float] = {}
    for group in groups:
        rewards = {one.item.id: one.reward for one in group if one.reward is not None}
        if rewards:
            mean, spread = fmean(rewards.values()), pstdev(rewards.values())
            found |= {id: (reward - mean) / spread if spread else 0.0 for id, reward in rewards.items()}
    return found


def _example(edit: SelfEdit, weight: float = 1.0) -> Example:
    return Example(edit.text, edit.prompt, loss="completion", weight=weight)


def _whole(tuning: Tuning) -> Tuning:
    """The probability of an edit is that of all its tokens, whichever of them a tuning would have carry loss."""
    return replace(tuning, loss="completion")
