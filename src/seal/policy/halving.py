"""Successive halving (Karnin, Koren & Somekh 2013): repeats go to the edits that may yet be a group's best.

Every edit is tried a little, the better half of them a little more, and so on until two are left, which get the most. A trial's
score is mostly noise of retraining, and the repeats of edits that are clearly out of the running teach nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from seal.stats import steady

Value = float | None
"""What one trial earned; None: nothing that could be measured, or a fault."""


def rungs(edits: int, repeats: int) -> list[tuple[int, int]]:
    """How many edits are in, and how many trials each of them gets then, rung by rung: all, half of them, ..., two.

    Together at most `edits * repeats` trials, as with `repeats` for every edit. Every rung gives an edit the same number, and
    what is left over goes to the last ones. (The equal shares a rung of the original would stake too much on the first cut.)
    """
    sizes = [edits]
    while sizes[-1] > 2:
        sizes.append(math.ceil(sizes[-1] / 2))
    each = [edits * repeats // max(1, sum(sizes))] * len(sizes)
    each[0] = max(1, each[0])
    left = edits * repeats - sum(map(int.__mul__, sizes, each))
    for rung in reversed(range(1, len(sizes))):
        if sizes[rung] <= left:
            each[rung] += 1
            left -= sizes[rung]
    return [(size, trials) for size, trials in zip(sizes, each, strict=True) if size and trials]


def next_trials(tried: Sequence[Mapping[int, Value]], repeats: int) -> list[tuple[int, int]]:
    """The trials, as (edit, repeat), that come next for a group; none when it is done.

    `tried[edit][repeat]`: what each trial so far earned. Nothing but these values decides, so a run that was stopped comes to the
    same trials. Among equals the earlier edit stays: edits of a group are drawn alike, so their order favours none.
    """
    standing = list(range(len(tried)))
    most = 0
    for size, each in rungs(len(tried), repeats):
        earned = {edit: [tried[edit][repeat] for repeat in range(most)] for edit in standing}
        standing = sorted(sorted(standing, key=lambda edit: _rank(earned[edit]))[:size])
        most += each
        missing = [(edit, repeat) for edit in standing for repeat in range(most) if repeat not in tried[edit]]
        if missing:
            return missing
    return []


def _rank(values: Sequence[Value]) -> float:
    """Smaller is better; an edit with a trial that earned nothing comes last, as it can't be selected."""
    known = [value for value in values if value is not None]
    return math.inf if len(known) < len(values) else -steady(math.fsum(known) / max(1, len(known)))
