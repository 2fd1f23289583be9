"""How fast the inner loop is, beside what else there is: the same rows, in one process, in turns, with the engine alone."""

from seal.bench.answers import bench_eval
from seal.bench.subject import Subject, open_subject
from seal.bench.train import bench_inner

__all__ = ["Subject", "bench_eval", "bench_inner", "open_subject"]
