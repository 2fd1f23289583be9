"""What a recipe may set about strategies, one table each; built into the strategy that it is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How much harm a step may do."""

    bound: float = 0.05
    """Most that the log-probability of earlier edits or of the probes may fall, as a share of what it was."""
    surprise: float = 6.0
    """An edit of more nats a token under the model before is refused unread: word salad."""
    halvings: int = 3
    """How finely a harmful step is shrunk by bisection before it is refused."""
    earlier: int = 16
    """Examples of earlier edits that are scored, drawn anew at each step."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What is learnt again beside a new edit. Fixed sizes: a step costs the same early and late in a stream."""

    earlier: int = 8
    """Examples of earlier edits, drawn from all of them alike."""
    rehearsal: int = 4
    """Replies that the model writes as it was before the stream."""
    tokens: int = 48
    """Most of each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One field a strategy that has something to set."""

    gate: GateSettings = GateSettings()
    replay: ReplaySettings = ReplaySettings()
