"""Objects that are one where a small gap parts them, read block by block."""

from __future__ import annotations

import functools

import fastremap
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from cnapse.analysis.detection_objects import ObjectSource
from cnapse.geometry import Block, Box, triple
from cnapse.synapses.merging import merged, near_objects

__all__ = ["JoinedObjects"]

Ids = npt.NDArray[np.uint64]

# Pairs that follow each other mostly lie in the same blocks.
_HELD = 4


class JoinedObjects:
    """Objects of another source, joined across gaps; they keep the smallest of their ids.

    Parameters
    ----------
    source : ObjectSource
    gap_nm : float
        The largest gap, nm, from centre to centre of the nearest voxels
        (`cnapse.synapses.merging`).

    Raises
    ------
    ConfigError
        If the gap is no positive number.
    """

    def __init__(self, source: ObjectSource, gap_nm: float) -> None:
        self.grid = source.grid
        self._source = source
        held = functools.lru_cache(_HELD)(lambda index: source.read(self.grid[index]))
        resolution = self.grid.bounds.resolution
        self._mapping = near_objects(
            self._boxes(), lambda box: self._over(box, held), gap_nm, resolution
        )

    def read(self, block: Block) -> Ids:
        """Ids over ``block.write``, shape (x, y, z); 0 is none."""
        return merged(self._source.read(block), self._mapping)

    def _boxes(self) -> dict[int, Box]:
        """The bounding box of each object, over all blocks."""
        found: dict[int, Box] = {}
        for block in self.grid:
            numbered, ids = fastremap.renumber(self._source.read(block), preserve_zero=True)
            old = {number: int(own) for own, number in ids.items()}
            for number, slices in enumerate(find_objects(numbered.astype(np.int64)), start=1):
                own, box = old[number], _placed(slices, block.write)
                found[own] = found[own].hull(box) if own in found else box
        return found

    def _over(self, box: Box, held: functools._lru_cache_wrapper[Ids]) -> Ids:
        """Ids over any box inside of the bounds."""
        out = np.zeros(box.shape, np.uint64, order="F")
        for block in self.grid:
            both = box.intersection(block.write)
            if not both.empty:
                out[both.slices(box)] = held(block.index)[both.slices(block.write)]
        return out


def _placed(slices: tuple[slice, ...], within: Box) -> Box:
    """A part of a box, given by slices of its array."""
    start = triple([a + s.start for a, s in zip(within.start, slices, strict=True)])
    stop = triple([a + s.stop for a, s in zip(within.start, slices, strict=True)])
    return Box(start, stop, within.resolution)
