"""Arrays of any axis order as sources: HDF5 datasets, Zarr and N5 arrays.

A format's module makes a `StoredArray`; `ArraySource` turns its axes to x, y, z. A box is read in
strips that begin and end where storage chunks do, so that each chunk is decoded once a box and
memory stays at one strip beside the box.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Resolution, Triple
from cnapse.volumes.units import shortest

__all__ = ["ArraySource", "Metadata", "StoredArray", "choose_axes", "one_line"]

Array = npt.NDArray[Any]

_STRIP_BYTES = 8 << 20
_MESSAGE_LENGTH = 200


class StoredArray(Protocol):
    """An array on disk; all tuples are in its own axis order."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def chunks(self) -> tuple[int, ...] | None: ...  # noqa: D102

    def read(self, where: tuple[slice, ...]) -> Array:
        """The voxels of a box; FormatError where they cannot be decoded."""

    def identity(self) -> list[list[object]]:
        """What tells this array from another."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says of its array, in the array's own axis order.

    Parameters
    ----------
    axes : str, optional
        One letter an axis, as in ``"czyx"``.
    sizes : tuple of float, optional
        Voxel size along each axis in nm; 0 where it is not told.
    begins : tuple of float, optional
        Where the first voxel is, in nm, along each axis.
    """

    axes: str | None = None
    sizes: tuple[float, ...] | None = None
    begins: tuple[float, ...] | None = None


class ArraySource:
    """A stored array as a `cnapse.volumes.sources.Source`.

    Parameters
    ----------
    array : StoredArray
    metadata : Metadata
    axes : str
        The ones that hold; see `choose_axes`.

    Raises
    ------
    FormatError
        If it does not hold numbers, or has several channels or time points.
    """

    def __init__(self, array: StoredArray, metadata: Metadata, axes: str) -> None:
        _check_numbers(array)
        _check_single(array, axes)
        self._array, self._axes = array, axes
        self.name = array.name
        self.shape: Triple = self._xyz(array.shape)
        bits = array.dtype == np.bool_
        self.dtype: np.dtype[Any] = (
            np.dtype(np.uint8) if bits else np.dtype(array.dtype).newbyteorder("=")
        )
        self.resolution = self._stated_resolution(metadata)
        self.begin = self._stated_begin(metadata)
        self.chunk_size: Triple = self._chunk()

    def _xyz(self, values: Sequence[Any]) -> tuple[Any, Any, Any]:
        x, y, z = (values[self._axes.index(axis)] for axis in "xyz")
        return x, y, z

    def _stated_resolution(self, metadata: Metadata) -> Resolution | None:
        if metadata.sizes is None:
            return None
        sizes = self._xyz(metadata.sizes)
        if not all(np.isfinite(v) and v > 0 for v in sizes):
            return None
        x, y, z = (shortest(v) for v in sizes)
        return x, y, z

    def _stated_begin(self, metadata: Metadata) -> Resolution | None:
        if metadata.begins is None or self.resolution is None:
            return None
        x, y, z = (
            float(a) / h for a, h in zip(self._xyz(metadata.begins), self.resolution, strict=True)
        )
        return x, y, z

    def read_into(self, out: Array, start: int, row: int = 0) -> None:
        """Fill ``out[x, y, z]`` with sections from `start`, rows from `row` on."""
        begin = (0, row, start)
        box = [slice(a, a + n) for a, n in zip(begin, out.shape, strict=True)]
        for strip in self._strips(box):
            inside = (slice(s.start - a, s.stop - a) for s, a in zip(strip, begin, strict=True))
            out[tuple(inside)] = self._read(strip)

    def _read(self, box: Sequence[slice]) -> Array:
        """The voxels [x, y, z] of a box."""
        where = {**dict.fromkeys(self._axes, slice(0, 1)), **dict(zip("xyz", box, strict=True))}
        found = self._array.read(tuple(where[axis] for axis in self._axes))
        order = [axis for axis in self._axes if axis in "xyz"]
        found = found.reshape(
            [n for n, a in zip(found.shape, self._axes, strict=True) if a in "xyz"]
        )
        return found.transpose([order.index(axis) for axis in "xyz"])

    def _strips(self, box: list[slice]) -> Iterator[list[slice]]:
        """The box, cut along one axis at the rims of chunks."""
        extent = [s.stop - s.start for s in box]
        step = self.chunk_size
        axis = max(range(3), key=lambda a: extent[a] / step[a])
        rest = int(np.prod(extent)) // max(extent[axis], 1) * step[axis] * self.dtype.itemsize
        length = step[axis] * max(1, _STRIP_BYTES // max(rest, 1))
        at, stop = box[axis].start, box[axis].stop
        while at < stop:
            # Chunks count from 0, slabs may begin within one.
            end = min((at // length + 1) * length, stop)
            yield [slice(at, end) if a == axis else box[a] for a in range(3)]
            at = end

    def _chunk(self) -> Triple:
        if self._array.chunks is not None:
            return self._xyz(self._array.chunks)
        # Without chunks, what lies together is what the slowest axis has at one place.
        slowest = next(axis for axis in self._axes if axis in "xyz")
        x, y, z = (1 if a == slowest else n for a, n in zip("xyz", self.shape, strict=True))
        return x, y, z

    def identity(self) -> list[list[object]]:
        """What tells this array from another, and its axes."""
        return [*self._array.identity(), [self._axes]]


def choose_axes(
    array: StoredArray,
    stated: str | None,
    given: str | None,
    *,
    default: str | None = None,
    ignore_metadata: bool = False,
) -> str:
    """The axes of an array, from the option or from the file.

    Parameters
    ----------
    array : StoredArray
    stated : str, optional
        By the file.
    given : str, optional
        By the option ``--axes``; commas and case do not matter.
    default : str, optional
        What the format means where neither tells.
    ignore_metadata
        Whether the option may contradict the file.

    Raises
    ------
    ConfigError
        If none tells, they contradict each other, or do not go with the array.
    """
    wanted = None if given is None else "".join(c for c in given.lower() if c not in ", ")
    if wanted and stated and wanted != stated and not ignore_metadata:
        raise ConfigError(
            f"--axes says {wanted}, but {array.name} says {stated}: correct the option, or add "
            "--ignore-metadata"
        )
    axes = wanted or stated or (default if default and len(array.shape) == len(default) else None)
    if axes is None:
        raise ConfigError(
            f"{array.name} does not tell the order of its axes {_shape(array)}: give --axes, the "
            "fastest last, as in --axes zyx"
        )
    if len(axes) != len(array.shape) or len(set(axes)) != len(axes) or not set("xyz") <= set(axes):
        raise ConfigError(
            f"{array.name} has {len(array.shape)} axes {_shape(array)}, which do not go with "
            f"{axes}: give --axes with x, y, z and a letter for each other axis, as in --axes czyx"
        )
    return axes


def _shape(array: StoredArray) -> str:
    return "(" + ", ".join(map(str, array.shape)) + ")"


def _check_numbers(array: StoredArray) -> None:
    if array.dtype.kind not in "biuf":
        raise FormatError(
            f"{array.name} holds {array.dtype}, not numbers: name an image or labels with --dataset"
        )
    if 0 in array.shape:
        raise FormatError(f"{array.name} is empty, its shape is {_shape(array)}: name another")


def _check_single(array: StoredArray, axes: str) -> None:
    many = [a for a, n in zip(axes, array.shape, strict=True) if a not in "xyz" and n > 1]
    if many:
        raise FormatError(
            f"{array.name} is no single volume: it has axes {axes} {_shape(array)}; export one "
            "channel and one time point"
        )


def one_line(error: BaseException) -> str:
    """The message of a library's error, cut to one line."""
    return " ".join(str(error).split())[:_MESSAGE_LENGTH]
