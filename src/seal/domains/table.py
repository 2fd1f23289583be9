"""What a domain brings to a recipe: its own table."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from seal.protocols import Domain
from seal.types import Bounds, Tuning

Split = Literal["train", "dev", "test"]
"""What problems are for: to learn from, to make choices on, to measure."""


class DomainTable(BaseModel):
    """The fields of `[domain]` for one kind of domain. Unknown keys, infinities and NaN are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def plans_alone(self) -> bool:
        """Whether an edit is a plan and nothing else: it has no words to rate or to cut, and its training is its own."""
        return False

    def rooted(self, folder: Path) -> Self:
        """The same table whichever folder it is read in: a table with paths takes relative ones from `folder`."""
        return self

    @abstractmethod
    def build(self, tuning: Tuning, bounds: Bounds) -> Domain:
        """The domain, ready. `tuning`: of every edit that does not choose its own. Raises UserError for a bad or missing file."""
