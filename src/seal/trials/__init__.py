"""Trials: a self-edit applied once with one seed, its answers graded. The only maker of Outcomes."""

from seal.trials.run import run, run_pooled, unchanged

__all__ = ["run", "run_pooled", "unchanged"]
