"""The only module that imports igneous (GPL-3): mips of the layers that a run makes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

from cloudvolume import CloudVolume

from cnapse.geometry import Box, Grid, Triple, triple

__all__ = ["add_scales", "downsample", "downsampling_grid"]

_ANISOTROPIC = 1.5
# A task holds mip 0 of its block and the coarser ones: 2^27 voxels of 8 bytes are 1 GB.
_LARGEST_TASK_VOXELS = 1 << 27


def factor_of(resolution: Sequence[float]) -> Triple:
    """How much coarser each mip is: sections stay apart where they are thick."""
    x, _, z = resolution
    return (2, 2, 1) if z > _ANISOTROPIC * x else (2, 2, 2)


def levels_of(bounds: Box, chunk: Triple, wanted: int) -> int:
    """Number of coarser mips worth having: not beyond one chunk, nor what one task can hold."""
    factor = factor_of(bounds.resolution)
    levels = 0
    while levels < wanted:
        scaled = [c * f**levels for c, f in zip(chunk, factor, strict=True)]
        one_chunk = all(n <= s for n, s in zip(bounds.shape, scaled, strict=True))
        next_voxels = scaled[0] * scaled[1] * scaled[2] * factor[0] * factor[1] * factor[2]
        if one_chunk or next_voxels > _LARGEST_TASK_VOXELS:
            break
        levels += 1
    return levels


def downsampling_grid(bounds: Box, chunk: Triple, levels: int) -> Grid:
    """The blocks of the tasks: one chunk of the coarsest mip each."""
    factor = factor_of(bounds.resolution)
    return Grid(bounds, triple([c * f**levels for c, f in zip(chunk, factor, strict=True)]))


def add_scales(path: str, chunk: Triple, levels: int) -> None:
    """Write the coarser scales into the info of a layer; those that are there stay."""
    from igneous.downsample_scales import create_downsample_scales

    if levels:
        volume = CloudVolume(path, mip=0, progress=False)
        factor = factor_of([float(v) for v in volume.resolution])
        shape = [c * f**levels for c, f in zip(chunk, factor, strict=True)]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning of its own
            create_downsample_scales(
                path, 0, shape, preserve_chunk_size=True, factor=factor, max_mips=levels
            )


def downsample(path: str, block: Box, levels: int, *, sparse: bool) -> None:
    """Make the coarser mips of one block.

    Parameters
    ----------
    path : str
        A layer that :func:`add_scales` has prepared.
    block : Box
        A block of :func:`downsampling_grid`.
    levels : int
    sparse : bool
        Leave background out of the mode, so that thin objects stay visible from afar.
    """
    from igneous.tasks import DownsampleTask

    DownsampleTask(
        layer_path=path,
        mip=0,
        shape=list(block.shape),
        offset=list(block.start),
        sparse=sparse,
        # gzip'd files read as missing from plain servers and as zeros in tensorstore.
        compress=not path.startswith("file://"),
        factor=factor_of(block.resolution),
        max_mips=levels,
    )
