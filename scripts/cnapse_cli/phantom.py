"""`cnapse phantom`: synthetic tissue with known synapses, as layers and tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from cnapse.errors import LayerExistsError
from cnapse.geometry import Grid
from cnapse.tables import write_table
from cnapse_cli.run import Bars

if TYPE_CHECKING:
    from cnapse.phantom import PhantomSpec
    from cnapse.volumes.reader import Kind

__all__ = ["phantom", "write_phantom"]

_CHUNK = (128, 128, 16)
_BLOCK = (512, 512, 16)


def phantom(
    output: Annotated[Path, typer.Argument(help="Folder to write to.", show_default=False)],
    shape: Annotated[tuple[int, int, int], typer.Option(metavar="X Y Z", help="Voxels.")] = (
        512,
        512,
        32,
    ),
    resolution: Annotated[
        tuple[float, float, float], typer.Option(metavar="X Y Z", help="Voxel size in nm.")
    ] = (4.0, 4.0, 50.0),
    offset: Annotated[
        tuple[int, int, int],
        typer.Option(metavar="X Y Z", help="First voxel: another place, another tissue."),
    ] = (0, 0, 0),
    seed: Annotated[int, typer.Option(help="Another seed, another tissue.", min=0)] = 0,
    gap: Annotated[
        float, typer.Option(help="Extracellular space in nm; 0 lets cells touch.", min=0)
    ] = 16.0,
    noise: Annotated[float, typer.Option(help="Noise; 1 is like serial-section TEM.", min=0)] = 1.0,
) -> None:
    """Write layers image and cells, and the truth: objects, an oracle's probability, tables."""
    from cnapse.phantom import PhantomSpec

    spec = PhantomSpec(
        shape=shape,
        resolution=resolution,
        voxel_offset=offset,
        seed=seed,
        gap_nm=gap,
        noise=noise,
    )
    synapses = write_phantom(spec, output)
    print(f"{synapses} synapses in {spec.bounds}, written to {output}")


def write_phantom(spec: PhantomSpec, output: Path, *, overwrite: bool = False) -> int:
    """Render a phantom block by block.

    Writes the layers ``image`` and ``cells``, and in ``truth`` the layers ``objects`` and
    ``probability`` (that of an oracle), ``synapses.csv`` and ``partners.csv``.

    Parameters
    ----------
    spec : PhantomSpec
    output : Path
    overwrite : bool
        Go on where the same phantom was begun.

    Returns
    -------
    int
        Number of synapses.

    Raises
    ------
    LayerExistsError
        If there is a phantom in the folder.
    """
    from cnapse.phantom import Phantom
    from cnapse.volumes.writer import create_layer

    if (output / "image/info").exists() and not overwrite:
        raise LayerExistsError(
            f"{output} has a layer `image` already: delete it, or choose another folder"
        )
    made = Phantom(spec)
    layers: dict[str, tuple[Kind, str, Path]] = {
        "image": ("image", "uint8", output / "image"),
        "cells": ("segmentation", "uint64", output / "cells"),
        "densities": ("segmentation", "uint64", output / "truth/objects"),
        "probability": ("image", "uint8", output / "truth/probability"),
    }
    writers = {
        name: create_layer(
            path,
            kind=kind,
            dtype=dtype,
            bounds=spec.bounds,
            chunk_size=_CHUNK,
            exist_ok=overwrite,
        )
        for name, (kind, dtype, path) in layers.items()
    }
    blocks = Grid(spec.bounds, _BLOCK)
    bars = Bars()
    bars.begin("phantom", len(blocks), 0)
    for number, block in enumerate(blocks):
        arrays = made.render(block.write)
        arrays["probability"] = np.where(arrays["densities"] > 0, np.uint8(255), np.uint8(0))
        for name, writer in writers.items():
            writer.write(arrays[name], block.write)
        bars.update(number + 1)
    bars.end()
    synapses, partners = made.truth()
    write_table(synapses, output / "truth/synapses.csv")
    write_table(partners, output / "truth/partners.csv")
    return len(synapses)
