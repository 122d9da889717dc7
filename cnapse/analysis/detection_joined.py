"""Objects that are one where a small gap parts them, read block by block."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from cnapse.analysis.detection_objects import ObjectSource, read_box
from cnapse.geometry import Block, Box
from cnapse.synapses.merging import boxes_of, merged, near_objects

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
        held = _Held(source)
        self._mapping = near_objects(
            self._boxes(), lambda box: read_box(held, box), gap_nm, self.grid.bounds.resolution
        )

    def read(self, block: Block) -> Ids:
        """Ids over ``block.write``, shape (x, y, z); 0 is none."""
        return merged(self._source.read(block), self._mapping)

    def _boxes(self) -> dict[int, Box]:
        """The bounding box of each object, over all blocks."""
        found: dict[int, Box] = {}
        for block in self.grid:
            for own, box in boxes_of(self._source.read(block), block.write).items():
                found[own] = found[own].hull(box) if own in found else box
        return found


class _Held:
    """A source whose last blocks are kept."""

    def __init__(self, source: ObjectSource) -> None:
        self.grid = source.grid
        self._read = functools.lru_cache(_HELD)(source.read)

    def read(self, block: Block) -> Ids:
        """Ids over ``block.write``."""
        return self._read(block)
