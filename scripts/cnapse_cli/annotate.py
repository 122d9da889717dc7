"""`cnapse annotate`: a synapse table of any project becomes a layer of lines or points."""

from __future__ import annotations

import os
from typing import Annotated

import typer

__all__ = ["annotate"]


def annotate(
    table: Annotated[
        str,
        typer.Argument(
            help="A table as Parquet, Feather or CSV, a folder of such parts, or a CREMI HDF5 "
            "file; of cnapse itself, or of CAVE, neuPrint, FlyWire or Synaptor.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            help="The layer to make: a folder, gs:// or s3:// path.", show_default=False
        ),
    ],
    resolution: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="X Y Z",
            help="Nanometres of one unit of the table's positions: the voxel size, or 1 1 1. "
            "Needed for CAVE and Synaptor. Of cnapse's own tables: the unit to store them in.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="cnapse, cave, neuprint, flywire, synaptor, cremi or other. Default: what the "
            "columns tell.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=COLUMN",
            help="What a column is, where it has another name; as often as needed. Roles: id, "
            "pre_cell, post_cell, synapse, pre_x, pre_y, pre_z, post_x, ..., centre_x, ..., size, "
            "share, score, pre_score, post_score, flags; pre, post, centre for columns of lists.",
        ),
    ] = None,
    points: Annotated[
        bool,
        typer.Option(
            "--points", help="A point a row (the centre, or the presynaptic place), not a line."
        ),
    ] = False,
    sharded: Annotated[
        bool | None,
        typer.Option(
            "--sharded/--unsharded",
            help="Many entries a file, or a file an entry. Default: sharded from 10,000 rows on.",
        ),
    ] = None,
    skip_missing: Annotated[
        bool,
        typer.Option("--skip-missing", help="Leave rows without a position out, and count them."),
    ] = False,
    properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            metavar="COLUMN[=TYPE]",
            help="A further column to keep, for shaders and the list of annotations; as often as "
            "needed. TYPE: float32 (default), uint8, int8, uint16, int16, uint32 or int32.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads. Default: one a processor.", min=1)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a layer that is there.")
    ] = False,
) -> None:
    """Make a Neuroglancer layer of a synapse table: lines from pre to post, tied to their cells."""
    from cnapse.interchange import SourceOptions, open_source, write_source
    from cnapse.interchange.formats import parse_mapping, parse_properties

    options = SourceOptions(
        kind,
        parse_mapping(columns or ()),
        resolution,
        points,
        skip_missing,
        parse_properties(properties or ()),
    )
    source = open_source(table, options)
    schema = source.schema
    what = "points" if schema.kind == "POINT" else "lines"
    print(f"{table}: read as {source.format}, unit {' '.join(f'{v:g}' for v in schema.unit_nm)} nm")
    print(f"properties: {', '.join(p.name for p in schema.properties) or 'none'}")
    print(f"relationships: {', '.join(schema.relationships) or 'none'}")
    written = write_source(
        out, source, sharded=sharded, overwrite=overwrite, workers=workers or os.cpu_count() or 1
    )
    if source.skipped:
        print(f"{_rows(source.skipped)} without a position left out")
    if source.without_cell:
        rows = _rows(source.without_cell)
        print(f"{rows} without a cell (0 or empty) at an end: tied to none there")
    print(
        f"{written.annotations:,} {what} written to {out}: {written.files:,} files, "
        f"{_size(written.stored_bytes)}, {written.levels} level{'s'[: written.levels != 1]}"
    )
    print(_opening(out))


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _size(count: int) -> str:
    """Bytes for people."""
    for unit, of in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= of:
            return f"{count / of:.1f} {unit}"
    return f"{count} bytes"


def _opening(out: str) -> str:
    """How Neuroglancer gets at the layer."""
    from cnapse.store import cloud_path, local_path

    local = local_path(out)
    if local is None:
        return f"In Neuroglancer: + (new layer), source precomputed://{cloud_path(out)}"
    return (
        "In Neuroglancer: serve the folder (docs/annotations.md, Opening it), then + (new layer), "
        "source precomputed://http://SERVER/PATH"
    )
