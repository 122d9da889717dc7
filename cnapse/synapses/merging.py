"""Objects that are one synapse cut in two: same presynaptic cell, and a small gap between them.

The *gap* of two objects is the shortest distance, in nm, from the centre of a voxel of one to the
centre of a voxel of the other. So objects that touch have a gap of one voxel, and those in sections
that follow each other one of at least a section::

    |aa|  |bb|   gap: 2 voxels        |a|    gap: sqrt(h_x^2 + h_z^2)
                                        |b|

1. Pairs whose bounding boxes are near enough, from the table alone (:func:`merge_candidates`):
   k-d trees over the boxes' centres, one for each size of box, so that a few huge objects do not
   widen the search for all.
2. Their gap, from the voxels that can be near enough, in pieces of bounded size
   (:func:`voxel_gap_nm`).
3. What is joined by such gaps, however many, is one object; it keeps the smallest id, which is the
   one of its first voxel. The others are retired, not given to anything else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fastremap
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import cKDTree

from cnapse.errors import ConfigError
from cnapse.geometry import Box, Grid, triple
from cnapse.synapses.position import Read
from cnapse.synapses.unions import roots as roots_of

__all__ = [
    "MERGE_COLUMNS",
    "Merges",
    "boxes_of",
    "joined",
    "merge_candidates",
    "merged",
    "merges",
    "near_objects",
    "voxel_gap_nm",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

MERGE_COLUMNS = (
    "syn_id",
    "other_id",
    "kept_id",
    "pre_id",
    "gap_nm",
    *(f"{axis}_pos" for axis in "xyz"),
    *(f"other_{axis}" for axis in "xyz"),
)
"""Columns of the list of merges: two objects, what they become, and where they are (nm)."""

# What counts as equal: 3 voxels of 4.6 nm are not above 13.8 nm.
_TOLERANCE = 1e-9
_CHUNK = 1 << 16
# Voxels of one object that are compared at once.
_PIECE = (256, 256, 64)
# Farther from each other than any search reaches, once multiplied by it.
_APART = 2.0


@dataclass(frozen=True, slots=True)
class Merges:
    """Objects to be joined.

    Attributes
    ----------
    mapping : mapping of int to int
        For each id that is retired, the id that is kept.
    pairs : DataFrame
        Columns :data:`MERGE_COLUMNS`: every two objects whose gap is within the limit, with
        ``syn_id < other_id``, sorted by both.
    """

    mapping: Mapping[int, int]
    pairs: pd.DataFrame


def merges(table: pd.DataFrame, read: Read, gap_nm: float, resolution: Sequence[float]) -> Merges:
    """Find the objects of one presynaptic cell that a small gap parts.

    Parameters
    ----------
    table : DataFrame
        The ``synapses`` table: syn_id, pre_id, x_pos .. z_pos (nm), start_x .. stop_z (voxels).
        Synapses without a presynaptic cell (0) are never joined.
    read
        Gives the synapse layer over a box, shape (x, y, z); called for what lies between two
        objects, in pieces.
    gap_nm : float
        The largest gap, nm, from centre to centre of the nearest voxels.
    resolution : (x, y, z)
        Voxel size of the table and the layer, nm.

    Returns
    -------
    Merges

    Raises
    ------
    ConfigError
        If the gap is no positive number.
    """
    rows = table.sort_values("syn_id", ignore_index=True)
    candidates = merge_candidates(rows, gap_nm, resolution)
    boxes = _boxes(rows, candidates, resolution)
    ids = rows["syn_id"].to_numpy(np.uint64)
    gaps = np.array(
        [
            _gap_of((int(ids[i]), boxes[i]), (int(ids[j]), boxes[j]), read, gap_nm)
            for i, j in candidates.tolist()
        ],
        dtype=np.float64,
    )
    near = gaps < math.inf
    pairs, gaps = candidates[near], gaps[near]
    kept = ids[roots_of(len(rows), pairs)]
    retired = np.flatnonzero(kept != ids)
    mapping = dict(zip(ids[retired].tolist(), kept[retired].tolist(), strict=True))
    return Merges(mapping, _listed(rows, pairs, gaps, kept))


def near_objects(
    boxes: Mapping[int, Box], read: Read, gap_nm: float, resolution: Sequence[float]
) -> Mapping[int, int]:
    """Find objects that a small gap parts, whatever their cells.

    Parameters
    ----------
    boxes : mapping of int to Box
        Bounding box of each object, by id.
    read, gap_nm, resolution
        As for :func:`merges`.

    Returns
    -------
    mapping of int to int
        For each id that is joined to a smaller one, the smallest.

    Raises
    ------
    ConfigError
        If the gap is no positive number.
    """
    ids = np.array(list(boxes), dtype=np.uint64)
    corners = np.array([(*box.start, *box.stop) for box in boxes.values()], np.int64)
    table = pd.DataFrame(corners.reshape(-1, 6), columns=_CORNERS)
    places = dict.fromkeys(("x_pos", "y_pos", "z_pos"), 0.0)
    return merges(
        table.assign(syn_id=ids, pre_id=np.uint64(1), **places), read, gap_nm, resolution
    ).mapping


def joined(labels: Array, gap_nm: float, resolution: Sequence[float]) -> Array:
    """Labels whose objects are one where a gap of at most `gap_nm` parts them.

    Parameters
    ----------
    labels : ndarray of unsigned int, shape (x, y, z)
    gap_nm : float
        From centre to centre of the nearest voxels, nm; 0 joins nothing.
    resolution : (x, y, z)
        Voxel size, nm.

    Returns
    -------
    ndarray, of the shape and dtype of `labels`
        Joined objects have the smallest of their ids.

    Raises
    ------
    ConfigError
        If the gap is below 0.
    """
    if gap_nm == 0:
        return labels
    x, y, z = (float(v) for v in resolution)
    whole = Box.from_shape(labels.shape, (x, y, z))
    mapping = near_objects(
        boxes_of(labels, whole), lambda box: labels[box.slices(whole)], gap_nm, resolution
    )
    return merged(labels, mapping)


def boxes_of(labels: Array, within: Box) -> dict[int, Box]:
    """The bounding box of each object, by id.

    Parameters
    ----------
    labels : ndarray of unsigned int, shape ``within.shape``
    within : Box
        Where the labels lie.
    """
    numbered, ids = fastremap.renumber(labels, preserve_zero=True, in_place=False)
    id_of = {number: int(old) for old, number in ids.items()}
    return {
        id_of[number]: Box(
            triple([a + s.start for a, s in zip(within.start, slices, strict=True)]),
            triple([a + s.stop for a, s in zip(within.start, slices, strict=True)]),
            within.resolution,
        )
        for number, slices in enumerate(find_objects(numbered.astype(np.int64)), start=1)
    }


def merge_candidates(table: pd.DataFrame, gap_nm: float, resolution: Sequence[float]) -> Int64s:
    """Pairs of rows that may be near enough, by the bounding boxes.

    Parameters
    ----------
    table : DataFrame
        pre_id, start_x .. stop_z (voxels).
    gap_nm : float
        The largest gap, nm.
    resolution : (x, y, z)
        Voxel size, nm.

    Returns
    -------
    ndarray of int64, shape (n, 2)
        Numbers of rows, the smaller first, sorted. None with a gap within the limit is missing.

    Raises
    ------
    ConfigError
        If the gap is no positive number.
    """
    if not (math.isfinite(gap_nm) and gap_nm > 0):
        raise ConfigError(f"gap_nm must be a positive number of nm, not {gap_nm}")
    limit = gap_nm * (1 + _TOLERANCE)
    rows, cell = _in_company(table["pre_id"].to_numpy(np.uint64))
    low, high = _centres(table, rows, resolution)
    half = (high - low).max(axis=1, initial=0.0) / 2
    # Cells lie apart along a fourth axis, so one tree serves them all.
    apart = _APART * (limit + 2 * half.max(initial=0.0))
    points = np.column_stack([(low + high) / 2, cell * apart])
    # Boxes of a class are alike to a factor of 2, those smaller than the gap all alike.
    size = np.ceil(np.log2(np.maximum(half / limit, 1))).astype(np.int64)
    classes = [np.flatnonzero(size == value) for value in np.unique(size)]
    found = [np.zeros((0, 2), np.int64)]
    for one, other in itertools.combinations_with_replacement(classes, 2):
        reach = limit + half[one].max() + half[other].max()
        for pairs in _within(points, one, other, reach):
            a, b = pairs.T
            beyond = np.maximum(np.maximum(low[a] - high[b], low[b] - high[a]), 0)
            found.append(rows[pairs[np.sqrt((beyond**2).sum(axis=1)) <= limit]])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def voxel_gap_nm(
    first: Int64s, second: Int64s, resolution: Sequence[float], limit_nm: float = math.inf
) -> float:
    """The shortest distance between two sets of voxels, from centre to centre.

    Parameters
    ----------
    first, second : ndarray of int64, shape (n, 3) and (m, 3)
        Voxel coordinates, x, y, z.
    resolution : (x, y, z)
        Voxel size, nm.
    limit_nm : float
        How far to look.

    Returns
    -------
    float
        nm; infinite if it is above the limit, or a set is empty.
    """
    if not len(first) or not len(second):
        return math.inf
    h = np.asarray(resolution, dtype=np.float64)
    limit = limit_nm * (1 + _TOLERANCE)
    origin = first.min(axis=0)
    tree = cKDTree((first - origin) * h)
    nearest = np.atleast_1d(tree.query((second - origin) * h, distance_upper_bound=limit)[1])
    met = nearest < len(first)
    # From the voxels, not from the tree: so that both orders give the same number.
    steps = (first[nearest[met]] - second[met]) * h
    gap = math.sqrt((steps**2).sum(axis=1).min(initial=math.inf))
    return gap if gap <= limit else math.inf


def merged(labels: Array, mapping: Mapping[int, int]) -> Array:
    """Labels with retired ids replaced by those that are kept.

    Parameters
    ----------
    labels : ndarray of unsigned int, shape (x, y, z)
    mapping
        Of :class:`Merges`.

    Returns
    -------
    ndarray, of the shape, dtype and memory order of `labels`
    """
    if not mapping:
        return labels
    replaced: Array = fastremap.remap(labels, dict(mapping), preserve_missing_labels=True)
    return replaced


def _in_company(pre_id: npt.NDArray[np.uint64]) -> tuple[Int64s, Int64s]:
    """Rows of cells that have several synapses, cell by cell, and a number for the cell of each."""
    cells, number, count = np.unique(pre_id, return_inverse=True, return_counts=True)
    wanted = (cells > 0) & (count > 1)
    rows = np.flatnonzero(wanted[number])
    rows = rows[np.argsort(number[rows], kind="stable")]
    return rows, number[rows].astype(np.int64)


def _centres(
    table: pd.DataFrame, rows: Int64s, resolution: Sequence[float]
) -> tuple[Floats, Floats]:
    """Centres of the first and of the last voxel of the bounding boxes of some rows, nm."""
    corners = table[_CORNERS].to_numpy(np.int64)[rows]
    h = np.asarray(resolution, dtype=np.float64)
    return corners[:, :3] * h, (corners[:, 3:] - 1) * h


def _within(points: Floats, one: Int64s, other: Int64s, reach: float) -> Iterator[Int64s]:
    """Pairs of points, one of each set, no farther than `reach` in every axis; piece by piece."""
    tree = cKDTree(points[other])
    for begin in range(0, len(one), _CHUNK):
        piece = one[begin : begin + _CHUNK]
        near = cKDTree(points[piece]).sparse_distance_matrix(
            tree, reach, p=math.inf, output_type="ndarray"
        )
        pairs = np.stack([piece[near["i"]], other[near["j"]]], axis=1)
        # Within one set each pair comes twice, and each point with itself.
        yield pairs[pairs[:, 0] < pairs[:, 1]] if one is other else pairs


def _boxes(rows: pd.DataFrame, candidates: Int64s, resolution: Sequence[float]) -> dict[int, Box]:
    """Bounding boxes of the rows that are candidates."""
    x, y, z = (float(v) for v in resolution)
    wanted = np.unique(candidates)
    corners = rows[_CORNERS].to_numpy(np.int64)[wanted].tolist()
    return {
        row: Box(triple(corner[:3]), triple(corner[3:]), (x, y, z))
        for row, corner in zip(wanted.tolist(), corners, strict=True)
    }


def _gap_of(first: tuple[int, Box], second: tuple[int, Box], read: Read, gap_nm: float) -> float:
    """Gap of two objects, given by id and bounding box; infinite above the limit."""
    (one, box), (other, other_box) = first, second
    h = box.resolution
    reach = triple([math.floor(gap_nm * (1 + _TOLERANCE) / v) for v in h])
    least = math.inf
    # Only voxels this near to the other's bounding box can be as near to the other.
    for block in Grid(box.intersection(other_box.grown(reach)), _PIECE):
        around = block.write.grown(reach).intersection(box.hull(other_box))
        labels = read(around)
        own = _surface(labels[block.write.slices(around)] == one, block.write)
        theirs = _surface(labels == other, around)
        least = min(least, voxel_gap_nm(own, theirs, h, min(least, gap_nm)))
    return least


def _surface(mask: npt.NDArray[np.bool_], box: Box) -> Int64s:
    """Voxels of a mask that have a face to the outside: one of two nearest voxels is such a one."""
    if not mask.any():
        return np.zeros((0, 3), np.int64)
    return np.argwhere(mask & ~binary_erosion(mask)) + np.asarray(box.start, dtype=np.int64)


def _listed(
    rows: pd.DataFrame, pairs: Int64s, gaps: Floats, kept: npt.NDArray[np.uint64]
) -> pd.DataFrame:
    one, other = rows.iloc[pairs[:, 0]], rows.iloc[pairs[:, 1]]
    columns = {
        "syn_id": one["syn_id"].to_numpy(np.uint64),
        "other_id": other["syn_id"].to_numpy(np.uint64),
        "kept_id": kept[pairs[:, 0]],
        "pre_id": one["pre_id"].to_numpy(np.uint64),
        "gap_nm": gaps,
        **{f"{axis}_pos": one[f"{axis}_pos"].to_numpy() for axis in "xyz"},
        **{f"other_{axis}": other[f"{axis}_pos"].to_numpy() for axis in "xyz"},
    }
    return pd.DataFrame({name: columns[name] for name in MERGE_COLUMNS})


_CORNERS = [f"{end}_{axis}" for end in ("start", "stop") for axis in "xyz"]
