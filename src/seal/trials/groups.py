"""Edits and outcomes sorted by what they are of."""

from __future__ import annotations

from collections.abc import Iterable

from seal.types import Outcome, SelfEdit


def edits_by_problem(edits: Iterable[SelfEdit]) -> dict[str, list[SelfEdit]]:
    """Edits by the id of their problem."""
    groups: dict[str, list[SelfEdit]] = {}
    for one in edits:
        groups.setdefault(one.problem_id, []).append(one)
    return groups


def by_problem(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by the id of their problem."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(one.trial.problem.id, []).append(one)
    return groups


def by_edit(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by the id of their edit; those of the unchanged model are of none."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        if one.trial.edit:
            groups.setdefault(one.trial.edit.id, []).append(one)
    return groups
