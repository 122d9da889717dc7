"""Voxels of new objects: an object cut between markers, and a synapse around a place."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from cnapse.errors import ReviewError
from cnapse.geometry import Resolution
from cnapse.synapses.position import Int64s

__all__ = ["FARTHEST_MARKER_NM", "ball", "component_at", "nearest_markers"]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

FARTHEST_MARKER_NM = 200.0
"""A marker that is farther from every voxel of the object was not meant for it."""

# Distances that differ by less are one: sums of floats in another order are not a difference.
_DIGITS = 6
_HALF = [o for o in itertools.product((-1, 0, 1), repeat=3) if o > (0, 0, 0)]


def nearest_markers(
    mask: Mask, groups: Sequence[Int64s], resolution: Resolution
) -> npt.NDArray[np.int64]:
    """Give each voxel of an object to the group of markers nearest to it, within the object.

    Distances run from voxel to voxel of the object (26 neighbours, in nm), so that a fold belongs
    to the marker at its own end. Equal ones go to the earlier group. A part of the object that
    touches none with a marker goes, whole, to the group whose markers are nearest in a straight
    line.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        The object.
    groups : sequence of ndarray of int, shape (n, 3)
        Markers of each group, voxels of `mask`; those outside of the object count for the voxel
        of it that is nearest.
    resolution : (x, y, z)
        Voxel size in nm.

    Returns
    -------
    ndarray of int64, shape (n,)
        The group of each voxel of the object, in the order of ``np.argwhere(mask)``.

    Raises
    ------
    ReviewError
        If a marker is farther than `FARTHEST_MARKER_NM` from the object, or two groups mark the
        same voxel.
    """
    voxels = np.argwhere(mask)
    h = np.asarray(resolution, np.float64)
    marked = [_snapped(voxels, markers, h) for markers in groups]
    seen: dict[int, int] = {}
    for number, places in enumerate(marked):
        for place in places:
            if seen.setdefault(place, number) != number:
                raise ReviewError(
                    f"groups {seen[place] + 1} and {number + 1} mark the same voxel of the object: "
                    "set their markers apart"
                )
    graph = _graph(mask, voxels, h)
    distances = np.round(
        [dijkstra(graph, indices=places, min_only=True) for places in marked], _DIGITS
    )
    owner: npt.NDArray[np.int64] = np.argmin(distances, axis=0).astype(np.int64)
    far = ~np.isfinite(distances.min(axis=0))
    if far.any():
        straight = np.round([_to_nearest(voxels, voxels[places], h) for places in marked], _DIGITS)
        part_of = cc3d.connected_components(mask, connectivity=26)[tuple(voxels.T)]
        for part in np.unique(part_of[far]).tolist():
            inside = part_of == part
            owner[inside] = np.argmin(straight[:, inside].min(axis=1))
    return owner


def component_at(
    probability: npt.NDArray[Any],
    others: Mask,
    seed: Int64s,
    thresholds: Sequence[float],
    at_least: int,
) -> Int64s | None:
    """The voxels around a place that belong together by a probability, at the highest threshold.

    Parameters
    ----------
    probability : ndarray of uint8, shape (x, y, z)
        Stores ``rint(255 p)``.
    others : ndarray of bool, shape (x, y, z)
        Voxels of objects. What touches them may be the rim of one, and is not taken.
    seed : ndarray of int, shape (3,)
        The place.
    thresholds : sequence of float
        To be tried in this order.
    at_least : int
        Fewer voxels are no synapse.

    Returns
    -------
    ndarray of int, shape (n, 3), or None
        None if at no threshold there is a component (26-connected) at the place that has enough
        voxels, touches no object and ends before the array does.
    """
    rim = binary_dilation(others, np.ones((3, 3, 3), np.bool_))
    for threshold in thresholds:
        chosen = ~others & (probability >= max(1.0, np.ceil(255 * threshold)))
        if not chosen[tuple(seed)]:
            continue
        labels = cc3d.connected_components(chosen, connectivity=26)
        voxels = np.argwhere(labels == labels[tuple(seed)])
        cut = (voxels == 0).any() or (voxels == np.asarray(others.shape) - 1).any()
        if len(voxels) >= at_least and not cut and not rim[tuple(voxels.T)].any():
            return voxels
    return None


def ball(free: Mask, seed: Int64s, resolution: Resolution, radius_nm: float) -> Int64s:
    """The free voxels whose centres are so near to that of a voxel, shape (n, 3)."""
    voxels = np.argwhere(free)
    distance = np.linalg.norm((voxels - seed) * np.asarray(resolution), axis=1)
    near: Int64s = voxels[distance <= radius_nm]
    return near


def _snapped(voxels: Int64s, markers: Int64s, h: Floats) -> list[int]:
    """Which voxel of the object is the nearest to each marker; the first of equal ones."""
    found = []
    for marker in markers:
        distance = np.linalg.norm((voxels - marker) * h, axis=1)
        best = int(np.argmin(np.round(distance, _DIGITS)))
        if distance[best] > FARTHEST_MARKER_NM:
            raise ReviewError(
                f"a marker is {distance[best]:.0f} nm away from the object, more than "
                f"{FARTHEST_MARKER_NM:g} nm: set it on the object"
            )
        found.append(best)
    return found


def _to_nearest(voxels: Int64s, markers: Int64s, h: Floats) -> Floats:
    apart = [np.linalg.norm((voxels - marker) * h, axis=1) for marker in markers]
    nearest: Floats = np.min(apart, axis=0)
    return nearest


def _graph(mask: Mask, voxels: Int64s, h: Floats) -> csr_array:
    """Neighbouring voxels of an object and how far they are apart, nm."""
    number = np.full(np.asarray(mask.shape) + 2, -1, np.int64)
    number[tuple((voxels + 1).T)] = np.arange(len(voxels))
    ends, lengths = [], []
    for offset in _HALF:
        other = number[tuple((voxels + 1 + np.asarray(offset)).T)]
        here = np.flatnonzero(other >= 0)
        ends.append(np.stack([here, other[here]]))
        lengths.append(np.full(len(here), np.linalg.norm(np.asarray(offset) * h)))
    a, b = np.concatenate(ends, axis=1)
    length = np.concatenate(lengths)
    both = (np.concatenate([a, b]), np.concatenate([b, a]))
    size = (len(voxels), len(voxels))
    return csr_array((np.concatenate([length, length]), both), shape=size)
