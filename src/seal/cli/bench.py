"""`seal bench`: how fast the inner loop is here, beside what else there is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from seal.cli.options import Json
from seal.errors import UserError

app = typer.Typer(help="How fast the inner loop is on this machine, measured beside what else there is.", no_args_is_help=True)

Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="A model's name, or tiny, llama-1b-shape, qwen-7b-shape, qwen3.5-100m-shape, lfm2-100m-shape: random weights.",
    ),
]
Rank = Annotated[int, typer.Option("--rank", min=1, help="Of the adapters.")]
Targets = Annotated[str, typer.Option("--targets", help="Linear layers by their last names, or all-linear.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda; auto = the GPU if there is one.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option("--dtype", help="Of the frozen weights; auto = float32 on a CPU, bfloat16 on a GPU that computes in it."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer laps, one at least: about five minutes at most on two cores.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; all cores that may be used if not given.")]
BenchSeed = Annotated[int, typer.Option("--seed", min=0, help="Which edits of the round are drawn.")]


@app.command("inner")
def inner(
    model: Model = "smollm2-135m",
    rank: Rank = 32,
    targets: Targets = "q_proj,v_proj",
    slots: Annotated[str, typer.Option("--slots", metavar="K,K", help="Numbers of adapters trained at once.")] = "1,4,8,16",
    upper: Annotated[int | None, typer.Option("--upper", min=1, help="One more: adapters on so many upper layers only.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quick: Quick = False,
    threads: Threads = None,
    seed: BenchSeed = 0,
    json: Json = False,
) -> None:
    """Training: the paper's recipe, PEFT with the Trainer, PEFT with a bare loop, and ours with K adapters at once.

    All train on the same rows, of the lengths of the official round, in turns, in this process.

    Examples:
      seal bench inner --quick
      seal bench inner --targets all-linear --rank 16 --upper 15 --json
    """
    try:
        numbers = tuple(int(part) for part in slots.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise UserError(f"--slots {slots!r}: must be whole numbers from 1 on, such as 1,4,16")
    subject = _subject(model, device, dtype, rank, targets, threads)
    from seal.bench import bench_inner

    _print(bench_inner(subject, slots=numbers, upper=upper, quick=quick, seed=seed), json)


@app.command("eval")
def evaluate(
    model: Model = "smollm2-135m",
    rank: Rank = 32,
    targets: Targets = "q_proj,v_proj",
    slots: Annotated[int, typer.Option("--slots", min=1, help="Adapters that answer at once.")] = 16,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quick: Quick = False,
    threads: Threads = None,
    seed: BenchSeed = 0,
    json: Json = False,
) -> None:
    """Answering with many adapters at once against one after the other, and sampling against transformers' generate.

    Examples:
      seal bench eval --quick
      seal bench eval --slots 8 --json
    """
    subject = _subject(model, device, dtype, rank, targets, threads)
    from seal.bench import bench_eval

    _print(bench_eval(subject, slots=slots, quick=quick, seed=seed), json)


def _subject(model: str, device: str, dtype: str, rank: int, targets: str, threads: int | None) -> Any:
    from seal.bench import open_subject
    from seal.machine import use_threads

    use_threads(threads)
    return open_subject(model, device=device, dtype=dtype, rank=rank, targets=targets)


def _print(found: dict[str, Any], json: bool) -> None:
    from seal.cli.output import print_json, print_whole
    from seal.report.bench import bench

    if json:
        print_json(found)
        return
    for table in bench(found):
        print_whole(table)
