"""Objects over the blocks of a grid: as they are labelled, or cut out of a map by a threshold.

Either way an object has one id in the whole box, whatever the blocks, and objects outside of the
limits of size are gone as wholes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnapse.analysis.detection_inputs import Kind, Volume, stored_levels
from cnapse.errors import ConfigError
from cnapse.geometry import Block, Box, Grid, Triple
from cnapse.synapses.components import (
    Connectivity,
    block_components,
    label_box,
    threshold_mask,
)
from cnapse.synapses.stitching import Stitching, object_ids, relabel, stitch

__all__ = [
    "Cut",
    "MapObjects",
    "ObjectSource",
    "StoredObjects",
    "block_grid",
    "objects_of",
    "read_box",
]

Ids = npt.NDArray[np.uint64]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """How a map becomes objects.

    Parameters
    ----------
    threshold : float
        Least probability; not used where the values are labels or a drawing.
    connectivity : {6, 18, 26}
    min_voxels, max_voxels : int, optional
        Objects outside of these limits are dropped; of labels, too.
    """

    threshold: float = 0.5
    connectivity: int = 26
    min_voxels: int = 1
    max_voxels: int | None = None


class ObjectSource(Protocol):
    """Objects that are read block by block."""

    grid: Grid

    def read(self, block: Block) -> Ids:
        """Ids over ``block.write``, shape (x, y, z), Fortran order; 0 is none."""


class StoredObjects:
    """Objects of a label volume, with the ids they have there.

    Parameters
    ----------
    read
        Labels of a box.
    grid : Grid
    cut : Cut
        Its limits of size.
    """

    def __init__(self, read: Callable[[Box], Array], grid: Grid, cut: Cut) -> None:
        self.grid, self._labels = grid, read
        self._dropped = np.zeros(0, np.uint64)
        if cut.min_voxels > 1 or cut.max_voxels is not None:
            self._dropped = self._outside_of_limits(cut)

    def read(self, block: Block) -> Ids:
        """Ids over ``block.write``."""
        ids = np.asfortranarray(self._labels(block.write).astype(np.uint64))
        if len(self._dropped):
            ids[np.isin(ids, self._dropped)] = 0
        return ids

    def _outside_of_limits(self, cut: Cut) -> Ids:
        found = [np.unique(self._labels(b.write), return_counts=True) for b in self.grid]
        every = np.concatenate([ids.astype(np.uint64) for ids, _ in found])
        ids, which = np.unique(every, return_inverse=True)
        voxels = np.zeros(len(ids), np.int64)
        np.add.at(voxels, which, np.concatenate([counts for _, counts in found]))
        bad = voxels < cut.min_voxels
        if cut.max_voxels is not None:
            bad |= voxels > cut.max_voxels
        return np.asarray(ids[bad])


class MapObjects:
    """Connected components of a mask over the whole box, found block by block.

    Parameters
    ----------
    read
        Mask of a box.
    grid : Grid
        With one voxel of upper halo.
    cut : Cut
        Connectivity and limits of size.
    """

    def __init__(self, read: Callable[[Box], Array], grid: Grid, cut: Cut) -> None:
        self.grid, self._mask, self._cut = grid, read, cut
        self._connectivity = _checked(cut.connectivity)
        self._stitching: Stitching = stitch(
            grid, lambda i: self._labelled(grid[i])[1], cut.min_voxels, cut.max_voxels
        )

    def read(self, block: Block) -> Ids:
        """Ids over ``block.write``: 1 + the raster index in the box of an object's first voxel."""
        labels, components = self._labelled(block)
        mapping = self._stitching.mapping(block.index)
        ids = object_ids(components, mapping, self._cut.min_voxels, self._cut.max_voxels)
        return relabel(labels, ids, block)

    def _labelled(self, block: Block) -> tuple[Any, Any]:
        labels, n = label_box(self._mask(block.read), self._connectivity)
        return labels, block_components(labels, n, block, self.grid.bounds)


def block_grid(box: Box, block: Triple) -> Grid:
    """The blocks in which a box is compared."""
    return Grid(box, block, halo_upper=(1, 1, 1))


def objects_of(volume: Volume, kind: Kind, grid: Grid, cut: Cut) -> ObjectSource:
    """The objects of a volume.

    Raises
    ------
    ConfigError
        If the threshold is not above 0 and at most 1.
    """
    if kind == "labels":
        return StoredObjects(volume.read, grid, cut)
    if kind == "mask":
        return MapObjects(lambda box: threshold_mask(volume.read(box), binary=True), grid, cut)
    if not 0 < cut.threshold <= 1:
        raise ConfigError(f"a threshold must be above 0 and at most 1, not {cut.threshold:g}")
    levels = stored_levels(volume)
    return MapObjects(lambda box: threshold_mask(levels.read(box), cut.threshold), grid, cut)


def read_box(source: ObjectSource, box: Box) -> Ids:
    """Ids over any box, from the blocks that it meets."""
    out = np.zeros(box.shape, np.uint64, order="F")
    for block in source.grid.touching(box):
        part = block.write.intersection(box)
        out[part.slices(box)] = source.read(block)[part.slices(block.write)]
    return out


def _checked(connectivity: int) -> Connectivity:
    match connectivity:
        case 6 | 18 | 26:
            return connectivity
        case _:
            raise ConfigError(f"connectivity must be 6, 18 or 26, not {connectivity}")
