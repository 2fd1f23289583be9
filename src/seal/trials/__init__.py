"""Trials: a self-edit applied once with one seed, its answers graded. The only maker of Outcomes."""

from seal.trials.groups import by_edit, by_problem, edits_by_problem
from seal.trials.run import Asks, Before, run, run_pooled, unchanged

__all__ = ["Asks", "Before", "by_edit", "by_problem", "edits_by_problem", "run", "run_pooled", "unchanged"]
