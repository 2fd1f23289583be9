"""What an update minimises besides the plain loss: a function of the labels' log-probabilities now and before the update."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seal.types import Objective, PolicyGradient, Preference


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a step's rows: M labelled tokens in R rows."""

    logprob: Tensor
    """(M,) of each label, in nats; has the gradient."""
    before: Tensor
    """(M,) the same by the policy as it was before the update."""
    row: Tensor
    """(M,) which row a token is of."""
    weight: Tensor
    """(R,) `Row.weight`."""
    tokens: int
    """Labelled tokens of the whole step."""
    rows: int
    """Rows of the whole step."""


def together(objective: Objective | None) -> int:
    """Rows, one after the other, that have a loss only together."""
    return 2 if isinstance(objective, Preference) else 1


def loss(objective: Objective, part: Part) -> Tensor:
    """The part's share of the step's loss, a scalar: the shares of all parts add up to it."""
    return policy_gradient(part, objective) if isinstance(objective, PolicyGradient) else preference(part, objective)


def policy_gradient(part: Part, how: PolicyGradient) -> Tensor:
    """The clipped surrogate plus the leash. Where the policy has not moved yet, its gradient is that of -advantage * logprob."""
    advantage, moved = part.weight[part.row], part.logprob - part.before
    ratio = moved.exp()
    gained = torch.minimum(ratio * advantage, ratio.clamp(1 - how.clip, 1 + how.clip) * advantage)
    kl = (-moved).exp() + moved - 1  # never below 0; the KL divergence on average over what the policy itself draws
    return (how.kl * kl - gained).sum() / part.tokens


def preference(part: Part, how: Preference) -> Tensor:
    """-log sigmoid of beta times how much more the better row of each two gained than the worse one; the mean over the twos."""
    moved = torch.zeros_like(part.weight).index_add(0, part.row, part.logprob - part.before)
    better, worse = moved.view(-1, 2).unbind(1)
    return -F.logsigmoid(how.beta * (better - worse)).sum() / (part.rows // 2)
