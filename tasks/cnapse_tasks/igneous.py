"""The only module that imports igneous (GPL-3): mips of the layers that a run makes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

from cnapse.faults import remote_errors
from cnapse.geometry import Box, Grid, Triple, triple
from cnapse.remote import cloud_volume, prepare, reachable
from cnapse.store import local_path
from cnapse.volumes.stored import load_info

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
        volume = cloud_volume(path, mip=0)
        factor = factor_of([float(v) for v in volume.resolution])
        shape = [c * f**levels for c, f in zip(chunk, factor, strict=True)]
        with remote_errors(path), contextlib.redirect_stdout(io.StringIO()):  # it prints a warning
            create_downsample_scales(
                reachable(path),
                0,
                shape,
                preserve_chunk_size=True,
                factor=factor,
                max_mips=levels,
            )


def downsample(path: str, grid: Grid, index: int, levels: int, *, sparse: bool) -> None:
    """Make the coarser mips of one block.

    Parameters
    ----------
    path : str
        A layer that :func:`add_scales` has prepared.
    grid : Grid
        Of :func:`downsampling_grid`.
    index : int
        The block's.
    levels : int
    sparse : bool
        Leave background out of the mode, so that thin objects stay visible from afar.
    """
    from igneous.tasks import DownsampleTask

    made = min(levels, len(load_info(path)["scales"]) - 1)
    block = _with_rim(grid, index, levels)
    if block is None or made == 0:
        return
    prepare()
    with remote_errors(path):
        DownsampleTask(
            layer_path=reachable(path),
            mip=0,
            # Of a whole block also at the rim: igneous tells how many mips it is good for.
            shape=[max(pair) for pair in zip(grid.block_shape, block.shape, strict=True)],
            offset=list(block.start),
            sparse=sparse,
            compress=_compress(path),
            factor=factor_of(grid.bounds.resolution),
            max_mips=made,
        )


def _with_rim(grid: Grid, index: int, levels: int) -> Box | None:
    """A block with what is left beyond it, if that is too thin for `levels`; None for such a rest.

    tinybrain refuses planes of fewer voxels than the factor of the coarsest mip.
    """
    own, bounds = grid[index].write, grid.bounds
    least = 1 << levels
    axes = zip(own.start, own.stop, bounds.start, bounds.stop, strict=True)
    if any(a > low and b == high and b - a < least for a, b, low, high in axes):
        return None
    pairs = zip(own.stop, bounds.stop, strict=True)
    stop = triple([high if high - b < least else b for b, high in pairs])
    return Box(own.start, stop, own.resolution)


def _compress(path: str) -> bool | None:
    """None leaves it to the encoding: gzip for what does not compress itself.

    On disk never: gzip'd files read as missing from plain servers and as zeros in tensorstore.
    """
    return None if local_path(path) is None else False
