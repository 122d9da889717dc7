"""Groups of parts that are one object: union-find over numbered parts, with what adds up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["Groups", "Unions", "id_of_each", "object_id", "roots"]

Int64s = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint64]

_SMALLEST = 1 << 16


class Groups(NamedTuple):
    """Parts that belong together.

    Attributes
    ----------
    root : ndarray of int64, shape (parts,)
        The smallest part of the group of each part.
    first_voxel, voxels : ndarray of int64, shape (parts,)
        Of the whole group, at its root; elsewhere they mean nothing.
    """

    root: Int64s
    first_voxel: Int64s
    voxels: Int64s


class Unions:
    """Parts of objects, numbered as they come, and which of them are one: 24 bytes a part."""

    def __init__(self) -> None:
        self.count = 0
        self._parent, self._first_voxel, self._voxels = (np.empty(0, np.int64) for _ in range(3))

    def add(self, first_voxel: Int64s, voxels: Int64s) -> int:
        """Take in parts.

        Parameters
        ----------
        first_voxel : ndarray of int64, shape (n,)
            Raster index of each part's first voxel; -1 if it has none that counts.
        voxels : ndarray of int64, shape (n,)
            How many voxels of each count.

        Returns
        -------
        int
            Number of the first of them; the others follow.
        """
        start, self.count = self.count, self.count + len(voxels)
        if self.count > len(self._parent):
            capacity = max(_SMALLEST, 2 * self.count)
            self._parent = _grown(self._parent, start, capacity)
            self._first_voxel = _grown(self._first_voxel, start, capacity)
            self._voxels = _grown(self._voxels, start, capacity)
        self._parent[start : self.count] = np.arange(start, self.count)
        self._first_voxel[start : self.count] = first_voxel
        self._voxels[start : self.count] = voxels
        return start

    def join(self, a: Int64s, b: Int64s) -> None:
        """Say which parts are one: those of numbers `a` and `b`, int64 of one shape (n,)."""
        _unite(self._parent, a, b)

    def solved(self) -> Groups:
        """What belongs together; nothing can be added afterwards."""
        groups = Groups(
            self._parent[: self.count],
            self._first_voxel[: self.count],
            self._voxels[: self.count],
        )
        _flatten(groups.root)
        _gather(*groups)
        return groups


def roots(n: int, pairs: Int64s) -> Int64s:
    """The smallest of those that belong together, for each of n, by pairs of shape (m, 2)."""
    parent = np.arange(n)
    _unite(parent, pairs[:, 0], pairs[:, 1])
    _flatten(parent)
    return parent


def object_id(first_voxel: Int64s, voxels: Int64s, min_voxels: int, max_voxels: int | None) -> Ids:
    """Ids of whole objects: 1 + the first voxel; 0 for those outside of the size limits.

    Parameters
    ----------
    first_voxel : ndarray of int64, shape (n,)
        Raster index in the layer's full bounds; -1 for none.
    voxels : ndarray of int64, shape (n,)
    min_voxels, max_voxels
        Limits, both included.

    Returns
    -------
    ndarray of uint64, shape (n,)
    """
    ids = np.empty(len(voxels), np.uint64)
    most = np.iinfo(np.int64).max if max_voxels is None else max_voxels
    _identify(first_voxel, voxels, min_voxels, most, ids)
    return ids


def id_of_each(groups: Groups, min_voxels: int, max_voxels: int | None) -> Ids:
    """The :func:`object_id` of the group of each part."""
    ids = object_id(groups.first_voxel, groups.voxels, min_voxels, max_voxels)
    _spread(groups.root, ids)
    return ids


def _grown(array: Int64s, used: int, capacity: int) -> Int64s:
    """Room for more. What is not used of it takes no memory yet."""
    out = np.empty(capacity, np.int64)
    out[:used] = array[:used]
    return out


@njit(nogil=True, cache=True)
def _unite(parent: Int64s, a: Int64s, b: Int64s) -> None:
    """Join pairs, the smaller root above the larger (path halving)."""
    for i in range(len(a)):
        one, other = a[i], b[i]
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        while parent[other] != other:
            parent[other] = parent[parent[other]]
            other = parent[other]
        parent[max(one, other)] = min(one, other)


@njit(nogil=True, cache=True)
def _flatten(parent: Int64s) -> None:
    for i in range(len(parent)):
        # A parent is never above its node, so the parent's root is known already.
        parent[i] = parent[parent[i]]


@njit(nogil=True, cache=True)
def _identify(first_voxel: Int64s, voxels: Int64s, least: int, most: int, ids: Ids) -> None:
    for i in range(len(ids)):
        keep = first_voxel[i] >= 0 and least <= voxels[i] <= most
        ids[i] = np.uint64(first_voxel[i] + 1) if keep else np.uint64(0)


@njit(nogil=True, cache=True)
def _spread(root: Int64s, ids: Ids) -> None:
    """Give each part the id of its root, in place."""
    for i in range(len(ids)):
        ids[i] = ids[root[i]]


@njit(nogil=True, cache=True)
def _gather(root: Int64s, first_voxel: Int64s, voxels: Int64s) -> None:
    """Bring the first voxel and the number of voxels of each group to its root, in place."""
    for i in range(len(root)):
        at = root[i]
        if at != i:
            voxels[at] += voxels[i]
            if first_voxel[i] >= 0 and (first_voxel[at] < 0 or first_voxel[i] < first_voxel[at]):
                first_voxel[at] = first_voxel[i]
