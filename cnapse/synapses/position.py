"""The position of an object: its voxel nearest to its centroid.

The distance that decides is ``sum_a (h_a (n x_a - S_a))^2``, n times the distance to the centroid,
squared: h is the voxel size, n the number of voxels, S the sum of their coordinates. The brackets
are exact integers, the rest is float64 in one order, and equal distances go to the voxel that is
first in raster order. Moving the origin or the blocks changes none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import RunStateError
from cnapse.geometry import Box, Triple, triple

__all__ = ["Read", "nearest_voxels", "position_of"]

Int64s = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint64]
Read = Callable[[Box], npt.NDArray[Any]]
"""Gives the synapse layer over a box, shape (x, y, z)."""

# Voxels that position_of reads at once: 128 MB of uint64.
_READ_VOXELS = 1 << 24


@njit(nogil=True, cache=True)
def nearest_voxels(
    which: Int64s,
    rows: Int64s,
    voxels: Int64s,
    sums: Int64s,
    resolution: npt.NDArray[np.float64],
) -> Int64s:
    """For each object, the voxel nearest to its centroid.

    Parameters
    ----------
    which : ndarray of int64, shape (r,)
        Object (0..m - 1) of each run of voxels along x; runs are in raster order.
    rows : ndarray of int64, shape (r, 4)
        First voxel of each run (x, y, z) and its length.
    voxels, sums : ndarray of int64, shape (m,) and (m, 3)
        Number of voxels of each object and sums of their coordinates.
    resolution : ndarray of float64, shape (3,)
        Voxel size in nm.

    Returns
    -------
    ndarray of int64, shape (m, 3)
    """
    best = np.full(len(voxels), np.inf)
    position: Int64s = np.zeros((len(voxels), 3), np.int64)
    voxel = np.zeros(3, np.int64)
    for i in range(len(which)):
        k = which[i]
        voxel[:] = rows[i, :3]
        for _ in range(rows[i, 3]):
            distance = _distance(voxel, voxels[k], sums[k], resolution)
            if distance < best[k]:
                best[k] = distance
                position[k] = voxel
            voxel[0] += 1
    return position


def position_of(
    syn_id: int, extent: Box, voxels: int, sums: Int64s, read: Read, *, limit: int = _READ_VOXELS
) -> Triple:
    """Find the position of a whole object by reading it.

    The bounding box is read in pieces, the nearest to the centroid first, and only those that can
    hold a nearer voxel than the one found: an object of any size needs little memory.

    Parameters
    ----------
    syn_id
        Label of the object.
    extent : Box
        Its bounding box.
    voxels, sums : int and ndarray of int64, shape (3,)
        Number of its voxels and sums of their coordinates (absolute voxels, x, y, z).
    read
        Gives the synapse layer over a box.
    limit
        Most voxels to read at once.

    Returns
    -------
    (x, y, z)
        Absolute voxel.

    Raises
    ------
    RunStateError
        If no voxel of the object is found.
    """
    n, h = np.int64(voxels), np.asarray(extent.resolution)
    size, total = np.asarray([voxels], np.int64), sums[None]
    pieces = [
        (_distance(_nearest_in(piece, n, sums), n, sums, h), piece)
        for piece in _pieces(extent, limit)
    ]
    best = (np.inf, -1)
    for least, piece in sorted(pieces, key=lambda item: item[0]):
        if least > best[0]:
            break
        rows = _voxels_of(syn_id, read(piece), piece)
        if len(rows):
            voxel = nearest_voxels(np.zeros(len(rows), np.int64), rows, size, total, h)[0]
            candidate = (_distance(voxel, n, sums, h), int(extent.raster_index(voxel)))
            best = min(best, candidate)
    if best[1] < 0:
        raise RunStateError(
            f"synapse {syn_id} is not in the layer at {extent}, where it was measured: "
            "the layer has changed: measure all blocks again"
        )
    return triple(extent.from_raster_index(best[1]).tolist())


def _voxels_of(syn_id: int, synapses: npt.NDArray[Any], box: Box) -> Int64s:
    """Voxels of one object in raster order: rows of x, y, z, length 1."""
    wanted = synapses.dtype.type(syn_id)
    z, y, x = np.nonzero(np.equal(synapses.T, wanted))
    rows = np.stack([x, y, z], axis=-1) + np.asarray(box.start)
    return np.concatenate([rows, np.ones((len(rows), 1), np.int64)], axis=1)


def _pieces(box: Box, limit: int) -> Iterator[Box]:
    """Cut a box in halves, across its longest side, until no part has more voxels."""
    if box.voxels <= limit:
        yield box
        return
    axis = int(np.argmax(box.shape))
    stop, start = list(box.stop), list(box.start)
    stop[axis] = start[axis] = (box.start[axis] + box.stop[axis]) // 2
    x, y, z = stop
    u, v, w = start
    yield from _pieces(Box(box.start, (x, y, z), box.resolution), limit)
    yield from _pieces(Box((u, v, w), box.stop, box.resolution), limit)


def _nearest_in(box: Box, voxels: np.int64, sums: Int64s) -> Int64s:
    """The voxel of a box that is nearest to the centroid, whoever owns it."""
    below = sums // voxels
    low, high = np.asarray(box.start), np.asarray(box.stop) - 1
    a, b = np.clip(below, low, high), np.clip(below + 1, low, high)
    nearer: Int64s = np.where(np.abs(voxels * a - sums) <= np.abs(voxels * b - sums), a, b)
    return nearer


@njit(nogil=True, cache=True)
def _distance(
    voxel: Int64s, voxels: np.int64, sums: Int64s, resolution: npt.NDArray[np.float64]
) -> float:
    """Square of n times the distance (nm) between a voxel and the centroid of n voxels."""
    x = resolution[0] * (voxels * voxel[0] - sums[0])
    y = resolution[1] * (voxels * voxel[1] - sums[1])
    z = resolution[2] * (voxels * voxel[2] - sums[2])
    return float(x * x + y * y + z * z)
