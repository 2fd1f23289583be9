"""`seal bench inner`: training, against the paper's recipe, against the Trainer, and against the best loop over one adapter."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from seal.bench import trainer
from seal.bench.answers import APART, TOGETHER, Answers
from seal.bench.clock import QUICK, laps, machine, ratio, spread
from seal.bench.floor import floor_seconds, rate
from seal.bench.ours import Ours
from seal.bench.peft_loop import PeftLoop
from seal.bench.subject import Subject, parameters
from seal.bench.workload import EPOCHS, efficiency, lengths, rows
from seal.engine.attention import without_cudnn
from seal.engine.host import Host
from seal.engine.layouts import Layout
from seal.engine.stack import parameters as adapter_parameters

LOOP, DEFAULT, TRAINER, OFFICIAL = "PEFT loop", "PEFT loop, default AdamW", "PEFT + Trainer", "official (padded)"
SEVERAL = "official (padded), 3 rows"
START = "adapters started"
FIRST = ", first epoch"
"""Of adapters on the upper layers, beside their later epochs."""

ANSWERS = 70.0
"""Seconds of a quick bench that laps of training after the first leave to the answers."""

Ways = dict[str, Callable[[], object]]


@without_cudnn()  # theirs as ours
def bench_inner(
    subject: Subject,
    *,
    slots: Sequence[int] = (1, 4, 8, 16),
    upper: int | None = None,
    quick: bool = False,
    within: float | None = None,
    seed: int = 0,
    trained: Callable[[dict[str, Any]], object] = lambda _: None,
) -> dict[str, Any]:
    """Times every way on the same rows. `upper`: one way more, adapters on that many upper layers only, at the most slots. Layers
    below them are charged once in EPOCHS epochs, as a trial of the round has it, however many laps there are.

    `within`: seconds for the laps of training, the first taken whatever it needs; None: for a quick bench what QUICK has for
    them, else as many as they take. `quick`: also fewer adapters asked one after the other where QUICK is too short for all.
    `trained`: told all that is known after the laps of training, before those of answering, which may be cut off.
    A padded step always takes the same time, so a lap has one, or a few, and the round's is worked out from it.
    """
    until = time.perf_counter() + QUICK if quick else math.inf
    n, count = max(16 if quick else 32, max(slots)), 2 if quick else 5
    reference = subject.make()
    environment = machine(reference.device)
    host = Host(subject.make())
    drawn = rows(n, int(reference.config.vocab_size), seed)
    tokens, steps = sum(map(len, drawn)), (count + 1) * n
    layouts = {k: host.layout(k * tokens // n) for k in slots}  # as the engine trains where there is memory for it
    theirs = _theirs(subject, reference, drawn, steps)
    ours = _ours(subject, host, layouts, upper, drawn, steps)
    ways = dict(theirs)
    for name, bank in ours.items():
        if bank.tuning.layers is not None:
            ways[name + FIRST] = partial(bank.train_first, drawn)
        ways[name] = partial(bank.train, drawn)
    answers = Answers(subject, host, slots=max(slots), seed=seed, until=until)
    if quick and within is None:
        within = until - ANSWERS - time.perf_counter()
    times = laps(ways, count, within, device=host.device)
    times[OFFICIAL] = _round(times[OFFICIAL], times.pop(SEVERAL, None), n)
    for name in ours:
        if name + FIRST in times:
            times[name] = _epoch(times.pop(name + FIRST), times[name])
    best = min(slots, key=lambda k: statistics.median(times[f"K = {k}"]))
    flops = rate(reference, max(1, tokens * best // n))
    products, lora = parameters(reference), adapter_parameters(host.sites(subject.targets, subject.layers), subject.rank)
    floor = floor_seconds(products, lora, tokens, flops)

    def found() -> dict[str, Any]:
        return {
            "model": subject.name,
            "rank": subject.rank,
            "targets": list(subject.targets),
            "dtype": str(reference.dtype).removeprefix("torch."),
            "environment": environment,
            "rows": n,
            "tokens": tokens,
            "laps": len(times[LOOP]),
            "quicker": host.quicker,
            "train": _train(times, [way for way in ways if way in times], best, tokens, n)
            | {
                "seconds_per_edit": _seconds_per_edit(times, best, tokens, max(slots)),
                "fraction_of_floor": floor / statistics.median(times[f"K = {best}"]),
                "gflops": flops / 1e9,
                "answered": {"adapters": max(slots), "one_at_a_time": answers.asked} if APART in times else None,
                "layouts": {f"K = {k}": layout._asdict() for k, layout in layouts.items()},
            },
        }

    trained(found())
    answers.together()  # memory, and the choice of backends
    last = {START: ours[f"K = {best}"].start, TOGETHER: answers.together, APART: answers.one_at_a_time}
    times |= laps(last, 1 if quick else 3, device=host.device)
    times[APART] = answers.whole(times[APART])
    host.close()
    return found()


def _theirs(subject: Subject, reference: PreTrainedModel, drawn: Sequence[Sequence[int]], steps: int) -> Ways:
    """What PEFT does on these rows. The loops' first steps, which pay for memory, are done.

    A padded row takes a CPU many seconds, beside which building model and Trainer is nothing. It takes a GPU a fraction of one,
    so there the Trainer is warm, too, and three rows are timed as well: what is built once is then not counted for every row.
    """
    tuning = subject.tuning()
    loop, default = PeftLoop(subject.make(), tuning, steps), PeftLoop(subject.make(), tuning, steps, fused=False)
    for one in (loop, default):
        one.train(drawn[:2])

    def padded(rows: int) -> None:
        trainer.train(reference, tuning, drawn[:rows], padded=True)

    several: Ways = {}
    if reference.device.type != "cpu":
        padded(1)
        several[SEVERAL] = partial(padded, 3)
    return {
        OFFICIAL: partial(padded, 1),
        **several,
        TRAINER: lambda: trainer.train(reference, tuning, drawn, padded=False),
        DEFAULT: lambda: default.train(drawn),
        LOOP: lambda: loop.train(drawn),
    }


def _ours(
    subject: Subject, host: Host, layouts: Mapping[int, Layout], upper: int | None, drawn: Sequence[Sequence[int]], steps: int
) -> dict[str, Ours]:
    """A bank of each size on them. First steps, which pay for memory and for choosing backends, are done."""
    laid, most = {layout: host.copied(layout) for layout in set(layouts.values())}, max(layouts)
    banks = {f"K = {k}": Ours(host, subject.tuning(), k, steps, laid[layout]) for k, layout in layouts.items()}
    for k, bank in zip(layouts, banks.values(), strict=True):
        bank.train(drawn[:k])
    if upper is not None:
        tuning = replace(subject, layers=upper).tuning()
        bank = Ours(host, tuning, most, 2 * steps, laid[layouts[most]])  # a first and a later epoch in every lap
        bank.train(drawn[:most])
        banks[f"K = {most}, upper {upper} layers"] = bank
    return banks


def _round(one: Sequence[float], three: Sequence[float] | None, n: int) -> list[float]:
    """Seconds of `n` padded rows in every lap, from those of one and, where they were timed, of three."""
    if three is None:
        return [seconds * n for seconds in one]
    return [a + (n - 1) * (b - a) / 2 for a, b in zip(one, three, strict=True)]


def _epoch(first: Sequence[float], later: Sequence[float]) -> list[float]:
    """Seconds of one epoch in every lap, the mean over a trial's EPOCHS, from those of the first and of one that follows."""
    return [(a + (EPOCHS - 1) * b) / EPOCHS for a, b in zip(first, later, strict=True)]


def _train(times: dict[str, list[float]], ways: Sequence[str], best: int, tokens: int, n: int) -> dict[str, Any]:
    """The ratios of `n` rows' times, at the quickest number of slots, and every way by itself."""
    quickest = times[f"K = {best}"]
    return {
        "vs_peft_loop": ratio(times[LOOP], quickest),
        "vs_official": ratio(times[OFFICIAL], quickest),
        "vs_peft_loop_k1": ratio(times[LOOP], times["K = 1"]) if "K = 1" in times else None,
        "best_slots": best,
        "peft_loop_ms_per_step": statistics.median(times[LOOP]) / n * 1e3,
        "causes": _causes(times, quickest),
        "ways": [_way(name, times[name], tokens, times[LOOP]) for name in ways],
    }


def _causes(times: dict[str, list[float]], quickest: list[float]) -> dict[str, float | None]:
    """What each step from the paper's recipe to ours is worth; their product is about the whole. None: not timed."""
    alone = times.get("K = 1")
    return {
        "padding": ratio(times[OFFICIAL], times[TRAINER]),
        "trainer": ratio(times[TRAINER], times[DEFAULT]),
        "optimiser": ratio(times[DEFAULT], times[LOOP]),
        "engine": ratio(times[LOOP], alone) if alone else None,
        "batching": ratio(alone, quickest) if alone else None,
        "decode": ratio(times[APART], times[TOGETHER]) if APART in times else None,
    }


def _seconds_per_edit(times: dict[str, list[float]], best: int, tokens: int, asked: int) -> float | None:
    """What one self-edit takes where many share the work: it is started and trained among `best`, its passage's questions are
    answered among `asked`. None: not timed."""
    if TOGETHER not in times:
        return None
    name = f"K = {best}"
    start, answer = statistics.median(times[START]) / best, statistics.median(times[TOGETHER]) / asked
    return _training(name, times[name], tokens) + start + answer


def _training(name: str, seconds: list[float], tokens: int) -> float:
    """Seconds to train one self-edit of the round for EPOCHS, where `tokens` took so many and a bank idles towards its end."""
    edits = lengths().edits
    busy = efficiency(int(name.split()[2].rstrip(","))) if name.startswith("K") else 1.0
    return EPOCHS * sum(map(sum, edits)) / len(edits) * statistics.median(seconds) / tokens / busy


def _way(name: str, seconds: list[float], tokens: int, loop: list[float]) -> dict[str, Any]:
    median = statistics.median(seconds)
    return {
        "name": name,
        "ms_per_token": {key: value / tokens * 1e3 for key, value in spread(seconds).items()},
        "tokens_per_second": tokens / median,
        "edits_per_hour": 3600 / _training(name, seconds, tokens),
        "speedup": statistics.median(loop) / median,
    }
