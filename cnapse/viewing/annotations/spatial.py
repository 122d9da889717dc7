"""The cells of a spatial index, and which of them a line crosses.

Cells are half open, so that a point lies in one. A line is in the cells between those of its ends
that it touches, faces, edges and corners included: neuroglancer's ``annotations.md``, "Spatial
index", where a cell holds its faces. Whether it touches is asked by separating axes, whose sums of
products of float32 are exact in float64 at the sizes there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["CellGrid", "cells_of", "code_of", "morton_bits"]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

_AXES = 3
_MOST_BITS = 32


class CellGrid(NamedTuple):
    """The cells of one level.

    Attributes
    ----------
    lower : tuple of float
        Where the first cell begins, x, y, z, in stored units.
    chunk : tuple of float
        Size of a cell.
    shape : tuple of int
        Cells along each axis.
    """

    lower: tuple[float, float, float]
    chunk: tuple[float, float, float]
    shape: tuple[int, int, int]


def cells_of(grid: CellGrid, points: Float32s) -> tuple[Int64s, Ids]:
    """The cells that annotations are in.

    Parameters
    ----------
    grid
    points : ndarray of float32, shape (n, 3) or (n, 6)
        Positions, or both ends of lines, in the grid.

    Returns
    -------
    rows : ndarray of int64
        Row in `points`, in order; a line that crosses several cells is there several times.
    codes : ndarray of uint64
        Compressed Morton code of the cell.
    """
    numbers = np.array(grid.lower), np.array(grid.chunk), np.array(grid.shape, np.int64)
    if max(grid.shape) == 1:
        return np.arange(len(points)), np.zeros(len(points), np.uint64)
    none = np.empty((0, _AXES), np.int64), np.empty(0, np.int64)
    count = _visit(points, *numbers, *none)
    cells, rows = np.empty((count, _AXES), np.int64), np.empty(count, np.int64)
    _visit(points, *numbers, cells, rows)
    return rows, _codes(cells, numbers[2])


def code_of(cell: tuple[int, int, int], shape: tuple[int, int, int]) -> int:
    """The compressed Morton code of one cell."""
    return int(_codes(np.array([cell], np.int64), np.array(shape, np.int64))[0])


def cell_of(code: int, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The cell that has a compressed Morton code."""
    cell, place = [0, 0, 0], 0
    for bit in range(_MOST_BITS):
        for axis in range(_AXES):
            if 1 << bit < shape[axis]:
                cell[axis] |= (code >> place & 1) << bit
                place += 1
    return cell[0], cell[1], cell[2]


def morton_bits(shape: tuple[int, int, int]) -> int:
    """Bits of the compressed Morton codes of a grid."""
    return sum((size - 1).bit_length() for size in shape)


@njit(nogil=True, cache=True)
def _codes(cells: Int64s, shape: Int64s) -> Ids:
    """Compressed Morton codes (neuroglancer's ``volume.md``), without bits that are 0 for all."""
    result = np.zeros(len(cells), np.uint64)
    for i in range(len(cells)):
        place = np.uint64(0)
        for bit in range(_MOST_BITS):
            for axis in range(_AXES):
                if (1 << bit) < shape[axis]:
                    value = np.uint64((cells[i, axis] >> bit) & 1)
                    result[i] |= value << place
                    place += np.uint64(1)
    return result


@njit(nogil=True, cache=True)
def _visit(
    points: Float32s, lower: Float64s, chunk: Float64s, shape: Int64s, cells: Int64s, rows: Int64s
) -> int:
    """Count the pairs of annotation and cell; note them where there is room for it."""
    count, write = 0, len(rows) > 0
    ends = points.shape[1] // _AXES
    a, b = np.empty(_AXES), np.empty(_AXES)
    first, last = np.empty(_AXES, np.int64), np.empty(_AXES, np.int64)
    for i in range(len(points)):
        moved = 0
        for axis in range(_AXES):
            a[axis] = np.float64(points[i, axis]) - lower[axis]
            b[axis] = np.float64(points[i, axis + _AXES * (ends - 1)]) - lower[axis]
            one = _cell(a[axis], chunk[axis], shape[axis])
            two = _cell(b[axis], chunk[axis], shape[axis])
            first[axis], last[axis] = min(one, two), max(one, two)
            moved += one != two
        if moved <= 1:
            # Straight through, or in one cell.
            for x in range(first[0], last[0] + 1):
                for y in range(first[1], last[1] + 1):
                    for z in range(first[2], last[2] + 1):
                        if write:
                            cells[count, 0], cells[count, 1], cells[count, 2] = x, y, z
                            rows[count] = i
                        count += 1
            continue
        for x in range(first[0], last[0] + 1):
            y0, y1 = _span(a, b, chunk, 0, x, 1, first[1], last[1])
            z0, z1 = _span(a, b, chunk, 0, x, 2, first[2], last[2])
            for y in range(y0, y1 + 1):
                low, high = _span(a, b, chunk, 1, y, 2, z0, z1)
                for z in range(low, high + 1):
                    if _touches(a, b, chunk, x, y, z):
                        if write:
                            cells[count, 0], cells[count, 1], cells[count, 2] = x, y, z
                            rows[count] = i
                        count += 1
    return count


@njit(nogil=True, cache=True)
def _cell(position: float, chunk: float, size: int) -> int:
    """The cell of a position along one axis."""
    cell = int(np.floor(position / chunk))
    # A quotient just below a whole number is rounded to it; the product is exact.
    if position < cell * chunk:
        cell -= 1
    return min(max(cell, 0), size - 1)


@njit(nogil=True, cache=True)
def _span(
    a: Float64s, b: Float64s, chunk: Float64s, axis: int, cell: int, other: int, low: int, high: int
) -> tuple[int, int]:
    """Cells along one axis that a line can touch in a slab across another; one more each way."""
    along = b[axis] - a[axis]
    if along == 0 or low == high:
        return low, high
    t0 = (cell * chunk[axis] - a[axis]) / along
    t1 = ((cell + 1) * chunk[axis] - a[axis]) / along
    t0, t1 = min(max(min(t0, t1), 0.0), 1.0), max(min(max(t0, t1), 1.0), 0.0)
    p, q = a[other] + t0 * (b[other] - a[other]), a[other] + t1 * (b[other] - a[other])
    least = int(np.floor(min(p, q) / chunk[other])) - 1
    most = int(np.floor(max(p, q) / chunk[other])) + 1
    return max(low, least), min(high, most)


@njit(nogil=True, cache=True)
def _touches(a: Float64s, b: Float64s, chunk: Float64s, x: int, y: int, z: int) -> bool:
    """Whether a line whose bounding box meets a closed box touches it: separating axes."""
    # Twice the distances, so that nothing is halved.
    cx = a[0] + b[0] - (2 * x + 1) * chunk[0]
    cy = a[1] + b[1] - (2 * y + 1) * chunk[1]
    cz = a[2] + b[2] - (2 * z + 1) * chunk[2]
    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    if abs(cy * dz - cz * dy) > chunk[1] * abs(dz) + chunk[2] * abs(dy):
        return False
    if abs(cz * dx - cx * dz) > chunk[2] * abs(dx) + chunk[0] * abs(dz):
        return False
    return bool(abs(cx * dy - cy * dx) <= chunk[0] * abs(dy) + chunk[1] * abs(dx))
