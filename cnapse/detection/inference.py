"""Running a model over a block of a volume, so that blocks leave no trace in the result.

Tiles have the one shape that the bundle names and sit on one grid, anchored at the start of the
volume's bounds. Each section (z) is predicted by itself; a tile is run with its halo, and its
middle is kept::

    |hhh|tttttttttttt|hhh|        h: halo, read only   t: tile, predicted

What lies outside of the bounds is the volume mirrored at its outermost voxels. An array [x, y] is
handed to the network as (y, x), as images are seen; training does the same.

What holds in float32 on a processor: blocks, batch and order change no byte. With frozen
statistics and widths that are multiples of 8, tiles also equal one run over the whole mirrored
section, logits to the bit (seen for 8..128 and 16..256 with tiles of 16 px and more). For narrower
layers torch takes other kernels by size, and tiles differ from the whole by a level of 255 at most.
In bfloat16 the same batch, threads and processor family give the same bytes; others need not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.network import FrozenUNet, UNet
from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Box, Grid

__all__ = ["Precision", "detect_block", "detect_whole", "logits_of", "read_box"]

Image = npt.NDArray[np.uint8]
Precision = Literal["float32", "bfloat16"]
Network = UNet | FrozenUNet


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
        `write` out to the grid of tiles and grown by the halo, in x and y. It may reach past the
        bounds, where the reader mirrors.
    """
    return _tiled(write, bounds, model).grown((model.halo, model.halo, 0))


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
        Tiles that are run at a time.
    zero_is_missing : bool
        Image value 0 means that there is no image: probability is 0 there, and tiles of nothing
        else are not run.

    Returns
    -------
    ndarray of uint8, shape of `write`, Fortran order
        ``rint(255 p)``.

    Raises
    ------
    FormatError
        If the image has another dtype or shape.
    ConfigError
        If precision, device or batch cannot be used.
    """
    read = read_box(write, bounds, model)
    _check(image, read, precision, batch)
    out = np.zeros(write.shape, np.uint8, order="F")
    run = _Runner(model, precision, device)
    tiles = _tiles(image, read, write, bounds, model, zero_is_missing)
    for some in _batched(tiles, batch):
        inputs = np.stack([image[_slices(tile, read, model.halo)][..., 0].T for tile in some])
        for tile, section in zip(some, run.probability(inputs), strict=True):
            kept = tile.intersection(write)
            out[kept.slices(write)] = section.T[..., None][kept.slices(tile)]
    if zero_is_missing:
        out[image[write.slices(read)] == 0] = 0
    return out


def detect_whole(image: Image, model: ModelBundle, **options: Any) -> Image:
    """Probability of a volume in memory, shape (x, y, z): `detect_block` of all of it."""
    bounds = Box.from_shape(image.shape, model.resolution)
    read = read_box(bounds, bounds, model)
    padding = [
        (a - b, d - c)
        for a, b, c, d in zip(bounds.start, read.start, bounds.stop, read.stop, strict=True)
    ]
    return detect_block(np.pad(image, padding, mode="reflect"), bounds, bounds, model, **options)


def logits_of(inputs: Image, model: ModelBundle, precision: Precision, device: str) -> Tensor:
    """Logits of images as they are, shape (n, y, x) of uint8; no halo is added or cut off."""
    return _Runner(model, precision, device).logits(inputs)


class _Runner:
    """A model's network on a device, and how images go in."""

    def __init__(self, model: ModelBundle, precision: Precision, device: str) -> None:
        _limit_threads()
        self.halo = model.halo
        self.device = _device(device)
        self.network = _NETWORKS.get(model, self.device)
        # Norms that take statistics would mix the tiles of a batch; and on a processor torch picks
        # its kernels by the size of the batch, while larger batches gain nothing there.
        exact = precision == "float32" and self.device.type == "cpu"
        self.singly = exact or model.statistics == "tile"
        self.levels = torch.from_numpy(model.normalization.levels()).to(self.device)
        self.precision = precision

    def probability(self, inputs: Image) -> Image:
        """``rint(255 p)`` of the middles of tiles with their halo, shape (n, y, x)."""
        halo = self.halo
        rows, columns = (slice(halo, n - halo) for n in inputs.shape[1:])
        with torch.inference_mode():
            logits = self.logits(inputs)[:, rows, columns]
            levels = torch.round(255.0 * torch.sigmoid(logits)).to(torch.uint8)
        found: Image = levels.cpu().numpy()
        return found

    def logits(self, inputs: Image) -> Tensor:
        """Logits in float32, shape (n, y, x)."""
        with torch.inference_mode(), self._autocast():
            indices = torch.from_numpy(np.ascontiguousarray(inputs)).to(self.device)
            images = self.levels[indices.int()][:, None]
            images = images.contiguous(memory_format=torch.channels_last)
            parts = [image[None] for image in images] if self.singly else [images]
            return torch.cat([self.network(part)[:, 0].float() for part in parts])

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


class _NetworkCache:
    """The networks last used: a worker predicts many blocks with one model."""

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self._networks: dict[tuple[str, str], Network] = {}

    def get(self, model: ModelBundle, device: torch.device) -> Network:
        key = (model.digest, str(device))
        if key not in self._networks:
            while len(self._networks) >= self.size:
                self._networks.pop(next(iter(self._networks)))
            network = model.network().to(device)
            # torch's stubs know no memory_format beside a device.
            self._networks[key] = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self._networks[key]


_NETWORKS = _NetworkCache()


@lru_cache(maxsize=1)
def _limit_threads() -> None:
    """As many threads as the environment says; torch takes all cores when imported by a thread."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0]
        raise ConfigError(f'device {name!r} cannot be used ({reason}): take "cpu"') from error
    return device


def _tiled(write: Box, bounds: Box, model: ModelBundle) -> Box:
    """A box out to the grid of tiles in x and y."""
    start, stop = list(write.start), list(write.stop)
    for axis, tile in enumerate(model.tile):
        origin = bounds.start[axis]
        start[axis] = origin + (write.start[axis] - origin) // tile * tile
        stop[axis] = origin - (origin - write.stop[axis]) // tile * tile
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), write.resolution)


def _tiles(
    image: Image, read: Box, write: Box, bounds: Box, model: ModelBundle, zero_is_missing: bool
) -> Iterator[Box]:
    """The tiles that touch the box to write, one section each."""
    for block in Grid(_tiled(write, bounds, model), (*model.tile, 1)):
        kept = block.write.intersection(write)
        if kept.empty or (zero_is_missing and not image[kept.slices(read)].any()):
            continue
        yield block.write


def _slices(tile: Box, read: Box, halo: int) -> tuple[slice, slice, slice]:
    return tile.grown((halo, halo, 0)).slices(read)


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
