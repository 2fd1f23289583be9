"""Trials: a self-edit applied once with one seed, its answers graded. The only maker of Outcomes."""

from seal.trials.run import Asks, Before, run, run_pooled, unchanged

__all__ = ["Asks", "Before", "run", "run_pooled", "unchanged"]
