"""`cnapse measure` and `cnapse partners`: the two steps of Cnapse on plain files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer

from cnapse.errors import BoundsError, ConfigError, TableError
from cnapse.geometry import Box
from cnapse.tables import PARTNERS, SYNAPSES, filled, read_table, write_table

__all__ = ["measure", "partners"]

Array = npt.NDArray[Any]

Synapses = Annotated[
    str,
    typer.Option(help="Synapse segmentation: TIFF (z, y, x), folder of TIFFs, or precomputed."),
]
Cells = Annotated[
    str, typer.Option(help="Cell segmentation of the same shape: TIFF, folder or precomputed.")
]
ResolutionOption = Annotated[
    tuple[float, float, float] | None,
    typer.Option(metavar="X Y Z", help="Voxel size in nm. Needed where the file does not tell it."),
]
Grow = Annotated[
    float,
    typer.Option(
        help="Grow cells so far (nm), in the plane, into what belongs to no cell: for "
        "segmentations that leave out wide membranes, or the synapses.",
        min=0,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Table to write: .csv or .parquet.")]

# The columns of the seed's own info table come first.
_INFO_FIRST = ["syn_id", "pre_id", "size", "x_pos", "y_pos", "z_pos"]


def measure(
    synapses: Synapses,
    cells: Cells,
    output: Output,
    resolution: ResolutionOption = None,
    grow_nm: Grow = 0.0,
    probability: Annotated[
        str | None, typer.Option(help="Probability map, for mean and maximum of each object.")
    ] = None,
) -> None:
    """Presynaptic cell, size and place of each synapse object in whole files."""
    from cnapse.synapses.measure import measure as measure_arrays

    _check_table_name(output)
    labels, box = _read(synapses, resolution)
    under = _grown(_read_same(cells, resolution, box, synapses), grow_nm, box)
    chance = _read_same(probability, resolution, box, synapses) if probability else None
    table = measure_arrays(labels, under, box, chance)
    ordered = [*_INFO_FIRST, *(name for name in table if name not in _INFO_FIRST)]
    _write(table[ordered], output)
    print(f"{len(table)} synapses written to {output}")


def partners(
    synapses: Synapses,
    cells: Cells,
    info: Annotated[
        Path,
        typer.Option(help="Table of `cnapse measure`, or of Cnapse: syn_id, pre_id, size."),
    ],
    output: Output,
    resolution: ResolutionOption = None,
    grow_nm: Grow = 0.0,
    names: Annotated[str, typer.Option(help="CSV of segment id and name.")] = "",
    preset: Annotated[str, typer.Option(help="Published parameters: cnapse or witvliet.")] = (
        "cnapse"
    ),
    method: Annotated[
        str, typer.Option(help="harmonic (exact), or montecarlo (walks, as published).")
    ] = "harmonic",
    particles: Annotated[
        int | None, typer.Option(help="Particles per synapse, instead of the preset's.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random walks.", min=0)] = 0,
) -> None:
    """Postsynaptic partners of each synapse in whole files, by diffusion."""
    from cnapse.names import load_names
    from cnapse.partners.assign import assign_many, parameters_of

    _check_table_name(output)
    known = load_names(names)
    overrides = {} if particles is None else {"particles": particles}
    parameters = parameters_of(preset, method=method, seed=seed, **overrides)
    given = read_table(info, columns=["syn_id", "pre_id", "size"])
    labels, box = _read(synapses, resolution)
    under = _grown(_read_same(cells, resolution, box, synapses), grow_nm, box)
    table = _located(given, labels, under, box, info)
    rows, per_synapse = assign_many(labels, under, box, table, parameters)
    made = {"cnapse_assign": json.dumps({**asdict(parameters), "preset": preset})}
    _write(_full_rows(rows, table, per_synapse, known), output, PARTNERS, made)
    found = rows["syn_id"].nunique()
    print(f"{len(rows)} partners of {found} of {len(table)} synapses written to {output}")


def _located(
    given: pd.DataFrame, labels: Array, cells: Array, box: Box, info: Path
) -> pd.DataFrame:
    """Where each synapse lies, from the arrays; its cell and size, as corrected in the table."""
    from cnapse.synapses.measure import measure as measure_arrays

    if given["syn_id"].duplicated().any():
        twice = given.loc[given["syn_id"].duplicated(), "syn_id"].iloc[0]
        raise TableError(f"{info}: synapse {twice} is there twice")
    measured = measure_arrays(labels, cells, box).set_index("syn_id")
    absent = given.loc[~given["syn_id"].isin(measured.index), "syn_id"]
    if len(absent):
        raise TableError(
            f"{info}: synapse {absent.iloc[0]} ({len(absent)} in all) has no voxel in the "
            "segmentation: give the table and the segmentation of the same run"
        )
    located = measured.loc[given["syn_id"]].reset_index()
    return located.assign(pre_id=given["pre_id"].to_numpy(), size=given["size"].to_numpy())


def _full_rows(
    rows: pd.DataFrame, table: pd.DataFrame, per_synapse: pd.DataFrame, names: Any
) -> pd.DataFrame:
    """The rows with names and with what they take over from their synapse."""
    source = table.set_index("syn_id").loc[rows["syn_id"]]
    flags = per_synapse.set_index("syn_id")["flags"].loc[rows["syn_id"]].to_numpy()
    positions = {name: source[name].to_numpy() for name in ("x_pos", "y_pos", "z_pos")}
    return rows.assign(
        **positions,
        pre=names.of(source["pre_id"]),
        pre_id=source["pre_id"].to_numpy(),
        post=names.of(rows["post_id"]),
        flags=source["flags"].to_numpy(np.uint32) | flags.astype(np.uint32),
        link="",
    )[PARTNERS.names]


def _read(path: str, resolution: tuple[float, float, float] | None) -> tuple[Array, Box]:
    from cnapse.volumes.files import read_volume

    return read_volume(path, resolution=resolution)


def _read_same(
    path: str, resolution: tuple[float, float, float] | None, box: Box, first: str
) -> Array:
    """A second volume, on the voxels of the first."""
    array, own = _read(path, resolution or box.resolution)
    if own.shape != box.shape:
        raise BoundsError(
            f"{path} has {own.shape} voxels (x, y, z), {first} has {box.shape}: "
            "give two volumes of the same voxels"
        )
    return array


def _grown(cells: Array, grow_nm: float, box: Box) -> Array:
    from cnapse.volumes.grow import grown_labels

    return grown_labels(cells, grow_nm, box.resolution) if grow_nm else cells


def _check_table_name(output: Path) -> None:
    if output.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--output {output}: a table is written as .csv or .parquet")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.absolute().parent}")


def _write(
    table: pd.DataFrame,
    output: Path,
    schema: Any = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    if output.suffix == ".parquet" and schema is None:
        write_table(filled(table, SYNAPSES), output, SYNAPSES)
        return
    write_table(table, output, schema, metadata)
