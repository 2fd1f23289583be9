"""What self-edits and trials are called: the keys they are kept by."""

from __future__ import annotations

AGAIN = ".again"
"""The end of a phase of trials by which nothing is chosen, of edits that another phase has: how far equal trainings differ."""


def edit_id(phase: str, round: int, problem_id: str, index: int) -> str:
    """The id every self-edit has: `train/1/some-passage/0`."""
    return f"{phase}/{round}/{problem_id}/{index}"


def trial_id(edit_id: str, repeat: int) -> str:
    """The id every trial of a self-edit has."""
    return f"{edit_id}/{repeat}"


def base_id(phase: str, round: int, problem_id: str) -> str:
    """The id of the unchanged model's trial."""
    return f"{phase}/{round}/{problem_id}/base"
