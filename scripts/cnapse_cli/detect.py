"""`cnapse detect`: the probability of synapses in one file or layer."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cnapse.volumes.sources import Source

__all__ = ["detect"]


def detect(
    image: Annotated[
        str,
        typer.Option(
            help="What to predict, uint8: a TIFF file, a folder of sections, an HDF5 file with its "
            "dataset behind a colon (file.h5:/main), Zarr, N5, or a precomputed layer."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="Probability times 255: a .tif or .h5 file, or else a precomputed layer to make.",
        ),
    ],
    model: Annotated[
        str, typer.Option(help="Folder of a model bundle, or the name of a shipped one.")
    ],
    resolution: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="X Y Z", help="Voxel size in nm. Needed where the file does not tell it."
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="A volume of the same shape: probability is 0 where it is 0."),
    ] = None,
    zero_is_missing: Annotated[
        bool,
        typer.Option(
            "--zero-is-missing",
            help="Image value 0 means that there is no image: probability is 0 there.",
        ),
    ] = False,
    augment: Annotated[
        str,
        typer.Option(
            help="none; or the mean over flips (4 times the work); or all, with quarter turns too "
            "(8 times), where voxels are as long in x as in y."
        ),
    ] = "none",
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16: faster where the processor has it.")
    ] = "float32",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the network first; takes up to a minute and a C++ compiler.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda for a graphics card.")] = "cpu",
    batch: Annotated[int, typer.Option(min=1, help="Tiles at a time on a graphics card.")] = 1,
    tile: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="X Y",
            help="Pixels predicted at a time; smaller ones take less memory and more time. With "
            "frozen statistics in float32 the result is the same.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
    ignore_metadata: Annotated[
        bool, typer.Option("--ignore-metadata", help="--resolution wins over what the file says.")
    ] = False,
) -> None:
    """Predict one volume, file to file; large ones and those in the cloud are for `cnapse run`."""
    _prepare_process()
    from cnapse.detection.checkpoint import load_bundle
    from cnapse.detection.outputs import open_output
    from cnapse.detection.volume import Options, check_resolution, detect_volume
    from cnapse.geometry import Box, format_resolution
    from cnapse.volumes.sources import first_voxel, open_source, voxel_size

    bundle = load_bundle(model)
    options = Options(
        precision=precision,  # type: ignore[arg-type] # checked below, with the way out
        device=device,
        batch=batch,
        zero_is_missing=zero_is_missing,
        augment=augment,  # type: ignore[arg-type] # as well
        compiled=compiled,
    )
    source = open_source(image, ignore_metadata=ignore_metadata)
    nm = voxel_size(source, resolution, ignore_metadata=ignore_metadata)
    check_resolution(
        bundle, model, nm, f"{source.name} has {format_resolution(nm)}: bring it to the model's"
    )
    bounds = Box.from_shape(source.shape, nm, first_voxel(source, None))
    masked: Source | None = None if mask is None else open_source(mask)
    from tqdm import tqdm

    with (
        open_output(output, bounds, bundle.classes, overwrite=overwrite) as place,
        tqdm(
            total=bounds.shape[2],
            desc="detect",
            unit="section",
            # In a file or a pipe, a line when it is done.
            mininterval=0.1 if sys.stderr.isatty() else math.inf,
        ) as bar,
    ):
        took = detect_volume(
            source, bounds, bundle, place, options, mask=masked, tile=tile, progress=bar.update
        )
    print(f"{bounds}, {took}, written to {output}")


def _prepare_process() -> None:
    """Set what makes networks fast on a processor; it counts only before torch is imported."""
    import ctypes
    import os

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.platform.startswith("linux"):
        return
    # Big arrays are kept, not mapped anew for each layer (1.5-2x): M_MMAP_MAX, M_TRIM_THRESHOLD,
    # M_TOP_PAD of glibc's malloc.h. Other C libraries have no such function, and need none.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):
            mallopt(parameter, value)
