"""What a recipe may set about strategies, one table each; built into the strategy that it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

AtLeastNone = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Rehearsal = Annotated[int, Field(ge=0, le=16)]
"""No more than there are subjects to write about (`remembered.SUBJECTS`)."""
Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How much harm a step may do."""

    bound: Annotated[float, Field(ge=0)] = 0.05
    """Most that the log-probability of earlier edits or of the guards may fall, as a share of what it was."""
    surprise: Annotated[float, Field(ge=0)] = 6.1
    """An edit that costs the model of before the stream more nats a token than this is refused: it is word salad. The teacher's
    edits of the dev passages have 4.6 to 5.7, scrambled 6.5 to 8.0."""
    clash: Annotated[float, Field(ge=0, le=1)] = 0.1
    """An edit is refused too if more than this share of its lines repeats an earlier line with another name or number."""
    halvings: AtLeastNone = 3
    """How finely a harmful step is shrunk by bisection before it is refused."""
    earlier: AtLeastNone = 16
    """Examples of earlier edits that are scored, drawn anew at each step."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What is learnt again beside a new edit. Fixed sizes: a step costs the same early and late in a stream."""

    earlier: AtLeastNone = 8
    """Examples of earlier edits, drawn from all of them alike."""
    rehearsal: Rehearsal = 4
    """Replies that the model writes as it was before the stream; one that does not come to an end is not learnt."""
    tokens: AtLeastOne = 64
    """Most tokens of each reply."""


@dataclass(frozen=True, slots=True)
class LeashSettings:
    """What is held while an edit is learnt."""

    weight: Annotated[float, Field(ge=0)] = 2.0
    """A nat of KL divergence at a held token, against a nat of loss at one that is learnt."""
    guards: AtLeastNone = 8
    """Guards whose answers are held, drawn anew at each step."""
    rehearsal: Rehearsal = 4
    """Replies that the model wrote before the stream."""
    tokens: AtLeastOne = 32
    """Most tokens of each reply, and of each answer to a guard."""


@dataclass(frozen=True, slots=True)
class NullSpaceSettings:
    """Which directions a step leaves alone."""

    share: Share = 0.97
    """How much of a layer's inputs is protected: as many principal directions as hold this share of their squared length."""
    most: AtLeastOne = 256
    """Most directions of what the model knew before the stream, in a layer."""
    earlier: AtLeastNone = 16
    """Examples of earlier edits that are read, drawn anew at each step."""
    most_earlier: AtLeastOne = 64
    """Most directions of these."""
    rehearsal: Rehearsal = 16
    """Replies that the model wrote before the stream, read besides the guards."""
    tokens: AtLeastOne = 32
    """Most tokens of each reply, and of each answer to a guard."""


@dataclass(frozen=True, slots=True)
class SuperpositionSettings:
    """How well the adapters in one set of weights are told apart."""

    share: Share = 0.99
    """Where an adapter does as it did alone: on as many principal directions as hold this share of the squared length of what its
    problem gives a layer."""
    most: AtLeastOne = 96
    """Most directions of a problem in a layer."""
    guards: AtLeastNone = 4
    """Guards that are read besides the edit, with the model's answers: a question begins as they do."""
    tokens: AtLeastOne = 32
    """Most tokens of each answer."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One field a strategy that has something to set."""

    gate: GateSettings = GateSettings()
    replay: ReplaySettings = ReplaySettings()
    leash: LeashSettings = LeashSettings()
    null_space: NullSpaceSettings = NullSpaceSettings()
    superposition: SuperpositionSettings = SuperpositionSettings()
