"""`cnapse init`: a first cnapse.toml for some layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnapse.errors import ConfigError, LayerExistsError
from cnapse.store import Store

if TYPE_CHECKING:
    from cnapse.runs import LayerName

__all__ = ["init"]


def init(
    image: Annotated[
        str | None, typer.Option(help="EM: a precomputed layer.", show_default=False)
    ] = None,
    cells: Annotated[
        str | None,
        typer.Option(
            help="Segmentation of cells: a precomputed layer. Without it a run only finds where "
            "synapses are.",
            show_default=False,
        ),
    ] = None,
    probability: Annotated[
        str | None,
        typer.Option(
            help="A map that is there already: the run starts from it.", show_default=False
        ),
    ] = None,
    synapses: Annotated[
        str | None,
        typer.Option(
            help="Synapse objects that are there already: the run starts from them.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str, typer.Option(help="Folder the run writes to, counted from the file's folder.")
    ] = "run",
    file: Annotated[Path, typer.Option("-o", "--file", help="File to write.")] = Path(
        "cnapse.toml"
    ),
) -> None:
    """Write a cnapse.toml, filled in from the layers; says what it could not know.

    Give the layer that the run starts from, --image, --probability or --synapses, and --cells.
    """
    from cnapse.setup import draft

    if file.exists():
        raise LayerExistsError(f"{file} is there already: choose another name with -o")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"-o {file}: there is no folder {file.absolute().parent}")
    given: dict[LayerName, str | None] = {
        "image": image,
        "cells": cells,
        "probability": probability,
        "synapses": synapses,
    }
    layers = {name: path for name, path in given.items() if path is not None}
    made = draft(layers, output=output, folder=file.absolute().parent)
    Store(file.absolute().parent).put(file.name, made.text.encode())
    print(f"{file} written. Not known from the layers:")
    for note in made.unknown:
        print(f"  {note}")
    print(f"Then: cnapse run {file} --dry-run")
