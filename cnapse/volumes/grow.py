"""Cells grown in the plane into what belongs to no cell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.geometry import Triple

__all__ = ["grown_labels", "reach_of"]

Int64s = npt.NDArray[np.int64]


def reach_of(grow_nm: float, resolution: Sequence[float]) -> Triple:
    """How many voxels beyond a box must be known to grow labels in it."""
    return (math.floor(grow_nm / resolution[0]), math.floor(grow_nm / resolution[1]), 0)


def grown_labels(
    labels: npt.NDArray[Any], grow_nm: float, resolution: Sequence[float]
) -> npt.NDArray[Any]:
    """Give background voxels the label of the nearest labelled voxel of their section.

    Ties go to the smaller label, so that the result depends on the neighbourhood alone, and boxes
    grown on their own, with a rim of :func:`reach_of`, equal the whole.

    Parameters
    ----------
    labels : ndarray of unsigned int, shape (x, y, z)
    grow_nm : float
        The farthest a label reaches.
    resolution : (x, y, z)
        Voxel size in nm.

    Returns
    -------
    ndarray, shape and dtype of `labels`, Fortran order
    """
    hx, hy, _ = resolution
    rx, ry, _ = reach_of(grow_nm, resolution)
    offsets = [
        (math.hypot(dx * hx, dy * hy), dx, dy)
        for dx in range(-rx, rx + 1)
        for dy in range(-ry, ry + 1)
    ]
    near = sorted(o for o in offsets if 0 < o[0] <= grow_nm)
    if not near:
        return np.asfortranarray(labels)
    # Equal distances get equal ranks, whatever the last bit of their square roots is.
    rank = np.cumsum([True] + [b[0] - a[0] > 1e-9 for a, b in itertools.pairwise(near)])
    table = np.array([(r, dx, dy) for r, (_, dx, dy) in zip(rank, near, strict=True)], np.int64)
    source = np.asfortranarray(labels)
    out = source.copy(order="F")
    _grow(source, table, out)
    return out


@njit(nogil=True, cache=True)
def _grow(labels: npt.NDArray[Any], offsets: Int64s, out: npt.NDArray[Any]) -> None:
    nx, ny, nz = labels.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if labels[x, y, z] != 0:
                    continue
                found = labels[x, y, z]
                at = np.int64(-1)
                for k in range(offsets.shape[0]):
                    if found != 0 and offsets[k, 0] != at:
                        break
                    u, v = x + offsets[k, 1], y + offsets[k, 2]
                    if 0 <= u < nx and 0 <= v < ny:
                        label = labels[u, v, z]
                        if label != 0 and (found == 0 or label < found):
                            found = label
                            at = offsets[k, 0]
                out[x, y, z] = found
