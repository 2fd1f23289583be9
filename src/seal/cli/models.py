"""`seal models`: the models that come by name."""

from __future__ import annotations

from typing import Annotated

import typer

from seal.cli.options import Json

app = typer.Typer()


@app.callback(invoke_without_command=True)
def models(context: typer.Context, json: Json = False) -> None:
    """The models that come by name, and whether they are here. Any other is named by its hub id or path in a recipe.

    Examples:
      seal models
      seal models pull smollm2-135m
      seal train bundled model.name=Qwen/Qwen2.5-0.5B-Instruct
    """
    if context.invoked_subcommand is not None:
        return
    from seal.cli.output import print_json
    from seal.models import describe

    found = describe()
    if json:
        rows = [{"name": one.name, "about": one.about, "bytes": one.download, "pulled": one.pulled} for one in found]
        print_json({"models": [{**row, "path": str(one.path)} for row, one in zip(rows, found, strict=True)]})
        return
    for one in found:
        state = f"here, in {one.path}" if one.pulled else f"not here yet: seal models pull {one.name}"
        print(f"{one.name}  {one.about}, {one.download / 1e6:,.0f} MB; {state}")


@app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="A name `seal models` lists, or a hub id.")] = "smollm2-135m", json: Json = False
) -> None:
    """Fetch a model once; it opens without a network ever after.

    Examples:
      seal models pull
      seal models pull Qwen/Qwen2.5-0.5B-Instruct
    """
    from seal.cli.output import print_json
    from seal.cli.progress import Display
    from seal.models import pull as fetch
    from seal.models import pull_hub

    if "/" in name:
        path = pull_hub(name)
    else:
        with Display() as display:
            path = fetch(name, say=display.say)
    if json:
        print_json({"name": name, "path": str(path)})
    else:
        print(f"{name} is in {path}")
