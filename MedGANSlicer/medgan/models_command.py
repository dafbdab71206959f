"""``medgan models``: the models there are, packed into a file to be shared, or added from one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from medgan import console

app = typer.Typer(invoke_without_command=True)


@app.callback()
def list_models(context: typer.Context, json: console.Json = False) -> None:
    """List the models and the model folders that can not be used; or pack one into a file, or add one from a file."""
    from dataclasses import asdict

    from medgan import models

    if context.invoked_subcommand is not None:
        return
    cards, broken = list(models.catalogue().values()), models.problems()
    if json:
        unusable = [{"folder": str(folder), "problem": problem} for folder, problem in broken.items()]
        console.print_json({"models": [asdict(card) for card in cards], "unusable": unusable})
        return
    if cards:
        console.models_table(cards)
    else:
        console.say("There are no models.")
    for problem in broken.values():
        console.note(f"Not usable: {problem}")


@app.command()
def pack(
    model: Annotated[str, typer.Argument(metavar="NAME", help="Name of a model, or a bundle folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", readable=False, help="The file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    json: console.Json = False,
) -> None:
    """Pack a model into one zip file that can be shared."""
    from medgan import bundle_files, models

    try:
        if os.path.lexists(out) and not overwrite:
            raise models.ModelError(f"'{out}' exists already; add --overwrite to replace it.")
        card = models.find(model)
        bundle_files.pack(card, out)
    except models.ModelError as error:
        raise console.failed(str(error), console.FAILED) from error
    size = out.stat().st_size
    if json:
        console.print_json({"name": card.name, "file": out, "bytes": size, "licence": card.licence})
    else:
        console.say(f"{card.name} -> {console.shown_path(out)}  ({size / 1e6:.1f} MB)")
    if not card.licence or card.licence == "not stated":
        console.note("Its card states no licence; say in its configs/metadata.json what others may do with it.")


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", readable=False, help="A model that was packed.")],
    name: Annotated[str, typer.Option(help="Another name for it.")] = "",
    json: console.Json = False,
) -> None:
    """Add a packed model to your models. Nothing in it is run."""
    from medgan import bundle_files, models

    try:
        ignored = bundle_files.left_out(file)
        card = bundle_files.add(file, name)
    except models.ModelError as error:
        raise console.failed(str(error), console.FAILED) from error
    if json:
        said = {"name": card.name, "folder": card.folder, "task": card.task, "title": card.title, "left_out": ignored}
        console.print_json(said)
        return
    if ignored:
        more = f" and {len(ignored) - 3} more" if len(ignored) > 3 else ""
        console.note(f"Left out, because no model needs it: {', '.join(ignored[:3])}{more}.")
    console.say(f"{card.name} -> {console.shown_path(card.folder)}  ({card.task}, {card.title})")
