"""`seal grade`: a grader's verdicts on answers from a file."""

from __future__ import annotations

import json as text
from pathlib import Path
from typing import Annotated

import typer

from seal.cli.options import Json
from seal.errors import UserError

Row = tuple[str, str, str]
"""Question, target, answer."""


def grade(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="One {question, target, answer} a line.")],
    grader: Annotated[str, typer.Option("--grader", metavar="NAME", help="recall, f1, exact, contains.")] = "recall",
    json: Json = False,
) -> None:
    """Grade answers: a score for each, in the file's order; 0.5 or more is correct.

    Examples:
      seal grade answers.jsonl
      seal grade answers.jsonl --grader f1 --json
    """
    from seal.cli.output import print_json
    from seal.grading.lexical import grader as find
    from seal.stats import mean

    judge = find(grader)
    scores = [judge(*row).score for row in _read(file)]
    correct = [None if score is None else score >= 0.5 for score in scores]
    if json:
        print_json([{"score": score, "correct": verdict} for score, verdict in zip(scores, correct, strict=True)])
        return
    average = mean(scores)
    print(
        f"{len(scores)} answers by {grader}: {correct.count(True)} correct, {correct.count(False)} wrong, "
        f"{correct.count(None)} ungraded; mean score {'–' if average is None else f'{average:.3f}'}"
    )


def _read(file: Path) -> list[Row]:
    """The rows of the file. Raises UserError naming file, line and field."""
    try:
        content = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    # not splitlines: a string may hold other line separators than \n
    return [_row(line, f"{file}: line {number}") for number, line in enumerate(content.split("\n"), 1) if line.strip()]


def _row(line: str, where: str) -> Row:
    from seal.edits import files

    try:
        record = text.loads(line)
    except (text.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error})") from None
    question, answer = (files.text(record, field, where, blank=True) for field in ("question", "answer"))
    return question, files.text(record, "target", where), answer
