"""How kept self-edits change the policy."""

from __future__ import annotations

from collections.abc import Sequence

from seal.protocols import Engine
from seal.types import Absorbed, Example, SelfEdit, Tuning


def rest_em(engine: Engine, kept: Sequence[SelfEdit], tuning: Tuning, *, seed: int) -> Absorbed:
    """The M-step of ReST-EM (paper, section 3.1): supervised fine-tuning on prompt -> kept edit."""
    return engine.absorb([Example(edit.text, edit.prompt, loss="completion") for edit in kept], tuning, seed=seed)
