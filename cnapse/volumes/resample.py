"""Bringing arrays from one voxel size to another, and reads past the edge of a layer.

Voxel grids are anchored at 0 nm: a voxel `j` that is `k` times as wide as a source voxel covers the
source voxels ``k j .. k (j + 1) - 1``, wherever the layer begins. At the rim of a layer some of
those do not exist; the others alone count. A voxel depends on its own source voxels only, so
results do not depend on how a volume is cut into reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt

from cnapse.geometry import Triple, triple

__all__ = ["PadMode", "Ratio", "downsample", "nested_ratio", "padded_indices", "take"]

PadMode = Literal["zero", "edge", "mirror"]
Array = npt.NDArray[Any]

_WIDE = 8
"""Bytes of an integer whose sums may not fit into int64."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How wanted voxels lie on source voxels, per axis; one of the two is 1 in each axis.

    Parameters
    ----------
    down : (x, y, z)
        Source voxels in one wanted voxel.
    up : (x, y, z)
        Wanted voxels in one source voxel.
    """

    down: Triple = (1, 1, 1)
    up: Triple = (1, 1, 1)

    @property
    def change(self) -> float:
        """How far the two voxel sizes are apart; 0 if they are the same."""
        return math.log(math.prod(self.down)) + math.log(math.prod(self.up))

    def to_source(self, start: Triple, stop: Triple) -> tuple[Triple, Triple]:
        """The source voxels under wanted voxels."""
        return (
            triple([a * k // m for a, k, m in zip(start, self.down, self.up, strict=True)]),
            triple([-(-b * k // m) for b, k, m in zip(stop, self.down, self.up, strict=True)]),
        )

    def to_wanted(self, start: Triple, stop: Triple) -> tuple[Triple, Triple]:
        """The wanted voxels that touch source voxels."""
        return Ratio(self.up, self.down).to_source(start, stop)


def nested_ratio(source: Sequence[float], wanted: Sequence[float]) -> Ratio | None:
    """The ratio of two voxel sizes in nm, or None if their grids do not nest in some axis."""
    pairs = [_axis_ratio(s, w) for s, w in zip(source, wanted, strict=True)]
    known = [p for p in pairs if p is not None]
    if len(known) < len(pairs):
        return None
    return Ratio(triple([down for down, _ in known]), triple([up for _, up in known]))


def _axis_ratio(source: float, wanted: float) -> tuple[int, int] | None:
    down, up = max(1, round(wanted / source)), max(1, round(source / wanted))
    # The tolerance of `geometry.same_resolution`: 4.6 * 2 need not be 9.2 to the bit.
    return (down, up) if math.isclose(source * down, wanted * up, rel_tol=1e-6) else None


def downsample(
    array: Array, start: Triple, factor: Triple, *, kind: Literal["image", "segmentation"]
) -> Array:
    """One voxel out of every ``factor`` voxels, on the grid anchored at 0.

    Images take the mean of the voxels that exist, rounded half to even for integers.
    Segmentations take the label that is most frequent, the smaller one if two are; background (0)
    is a label like the others.

    Parameters
    ----------
    array : ndarray, shape (x, y, z)
        Source voxels, in either memory order.
    start : (x, y, z)
        Source coordinates of the first voxel.
    factor : (x, y, z)
        Source voxels per wanted voxel.
    kind : {"image", "segmentation"}

    Returns
    -------
    ndarray, shape (x, y, z), Fortran order, same dtype
    """
    last = triple([-(-(a + n) // k) for a, n, k in zip(start, array.shape, factor, strict=True)])
    first = triple([a // k for a, k in zip(start, factor, strict=True)])
    shape = triple([b - a for a, b in zip(first, last, strict=True)])
    # How many voxels of the first wanted voxel lie before the array.
    phase = triple([a - i * k for a, i, k in zip(start, first, factor, strict=True)])
    out = np.empty(shape, dtype=array.dtype, order="F")
    if 0 in out.shape:
        return out
    # Kernels see z, y, x in C order, so that one compiled version serves reads from CloudVolume.
    source, target = np.ascontiguousarray(array.T), out.T
    if source.dtype == np.bool_:
        source, target = source.view(np.uint8), target.view(np.uint8)
    _kernel(source.dtype, kind)(source, phase[::-1], factor[::-1], target)
    return out


def _kernel(dtype: np.dtype[Any], kind: Literal["image", "segmentation"]) -> Any:
    if kind == "segmentation":
        return _mode
    if dtype.kind == "f":
        return _mean_float
    return _mean_wide if dtype.itemsize >= _WIDE else _mean


@numba.njit(nogil=True, cache=True)
def _window(index: int, phase: int, factor: int, size: int) -> tuple[int, int]:
    low = index * factor - phase
    return max(0, low), min(size, low + factor)


@numba.njit(nogil=True, cache=True)
def _half_even(total: np.int64, count: int) -> np.int64:
    """``total / count`` rounded half to even, exactly."""
    floor = np.int64(total // count)
    twice = 2 * (total - floor * count)
    if twice > count or (twice == count and floor % 2 != 0):
        floor += np.int64(1)
    return floor


@numba.njit(nogil=True, cache=True)
def _mean(source: Array, phase: Triple, factor: Triple, out: Array) -> None:
    for k in range(out.shape[0]):
        z0, z1 = _window(k, phase[0], factor[0], source.shape[0])
        for j in range(out.shape[1]):
            y0, y1 = _window(j, phase[1], factor[1], source.shape[1])
            for i in range(out.shape[2]):
                x0, x1 = _window(i, phase[2], factor[2], source.shape[2])
                total = np.int64(0)
                for z in range(z0, z1):
                    for y in range(y0, y1):
                        for x in range(x0, x1):
                            total += np.int64(source[z, y, x])
                out[k, j, i] = _half_even(total, (z1 - z0) * (y1 - y0) * (x1 - x0))


@numba.njit(nogil=True, cache=True)
def _mean_wide(source: Array, phase: Triple, factor: Triple, out: Array) -> None:
    """64-bit integers, whose sums may not fit: quotients and remainders are summed apart."""
    zero = source.dtype.type(0)
    for k in range(out.shape[0]):
        z0, z1 = _window(k, phase[0], factor[0], source.shape[0])
        for j in range(out.shape[1]):
            y0, y1 = _window(j, phase[1], factor[1], source.shape[1])
            for i in range(out.shape[2]):
                x0, x1 = _window(i, phase[2], factor[2], source.shape[2])
                count = source.dtype.type((z1 - z0) * (y1 - y0) * (x1 - x0))
                quotient, rest = zero, zero
                for z in range(z0, z1):
                    for y in range(y0, y1):
                        for x in range(x0, x1):
                            part = source[z, y, x] // count
                            quotient += part
                            rest += source[z, y, x] - part * count
                quotient += rest // count
                rest -= rest // count * count
                odd = quotient % source.dtype.type(2) != zero
                if rest > count - rest or (rest == count - rest and odd):
                    quotient += source.dtype.type(1)
                out[k, j, i] = quotient


@numba.njit(nogil=True, cache=True)
def _mean_float(source: Array, phase: Triple, factor: Triple, out: Array) -> None:
    for k in range(out.shape[0]):
        z0, z1 = _window(k, phase[0], factor[0], source.shape[0])
        for j in range(out.shape[1]):
            y0, y1 = _window(j, phase[1], factor[1], source.shape[1])
            for i in range(out.shape[2]):
                x0, x1 = _window(i, phase[2], factor[2], source.shape[2])
                total = 0.0
                for z in range(z0, z1):
                    for y in range(y0, y1):
                        for x in range(x0, x1):
                            total += source[z, y, x]
                out[k, j, i] = total / ((z1 - z0) * (y1 - y0) * (x1 - x0))


@numba.njit(nogil=True, cache=True)
def _mode(source: Array, phase: Triple, factor: Triple, out: Array) -> None:
    labels = np.empty(factor[0] * factor[1] * factor[2], dtype=source.dtype)
    counts = np.empty(labels.size, dtype=np.int64)
    for k in range(out.shape[0]):
        z0, z1 = _window(k, phase[0], factor[0], source.shape[0])
        for j in range(out.shape[1]):
            y0, y1 = _window(j, phase[1], factor[1], source.shape[1])
            for i in range(out.shape[2]):
                x0, x1 = _window(i, phase[2], factor[2], source.shape[2])
                found = _count(source, (z0, z1, y0, y1, x0, x1), labels, counts)
                best = 0
                for n in range(1, found):
                    same = counts[n] == counts[best]
                    if counts[n] > counts[best] or (same and labels[n] < labels[best]):
                        best = n
                out[k, j, i] = labels[best]


@numba.njit(nogil=True, cache=True)
def _count(
    source: Array, window: tuple[int, int, int, int, int, int], labels: Array, counts: Array
) -> int:
    """Fill in the distinct labels of a window and how often each occurs; returns their number."""
    z0, z1, y0, y1, x0, x1 = window
    found, last = 0, 0
    for z in range(z0, z1):
        for y in range(y0, y1):
            for x in range(x0, x1):
                label = source[z, y, x]
                # A neighbour mostly has the label of the voxel before: look there first.
                if found > 0 and labels[last] == label:
                    counts[last] += 1
                    continue
                last = 0
                while last < found and labels[last] != label:
                    last += 1
                if last == found:
                    labels[found] = label
                    counts[found] = 0
                    found += 1
                counts[last] += 1
    return found


def padded_indices(
    start: int, stop: int, bounds: tuple[int, int], mode: Literal["edge", "mirror"]
) -> npt.NDArray[np.int64]:
    """Where the voxels of an axis come from, for a read that may reach past the bounds.

    Parameters
    ----------
    start, stop : int
        What is wanted.
    bounds : (int, int)
        What exists; at least one voxel.
    mode
        ``"edge"`` repeats the outermost voxel; ``"mirror"`` mirrors at its centre (numpy's
        "reflect"), as often as needed.

    Returns
    -------
    ndarray of int64, shape (stop - start,)
        Coordinates inside `bounds`.
    """
    low, high = bounds
    size = high - low
    wanted = np.arange(start, stop, dtype=np.int64) - low
    if mode == "edge":
        return np.clip(wanted, 0, size - 1) + low
    period = max(1, 2 * (size - 1))
    folded = wanted % period
    return np.minimum(folded, period - folded) + low


def take(array: Array, indices: Sequence[npt.NDArray[np.int64]]) -> Array:
    """``array[np.ix_(*indices)]`` in Fortran order; a view where nothing moves.

    Parameters
    ----------
    array : ndarray, shape (x, y, z)
    indices : three arrays of int64
        For each axis, the coordinate in `array` of every wanted voxel.
    """
    for axis, index in enumerate(indices):
        if not np.array_equal(index, np.arange(array.shape[axis])):
            array = np.take(array.T, index, axis=2 - axis).T
    return array
