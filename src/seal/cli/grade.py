"""`seal grade`: a grader's verdicts on answers from a file."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seal.cli.options import Json
from seal.errors import SealError, UserError

if TYPE_CHECKING:
    from seal.grading.grade import Grader, Row
    from seal.protocols import Notify

STDIN = "standard input"


def grade(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.jsonl", help="One {question, target, answer} a line; - is standard input.")
    ],
    grader: Annotated[
        str, typer.Option("--grader", metavar="NAME", help="recall, f1, exact, contains, values, calibrated, judge.")
    ] = "recall",
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Judge: the model that judges.")] = None,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Judge: the endpoint, up to /v1.")] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="VARIABLE", help="Judge: environment variable with the key.")
    ] = None,
    calls: Annotated[int | None, typer.Option("--calls", min=0, help="Judge: most judgements to ask for.")] = None,
    at_once: Annotated[int | None, typer.Option("--at-once", min=1, help="Judge: requests under way together.")] = None,
    price_in: Annotated[float | None, typer.Option("--price-in", min=0, help="Judge: dollars a million prompt tokens.")] = None,
    price_out: Annotated[float | None, typer.Option("--price-out", min=0, help="Judge: dollars a million reply tokens.")] = None,
    reply_tokens: Annotated[
        int | None, typer.Option("--reply-tokens", min=1, help="Judge: most tokens of a reply (16); one that thinks needs more.")
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", metavar="FILE", help="Judge: keeps every verdict.")] = None,
    json: Json = False,
) -> None:
    """Grade answers: a score for each, in the file's order; 0.5 or more is correct.

    Examples:
      seal grade answers.jsonl
      seal grade answers.jsonl --grader calibrated --json
      seal grade - --grader judge --model gpt-4.1-2025-04-14 --calls 500
      seal grade answers.jsonl --grader judge --model qwen --url http://localhost:8000/v1
    """
    from seal.cli.output import print_json
    from seal.cli.progress import Display
    from seal.grading.grade import correct, grade_all
    from seal.stats import mean

    settings = {
        "model": model,
        "url": url,
        "key": key,
        "calls": calls,
        "at_once": at_once,
        "price_in": price_in,
        "price_out": price_out,
        "reply_tokens": reply_tokens,
        "cache": cache and str(cache),
    }
    with Display() as display:
        notify = display.stages(lambda: str(model))
        judge = _grader(grader, {name: value for name, value in settings.items() if value is not None}, notify)
        rows = _read(file)
        try:
            scores = [one.score for one in grade_all(judge, rows)]
        finally:  # what was asked before an interruption has been paid for
            spent = getattr(judge, "spent", None)
            if spent is not None:
                display.note(str(spent))
    if spent is not None and spent.failed == spent.calls > 0 and not spent.cached:
        raise SealError(f"not one of {spent.calls} judgements was given; the last failure: {spent.failure}")
    verdicts = [correct(score) for score in scores]
    if json:
        print_json([{"score": score, "correct": verdict} for score, verdict in zip(scores, verdicts, strict=True)])
        return
    average = mean(scores)
    print(
        f"{len(scores)} answers by {grader}: {verdicts.count(True)} correct, {verdicts.count(False)} wrong, "
        f"{verdicts.count(None)} ungraded; mean score {'–' if average is None else f'{average:.3f}'}"
    )


def _grader(name: str, settings: dict[str, Any], notify: Notify) -> Grader:
    from seal.grading.graders import JUDGE, grader

    if name != JUDGE:
        found = grader(name)
        if settings:
            given = ", ".join("--" + one.replace("_", "-") for one in settings)
            raise UserError(f"{given}: for --grader judge only; leave it out")
        return found
    if "model" not in settings:
        raise UserError("--grader judge needs --model: the model that judges, as its endpoint calls it")
    from seal.grading.judge import Judge, Judging

    return Judge(Judging(**settings), notify)


def _read(file: Path) -> list[Row]:
    """The rows of the file. Raises UserError naming file, line and field."""
    where = STDIN if str(file) == "-" else str(file)
    try:
        content = sys.stdin.buffer.read().decode("utf-8-sig") if where == STDIN else file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    # not splitlines: a string may hold other line separators than \n
    return [_row(line, f"{where}: line {number}") for number, line in enumerate(content.split("\n"), 1) if line.strip()]


def _row(line: str, where: str) -> Row:
    from seal import files

    record = files.loads(line, where, line=True)
    question = files.text(record, "question", where, blank=True)
    return question, _text(record, "target", where), _text(record, "answer", where, blank=True)


def _text(record: Any, field: str, where: str, *, blank: bool = False) -> str:
    """A text, or a number as one: 1886 is "1886"."""
    from seal import files

    found = files.value(record, field, where)
    number = type(found) is int or (type(found) is float and math.isfinite(found))
    return str(found) if number else files.text(record, field, where, blank=blank)
