"""Boxes of voxels at a resolution, and the one loop over blocks.

Axis order is x, y, z throughout. A grid is anchored to the start of its bounds; each block knows
the box it writes and the larger box it reads::

    |rrr|wwwwwwwwwwww|rrr|        r: read only (halo)   w: written by this block alone
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, overload

import numpy as np
import numpy.typing as npt

from cnapse.errors import BoundsError, ConfigError, ResolutionError

__all__ = [
    "Block",
    "Box",
    "Grid",
    "Resolution",
    "Triple",
    "format_resolution",
    "same_resolution",
    "triple",
]

Triple = tuple[int, int, int]
Resolution = tuple[float, float, float]

# 4.6 read from JSON, from a TIFF rational and from a command line need not be the same float.
_RELATIVE_TOLERANCE = 1e-6


def triple(values: int | Sequence[int]) -> Triple:
    """One integer for all axes, or three, as a tuple of Python ints in x, y, z order."""
    if isinstance(values, (int, np.integer)):
        return (int(values),) * 3
    x, y, z = values
    return int(x), int(y), int(z)


def same_resolution(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two voxel sizes (nm) are equal up to rounding."""
    return all(math.isclose(p, q, rel_tol=_RELATIVE_TOLERANCE) for p, q in zip(a, b, strict=True))


def format_resolution(resolution: Sequence[float]) -> str:
    """``(4.6, 4.6, 50.0)`` as ``4.6 x 4.6 x 50 nm``."""
    return " x ".join(f"{value:g}" for value in resolution) + " nm"


def _floor(value: float) -> int:
    """Floor that takes 99.9999999 for 100."""
    nearest = round(value)
    return (
        nearest if math.isclose(value, nearest, rel_tol=1e-9, abs_tol=1e-6) else math.floor(value)
    )


def _ceil(value: float) -> int:
    return -_floor(-value)


@dataclass(frozen=True, slots=True)
class Box:
    """A box of voxels: half-open integer bounds and the voxel size they are counted in.

    Parameters
    ----------
    start, stop : (x, y, z)
        First voxel, and one past the last. ``stop <= start`` in an axis makes the box empty.
    resolution : (x, y, z)
        Voxel size in nm; floats are allowed.

    Raises
    ------
    ResolutionError
        When boxes of different resolution are combined: bring one to the other with :meth:`at`.
    """

    start: Triple
    stop: Triple
    resolution: Resolution

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", triple(self.start))
        object.__setattr__(self, "stop", triple(self.stop))
        x, y, z = self.resolution
        x, y, z = float(x), float(y), float(z)
        if not (0 < x < math.inf and 0 < y < math.inf and 0 < z < math.inf):
            raise ResolutionError(
                f"a voxel size must be three positive numbers in nm, not {tuple(self.resolution)}"
            )
        object.__setattr__(self, "resolution", (x, y, z))

    @classmethod
    def from_shape(
        cls, shape: Sequence[int], resolution: Sequence[float], start: Sequence[int] = (0, 0, 0)
    ) -> Self:
        """The box of an array of this shape (x, y, z) whose first voxel is `start`."""
        first = triple(start)
        x, y, z = (a + int(n) for a, n in zip(first, shape, strict=True))
        return cls(first, (x, y, z), _as_resolution(resolution))

    @classmethod
    def from_nm(
        cls, start_nm: Sequence[float], stop_nm: Sequence[float], resolution: Sequence[float]
    ) -> Self:
        """The smallest box of whole voxels that contains a box given in nm."""
        pairs = list(zip(start_nm, stop_nm, resolution, strict=True))
        return cls(
            triple([_floor(a / h) for a, _, h in pairs]),
            triple([_ceil(b / h) for _, b, h in pairs]),
            _as_resolution(resolution),
        )

    @property
    def shape(self) -> Triple:
        """Number of voxels along x, y, z; never negative."""
        (a, b, c), (d, e, f) = self.start, self.stop
        return max(0, d - a), max(0, e - b), max(0, f - c)

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def empty(self) -> bool:
        """Whether the box has no voxel."""
        return self.voxels == 0

    @property
    def start_nm(self) -> Resolution:
        """Lower corner in nm."""
        return _scaled(self.start, self.resolution)

    @property
    def stop_nm(self) -> Resolution:
        """Upper corner in nm."""
        return _scaled(self.stop, self.resolution)

    @property
    def voxel_volume_nm3(self) -> float:
        """Volume of one voxel in cubic nm."""
        return math.prod(self.resolution)

    def at(self, resolution: Sequence[float]) -> Self:
        """The same box at another voxel size: the start floored, the stop ceiled."""
        if same_resolution(resolution, self.resolution):
            return self
        return type(self).from_nm(self.start_nm, self.stop_nm, resolution)

    def grown(self, by: int | Sequence[int], upper: int | Sequence[int] | None = None) -> Self:
        """Grown by `by` voxels at the lower sides and by `upper` (default: `by`) at the upper.

        Each is one number, or one for each of x, y, z; below 0 it shrinks.
        """
        low, high = triple(by), triple(by if upper is None else upper)
        return type(self)(
            triple([a - n for a, n in zip(self.start, low, strict=True)]),
            triple([b + n for b, n in zip(self.stop, high, strict=True)]),
            self.resolution,
        )

    def translated(self, by: Sequence[int]) -> Self:
        """Moved by a number of voxels."""
        return type(self)(
            triple([a + n for a, n in zip(self.start, by, strict=True)]),
            triple([b + n for b, n in zip(self.stop, by, strict=True)]),
            self.resolution,
        )

    def intersection(self, other: Box) -> Self:
        """The voxels in both boxes; possibly empty (then ``stop == start`` in some axis)."""
        self._check_same_resolution(other)
        start = triple([max(a, b) for a, b in zip(self.start, other.start, strict=True)])
        stop = triple([min(a, b) for a, b in zip(self.stop, other.stop, strict=True)])
        stop = triple([max(a, b) for a, b in zip(start, stop, strict=True)])
        return type(self)(start, stop, self.resolution)

    def clamped(self, bounds: Box) -> Self:
        """Cut off at `bounds`; the same as :meth:`intersection`."""
        return self.intersection(bounds)

    def hull(self, other: Box) -> Self:
        """The smallest box that contains both."""
        self._check_same_resolution(other)
        return type(self)(
            triple([min(a, b) for a, b in zip(self.start, other.start, strict=True)]),
            triple([max(a, b) for a, b in zip(self.stop, other.stop, strict=True)]),
            self.resolution,
        )

    def holds_nm(self, place_nm: Sequence[float]) -> bool:
        """Whether a place lies in the box: from `start_nm` on, below `stop_nm`.

        Parameters
        ----------
        place_nm : (x, y, z)
        """
        limits = zip(place_nm, self.start_nm, self.stop_nm, strict=True)
        return all(low <= value < high for value, low, high in limits)

    def contains(self, other: Box) -> bool:
        """Whether every voxel of `other` lies in this box."""
        self._check_same_resolution(other)
        return other.empty or all(
            a <= c and d <= b
            for a, b, c, d in zip(self.start, self.stop, other.start, other.stop, strict=True)
        )

    def slices(self, frame: Box) -> tuple[slice, slice, slice]:
        """Index of this box in an array that holds `frame`.

        Raises
        ------
        BoundsError
            If this box is not inside `frame`.
        """
        if not frame.contains(self):
            raise BoundsError(f"{self} is not inside {frame}")
        x, y, z = (
            slice(a - origin, b - origin)
            for a, b, origin in zip(self.start, self.stop, frame.start, strict=True)
        )
        return x, y, z

    def raster_index(self, voxels: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Raster index (x fastest, then y, z) in this box of voxels.

        Parameters
        ----------
        voxels : array_like of int, shape (..., 3)
            Absolute voxel coordinates, x, y, z.

        Returns
        -------
        ndarray of int64, shape (...)
        """
        relative = np.asarray(voxels, dtype=np.int64) - np.asarray(self.start, dtype=np.int64)
        nx, ny, _ = self.shape
        index: npt.NDArray[np.int64] = relative[..., 0] + nx * (
            relative[..., 1] + ny * relative[..., 2]
        )
        return index

    def from_raster_index(self, index: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Absolute voxel coordinates, shape (..., 3), of raster indices in this box."""
        flat = np.asarray(index, dtype=np.int64)
        nx, ny, _ = self.shape
        relative = np.stack([flat % nx, flat // nx % ny, flat // (nx * ny)], axis=-1)
        return relative + np.asarray(self.start, dtype=np.int64)

    def __str__(self) -> str:
        axes = " ".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))
        return f"[{axes}] at {format_resolution(self.resolution)}"

    def _check_same_resolution(self, other: Box) -> None:
        # Nearly always they are just equal, and this is asked for every synapse.
        if self.resolution != other.resolution and not same_resolution(
            self.resolution, other.resolution
        ):
            raise ResolutionError(
                f"boxes {self} and {other} are counted in different voxels: "
                "bring one to the other's resolution first with box.at(resolution)"
            )


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a grid: its index, the box it reads and the box it alone writes."""

    index: int
    read: Box
    write: Box


@dataclass(frozen=True, slots=True)
class Grid(Sequence[Block]):
    """Blocks that cover a box, in raster order (x fastest); a sequence of :class:`Block`.

    Parameters
    ----------
    bounds : Box
        The blocks start at its start; the last ones are cut off at its stop.
    block_shape : (x, y, z)
        Size of the write boxes, at least 1 in each axis.
    halo_lower, halo_upper : (x, y, z)
        How far read boxes reach beyond the write boxes, before they are cut off at `bounds`.
    """

    bounds: Box
    block_shape: Triple
    halo_lower: Triple = (0, 0, 0)
    halo_upper: Triple = (0, 0, 0)

    def __post_init__(self) -> None:
        for name in ("block_shape", "halo_lower", "halo_upper"):
            object.__setattr__(self, name, triple(getattr(self, name)))
        if min(self.block_shape) < 1:
            raise ConfigError(
                f"a block must have at least 1 voxel per axis, not {self.block_shape}"
            )

    @property
    def shape(self) -> Triple:
        """Number of blocks along x, y, z."""
        return triple(
            [-(-n // b) for n, b in zip(self.bounds.shape, self.block_shape, strict=True)]
        )

    def __len__(self) -> int:
        return math.prod(self.shape)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | Sequence[Block]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of a grid of {len(self)} blocks")
        nx, ny, _ = self.shape
        position = (index % nx, index // nx % ny, index // (nx * ny))
        start = triple(
            [
                a + i * b
                for a, i, b in zip(self.bounds.start, position, self.block_shape, strict=True)
            ]
        )
        write = Box.from_shape(self.block_shape, self.bounds.resolution, start).clamped(self.bounds)
        return Block(
            index, write.grown(self.halo_lower, self.halo_upper).clamped(self.bounds), write
        )

    def __iter__(self) -> Iterator[Block]:
        return (self[i] for i in range(len(self)))

    def touching(self, box: Box) -> list[Block]:
        """The blocks that write a voxel of a box, in raster order.

        Parameters
        ----------
        box : Box
            At the grid's resolution; what lies outside of the bounds does not count.

        Raises
        ------
        ResolutionError
            If the box is counted in other voxels.
        """
        inside = box.intersection(self.bounds)
        if inside.empty:
            return []
        first, last = (
            [
                (v - a) // b
                for v, a, b in zip(corner, self.bounds.start, self.block_shape, strict=True)
            ]
            for corner in (inside.start, [v - 1 for v in inside.stop])
        )
        x, y, z = (range(a, b + 1) for a, b in zip(first, last, strict=True))
        nx, ny, _ = self.shape
        return [self[i + nx * (j + ny * k)] for k in z for j in y for i in x]

    def index_of(self, voxels: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Index of the block that writes each voxel.

        Parameters
        ----------
        voxels : array_like of int, shape (..., 3)
            Absolute voxel coordinates inside the bounds.

        Returns
        -------
        ndarray of int64, shape (...)
        """
        relative = np.asarray(voxels, dtype=np.int64) - np.asarray(
            self.bounds.start, dtype=np.int64
        )
        position = relative // np.asarray(self.block_shape, dtype=np.int64)
        nx, ny, _ = self.shape
        index: npt.NDArray[np.int64] = position[..., 0] + nx * (
            position[..., 1] + ny * position[..., 2]
        )
        return index


def _as_resolution(values: Sequence[float]) -> Resolution:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _scaled(voxel: Triple, resolution: Resolution) -> Resolution:
    x, y, z = (n * h for n, h in zip(voxel, resolution, strict=True))
    return x, y, z
