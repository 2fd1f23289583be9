"""`seal ask` and `seal chat`: questions to an adapted model, and to the same model without its adapter."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seal.cli.options import Json
from seal.cli.own_recipe import model_recipe
from seal.cli.policies import run_of
from seal.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from seal.config import Recipe
    from seal.config.recipe import ModelTable
    from seal.loops.talk import Said, Talk
    from seal.models import About

WITH, WITHOUT = "adapter", "base"
TITLES = {WITH: "with the adapter", WITHOUT: "without"}
COMMANDS = {"/exit": "ends it, as Ctrl-D does", "/reset": "forgets what was said"}

Adapter = Annotated[Path, typer.Argument(metavar="ADAPTER", help="A PEFT adapter directory, such as policy/round-1 of a run.")]
Compare = Annotated[bool, typer.Option("--compare", help="Beside it, what the model says without the adapter.")]
Base = Annotated[
    str | None, typer.Option("--base", metavar="MODEL", help="The model it is for, instead of what the adapter says.")
]
Temperature = Annotated[float, typer.Option("--temperature", min=0, help="0: the likeliest words; above, they are drawn.")]
Plain = Annotated[bool, typer.Option("--plain", help="As typed, without the words that adapters are tested with.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="For --temperature above 0.")]


def ask(
    adapter: Adapter,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    topic: Annotated[str, typer.Option("--topic", help="Title of the document it is about; tests name it too.")] = "",
    compare: Compare = False,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Most tokens of the answer.")] = 64,
    temperature: Temperature = 0.0,
    plain: Plain = False,
    base: Base = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Ask an adapted model one question, put as the knowledge domain puts its own.

    Examples:
      seal ask runs/2026-01-31-bundled/policy/round-1 "What name does the oar give itself?"
      seal ask my-adapter "Which girl questions the oar?" --topic "The Seventh Oar" --compare
      seal ask my-adapter "What is a spare oar for?" --json
    """
    from seal.cli.output import console, print_json

    if not question.strip():
        raise UserError("the question is empty")
    about, model = _about(adapter, base)
    talk = _open(adapter, about, model, base, compare, max_tokens, temperature, plain)
    said = talk.say(question, title=topic, seed=seed)
    if json:
        answers = {side: {key: value for key, value in asdict(one).items() if key != "forgotten"} for side, one in said.items()}
        print_json({"adapter": str(adapter), "model": about.base, "question": question, "topic": topic, "answers": answers})
        return
    _print(said, console(piped=100))


def chat(
    adapter: Adapter,
    compare: Compare = False,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Most tokens of a reply.")] = 256,
    temperature: Temperature = 0.0,
    plain: Plain = False,
    base: Base = None,
    seed: Seed = 0,
) -> None:
    """Talk with an adapted model, which remembers what was said; /reset forgets it, Ctrl-D or /exit ends it.

    Lines can come from a pipe as well.

    Examples:
      seal chat runs/2026-01-31-bundled/policy/round-1
      seal chat my-adapter --compare
      seal chat my-adapter --plain --temperature 0.7
    """
    from seal.cli.output import console

    talk = _open(adapter, *_about(adapter, base), base, compare, max_tokens, temperature, plain)
    out, typed = console(piped=100), sys.stdin.isatty()
    if typed:
        out.print("; ".join(f"{name} {what}" for name, what in COMMANDS.items()), style="dim")
    turn = 0
    while (line := _line(typed)) is not None and line != "/exit":
        if line == "/reset":
            talk.reset()
            out.print("nothing was said yet", style="dim")
        elif line.startswith("/"):
            out.print(f"no command {line.split()[0]!r}; there are {' and '.join(COMMANDS)}", style="dim", markup=False)
        elif line:
            try:
                said = talk.say(line, seed=seed + turn)
            except UserError as error:  # a question that is too long ends no conversation
                out.print(str(error), style="dim", markup=False)
                continue
            turn += 1
            _print(said, out)


def _line(typed: bool) -> str | None:
    """What the user says next, white space cut off; None: nothing any more."""
    if typed:
        with suppress(ImportError):  # Windows has none
            import readline  # noqa: F401  # the arrow keys

    try:
        return input("> " if typed else "").strip()
    except EOFError:
        if typed:
            print()
        return None
    except UnicodeDecodeError as error:
        raise UserError(f"what was typed is not text ({error.reason})") from None


def _print(said: dict[str, Said], out: Console) -> None:
    """One reply as text, two side by side."""
    from rich.table import Table
    from rich.text import Text

    texts = {side: Text(one.text + ("" if one.ended else " ...")) for side, one in said.items()}
    if len(said) == 1:
        out.print(*texts.values())
    else:
        table = Table(*(TITLES[side] for side in said), expand=True)
        table.add_row(*texts.values())
        out.print(table)
    if any(not one.ended for one in said.values()):
        print("... cut: --max-tokens", file=sys.stderr)
    forgotten = max(one.forgotten for one in said.values())
    if forgotten:
        print(f"the earliest turns no longer fit the model and are forgotten ({forgotten})", file=sys.stderr)


def _about(adapter: Path, base: str | None) -> tuple[About, ModelTable]:
    """What the adapter says of itself, and how its model is opened; one in a run is asked as the run's recipe opens it."""
    from dataclasses import replace

    from seal.config.recipe import ModelTable
    from seal.models.adapter import names_base, read_about

    about = read_about(adapter, base)
    if not names_base(adapter) and (recipe := _recipe_of(adapter)):
        # its device is that of the machine that trained
        model = recipe.model.model_copy(update={"device": "auto"})
        if base is not None and base != model.name:  # whose code nobody has trusted
            model = model.model_copy(update={"name": base, "trust_remote_code": False})
        return replace(about, base=model.name, chat=model.chat), model
    return about, ModelTable(name=about.base, chat=about.chat)


def _recipe_of(adapter: Path) -> Recipe | None:
    """That of the run it lies in, if it lies in one that has a recipe."""
    from seal.store import Store

    run = run_of(adapter)
    if run is None:
        return None
    with Store.open(run, write=False) as store:
        return model_recipe(store) if store.recipe_toml else None


def _open(
    adapter: Path,
    about: About,
    model: ModelTable,
    base: str | None,
    compare: bool,
    max_tokens: int,
    temperature: float,
    plain: bool,
) -> Talk:
    from seal.cli.progress import Display
    from seal.config import Recipe
    from seal.loops import build
    from seal.loops.talk import Talk
    from seal.types import Sampling

    with Display() as display:
        try:
            engine = build.engine(Recipe(name="talk", model=model), say=display.say)
        except UserError as error:
            if base is not None:
                raise UserError(f"--base {base}: {error}") from None
            way = "--base MODEL names it otherwise"
            raise UserError(f"{adapter} is for {about.base!r}, which cannot be opened: {error}; {way}") from None
        engine.load(adapter)  # a wrong one is refused before anything is typed
    sides = {WITH: adapter, **({WITHOUT: None} if compare else {})}
    how = Sampling(temperature=temperature, max_tokens=max_tokens)
    return Talk(engine, engine.language.context, sides, how, "plain" if plain else about.reading)
