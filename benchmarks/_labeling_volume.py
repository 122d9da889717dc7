"""A probability map and cells for `labeling.py`: blobs on columns of cells, made slab by slab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.geometry import Box, Grid, Triple
from cnapse.volumes.writer import create_layer

RESOLUTION = (4.0, 4.0, 50.0)
CHUNK: Triple = (128, 128, 64)
# One object in so many voxels; some ten times denser than synapses are.
_VOXELS_PER_OBJECT = 48_000
_PITCH = 56
_MEMBRANE = 3
_DEPTH = 64


def make_volume(folder: Path, shape: Triple) -> int:
    """Write ``probability`` and ``cells``; the number of blobs, some of which touch.

    Parameters
    ----------
    folder : Path
    shape : (x, y, z)
        Voxels.
    """
    bounds = Box.from_shape(shape, RESOLUTION)
    centre, radius = _blobs(shape)
    writers = {
        "probability": create_layer(
            folder / "probability", kind="image", dtype="uint8", bounds=bounds, chunk_size=CHUNK
        ),
        "cells": create_layer(
            folder / "cells", kind="segmentation", dtype="uint64", bounds=bounds, chunk_size=CHUNK
        ),
    }
    for block in Grid(bounds, (shape[0], shape[1], _DEPTH)):
        box = block.write
        near = np.abs(centre[:, 2] - (box.start[2] + box.stop[2]) / 2) < _DEPTH
        probability = np.zeros(box.shape, np.uint8, order="F")
        _stamp(probability, box.start[2], centre[near], radius[near])
        writers["probability"].write(probability, box)
        cells = np.zeros(box.shape, np.uint64, order="F")
        _columns(cells, box.start[2])
        writers["cells"].write(cells, box)
    return len(centre)


def probability_of(shape: Triple) -> npt.NDArray[np.uint8]:
    """The map alone, as an array in Fortran order."""
    out = np.zeros(shape, np.uint8, order="F")
    _stamp(out, 0, *_blobs(shape))
    return out


def _blobs(shape: Triple) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centres and radii."""
    rng = np.random.default_rng(11)
    count = max(1, shape[0] * shape[1] * shape[2] // _VOXELS_PER_OBJECT)
    return rng.random((count, 3)) * shape, rng.uniform((6, 6, 1), (24, 14, 4), (count, 3))


@njit(cache=True)
def _stamp(
    out: npt.NDArray[np.uint8], first: int, centre: npt.NDArray[Any], radius: npt.NDArray[Any]
) -> None:
    """Bumps that are at 255 in the middle, at 128 on the ellipsoid, and then fade out."""
    for i in range(len(centre)):
        c, r = centre[i], radius[i]
        low = [int(c[a] - 2 * r[a]) for a in range(3)]
        high = [int(c[a] + 2 * r[a]) + 2 for a in range(3)]
        for z in range(max(low[2], first), min(high[2], first + out.shape[2])):
            for y in range(max(low[1], 0), min(high[1], out.shape[1])):
                for x in range(max(low[0], 0), min(high[0], out.shape[0])):
                    d = ((x - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2
                    p = 255 * (1 - (d + ((z - c[2]) / r[2]) ** 2) / 2)
                    if p > out[x, y, z - first]:
                        out[x, y, z - first] = np.uint8(p)


@njit(cache=True)
def _columns(out: npt.NDArray[np.uint64], first: int) -> None:
    """Columns of cells that wander through the sections, with free space between them."""
    for z in range(out.shape[2]):
        dx, dy = 20 * np.sin((z + first) / 40), 20 * np.cos((z + first) / 31)
        for y in range(out.shape[1]):
            row = int(y + dy + 100 + 6 * np.sin(y / 17.0))
            for x in range(out.shape[0]):
                column = int(x + dx + 100 + 6 * np.sin(y / 23.0))
                if row % _PITCH >= _MEMBRANE and column % _PITCH >= _MEMBRANE:
                    out[x, y, z] = 1 + column // _PITCH + 1000 * (row // _PITCH)
