"""Labels as the exact solution sees them: what each voxel is before, and what cells took up after.

These kernels of :mod:`cnapse.partners.harmonic` read labels. Each dtype and memory order of them
compiles a kernel once more, so those of :mod:`cnapse.partners.laplace`, which take long to compile,
read kinds of voxels instead. Arrays of voxels are [z, y, x] there, one voxel wider on every side
than the cutout, so that no neighbour needs a bounds check.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cnapse.partners.labels import Labels, label_at

__all__ = ["CELL", "CLOSED", "FREE", "OUTSIDE", "REFLECTS", "kinds_of", "taken_up"]

FREE, CLOSED, REFLECTS, CELL, OUTSIDE = range(5)
"""What a voxel is: free; in a free pocket without an exit; presynaptic; another cell; outside of
the cutout. The last two absorb."""


@njit(nogil=True, cache=True)
def kinds_of(labels: Labels) -> Any:
    """What each voxel is, uint8 [z, y, x], padded; and how many are free."""
    nx, ny, nz = labels.cells.shape
    kinds = np.full((nz + 2, ny + 2, nx + 2), OUTSIDE, dtype=np.uint8)
    cells, pre = labels.cells, labels.pre
    free = 0
    for z in range(nz):
        for y in range(ny):
            row, line = kinds[z + 1, y + 1], cells[:, y, z]
            for x in range(nx):
                label = line[x]
                free += label == 0
                row[x + 1] = FREE if label == 0 else REFLECTS if np.uint64(label) == pre else CELL
    if labels.paints:
        sx, sy, sz = labels.shape
        x0, y0, z0 = labels.start
        for z in range(max(0, -z0), min(sz, nz - z0)):
            for y in range(max(0, -y0), min(sy, ny - y0)):
                for x in range(max(0, -x0), min(sx, nx - x0)):
                    if labels.density[x + sx * (y + sy * z)]:
                        kinds[z0 + z + 1, y0 + y + 1, x0 + x + 1] = REFLECTS
    return kinds, free


@njit(nogil=True, cache=True)
def taken_up(labels: Labels, voxels: Any, places: Any, flux: Any, voxel_nm: Any) -> Any:
    """Cells (in the order in which they are met), their share, and a voxel of each.

    `voxels` [n, 3] absorb `flux` at `places` (voxels from the corner); a cell's voxel is that with
    its centre nearest to the mean place, nm, the first in raster order of several.
    """
    count = voxels.shape[0]
    owner = np.empty(count, dtype=np.int64)
    ids, sums = np.empty(16, dtype=np.uint64), np.zeros((16, 4))
    known, cell = 0, 0
    for i in range(count):
        label = label_at(labels, voxels[i, 0], voxels[i, 1], voxels[i, 2])
        if known == 0 or ids[cell] != label:
            cell = 0
            while cell < known and ids[cell] != label:
                cell += 1
            if cell == ids.size:
                more = np.empty(cell, dtype=np.uint64)
                ids = np.concatenate((ids, more))
                sums = np.concatenate((sums, np.zeros((cell, 4))))
            if cell == known:
                ids[cell] = label
                known += 1
        owner[i] = cell
        for axis in range(3):
            sums[cell, axis] += flux[i] * places[i, axis]
        sums[cell, 3] += flux[i]
    best, nearest = np.full(known, np.inf), np.zeros((known, 3), dtype=np.int64)
    for i in range(count):
        cell = owner[i]
        if sums[cell, 3] == 0:
            continue
        distance = 0.0
        for axis in range(3):
            apart = voxels[i, axis] + 0.5 - sums[cell, axis] / sums[cell, 3]
            distance += (apart * voxel_nm[axis]) ** 2
        if distance < best[cell] or (distance == best[cell] and _before(voxels[i], nearest[cell])):
            best[cell] = distance
            nearest[cell] = voxels[i]
    return ids[:known], sums[:known, 3].copy(), nearest


@njit(nogil=True, cache=True)
def _before(a: Any, b: Any) -> bool:
    """Whether a voxel comes before another in raster order."""
    for axis in range(2, -1, -1):
        if a[axis] != b[axis]:
            return bool(a[axis] < b[axis])
    return False
