"""Voxels within a distance of a density."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.geometry import Triple, triple

__all__ = ["Zone", "zone_around"]

# Sums of floats in another order are not a difference.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Zone:
    """Voxels within some distance of a density, in the cutout.

    Parameters
    ----------
    start : (x, y, z)
        Where `mask` starts in the cutout.
    mask : ndarray of bool, shape (z, y, x)
    """

    start: Triple
    mask: npt.NDArray[np.bool_]

    def cut(self, array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The same voxels of an array [x, y, z] of the cutout, as [z, y, x] in C order."""
        part = tuple(
            slice(a, a + n) for a, n in zip(self.start, self.mask.shape[::-1], strict=True)
        )
        return np.ascontiguousarray(array[part].T, dtype=dtype)


def zone_around(
    cells: npt.NDArray[Any],
    density: npt.NDArray[np.bool_],
    density_start: Triple,
    resolution: Sequence[float],
    reach_nm: float,
) -> Zone:
    """Voxels of the cutout within a distance of the density, from centre to centre.

    Parameters
    ----------
    cells : ndarray, shape (x, y, z)
        The cutout; only its shape matters.
    density : ndarray of bool, shape (x, y, z)
        Voxels of the synapse, over its own bounding box or a larger one.
    density_start : (x, y, z)
        Where `density` starts in the cutout; may lie outside of it.
    resolution : (x, y, z)
        Voxel size, nm.
    reach_nm : float
    """
    x, y, z = (float(v) for v in resolution)
    ball = _ball_rows(reach_nm, (x, y, z))
    reach = triple([math.floor(reach_nm / v + _TOLERANCE) for v in (x, y, z)])
    flat = np.ascontiguousarray(density.T)
    grown = _grown(flat, ball, reach)
    start = [a - r for a, r in zip(density_start, reach, strict=True)]
    low = [min(max(-a, 0), n) for a, n in zip(start, grown.shape[::-1], strict=True)]
    high = [
        max(min(n, size - a), b)
        for a, n, size, b in zip(start, grown.shape[::-1], cells.shape, low, strict=True)
    ]
    inside = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
    return Zone(triple([a + b for a, b in zip(start, low, strict=True)]), grown[inside])


@functools.lru_cache(maxsize=64)
def _ball_rows(reach_nm: float, resolution: tuple[float, float, float]) -> npt.NDArray[np.int64]:
    """Rows (dz, dy, half) of the voxels within a distance; read-only."""
    hx, hy, hz = resolution
    ry, rz = (math.floor(reach_nm / h + _TOLERANCE) for h in (hy, hz))
    rows = []
    for dz in range(-rz, rz + 1):
        for dy in range(-ry, ry + 1):
            rest = reach_nm**2 * (1 + _TOLERANCE) - (dy * hy) ** 2 - (dz * hz) ** 2
            if rest >= 0:
                rows.append((dz, dy, math.floor(math.sqrt(rest) / hx + _TOLERANCE)))
    array = np.array(rows, dtype=np.int64)
    array.setflags(write=False)
    return array


@njit(nogil=True, cache=True)
def _grown(density: Any, ball: Any, reach: Triple) -> Any:
    """Mask [z, y, x] of the voxels in the balls around those of a density.

    Each run of the density opens and closes an interval in every row of its ball: the work goes
    with the number of runs and rows, not of voxels.
    """
    nz, ny, nx = density.shape
    rx, ry, rz = reach
    steps = np.zeros((nz + 2 * rz, ny + 2 * ry, nx + 2 * rx + 1), dtype=np.int32)
    for k in range(nz):
        for j in range(ny):
            i = 0
            while i < nx:
                if not density[k, j, i]:
                    i += 1
                    continue
                first = i
                while i < nx and density[k, j, i]:
                    i += 1
                for n in range(ball.shape[0]):
                    z, y, half = k + rz + ball[n, 0], j + ry + ball[n, 1], ball[n, 2]
                    steps[z, y, first + rx - half] += 1
                    steps[z, y, i + rx + half] -= 1
    mask = np.empty((nz + 2 * rz, ny + 2 * ry, nx + 2 * rx), dtype=np.bool_)
    for k in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            open_ = 0
            for i in range(mask.shape[2]):
                open_ += steps[k, j, i]
                mask[k, j, i] = open_ > 0
    return mask
