"""The CREMI challenge's distances of synaptic clefts, block by block.

ADGT is the mean distance of the predicted voxels to the nearest true one, ADF that of the true
voxels to the nearest predicted one; the CREMI score of clefts is their mean, and voxels farther
than 200 nm are counted as false (`Clefts` in cremi_python, https://cremi.org/metrics/; there from
distance transforms of the whole volume). Distances are between voxel centres, so 0 where both
sides have the voxel.

Here the nearest voxel is sought among the voxels at the surface of the other side's objects, since
no inner one can be nearer: block by block in the order of their distance, until the next block is
farther than what was found. What is held are the surfaces of a few blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from cnapse.analysis.detection_objects import ObjectSource
from cnapse.analysis.matching import defined
from cnapse.geometry import Block, Box

__all__ = ["CREMI_FALSE_NM", "CleftDistances", "Distances", "cleft_distances"]

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CREMI_FALSE_NM = 200.0
"""A voxel farther than this from the other side is false, by the challenge."""

_HELD_BLOCKS = 64
# Distances add up as whole numbers of 1e-8 nm, so that their sum does not depend on the order.
_PARTS = 1e8


@dataclass(frozen=True, slots=True)
class Distances:
    """Distances of the voxels of one side to the nearest voxel of the other, nm.

    Attributes
    ----------
    voxels : int
        How many.
    mean, largest : float
        NaN if there are none, or the other side is empty.
    false : int
        Voxels farther than 200 nm.
    """

    voxels: int
    mean: float
    largest: float
    false: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "mean_nm": defined(self.mean),
            "largest_nm": defined(self.largest),
            "voxels": self.voxels,
            "beyond_200_nm": self.false,
        }


@dataclass(frozen=True, slots=True)
class CleftDistances:
    """Both directions."""

    to_truth: Distances
    to_prediction: Distances

    @property
    def cremi(self) -> float:
        """Mean of ADGT and ADF, nm."""
        return (self.to_truth.mean + self.to_prediction.mean) / 2

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "adgt": self.to_truth.to_dict(),
            "adf": self.to_prediction.to_dict(),
            "score_nm": defined(self.cremi),
        }


def cleft_distances(
    predicted: ObjectSource,
    true: ObjectSource,
    ignore: Callable[[Box], Mask] | None = None,
) -> CleftDistances:
    """Distances of predicted to true voxels, and back.

    Parameters
    ----------
    predicted, true : ObjectSource
        Over the same grid.
    ignore
        Which voxels of a box are not asked; others may still be nearest to them.
    """
    return CleftDistances(_distances(predicted, true, ignore), _distances(true, predicted, ignore))


def _distances(
    asked: ObjectSource, other: ObjectSource, ignore: Callable[[Box], Mask] | None
) -> Distances:
    nearest = _Nearest(other)
    voxels = false = total = 0
    largest = 0.0
    for block in asked.grid:
        mask = asked.read(block) != 0
        if ignore is not None:
            mask &= ~ignore(block.write)
        voxels += int(mask.sum())
        if nearest.empty:
            continue
        mask &= other.read(block) == 0
        for places in _portions(_places(mask, block.write)):
            found = nearest.distance(places)
            total += int(np.rint(found * _PARTS).astype(np.int64).sum())
            largest = max(largest, float(found.max()))
            false += int((found > CREMI_FALSE_NM).sum())
    if nearest.empty or not voxels:
        return Distances(voxels, float("nan"), float("nan"), voxels)
    return Distances(voxels, total / _PARTS / voxels, largest, false)


class _Nearest:
    """The nearest voxel of some objects."""

    def __init__(self, objects: ObjectSource) -> None:
        self._objects = objects
        self._resolution = np.asarray(objects.grid.bounds.resolution)
        self._held: OrderedDict[int, tuple[Int64s, cKDTree]] = OrderedDict()
        # Tight boxes around what each block has, so that few blocks are looked into.
        self._blocks: list[int] = []
        corners = []
        for block in objects.grid:
            places = _places(objects.read(block) != 0, block.write)
            if len(places):
                self._blocks.append(block.index)
                corners.append((places.min(axis=0), places.max(axis=0)))
        self._low = np.array([low for low, _ in corners], np.int64).reshape(-1, 3)
        self._high = np.array([high for _, high in corners], np.int64).reshape(-1, 3)

    @property
    def empty(self) -> bool:
        """Whether there are no objects."""
        return not self._blocks

    def distance(self, places: Int64s) -> Floats:
        """Of each voxel to the nearest one of the objects, nm."""
        best = np.full(len(places), np.inf)
        around = _gap(places.min(axis=0), places.max(axis=0), self._low, self._high)
        bounds = np.linalg.norm(around * self._resolution, axis=1)
        for which in np.argsort(bounds, kind="stable"):
            if bounds[which] > best.max():
                break
            gap = _gap(places, places, self._low[which], self._high[which])
            near = np.linalg.norm(gap * self._resolution, axis=1) < best
            if near.any():
                best[near] = np.minimum(best[near], self._in_block(which, places[near]))
        return best

    def _in_block(self, which: int, places: Int64s) -> Floats:
        surface, tree = self._surface(self._blocks[which])
        _, nearest = tree.query(places * self._resolution)
        # From whole numbers, so that where the block lies does not matter.
        apart: Floats = np.linalg.norm((places - surface[nearest]) * self._resolution, axis=1)
        return apart

    def _surface(self, index: int) -> tuple[Int64s, cKDTree]:
        if index in self._held:
            self._held.move_to_end(index)
            return self._held[index]
        block: Block = self._objects.grid[index]
        places = _surface_places(self._objects.read(block) != 0, block.write)
        self._held[index] = places, cKDTree(places * self._resolution)
        if len(self._held) > _HELD_BLOCKS:
            self._held.popitem(last=False)
        return self._held[index]


def _gap(low: Int64s, high: Int64s, other_low: Int64s, other_high: Int64s) -> Int64s:
    """Voxels between boxes along each axis; 0 where they share some."""
    gap: Int64s = np.maximum(0, np.maximum(low - other_high, other_low - high))
    return gap


def _surface_places(mask: Mask, box: Box) -> Int64s:
    """Voxels with a neighbour that is not in the mask, and those at a face of the box."""
    places = _places(mask, box)
    flat = mask.reshape(-1, order="F")
    index = box.raster_index(places)
    outermost = np.any((places == box.start) | (places == np.asarray(box.stop) - 1), axis=1)
    places_in, at = places[~outermost], index[~outermost]
    nx, ny, _ = box.shape
    inner = np.ones(len(at), np.bool_)
    for step in (1, nx, nx * ny):
        inner &= flat[at - step] & flat[at + step]
    surface: Int64s = np.concatenate([places[outermost], places_in[~inner]])
    return surface


def _places(mask: Mask, box: Box) -> Int64s:
    """Voxels of a mask, shape (n, 3), in raster order."""
    return box.from_raster_index(np.flatnonzero(mask.reshape(-1, order="F")))


def _portions(places: Int64s, size: int = 1 << 16) -> Iterator[Int64s]:
    """Neighbouring voxels together."""
    for start in range(0, len(places), size):
        yield places[start : start + size]
