"""The `seal` command: its verbs, and what becomes of every error."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from seal import __version__
from seal.cli import (
    adapt,
    arc,
    bench,
    compare,
    continual,
    demo,
    doctor,
    evaluate,
    export,
    grade,
    models,
    official,
    recipes,
    report,
    runs,
    show,
    talk,
    train,
    watch,
)
from seal.errors import SealError, UserError

app = typer.Typer(
    name="seal",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("continual")(continual.continual)
app.command("undo")(continual.undo)
app.command("watch")(watch.watch)
app.command("show")(show.show)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("adapt")(adapt.adapt)
app.command("ask")(talk.ask)
app.command("chat")(talk.chat)
app.command("runs")(runs.runs)
app.command("compare")(compare.compare)
app.command("grade")(grade.grade)
app.command("recipes")(recipes.recipes)
app.command("doctor")(doctor.doctor)
app.add_typer(arc.app, name="arc")
app.add_typer(bench.app, name="bench")
app.add_typer(models.app, name="models")
app.add_typer(official.app, name="official")

START = """\
SEAL: language models that adapt themselves. To start with:

  seal demo            the whole method on a small model, on any CPU, in a few minutes
  seal train bundled   the full run; every recipe: seal recipes
  seal show last       what the last run's self-edits said and did

Everything else: seal --help. Names of verbs, runs and recipes complete after: seal --install-completion"""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"seal {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Language models that adapt themselves: self-edits, inner loop, outer loop.

    Examples:
      seal demo
      seal train bundled outer.rounds=2
      seal eval last
      seal show last --worst
    """
    if context.invoked_subcommand is None:
        typer.echo(START)


def main() -> None:
    """The console script."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # where it is not UTF-8, a dash is no reason to fail after the work is done
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs a command line; its exit code: 0 done, 1 failed, 2 the user's mistake, 130 interrupted."""
    try:
        return app(list(arguments), prog_name="seal", standalone_mode=False) or 0
    except typer.TyperException as error:  # a flag or an argument that cannot be
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        flag = getattr(error, "option_name", None) or ""
        if "." in flag:
            hint = f"; a recipe's value is given without the dashes: {flag.lstrip('-')}=..."
        return _fail(error, f"{error.format_message().strip().rstrip('.')}{hint}", error.exit_code)
    except KeyboardInterrupt:  # before a verb has begun, or after it is done
        return 130
    except UserError as error:
        return _fail(error, str(error), 2)
    except (SealError, MemoryError, FloatingPointError) as error:
        return _fail(error, str(error), 1)
    except Exception as error:
        return _fail(error, f"{_first_line(error)}; {_trace()}", 1)


def _fail(error: Exception, message: str, code: int) -> int:
    print(f"seal: {message}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(note, file=sys.stderr)
    return code


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]


def _trace() -> str:
    """Puts the traceback where the user can find it, and says where that is."""
    if os.environ.get("SEAL_DEBUG"):
        traceback.print_exc()
        return "the traceback is above"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="seal-", suffix=".txt", encoding="utf-8", delete=False) as file:
            traceback.print_exc(file=file)
    except OSError as error:  # what fails may have failed because the disk is full
        return f"the traceback could not be written ({error}); SEAL_DEBUG=1 shows it"
    return f"the traceback is in {file.name}, and SEAL_DEBUG=1 shows it"
