"""Integer sums over the voxels of each object, per block, and their addition.

One scan over the write box cuts the objects into *runs*: voxels in a row along x with the same
object and the same cell. Everything is summed from runs, in integers, so sums of blocks add up
exactly, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import BoundsError, FormatError
from cnapse.geometry import Box
from cnapse.synapses.position import Ids, Int64s, nearest_voxels
from cnapse.synapses.records import ArrayRecord

__all__ = ["LARGEST_STORED", "MOST_RUNS", "Measures", "combine", "measure_block"]

Int32s = npt.NDArray[np.int32]

LARGEST_STORED = 255
"""What a probability of 1 is stored as."""

_STRETCH = 128

MOST_RUNS = 4096
"""Runs that are kept of an object in one block, 100 kB; synapses have some hundred."""


@dataclass(frozen=True, slots=True)
class Measures(ArrayRecord):
    """Integer sums over objects, or over the parts of them that lie in some blocks.

    Coordinates are absolute voxels, x, y, z. Arrays of m objects are sorted by id, those of
    sections by id and z, those of cells by id and cell.

    Attributes
    ----------
    ids : ndarray of uint64, shape (m,)
    parts : ndarray of int64, shape (m,)
        Number of blocks in which the object has voxels.
    voxels : ndarray of int64, shape (m,)
    sums : ndarray of int64, shape (m, 3)
        Sum of the coordinates of the voxels.
    start, stop : ndarray of int64, shape (m, 3)
        Bounding box, half-open.
    first_voxel : ndarray of int64, shape (m,)
        Raster index in the frame.
    position : ndarray of int64, shape (m, 3)
        Voxel of the part nearest to the part's own centroid; means nothing where parts > 1.
    known : ndarray of int64, shape (m,)
        Number of voxels for which there is a probability.
    probability_sum, probability_max : ndarray of int64, shape (m,)
        Of the stored probabilities (0..255).
    section_id, section_z, section_voxels : ndarray of uint64, int64, int64, shape (s,)
        Voxels per object and section.
    cell_of, cell_id, cell_voxels : ndarray of uint64, uint64, int64, shape (c,)
        Voxels per object (`cell_of`) and cell under it; cell 0 is background.
    run_of, run_rows : ndarray of uint64 and int32, shape (r,) and (r, 4)
        Voxels in a row along x: object, first voxel (x, y, z) and length, sorted by object and
        raster order. Of objects that reach a face of their block, unless they have too many.
    """

    ids: Ids
    parts: Int64s
    voxels: Int64s
    sums: Int64s
    start: Int64s
    stop: Int64s
    first_voxel: Int64s
    position: Int64s
    known: Int64s
    probability_sum: Int64s
    probability_max: Int64s
    section_id: Ids
    section_z: Int64s
    section_voxels: Int64s
    cell_of: Ids
    cell_id: Ids
    cell_voxels: Int64s
    run_of: Ids
    run_rows: Int32s

    def __len__(self) -> int:
        return len(self.ids)

    def between(self, first: int, last: int) -> Self:
        """Only the objects with ``first <= id <= last``."""
        keys = {"section_": self.section_id, "cell_": self.cell_of, "run_": self.run_of}
        cut = {}
        for name, array in self.to_arrays().items():
            ids = next((k for prefix, k in keys.items() if name.startswith(prefix)), self.ids)
            low = np.searchsorted(ids, np.uint64(first), side="left")
            cut[name] = array[low : np.searchsorted(ids, np.uint64(last), side="right")]
        return type(self)(**cut)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Voxels in a row along x of one object over one cell, in raster order.

    `object` and `cell` are labels, `first` the first voxel (x, y, z; absolute).
    """

    object: Ids
    cell: Ids
    first: Int64s
    length: Int64s
    probability_sum: Int64s
    probability_max: Int64s

    @property
    def last(self) -> Int64s:
        """Last voxel of each run."""
        last = self.first.copy()
        last[:, 0] += self.length - 1
        return last

    @property
    def sums(self) -> Int64s:
        """Sums of the coordinates of each run's voxels; the product is always even along x."""
        return (self.first + self.last) * self.length[:, None] // 2


def measure_block(
    synapses: npt.NDArray[Any],
    cells: npt.NDArray[Any],
    probability: npt.NDArray[Any] | None,
    box: Box,
    frame: Box,
    *,
    most_runs: int = MOST_RUNS,
) -> Measures:
    """Sums over the voxels of each object in one block.

    Parameters
    ----------
    synapses, cells : ndarray of unsigned int, shape (x, y, z)
        Labels over `box`, 0 = background, in either memory order (Fortran saves a copy).
    probability : ndarray, shape (x, y, z), optional
        uint8 that stores ``rint(255 p)``; floats in 0..1 are brought to that.
    box : Box
        The write box of the block; its voxel size decides which voxel is the nearest.
    frame : Box
        Full bounds of the layer.
    most_runs : int
        Runs of objects that have more are not kept.

    Returns
    -------
    Measures
        With ``parts`` 1.

    Raises
    ------
    FormatError
        If an array has another shape than `box`, or a dtype that holds no labels.
    BoundsError
        If `box` is not inside `frame`.
    """
    if not frame.contains(box):
        raise BoundsError(f"{box} is not inside the layer {frame}")
    runs = _runs(
        _labels("synapses", synapses, box),
        _labels("cells", cells, box),
        None if probability is None else _stored(probability, box),
        box,
    )
    ids, which = np.unique(runs.object, return_inverse=True)
    groups = _Groups(which)
    voxels, sums = groups.sum(runs.length), groups.sum(runs.sums)
    rows = np.column_stack([runs.first, runs.length])
    start, stop = groups.least(runs.first), groups.most(runs.last) + 1
    kept = groups.rows_of(_goes_on(start, stop, box, frame) & (groups.sizes <= most_runs))
    section, section_voxels = _counts(which, runs.first[:, 2], runs.length)
    cell, cell_voxels = _counts(which, runs.cell, runs.length)
    return Measures(
        ids=ids,
        parts=np.ones(len(ids), np.int64),
        voxels=voxels,
        sums=sums,
        start=start,
        stop=stop,
        first_voxel=frame.raster_index(runs.first[groups.first]),
        position=nearest_voxels(which, rows, voxels, sums, np.asarray(box.resolution)),
        known=voxels * (probability is not None),
        probability_sum=groups.sum(runs.probability_sum),
        probability_max=groups.most(runs.probability_max),
        section_id=ids[section[0]],
        section_z=section[1],
        section_voxels=section_voxels,
        cell_of=ids[cell[0]],
        cell_id=cell[1],
        cell_voxels=cell_voxels,
        run_of=ids[which[kept]],
        run_rows=rows[kept].astype(np.int32),
    )


def combine(measures: Iterable[Measures]) -> Measures:
    """Add up the measures of several blocks; exact, and the same in any order and grouping.

    ``position`` of an object with more than one part is that of the part with the first voxel.
    """
    parts = [part.to_arrays() for part in measures]
    if not parts:
        return _no_measures()
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    every = Measures.from_arrays(joined)
    # The part with the first voxel comes first in its group, whatever the order of the blocks.
    order = np.lexsort([every.first_voxel, every.ids])
    ids, which = np.unique(every.ids[order], return_inverse=True)
    groups = _Groups(which)
    section, section_voxels = _counts(every.section_id, every.section_z, every.section_voxels)
    cell, cell_voxels = _counts(every.cell_of, every.cell_id, every.cell_voxels)
    by_raster = np.lexsort([*every.run_rows.T[:3], every.run_of])
    return Measures(
        ids=ids,
        parts=groups.sum(every.parts[order]),
        voxels=groups.sum(every.voxels[order]),
        sums=groups.sum(every.sums[order]),
        start=groups.least(every.start[order]),
        stop=groups.most(every.stop[order]),
        first_voxel=every.first_voxel[order][groups.first],
        position=every.position[order][groups.first],
        known=groups.sum(every.known[order]),
        probability_sum=groups.sum(every.probability_sum[order]),
        probability_max=groups.most(every.probability_max[order]),
        section_id=section[0],
        section_z=section[1],
        section_voxels=section_voxels,
        cell_of=cell[0],
        cell_id=cell[1],
        cell_voxels=cell_voxels,
        run_of=every.run_of[by_raster],
        run_rows=every.run_rows[by_raster],
    )


def _no_measures() -> Measures:
    none = np.zeros((0, 0, 0), np.uint64)
    box = Box((0, 0, 0), (0, 0, 0), (1.0, 1.0, 1.0))
    return measure_block(none, none, None, box, box)


def _goes_on(start: Int64s, stop: Int64s, box: Box, frame: Box) -> npt.NDArray[np.bool_]:
    """Whether objects reach a face of their block beyond which the layer goes on."""
    low = np.asarray(box.start) > frame.start
    high = np.asarray(box.stop) < frame.stop
    below, above = (start == box.start) & low, (stop == box.stop) & high
    reached: npt.NDArray[np.bool_] = (below | above).any(axis=1)
    return reached


def _labels(name: str, values: npt.NDArray[Any], box: Box) -> Ids:
    """Labels as an unsigned Fortran array; no copy if they are one."""
    if values.shape != box.shape:
        raise FormatError(f"{name} of shape {values.shape} do not fill {box}, shape {box.shape}")
    if values.dtype.kind == "i" and values.size and values.min() < 0:
        raise FormatError(f"{name} hold negative labels ({values.min()}): 0 is background")
    if values.dtype.kind not in "uib":
        raise FormatError(f"{name} must hold integer labels, not {values.dtype}")
    return np.asfortranarray(values).view(f"u{values.dtype.itemsize}")


def _stored(values: npt.NDArray[Any], box: Box) -> npt.NDArray[np.uint8]:
    """Probability as it is stored, ``rint(255 p)``, in Fortran order."""
    if values.shape != box.shape:
        raise FormatError(f"probability of shape {values.shape} does not fill {box}")
    if values.dtype == np.uint8:
        return np.asfortranarray(values)
    if values.dtype.kind != "f" or (values.size and not (values.min() >= 0 and values.max() <= 1)):
        raise FormatError(
            f"a probability must be uint8 (255 p) or float in 0..1, not {values.dtype}"
            + (f" in {values.min()}..{values.max()}" if values.size else "")
        )
    return np.asfortranarray(np.rint(LARGEST_STORED * values).astype(np.uint8))


class _Groups:
    """Rows that belong to the same object; sums and extremes over them, in integers."""

    def __init__(self, which: Int64s) -> None:
        self.order = np.argsort(which, kind="stable")
        self.starts = np.flatnonzero(np.diff(which[self.order], prepend=-1))

    @property
    def first(self) -> Int64s:
        """First row of each group."""
        return self.order[self.starts]

    @property
    def sizes(self) -> Int64s:
        """Number of rows of each group."""
        return np.diff(self.starts, append=len(self.order))

    def rows_of(self, chosen: npt.NDArray[np.bool_]) -> Int64s:
        """The rows of some groups, group by group."""
        return self.order[np.repeat(chosen, self.sizes)]

    def sum(self, values: Int64s) -> Int64s:
        return np.add.reduceat(values[self.order], self.starts, axis=0)

    def least(self, values: Int64s) -> Int64s:
        return np.minimum.reduceat(values[self.order], self.starts, axis=0)

    def most(self, values: Int64s) -> Int64s:
        return np.maximum.reduceat(values[self.order], self.starts, axis=0)


def _counts(
    a: npt.NDArray[Any], b: npt.NDArray[Any], voxels: Int64s
) -> tuple[tuple[npt.NDArray[Any], npt.NDArray[Any]], Int64s]:
    """Pairs that occur, sorted, and the sum of `voxels` for each."""
    order = np.lexsort([b, a])
    a, b = a[order], b[order]
    new = np.ones(len(a), np.bool_)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    starts = np.flatnonzero(new)
    return (a[starts], b[starts]), np.add.reduceat(voxels[order], starts)


def _runs(synapses: Ids, cells: Ids, probability: npt.NDArray[np.uint8] | None, box: Box) -> _Runs:
    """Cut the objects into runs, section by section: the buffers are as large as one section."""
    nx, ny, nz = synapses.shape
    labels = np.empty((nx * ny, 2), np.uint64)
    numbers = np.empty((nx * ny, 6), np.int64)
    none = np.zeros((0, 0), np.uint8, order="F")
    found = [(labels[:0].copy(), numbers[:0].copy())]
    for z in range(nz):
        stored = none if probability is None else probability[:, :, z]
        n = _runs_in_section(synapses[:, :, z], cells[:, :, z], stored, labels, numbers)
        numbers[:n, 2] = z
        found.append((labels[:n].copy(), numbers[:n].copy()))
    label, number = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    length, probability_sum, probability_max = number[:, 3:].T
    first = number[:, :3] + np.asarray(box.start, np.int64)
    return _Runs(label[:, 0], label[:, 1], first, length, probability_sum, probability_max)


@njit(nogil=True, cache=True, inline="always")
def _is_empty(row: Ids) -> Any:
    """Whether there is nothing but background; compiled to a few wide instructions."""
    found = row[0]
    for label in row[1:]:
        found |= label
    return found == 0


@njit(nogil=True, cache=True)
def _runs_in_section(
    synapses: Ids, cells: Ids, probability: npt.NDArray[np.uint8], labels: Ids, numbers: Int64s
) -> int:
    """Fill `labels` (object, cell) and `numbers` (x, y, -, length, sum, max); number of runs."""
    n = 0
    with_probability = probability.size > 0
    for y in range(synapses.shape[1]):
        row = synapses[:, y]
        last, under = np.uint64(0), np.uint64(0)
        x = look = 0
        while x < row.size:
            if x >= look and last == 0:
                # Nearly all is background: whole stretches of it are passed over.
                look = x + _STRETCH
                if look <= row.size and _is_empty(row[x:look]):
                    x = look
                    continue
            label = np.uint64(row[x])
            if label != 0:
                cell = np.uint64(cells[x, y])
                if label != last or cell != under:
                    labels[n] = label, cell
                    numbers[n] = x, y, 0, 0, 0, 0
                    under = cell
                    n += 1
                numbers[n - 1, 3] += 1
                if with_probability:
                    p = np.int64(probability[x, y])
                    numbers[n - 1, 4] += p
                    numbers[n - 1, 5] = max(numbers[n - 1, 5], p)
            last = label
            x += 1
    return n
