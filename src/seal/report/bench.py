"""What `seal bench` found, as tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from seal.report.tables import Row


def bench(found: Row) -> Iterator[Table | Text]:
    """The parts of a benchmark's document: `train`, or `answer` and `sample`."""
    if "train" in found:
        yield from _train(found, found["train"])
    for part, against in (("answer", "vs_one_at_a_time"), ("sample", "vs_generate")):
        if part in found:
            yield _decoding(found, part)
            yield Text(f"{part}: {found[part][against]:.2f} times as fast; {_work(found[part])}")


def _train(found: Row, train: Row) -> Iterator[Table | Text]:
    work = f"{found['tokens']} tokens in {found['rows']} rows"
    title = f"{found['model']}, {found['dtype']}, rank {found['rank']}, {', '.join(found['targets'])}; {work}"
    table = Table("way", "ms a token", "least to most", "tokens/s", "edits/h", "x PEFT loop", title=title)
    for way in sorted(train["ways"], key=lambda one: -float(one["ms_per_token"]["median"])):
        ms = way["ms_per_token"]
        table.add_row(
            way["name"],
            f"{ms['median']:.2f}",
            f"{ms['least']:.2f} to {ms['most']:.2f}",
            f"{way['tokens_per_second']:.0f}",
            f"{way['edits_per_hour']:.0f}",
            f"{way['speedup']:.2f}",
        )
    yield table
    causes = ", ".join(f"{name} {value:.2f}x" for name, value in train["causes"].items() if value)
    yield Text(f"against the official recipe {train['vs_official']:.1f}x: {causes}")
    yield Text(f"against the PEFT loop ({train['peft_loop_ms_per_step']:.0f} ms a step) {train['vs_peft_loop']:.2f}x")
    if train["seconds_per_edit"] is not None:
        yield Text(f"one self-edit, trained and asked among {train['best_slots']}: {train['seconds_per_edit']:.2f} s")
        yield Text(_asked(train["answered"]))
    laid = "; ".join(f"{name} {layout['ahead']}, back {layout['back']}" for name, layout in train["layouts"].items())
    yield Text(f"how the weights lie: {laid}")
    yield Text(f"{train['fraction_of_floor']:.0%} of the floor at {train['gflops']:.0f} GFLOP/s, K = {train['best_slots']}")


def _work(part: Row) -> str:
    return f"{part['rows']} rows of {part['tokens']} tokens" if "rows" in part else _asked(part)


def _asked(answered: Row) -> str:
    """What the adapters were asked: where time was short, not all of them one after the other."""
    one, all_of_them = answered["one_at_a_time"], answered["adapters"]
    worked_out = "" if one == all_of_them else f", {one} of them one after the other, from which the rest is worked out"
    return f"{all_of_them} adapters were asked{worked_out}"


def _decoding(found: Row, part: str) -> Table:
    table = Table("way", "seconds", "least to most", "tokens/s", title=f"{part}: {found['model']}, {found['dtype']}")
    for way in found[part]["ways"]:
        seconds = way["seconds"]
        spread = f"{seconds['least']:.2f} to {seconds['most']:.2f}"
        table.add_row(way["name"], f"{seconds['median']:.2f}", spread, f"{way['tokens_per_second']:.0f}")
    return table
