"""Graders by name. The judge is not among them: it has settings, and is built from those."""

from __future__ import annotations

from seal.errors import unknown
from seal.grading.calibrated import calibrated
from seal.grading.grade import Grader
from seal.grading.lexical import LEXICAL

GRADERS: dict[str, Grader] = {**LEXICAL, "calibrated": calibrated}
JUDGE = "judge"


def grader(name: str) -> Grader:
    """The grader of that name. Raises UserError with the nearest known name."""
    if name not in GRADERS:
        raise unknown("grader", name, [*GRADERS, JUDGE])
    return GRADERS[name]
