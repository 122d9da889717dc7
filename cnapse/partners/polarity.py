"""Which cell is presynaptic where the density lies over both sides of the cleft.

Networks that were trained on clefts give objects that cover the cleft and the membranes on both of
its sides. That most of an object's voxels lie on a cell says nothing then; other evidence has to::

    candidates   cells with a voxel within 20 nm of the density, and at least 5 % of all such voxels
    vesicles     the candidate with most vesicles near the density is presynaptic
    direction    vectors from the postsynaptic to the presynaptic site, averaged over the density:
                 the candidate that lies furthest along their mean is presynaptic

With neither, or if they contradict each other, the side is not decided: to be flagged, not guessed.

Partners are then found from the *presynaptic part* of the density (:func:`presynaptic_part`): the
rest of it does not release transmitter.

A direction layer is what Synful (Buhmann et al. 2021) predicts, "post to pre" in nm; but Synful
counts its channels z, y, x and scales the stored vectors, and here they are x, y, z in nm. Their
length does not matter, so a common scale need not be undone; one in voxels must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Triple
from cnapse.partners.labels import check_arrays
from cnapse.partners.zones import Zone, zone_around

__all__ = ["Side", "presynaptic_part", "presynaptic_side"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_CONTACT_NM = 20.0
_LEAST_CONTACT = 0.05
# Sums of floats in another order are not a difference.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Side:
    """The presynaptic side of a density.

    Attributes
    ----------
    pre_id : int
        The presynaptic cell; where it is not decided, the likeliest one (the one with most voxels
        at the density if there is no evidence at all); 0 if no cell is near.
    score : float
        Share of the evidence that is for this cell, 0 to 1. Shares by direction count as much as
        the vectors agree: times the length of their sum over the sum of their lengths.
    margin : float
        By how much more is for it than for the next one, 0 to 1.
    decided : bool
        Whether the margin is large enough, and nothing contradicts.
    """

    pre_id: int
    score: float
    margin: float
    decided: bool


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Cells at a density, ascending; their voxels there, and the sums of these voxels' places."""

    ids: npt.NDArray[np.uint64]
    voxels: Int64s
    sums: Int64s


def presynaptic_side(
    cells: Array,
    density: Mask,
    density_start: Triple,
    resolution: Sequence[float],
    *,
    vesicles: Array | None = None,
    direction: Array | None = None,
    reach_nm: float = 100.0,
    min_margin: float = 0.2,
) -> Side:
    """Presynaptic cell of a density that covers both sides of the cleft.

    Parameters
    ----------
    cells : ndarray of unsigned int, shape (x, y, z)
        Cell labels of the cutout, 0 for free space.
    density : ndarray of bool, shape (x, y, z)
        Voxels of the synapse, over its own bounding box or a larger one.
    density_start : (x, y, z)
        Where `density` starts in the cutout; may lie outside of it.
    resolution : (x, y, z)
        Voxel size, nm.
    vesicles : ndarray, shape of `cells`, optional
        A map of vesicles: uint8 or float counts as a probability on any scale, bool and wider
        integers are objects.
    direction : ndarray of float or signed int, shape ``(*density.shape, 3)``, optional
        For each voxel of the density's box a vector x, y, z from the postsynaptic to the
        presynaptic site, proportional to nm.
    reach_nm : float
        How far from the density vesicles count; no farther than the cutout's padding makes sense.
    min_margin : float
        Least margin to be decided. 0.2: three in five, if two cells are in question.

    Returns
    -------
    Side
        With both kinds of evidence given, by the one with the larger margin; not decided if in the
        other one any cell is ahead of that by `min_margin`.

    Raises
    ------
    FormatError
        If an array is of the wrong shape or kind, or not finite.
    ConfigError
        If `reach_nm` is negative or `min_margin` is not above 0.
    """
    check_arrays(cells, density)
    if reach_nm < 0 or not min_margin > 0:
        raise ConfigError(
            f"reach_nm = {reach_nm} must not be negative, min_margin = {min_margin} above 0"
        )
    near = zone_around(cells, density, density_start, resolution, _CONTACT_NM)
    found = _candidates(cells, near)
    if not len(found.ids):
        return Side(0, 0.0, 0.0, decided=False)
    evidence = []
    if vesicles is not None:
        around = zone_around(cells, density, density_start, resolution, reach_nm)
        evidence.append(_shares(_vesicle_mass(cells, vesicles, around, found)))
    if direction is not None:
        moment, length = _moment(direction, density, density_start, resolution, found)
        evidence.append(length * _shares(moment))
    return _joint(found, evidence or [np.zeros(len(found.ids))], min_margin)


def presynaptic_part(
    cells: Array,
    density: Mask,
    density_start: Triple,
    resolution: Sequence[float],
    pre_id: int,
) -> tuple[Mask, Triple]:
    """The part of the presynaptic cell that a density covers, or lies next to.

    It is what a density drawn on the presynaptic side alone would be, and takes its place in
    :func:`cnapse.partners.emitters.find_emitters` and in diffusion: where the density counts as
    the presynaptic cell (rule ``extracellular``), the rest would hide the cleft and the partners.

    Parameters
    ----------
    cells, density, density_start, resolution
        As for :func:`presynaptic_side`.
    pre_id
        Presynaptic cell.

    Returns
    -------
    part : ndarray of bool, shape (x, y, z), Fortran order
        Voxels of the cell under the density. If there is none (a density in the cleft only), those
        next to it: at most one voxel (of the plane) farther than the nearest, and within 20 nm.
    start : (x, y, z)
        Where `part` starts in the cutout.

    Raises
    ------
    FormatError
        If an array is of the wrong kind.
    """
    check_arrays(cells, density)
    voxel = min(resolution[:2])
    reach = 0.0
    while True:
        part, start = _part_within(cells, density, density_start, resolution, pre_id, reach)
        if part.any() or reach >= _CONTACT_NM:
            break
        reach = min(reach + voxel, _CONTACT_NM)
    if 0 < reach < _CONTACT_NM:
        # The nearest voxels alone would be those of the roughest places.
        reach = min(reach + voxel, _CONTACT_NM)
        part, start = _part_within(cells, density, density_start, resolution, pre_id, reach)
    return part, start


def _part_within(
    cells: Array,
    density: Mask,
    density_start: Triple,
    resolution: Sequence[float],
    pre_id: int,
    reach_nm: float,
) -> tuple[Mask, Triple]:
    """Voxels of a cell within a distance of the density."""
    zone = zone_around(cells, density, density_start, resolution, reach_nm)
    return (zone.mask & (zone.cut(cells, np.uint64) == np.uint64(pre_id))).T, zone.start


def _shares(evidence: Floats) -> Floats:
    """Evidence as shares that add up to 1; all 0 if there is none."""
    total = evidence.sum()
    shares: Floats = evidence / total if total > 0 else np.zeros(len(evidence))
    return shares


def _joint(found: _Candidates, evidence: Sequence[Floats], min_margin: float) -> Side:
    """What several kinds of evidence say together: the clearest, if no other is against it."""
    best, margin, shares = max(
        ((*_first(found, shares), shares) for shares in evidence), key=lambda kind: kind[1]
    )
    least = min_margin - _TOLERANCE
    contradicted = any((own - own[best] >= least).any() for own in evidence)
    decided = margin >= least and not contradicted
    return Side(int(found.ids[best]), float(shares[best]), margin, decided)


def _first(found: _Candidates, shares: Floats) -> tuple[int, float]:
    """The candidate with the largest share, and by how much; ties go by voxels, then by id."""
    order = np.lexsort([found.ids, -found.voxels, -np.round(shares / _TOLERANCE)])
    second = shares[order[1]] if len(order) > 1 else 0.0
    return int(order[0]), float(shares[order[0]] - second)


def _candidates(cells: Array, near: Zone) -> _Candidates:
    """Cells at the density with enough voxels there."""
    ids, voxels, sums = _tally(near.cut(cells, np.uint64), near.mask)
    order = np.argsort(ids)
    order = order[voxels[order] >= _LEAST_CONTACT * voxels.sum()]
    places = sums[order] + voxels[order, None] * np.asarray(near.start, dtype=np.int64)
    return _Candidates(ids[order], voxels[order], places)


def _vesicle_mass(cells: Array, vesicles: Array, around: Zone, found: _Candidates) -> Floats:
    """Vesicles near the density in each candidate."""
    if vesicles.shape != cells.shape:
        raise FormatError(
            f"vesicles have shape {vesicles.shape}, cells {cells.shape}: give the same voxels"
        )
    part = around.cut(vesicles, vesicles.dtype)
    if vesicles.dtype.kind != "f" and vesicles.dtype != np.uint8:
        part = part != 0
    mass: Floats = _masses(
        around.cut(cells, np.uint64), part.astype(np.float64), around.mask, found.ids
    )
    if not np.isfinite(mass).all() or (mass < 0).any():
        raise FormatError("the map of vesicles holds NaN or values below 0: give 0 for no vesicle")
    return mass


def _moment(
    direction: Array,
    density: Mask,
    density_start: Triple,
    resolution: Sequence[float],
    found: _Candidates,
) -> tuple[Floats, float]:
    """How far, and with how many voxels, each candidate lies along the mean direction.

    The sum, over a candidate's voxels at the density, of their places along the mean direction,
    counted from the density's centroid; nothing for those that lie against it. And the length of
    the vectors' sum, of that of the vectors: 1 if all point the same way.
    """
    if direction.shape != (*density.shape, 3):
        raise FormatError(
            f"direction has shape {direction.shape}, expected {(*density.shape, 3)}: x, y, z for "
            "each voxel of the density's box"
        )
    vectors = np.stack([direction[..., a][density] for a in range(3)]).astype(np.float64)
    if not np.isfinite(vectors).all():
        raise FormatError("the direction layer holds NaN: give 0, 0, 0 where nothing is known")
    total, lengths = vectors.sum(axis=1), float(np.sqrt((vectors**2).sum(axis=0)).sum())
    along = float(np.linalg.norm(total))
    if along <= _TOLERANCE * lengths:
        return np.zeros(len(found.ids)), 0.0
    middle = np.array([axis.mean() for axis in np.nonzero(density)]) + np.asarray(density_start)
    steps = (found.sums - found.voxels[:, None] * middle) * np.asarray(resolution)
    return np.maximum(steps @ (total / along), 0.0), along / lengths


@njit(nogil=True, cache=True)
def _tally(cells: Any, mask: Any) -> Any:
    """Cells in a mask, as they come; their voxels, and the sums of these voxels' x, y, z."""
    ids = np.zeros(16, dtype=np.uint64)
    sums = np.zeros((16, 4), dtype=np.int64)
    n, last = 0, 0
    for k in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            for i in range(mask.shape[2]):
                cell = cells[k, j, i]
                if not mask[k, j, i] or cell == 0:
                    continue
                if last >= n or ids[last] != cell:
                    last = 0
                    while last < n and ids[last] != cell:
                        last += 1
                if last == n:
                    if n == len(ids):
                        ids = np.concatenate((ids, np.zeros_like(ids)))
                        sums = np.concatenate((sums, np.zeros_like(sums)))
                    ids[n] = cell
                    n += 1
                sums[last, 0] += i
                sums[last, 1] += j
                sums[last, 2] += k
                sums[last, 3] += 1
    return ids[:n].copy(), sums[:n, 3].copy(), sums[:n, :3].copy()


@njit(nogil=True, cache=True)
def _masses(cells: Any, vesicles: Any, mask: Any, ids: Any) -> Any:
    """Sum of vesicles in a mask, for each of some cells."""
    mass = np.zeros(len(ids), dtype=np.float64)
    last = 0
    for k in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            for i in range(mask.shape[2]):
                if not mask[k, j, i] or vesicles[k, j, i] == 0:
                    continue
                cell = cells[k, j, i]
                if ids[last] != cell:
                    found = 0
                    while found < len(ids) and ids[found] != cell:
                        found += 1
                    if found == len(ids):
                        continue
                    last = found
                mass[last] += vesicles[k, j, i]
    return mass
