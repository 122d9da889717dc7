"""Synapses that are not known yet: how many a block will hold, and how often blocks cut them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from cnapse.geometry import Box, Grid, Resolution
from cnapse_tasks.planning.spans import spans_of

__all__ = ["DENSITY_RANGE", "USUAL", "Scatter", "Tissue"]

DENSITY_RANGE = (0.5, 2.0)
"""Synapses per cubic micrometre that most neuropil lies within.

Mouse neocortex has 0.72 (Schuez and Palm, J Comp Neurol 286, 442, 1989); hippocampal neuropil about
two. A detector finds others, misses some, and cuts some in two.
"""


@dataclass(frozen=True, slots=True)
class Tissue:
    """What is taken for true of the synapses.

    Parameters
    ----------
    density_um3 : float
        Synapses per cubic micrometre.
    low, high : float
        The range that the density may lie in.
    extent_nm : (x, y, z)
        Mean size of an object's bounding box.
    partners : float
        Mean number of rows of the partners table for one synapse.
    source : str
        Where this comes from.
    """

    density_um3: float
    low: float
    high: float
    extent_nm: Resolution = (300.0, 300.0, 300.0)
    partners: float = 2.0
    source: str = "assumed"


USUAL = Tissue(1.0, *DENSITY_RANGE)
"""Without any measurement."""


@dataclass(frozen=True)
class Scatter:
    """Synapses scattered evenly, at random, over the voxels that count.

    Parameters
    ----------
    tissue : Tissue
    region : Box
        The voxels that count.
    """

    tissue: Tissue
    region: Box

    @functools.cached_property
    def synapses(self) -> float:
        """Expected number in the region."""
        um3 = self.region.voxels * self.region.voxel_volume_nm3 / 1e9
        return self.tissue.density_um3 * um3

    @functools.cached_property
    def extent(self) -> Resolution:
        """Mean size of an object in voxels, at least 1."""
        x, y, z = (
            max(1.0, e / h)
            for e, h in zip(self.tissue.extent_nm, self.region.resolution, strict=True)
        )
        return x, y, z

    def pieces(self, grid: Grid) -> float:
        """Into how many parts the blocks of a grid cut an object on average."""
        return math.prod(1 + over for over in self._over(grid))

    def whole(self, grid: Grid) -> float:
        """Share of the objects that no block cuts."""
        return math.prod(max(0.0, 1 - over) for over in self._over(grid))

    def _over(self, grid: Grid) -> list[float]:
        """By how many borders between blocks an object is cut in each axis."""
        axes = spans_of(_plain(grid)).clipped(self.region).axes
        return [
            (extent - 1) * max(0, len(axis) - 1) / size
            for extent, axis, size in zip(self.extent, axes, self.region.shape, strict=True)
        ]

    def in_block(self, grid: Grid, *, pieces: bool = True) -> float:
        """How many objects one block that counts holds on average, parts of objects included."""
        blocks = max(1, len(spans_of(_plain(grid)).clipped(self.region)))
        return self.synapses * (self.pieces(grid) if pieces else 1) / blocks

    def occupied(self, grid: Grid, *, pieces: bool = True) -> float:
        """How many blocks hold at least one object."""
        blocks = len(spans_of(_plain(grid)).clipped(self.region))
        return blocks * some(self.in_block(grid, pieces=pieces))


def some(mean: float) -> float:
    """Chance of at least one where so many are expected."""
    return -math.expm1(-mean)


def _plain(grid: Grid) -> Grid:
    """Without halo: blocks that count."""
    return Grid(grid.bounds, grid.block_shape)
