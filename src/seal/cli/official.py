"""`seal official`: files released with the paper's code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seal.cli.options import Json
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.loops.official import Select

Rule = Literal["best_of_group", "gaining", "top_fraction"]
Ties = Literal["first", "seed"]

app = typer.Typer(help="Read the files released with the paper's code (Continual-Intelligence/SEAL).")


@app.command("select")
def select(
    file: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="A result file: run_*.json or rank_*.json.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Where the rows go, one JSON object a line.")],
    rule: Annotated[Rule, typer.Option("--rule", help="Which self-edits are kept.")] = "best_of_group",
    ties: Annotated[Ties, typer.Option("--ties", help="Among equals: the first, or one drawn by --seed.")] = "first",
    floor: Annotated[float | None, typer.Option("--floor", help="best_of_group: keep only what gains more than this.")] = None,
    fraction: Annotated[float | None, typer.Option("--fraction", min=0, max=1, help="top_fraction: the share kept.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="For --ties seed; without it, 0.")] = None,
    json: Json = False,
) -> None:
    """The rows of supervised fine-tuning that a result file selects: prompt and kept self-edit.

    Examples:
      seal official select rank_iter0.json --out sft.jsonl
      seal official select rank_iter0.json --out sft.jsonl --rule gaining
      seal official select rank_iter0.json --out sft.jsonl --rule top_fraction --fraction 0.2 --ties seed --seed 1
    """
    from seal.cli.output import print_json, writing
    from seal.loops.official import jsonl, official_select

    rows = official_select(file, _rule(rule, ties, floor, fraction, seed))
    with writing(f"--out {out}"):
        out.write_text(jsonl(rows), encoding="utf-8")
    if json:
        print_json({"rows": len(rows), "out": str(out)})
    else:
        print(f"{len(rows)} rows in {out}")


@app.command("sequences")
def sequences(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="A self-edit file or a result file, of any released style.")],
    no_split_newlines: Annotated[
        bool, typer.Option("--no-split-newlines", help="One sequence a `---` segment instead of one a line.")
    ] = False,
    json: Json = False,
) -> None:
    """The training sequences of each article's each self-edit, the passage last.

    Examples:
      seal official sequences gpt4_1.json
      seal official sequences gpt4_1.json --no-split-newlines --json
    """
    from seal.cli.output import print_json
    from seal.edits.official import sequences as read

    articles = read(file, split_newlines=not no_split_newlines)
    if json:
        print_json(articles)
        return
    for number, edits in enumerate(articles, 1):
        for index, found in enumerate(edits, 1):
            print(f"== article {number}, self-edit {index}: {len(found)} sequences")
            print(*found, sep="\n--\n", end="\n\n")


@app.command("continual")
def continual(
    file: Annotated[list[Path], typer.Argument(metavar="SUMMARY.json...", help="Summaries of the paper's continual runs.")],
    json: Json = False,
) -> None:
    """The forgetting matrix of one or more summary files, pooled over their streams.

    Examples:
      seal official continual overall_results.json
      seal official continual run0/summary.json run1/summary.json --json
    """
    from seal.cli.output import print_json, print_whole
    from seal.report.forgetting import official_row, read_official
    from seal.report.render import matrix, number

    row = official_row(read_official(file))
    if json:
        print_json(row)
        return
    print_whole(matrix(row))
    means = ", ".join(f"{name} {number(row[name])}" for name in ("base", "diagonal", "last", "backward", "forgetting"))
    print(f"{row['streams']} streams: {means}")


def _rule(rule: Rule, ties: Ties, floor: float | None, fraction: float | None, seed: int | None) -> Select:
    from seal.policy.selection import best_of_group, gaining, top_fraction

    if floor is not None and rule != "best_of_group":
        raise UserError(f"--floor goes with --rule best_of_group; leave it out with {rule}")
    if seed is not None and ties != "seed":
        raise UserError("--seed goes with --ties seed; leave it out, or draw among equals by it")
    if ties == "seed" and rule == "gaining":
        raise UserError("--ties goes with a rule that chooses among equals; leave it out with gaining, which keeps all that gain")
    drawn_by = seed or 0
    if rule == "top_fraction":
        if fraction is None:
            raise UserError("--rule top_fraction needs --fraction, for example --fraction 0.2")
        return lambda groups: top_fraction(groups, fraction, ties=ties, seed=drawn_by)
    if fraction is not None:
        raise UserError(f"--fraction goes with --rule top_fraction; leave it out with {rule}")
    if rule == "gaining":
        return gaining
    return lambda groups: best_of_group(groups, ties=ties, floor=floor, seed=drawn_by)
