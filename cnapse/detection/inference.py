"""Running a model over a block of a volume, so that blocks leave no trace in the result.

Tiles have the one shape that the bundle names and sit on one grid, anchored at the start of the
volume's bounds. Each section (z) is predicted by itself, from as many neighbours as the bundle
says; a tile is run with its halo, and its middle is kept::

    |hhh|tttttttttttt|hhh|        h: halo, read only   t: tile, predicted

What lies outside of the bounds is the volume mirrored at its outermost voxels. An array [x, y] is
handed to the network as (y, x), as images are seen; training does the same.

What holds in float32 on a processor: blocks, batch and order change no byte. With frozen statistics
the tiles of a U-Net also equal one run over the whole mirrored section, logits to the bit, so that
any tile may be taken (`with_tile`); a network of one's own may be a level of 255 off where torch
takes other kernels for small inputs (docs/models.md). In bfloat16 or compiled, the same tile,
threads and processor family give the same bytes; others need not. bfloat16 is near float32, but not
within rounding: docs/configuration.md has figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.detection.backends import Engine, Precision, engine_of
from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.tta import Augmentation, check_augmentation
from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Box, Grid, Triple

__all__ = [
    "Precision",
    "detect_block",
    "detect_whole",
    "fitting_tile",
    "read_box",
    "shared_tile",
    "with_tile",
]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def read_box(write: Box, bounds: Box, model: ModelBundle) -> Box:
    """What must be read to predict a box.

    Parameters
    ----------
    write : Box
        Voxels to predict.
    bounds : Box
        The volume's bounds; the grid of tiles starts at their start.
    model : ModelBundle

    Returns
    -------
    Box
        `write` out to the grid of tiles and grown by the halo, in x and y, and by the neighbours
        of a section in z. It may reach past the bounds, where the reader mirrors.
    """
    return _tiled(write, bounds, model).grown(_halo(model))


def with_tile(model: ModelBundle, tile: tuple[int, int] | None) -> ModelBundle:
    """The same model with tiles of another shape.

    Parameters
    ----------
    model : ModelBundle
    tile : (x, y), optional
        Multiples of the stride; None leaves it.

    Raises
    ------
    ConfigError
        If the model takes statistics of each tile, which must then be that of the bundle; or if
        the tile is off the grid of the stride.
    """
    if tile is None or tuple(tile) == model.tile:
        return model
    if model.statistics == "tile":
        raise ConfigError(
            f"the model takes its statistics from tiles of {model.tile[0]} x {model.tile[1]} px, "
            f"other tiles would give other results: leave out tile = {list(tile)}, or freeze them"
        )
    return _retiled(model, (tile[0], tile[1]))


def fitting_tile(model: ModelBundle, bounds: Box, largest: int = 1536) -> tuple[int, int]:
    """The tile with which a volume takes least work: few and equal ones in x and in y.

    Parameters
    ----------
    model : ModelBundle
        With frozen statistics; otherwise the tile is the bundle's.
    bounds : Box
    largest : int
        Pixels a side. A network of the published widths takes about 0.4 kB a pixel, with its halo,
        in float32.
    """
    if model.statistics == "tile":
        return model.tile
    stride = model.receptive_field.stride
    most = max(largest // stride, 1)
    x, y = (_shared(-(-n // stride), most) * stride for n in bounds.shape[:2])
    return x, y


def shared_tile(model: ModelBundle, bounds: Box, chunk: Triple) -> tuple[int, int]:
    """The tile for a volume that is predicted in blocks: few and equal ones, of whole chunks.

    As `fitting_tile`, none larger than the model's; where more than one is needed along an axis,
    they end with the storage chunks, so that blocks cut none of them. It depends on nothing but the
    model and the layer.

    Parameters
    ----------
    model : ModelBundle
        With frozen statistics; otherwise the tile is the bundle's.
    bounds : Box
    chunk : (x, y, z)
    """
    if model.statistics == "tile":
        return model.tile
    stride = model.receptive_field.stride
    x, y = (
        _tile_side(n, stride, math.lcm(stride, c), most)
        for n, c, most in zip(bounds.shape, chunk, model.tile, strict=False)
    )
    return x, y


def _tile_side(pixels: int, stride: int, step: int, most: int) -> int:
    whole = -(-pixels // stride) * stride
    if whole <= most:
        return whole
    return most if step > most else _shared(-(-pixels // step), most // step) * step


def detect_block(
    image: Image,
    write: Box,
    bounds: Box,
    model: ModelBundle,
    *,
    precision: Precision = "float32",
    device: str = "cpu",
    batch: int = 1,
    zero_is_missing: bool = False,
    mask: Mask | None = None,
    augment: Augmentation = "none",
    compiled: bool = False,
) -> Image:
    """Probability of a block.

    Parameters
    ----------
    image : ndarray of uint8, shape (x, y, z)
        The voxels of ``read_box(write, bounds, model)``, mirrored outside of the bounds (numpy's
        "reflect").
    write, bounds : Box
        Voxels to predict, and the volume's bounds, both at the resolution of the image.
    model : ModelBundle
    precision : {"float32", "bfloat16"}
    device : str
        As torch names it.
    batch : int
        Tiles that are run at a time on a CUDA device; a processor runs them one by one.
    zero_is_missing : bool
        Image value 0 means that there is no image: probability is 0 there, and tiles of nothing
        else are not run.
    mask : ndarray of bool, shape of `write`, optional
        Probability is 0 where it is False, and tiles of nothing else are not run.
    augment : {"none", "flips", "all"}
        Mean over the image flipped in x and y, and with quarter turns (which takes square pixels).
    compiled : bool
        Whether to try `torch.compile`; `cnapse.detection.backends.Engine.took` says what came
        of it.

    Returns
    -------
    ndarray of uint8, shape of `write`, Fortran order
        ``rint(255 p)``. With several classes they are the fourth axis.

    Raises
    ------
    FormatError
        If image or mask have another dtype or shape.
    ConfigError
        If precision, device, batch or augmentation cannot be used.
    """
    read = read_box(write, bounds, model)
    _check(image, read, precision, batch)
    check_augmentation(augment, bounds.resolution)
    counted = _counted(image[write.slices(read)], zero_is_missing, mask)
    engine = engine_of(model, precision, device, compiled=compiled, augmentation=augment)
    out = np.zeros((*write.shape, len(model.classes)), np.uint8, order="F")
    for tile, levels in _predicted(image, read, write, bounds, model, engine, batch, counted):
        kept = tile.intersection(write)
        # (classes, y, x) of one section to (x, y, 1, classes).
        out[kept.slices(write)] = levels.transpose(2, 1, 0)[:, :, None][kept.slices(tile)]
    if counted is not None:
        out[~counted] = 0
    return out[..., 0] if len(model.classes) == 1 else out


def detect_whole(image: Image, model: ModelBundle, **options: Any) -> Image:
    """Probability of a volume in memory, shape (x, y, z): `detect_block` of all of it."""
    bounds = Box.from_shape(image.shape, model.resolution)
    read = read_box(bounds, bounds, model)
    padding = [
        (a - b, d - c)
        for a, b, c, d in zip(bounds.start, read.start, bounds.stop, read.stop, strict=True)
    ]
    return detect_block(np.pad(image, padding, mode="reflect"), bounds, bounds, model, **options)


@lru_cache(maxsize=4)
def _retiled(model: ModelBundle, tile: tuple[int, int]) -> ModelBundle:
    return replace(model, tile=tile)


def _shared(cells: int, most: int) -> int:
    """The size of equal parts, none above `most`, that cover some cells."""
    parts = -(-cells // most)
    return max(-(-cells // parts), 1) if parts else 1


def _halo(model: ModelBundle) -> tuple[int, int, int]:
    return model.halo, model.halo, model.sections // 2


def _tiled(write: Box, bounds: Box, model: ModelBundle) -> Box:
    """A box out to the grid of tiles in x and y."""
    start, stop = list(write.start), list(write.stop)
    for axis, tile in enumerate(model.tile):
        origin = bounds.start[axis]
        start[axis] = origin + (write.start[axis] - origin) // tile * tile
        stop[axis] = origin - (origin - write.stop[axis]) // tile * tile
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), write.resolution)


def _counted(image: Image, zero_is_missing: bool, mask: Mask | None) -> Mask | None:
    """The voxels that are predicted, if not all."""
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != image.shape):
        raise FormatError(
            f"mask of shape {mask.shape} and dtype {mask.dtype}: this block needs bool of shape "
            f"{image.shape}"
        )
    if not zero_is_missing:
        return mask
    there: Mask = image != 0
    return there if mask is None else there & mask


def _predicted(
    image: Image,
    read: Box,
    write: Box,
    bounds: Box,
    model: ModelBundle,
    engine: Engine,
    batch: int,
    counted: Mask | None,
) -> Iterator[tuple[Box, Image]]:
    """Each tile, of one section, and its levels (classes, y, x)."""
    halo = _halo(model)
    tiles = list(_tiles(write, bounds, model, counted))
    batches = (
        np.stack([image[tile.grown(halo).slices(read)].transpose(2, 1, 0) for tile in some])
        for some in _batched(tiles, batch)
    )
    found = (levels for part in engine.run(batches) for levels in part)
    return zip(tiles, found, strict=True)


def _tiles(write: Box, bounds: Box, model: ModelBundle, counted: Mask | None) -> Iterator[Box]:
    """The tiles that touch the box to write, one section each; those where nothing counts not."""
    for block in Grid(_tiled(write, bounds, model), (*model.tile, 1)):
        kept = block.write.intersection(write)
        if kept.empty or (counted is not None and not counted[kept.slices(write)].any()):
            continue
        yield block.write


def _batched(tiles: Iterable[Box], batch: int) -> Iterator[list[Box]]:
    rest = iter(tiles)
    while some := list(islice(rest, batch)):
        yield some


def _check(image: Image, read: Box, precision: str, batch: int) -> None:
    if image.dtype != np.uint8 or image.shape != read.shape:
        raise FormatError(
            f"image of shape {image.shape} and dtype {image.dtype}: detection of this block needs "
            f"uint8 of shape {read.shape}, the voxels of {read}"
        )
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f'precision must be "float32" or "bfloat16", not {precision!r}')
    if batch < 1:
        raise ConfigError(f"batch must be at least 1, not {batch}")
