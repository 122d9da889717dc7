"""Blocks counted without listing them: what a grid reads is a product of intervals of each axis.

A volume of a billion blocks has a thousand intervals in each axis, so sums over all blocks cost
next to nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cnapse.geometry import Box, Grid, Triple, triple

__all__ = ["Interval", "Spans", "chunks_near", "spans_of"]

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Spans:
    """One box for each choice of an interval of x, of y and of z.

    Parameters
    ----------
    axes : three tuples of (start, stop)
        Half-open, in voxels.
    """

    axes: tuple[tuple[Interval, ...], tuple[Interval, ...], tuple[Interval, ...]]

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self.axes)

    @property
    def voxels(self) -> int:
        """Sum of the boxes' voxels."""
        return math.prod(sum(b - a for a, b in axis) for axis in self.axes)

    @property
    def largest(self) -> Triple:
        """Shape of the largest box; 0 in each axis if there is none."""
        return triple([max((b - a for a, b in axis), default=0) for axis in self.axes])

    def clipped(self, box: Box) -> Spans:
        """Cut off at a box; boxes of which nothing is left are dropped."""
        return self.mapped(
            lambda axis, span: (max(span[0], box.start[axis]), min(span[1], box.stop[axis]))
        )

    def mapped(self, change: Callable[[int, Interval], Interval]) -> Spans:
        """With each interval (axis, (start, stop)) changed; empty ones are dropped."""

        def changed(axis: int) -> Iterator[Interval]:
            for span in self.axes[axis]:
                start, stop = change(axis, span)
                if start < stop:
                    yield start, stop

        return Spans((tuple(changed(0)), tuple(changed(1)), tuple(changed(2))))

    def grown(self, by: Triple) -> Spans:
        """Each box grown on both sides."""
        return self.mapped(lambda axis, span: (span[0] - by[axis], span[1] + by[axis]))

    def chunks(self, origin: Triple, chunk: Triple) -> int:
        """How many storage chunks the boxes touch, each counted once a box.

        Parameters
        ----------
        origin : (x, y, z)
            First voxel of the chunk grid.
        chunk : (x, y, z)
        """
        return math.prod(
            sum((b - 1 - o) // c - (a - o) // c + 1 for a, b in axis)
            for axis, o, c in zip(self.axes, origin, chunk, strict=True)
        )


@functools.lru_cache(maxsize=64)
def spans_of(grid: Grid) -> Spans:
    """The read boxes of a grid's blocks; with no halo these are the write boxes."""

    def axis(i: int) -> Iterator[Interval]:
        low, high = grid.bounds.start[i], grid.bounds.stop[i]
        for start in range(low, high, grid.block_shape[i]):
            stop = min(start + grid.block_shape[i], high)
            yield max(low, start - grid.halo_lower[i]), min(high, stop + grid.halo_upper[i])

    return Spans((tuple(axis(0)), tuple(axis(1)), tuple(axis(2))))


def chunks_near(width: tuple[float, float, float], chunk: Triple, bounds: Box) -> float:
    """How many chunks a box of some width that lies anywhere in a layer touches on average.

    Parameters
    ----------
    width : (x, y, z)
        In voxels, at least 1.
    chunk : (x, y, z)
    bounds : Box
        Of the layer: no box touches more chunks than it has.
    """
    most = [-(-n // c) for n, c in zip(bounds.shape, chunk, strict=True)]
    return math.prod(
        min(n, 1 + (max(1.0, w) - 1) / c) for w, c, n in zip(width, chunk, most, strict=True)
    )
