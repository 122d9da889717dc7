"""How much cells touch: areas of the voxel faces between them, block by block.

Steps of voxels make slanted walls larger than they are, up to 1.7 times, alike for all cells.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnapse.geometry import Grid
from cnapse.volumes.grow import grown_labels, reach_of

if TYPE_CHECKING:
    import pandas as pd

    from cnapse.volumes.reader import Layer

__all__ = ["face_areas", "touching_cells"]

_BLOCK = (512, 512, 64)


def touching_cells(
    cells: Layer, *, grow_nm: float = 0.0, block: tuple[int, int, int] = _BLOCK
) -> pd.DataFrame:
    """Areas of contact between all cells of a segmentation.

    Parameters
    ----------
    cells : Layer
        Segmentation; 0 is no cell.
    grow_nm : float
        Grow cells so far in the plane first, into what belongs to no cell: where membranes are
        left out, cells do not touch.
    block : (x, y, z)
        Voxels at a time; the result does not depend on it.

    Returns
    -------
    DataFrame
        pre_id, post_id (the smaller id first; contact has no direction), area_nm2: a table for
        `cnapse.analysis.connectome_contacts.read_contacts` and ``--contacts``.
    """
    import pandas as pd

    resolution = cells.resolution
    reach = reach_of(grow_nm, resolution)
    faces: Counter[tuple[int, int, int]] = Counter()
    for part in Grid(cells.bounds, block):
        # One voxel more at the upper sides: each face belongs to the block of its lower voxel.
        seen = part.write.grown((0, 0, 0), (1, 1, 1)).clamped(cells.bounds)
        around = seen.grown(reach).clamped(cells.bounds)
        labels = cells.read(around)
        if grow_nm:
            labels = grown_labels(labels, grow_nm, resolution)
        offset = [a - b for a, b in zip(seen.start, around.start, strict=True)]
        inner = tuple(slice(o, o + n) for o, n in zip(offset, seen.shape, strict=True))
        faces.update(_faces(labels[inner], part.write.shape))
    areas = face_areas(resolution)
    total: dict[tuple[int, int], float] = {}
    for (one, other, axis), count in sorted(faces.items()):
        total[one, other] = total.get((one, other), 0.0) + count * areas[axis]
    ends = np.array([*total], np.uint64).reshape(-1, 2)
    return pd.DataFrame(
        {
            "pre_id": ends[:, 0],
            "post_id": ends[:, 1],
            "area_nm2": np.array([*total.values()], np.float64),
        }
    )


def face_areas(resolution: tuple[float, float, float]) -> tuple[float, float, float]:
    """Area of a voxel's face across x, y and z, nm2."""
    x, y, z = resolution
    return (y * z, x * z, x * y)


def _faces(labels: npt.NDArray[Any], shape: tuple[int, int, int]) -> Counter[tuple[int, int, int]]:
    """Faces between two cells whose lower voxel lies in the first `shape` voxels, by axis."""
    found: Counter[tuple[int, int, int]] = Counter()
    for axis in range(3):
        lower = [slice(0, n) for n in shape]
        upper = list(lower)
        upper[axis] = slice(1, shape[axis] + 1)
        b = labels[tuple(upper)]
        lower[axis] = slice(0, b.shape[axis])
        a = labels[tuple(lower)]
        apart = (a != b) & (a > 0) & (b > 0)
        ends = np.stack([a[apart], b[apart]], axis=1).astype(np.uint64)
        ends.sort(axis=1)
        pairs, counts = np.unique(ends, axis=0, return_counts=True)
        for (one, other), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            found[one, other, axis] += count
    return found
