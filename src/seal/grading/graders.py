"""Graders by name. The judge is not among them: it has settings, and is built from those."""

from __future__ import annotations

from seal.grading.calibrated import calibrated
from seal.grading.grade import Grader
from seal.grading.lexical import LEXICAL
from seal.named import find, refuse_class, refuse_other_arguments, refuse_unknown

GRADERS: dict[str, Grader] = {**LEXICAL, "calibrated": calibrated}
JUDGE = "judge"


def grader(name: str) -> Grader:
    """One of ours by its name, or anybody's as `module:function`. Raises UserError if there is none, or if it cannot be called as
    one."""
    refuse_unknown("grader", name, {*GRADERS, JUDGE})
    found: Grader = find("grader", name, GRADERS)
    refuse_class(f"grader {name!r}", found)
    refuse_other_arguments(f"grader {name!r}", found, "question", "target", "answer")
    return found
