"""`cnapse ingest`: a volume of any common format becomes a layer."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["ingest"]


def ingest(
    source: Annotated[
        str,
        typer.Argument(
            help="A multi-page TIFF (z, y, x), a folder of TIFF or PNG sections, a quoted pattern "
            "such as 'raw_*.tif', sections in natural order: s2 before s10. Or an HDF5 file, with "
            "its dataset behind a colon: file.h5:/main; or a Zarr (v2, v3), OME-Zarr or N5 folder; "
            "or a precomputed layer, to chunk or encode it anew."
        ),
    ],
    destination: Annotated[
        str, typer.Argument(help="The layer to make: a folder, gs:// or s3:// path.")
    ],
    resolution: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="X Y Z", help="Voxel size in nm. Needed where the files do not tell it."
        ),
    ] = None,
    segmentation: Annotated[
        bool,
        typer.Option(
            "--segmentation",
            help="The values are ids of cells or objects, stored as uint64 (uint32 stays), "
            "0 being background.",
        ),
    ] = False,
    offset: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="X Y Z",
            help="Where the volume begins, in voxels. Default: where the file says, else 0 0 0.",
        ),
    ] = None,
    chunk: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="X Y Z",
            help="Voxels in one file. Memory is whole sections times Z. Default: "
            "128 128 16 for sections at least 4 times as thick as pixels, else 64 64 64.",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Images: raw (default), png, jpeg, jxl (the last two are lossy). "
            "Segmentations: compressed_segmentation (default), raw, compresso."
        ),
    ] = None,
    value_range: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--range",
            metavar="LOW HIGH",
            help="Make an image uint8: LOW and below become 0, HIGH and above 255, linear between. "
            "Without this or --auto-range an image keeps its values.",
        ),
    ] = None,
    auto_range: Annotated[
        bool,
        typer.Option(
            "--auto-range",
            help="The same with a measured range, which is printed: from the 0.1st to the 99.9th "
            "percentile of up to 16 sections spread over the volume, black padding included.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a layer that is there.")
    ] = False,
    ignore_metadata: Annotated[
        bool,
        typer.Option(
            "--ignore-metadata",
            help="Take --resolution and --axes even if the file says otherwise.",
        ),
    ] = False,
    any_names: Annotated[
        bool,
        typer.Option(
            "--any-names",
            help="Take sections as neighbours even if the numbers in their names have gaps.",
        ),
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The dataset inside of a file, as in main."),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            metavar="ORDER",
            help="Order of an array's axes, the fastest last, as in zyx. Needed where the file "
            "does not tell; HDF5 is zyx and N5 xyz by default.",
        ),
    ] = None,
) -> None:
    """Make a layer of a volume; run again after an interruption, it goes on."""
    from cnapse.errors import ConfigError
    from cnapse.volumes.ingest import IngestOptions, plan_ingest
    from cnapse.volumes.ingest import ingest as write_layer
    from cnapse.volumes.ranged import RangedSource
    from cnapse.volumes.sources import open_source

    if auto_range and value_range:
        raise ConfigError("--range and --auto-range exclude each other: leave one out")
    options = IngestOptions(
        kind="segmentation" if segmentation else "image",
        resolution=resolution,
        offset=offset,
        chunk_size=chunk,
        encoding=encoding,
        ignore_metadata=ignore_metadata,
        value_range="auto" if auto_range else _numbers(value_range),
    )
    stack = open_source(
        source,
        check_names=not any_names,
        dataset=dataset,
        axes=axes,
        ignore_metadata=ignore_metadata,
    )
    plan = plan_ingest(stack, destination, options)
    if auto_range and isinstance(plan.source, RangedSource):
        low, high = (repr(v).removesuffix(".0") for v in (plan.source.low, plan.source.high))
        print(f"measured range {low} to {high}; the same again: --range {low} {high}")
    from tqdm import tqdm

    with tqdm(total=stack.shape[2], desc="ingest", unit="section") as bar:
        writer = write_layer(plan, overwrite=overwrite, progress=bar.update)
    print(f"{writer.kind} of {writer.dtype}, {writer.bounds}, written to {destination}")


def _numbers(texts: tuple[str, str] | None) -> tuple[float, float] | None:
    """The numbers of ``--range``; typer would not say what to give instead."""
    from cnapse.errors import ConfigError

    try:
        return None if texts is None else (float(texts[0]), float(texts[1]))
    except ValueError as error:
        raise ConfigError(
            f"--range {' '.join(texts or ())}: give two numbers, as in --range 1000 40000, or "
            "--auto-range to have it measured"
        ) from error
