"""A run's directory and its SQLite file. No other room knows a file name of a run."""

from seal.ids import edit_id, trial_id
from seal.store.directory import RunInfo, undated
from seal.store.store import Store, is_run, names, runs

__all__ = ["RunInfo", "Store", "edit_id", "is_run", "names", "runs", "trial_id", "undated"]
