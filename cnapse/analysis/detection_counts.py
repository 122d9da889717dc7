"""One pass over the blocks: everything that scores of detection are made of, as whole numbers.

Counts of blocks add up, so that no score depends on the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.analysis.detection_objects import ObjectSource
from cnapse.analysis.matching import Overlaps, merge_overlaps, overlaps
from cnapse.geometry import Box

__all__ = ["DetectionCounts", "ObjectSums", "count", "object_sums"]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LEVELS = 256


@dataclass(frozen=True, slots=True)
class ObjectSums:
    """Size and place of objects, sorted by id.

    Attributes
    ----------
    ids : ndarray of uint64, shape (n,)
    voxels : ndarray of int64, shape (n,)
    outside : ndarray of int64, shape (n,)
        Voxels that are not under the ignore mask.
    sums : ndarray of int64, shape (n, 3)
        Sum of the coordinates of the voxels, x, y, z.
    start, stop : ndarray of int64, shape (n, 3)
        Bounding box, half-open.
    """

    ids: Ids
    voxels: Int64s
    outside: Int64s
    sums: Int64s
    start: Int64s
    stop: Int64s

    def __len__(self) -> int:
        return len(self.ids)

    def centres_nm(self, box: Box) -> npt.NDArray[np.float64]:
        """Centres of mass in nm, shape (n, 3); `box` tells the voxel size."""
        centres = self.sums / self.voxels[:, None] + 0.5
        return np.asarray(centres * np.asarray(box.resolution))


@dataclass(frozen=True, slots=True)
class DetectionCounts:
    """All counts of a comparison.

    Attributes
    ----------
    box : Box
        What was compared.
    overlaps : Overlaps
        Of all voxels.
    visible : Overlaps
        Of the voxels that are not under the ignore mask.
    predicted, true : ObjectSums
    levels : ndarray of int64, shape (2, 256), or None
        Voxels that are not ignored, by whether they are true (row 1) and by stored probability.
    ignored : int
        Voxels under the ignore mask.
    """

    box: Box
    overlaps: Overlaps
    visible: Overlaps
    predicted: ObjectSums
    true: ObjectSums
    levels: Int64s | None
    ignored: int


def count(
    predicted: ObjectSource,
    true: ObjectSource,
    *,
    levels: Callable[[Box], npt.NDArray[np.uint8]] | None = None,
    ignore: Callable[[Box], Mask] | None = None,
) -> DetectionCounts:
    """Count block by block.

    Parameters
    ----------
    predicted, true : ObjectSource
        Over the same grid.
    levels
        Stored probabilities of a box.
    ignore
        Which voxels of a box do not count.
    """
    box = predicted.grid.bounds
    parts: list[Overlaps] = []
    seen: list[Overlaps] = []
    ours: list[ObjectSums] = []
    theirs: list[ObjectSums] = []
    histogram = np.zeros((2, LEVELS), np.int64)
    ignored = 0
    for block in predicted.grid:
        p, t = predicted.read(block), true.read(block)
        hidden = None if ignore is None else ignore(block.write)
        parts.append(overlaps(p, t))
        ours.append(object_sums(p, block.write, hidden))
        theirs.append(object_sums(t, block.write, hidden))
        truth = t != 0
        if hidden is not None:
            ignored += int(hidden.sum())
            p[hidden] = 0
            t[hidden] = 0
            seen.append(overlaps(p, t))
        if levels is not None:
            histogram += _by_level(levels(block.write), truth, hidden)
    total = merge_overlaps(parts)
    return DetectionCounts(
        box=box,
        overlaps=total,
        visible=total if ignore is None else merge_overlaps(seen),
        predicted=merged_sums(ours),
        true=merged_sums(theirs),
        levels=None if levels is None else histogram,
        ignored=ignored,
    )


def object_sums(labels: npt.NDArray[Any], box: Box, hidden: Mask | None = None) -> ObjectSums:
    """Size and place of the objects in a box.

    Parameters
    ----------
    labels : ndarray of unsigned int, shape ``box.shape``
    box : Box
    hidden : ndarray of bool, optional
        The ignore mask.
    """
    # Raster order, without a copy of a Fortran-ordered array.
    flat = labels.reshape(-1, order="F")
    some = np.flatnonzero(flat)
    places = box.from_raster_index(some)
    seen = np.ones(len(some), np.int64)
    if hidden is not None:
        seen -= hidden.reshape(-1, order="F")[some]
    one = np.ones(len(some), np.int64)
    return _summed(flat[some].astype(np.uint64), one, seen, places, places, places + 1)


def merged_sums(parts: Iterable[ObjectSums]) -> ObjectSums:
    """Add up the sums of several blocks."""
    every = [_summed(np.zeros(0, np.uint64), *_NOTHING), *parts]

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in every])

    names = ("ids", "voxels", "outside", "sums", "start", "stop")
    return _summed(*(joined(name) for name in names))


_NOTHING = (
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros((0, 3), np.int64),
    np.zeros((0, 3), np.int64),
    np.zeros((0, 3), np.int64),
)


def _summed(
    ids: Ids, voxels: Int64s, outside: Int64s, sums: Int64s, start: Int64s, stop: Int64s
) -> ObjectSums:
    found, which = np.unique(ids, return_inverse=True)
    n = len(found)
    totals = [np.zeros((n, *values.shape[1:]), np.int64) for values in (voxels, outside, sums)]
    for total, values in zip(totals, (voxels, outside, sums), strict=True):
        np.add.at(total, which, values)
    low = np.full((n, 3), np.iinfo(np.int64).max)
    high = np.full((n, 3), np.iinfo(np.int64).min)
    np.minimum.at(low, which, start)
    np.maximum.at(high, which, stop)
    return ObjectSums(found, totals[0], totals[1], totals[2], low, high)


def _by_level(levels: npt.NDArray[np.uint8], truth: Mask, hidden: Mask | None) -> Int64s:
    # In raster order: no copy, since all three are in Fortran order.
    values, true = levels.reshape(-1, order="F"), truth.reshape(-1, order="F")
    if hidden is not None:
        kept = ~hidden.reshape(-1, order="F")
        values, true = values[kept], true[kept]
    every = np.bincount(values, minlength=LEVELS)
    positive = np.bincount(values[true], minlength=LEVELS)
    return np.stack([every - positive, positive]).astype(np.int64)
