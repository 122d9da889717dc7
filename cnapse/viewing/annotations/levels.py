"""The levels of a spatial index: how cells are halved, and which share of annotations each holds.

After neuroglancer's ``annotations.md``, "Spatial index": an annotation that no coarser level has is
taken with the probability ``limit / maxCount``, the same in all cells. Which ones are taken is
said by a hash of the id, and ``maxCount`` is estimated from a sample, so that parts of a table need
not know of each other; where cells hold few of the sample, they are taken to be as dense as theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cnapse.viewing.annotations.hashing import lots
from cnapse.viewing.annotations.spatial import CellGrid, cells_of
from cnapse.viewing.annotations.survey import Survey

__all__ = ["Level", "level_of", "levels_of"]

Ids = npt.NDArray[np.uint64]

_ALL = 1 << 64
_MOST_LEVELS = 16
_SEED = 2
# Fewer of the sample in the fullest cell say little of how full it is.
_ENOUGH = 30
# A level that would take so much of what is left takes all: cells a little fuller are better than a
# further level of many that hold next to nothing.
_NEARLY_ALL = 0.6
# Where a line is in more cells than this, smaller cells only make copies of it.
_MOST_COPIES = 4.0


class Level(NamedTuple):
    """One level of a spatial index.

    Attributes
    ----------
    chunk : tuple of float
        Size of a cell in stored units, x, y, z.
    shape : tuple of int
        Cells along each axis.
    until : int
        Annotations whose lot, of 2^64, is below this one and not below that of the level before.
    """

    chunk: tuple[float, float, float]
    shape: tuple[int, int, int]
    until: int


def level_of(levels: tuple[Level, ...], ids: Ids) -> npt.NDArray[np.int64]:
    """The level of each annotation, by its id."""
    bounds = np.array([level.until for level in levels[:-1]], np.uint64)
    return np.searchsorted(bounds, lots(ids, _SEED), side="right")


def levels_of(
    survey: Survey,
    lower: tuple[int, int, int],
    upper: tuple[int, int, int],
    unit_nm: tuple[float, float, float],
    limit: int,
) -> tuple[tuple[Level, ...], list[float]]:
    """The levels of a layer, and about how many annotations the lists of each hold.

    Parameters
    ----------
    survey
    lower, upper : tuple of int
        Bounds in stored units.
    unit_nm : tuple of float
        Size of a stored unit.
    limit : int
        The most annotations that a cell should hold; of the finest level, up to 1 / 0.6 of it.
    """
    extent = [high - low for low, high in zip(lower, upper, strict=True)]
    halvings = [0, 0, 0]
    scale = survey.rows / max(1, len(survey.lot))
    sampled_all = survey.rows == len(survey.lot)
    levels: list[Level] = []
    sizes: list[float] = []
    left, fullest = 1.0, float(survey.rows)
    while True:
        grid = _grid(lower, extent, halvings)
        rows, codes = cells_of(grid, survey.sample)
        most = int(np.unique(codes, return_counts=True)[1].max()) if len(codes) else 0
        copies = len(rows) / max(1, len(survey.sample))
        finer = _halved(extent, halvings, unit_nm)
        if sampled_all or most >= _ENOUGH:
            fullest = most * scale
        elif levels:
            previous = levels[-1].shape
            fullest /= np.prod(grid.shape) / np.prod(previous)
        taken = limit / max(1.0, fullest * left)
        last = taken >= _NEARLY_ALL or finer is None or len(levels) == _MOST_LEVELS - 1
        if last or copies > _MOST_COPIES:
            levels.append(Level(grid.chunk, grid.shape, _ALL))
            sizes.append(survey.rows * left * copies)
            return tuple(levels), sizes
        sizes.append(survey.rows * left * taken * copies)
        left *= 1 - taken
        levels.append(Level(grid.chunk, grid.shape, min(_ALL - int(left * _ALL), _ALL - 1)))
        halvings = finer or halvings


def _grid(lower: tuple[int, int, int], extent: list[int], halvings: list[int]) -> CellGrid:
    x, y, z = (size / (1 << times) for size, times in zip(extent, halvings, strict=True))
    nx, ny, nz = (1 << times for times in halvings)
    return CellGrid((float(lower[0]), float(lower[1]), float(lower[2])), (x, y, z), (nx, ny, nz))


def _halved(
    extent: list[int], halvings: list[int], unit_nm: tuple[float, float, float]
) -> list[int] | None:
    """Cells cut along their long axes; None if they are no longer than a stored unit."""
    sizes = [size / (1 << times) for size, times in zip(extent, halvings, strict=True)]
    lengths = [size * unit if size > 1 else 0.0 for size, unit in zip(sizes, unit_nm, strict=True)]
    longest = max(lengths)
    if longest == 0:
        return None
    # What is longer than the longest over the root of two is nearer to it whole than halved.
    cut = [length > longest / np.sqrt(2) for length in lengths]
    return [times + int(yes) for times, yes in zip(halvings, cut, strict=True)]
