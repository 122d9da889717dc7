"""Which labels of which blocks are one object, and the object's id.

1. Walk over the blocks in raster order. A block's lower faces meet the shells that the blocks
   before it have left for it: where both hold a voxel, the two labels are one object.
2. One union-find over the labels that touch a face or shell; no other label can go on elsewhere.
3. An object's id is 1 + the raster index of its first voxel in the frame, or 0 (deleted) if the
   whole object is outside of the size limits.
4. Each block labels again and replaces its numbers (:func:`object_ids`, :func:`relabel`).

Each block's record is loaded once. What is kept are the shells of one layer of blocks (until the
neighbours have been met) and the touching labels of all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import FormatError, RunStateError
from cnapse.geometry import Block, Grid
from cnapse.synapses.components import BlockComponents, Labels

__all__ = ["Stitching", "object_ids", "relabel", "stitch"]

Int64s = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Stitching:
    """The object of each label that touches a face or shell of its block.

    Attributes
    ----------
    offsets : ndarray of int64, shape (blocks + 1,)
        The entries of block i are ``offsets[i]:offsets[i + 1]`` of the other two arrays.
    labels : ndarray of int64, shape (m,)
        Touching labels of all blocks, sorted within each.
    ids : ndarray of uint64, shape (m,)
        Id of the object each belongs to; 0 if the whole object is outside of the size limits.
    """

    offsets: Int64s
    labels: Int64s
    ids: Ids

    def mapping(self, index: int) -> tuple[Int64s, Ids]:
        """Touching labels of a block, sorted, and the ids of their objects."""
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return self.labels[part], self.ids[part]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The record as named arrays, for a file."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The record :meth:`to_arrays` was called on."""
        return cls(**{f.name: arrays[f.name] for f in fields(cls)})


def stitch(
    grid: Grid,
    load: Callable[[int], BlockComponents | None],
    min_voxels: int = 1,
    max_voxels: int | None = None,
) -> Stitching:
    """Find the labels of different blocks that are one object.

    Parameters
    ----------
    grid
        The grid of the label stage (one voxel of upper halo). Its bounds are the frame in which
        the records count their voxels.
    load
        Record of a block, by index; None for a block without any voxel in its read box. Called
        once a block, in order.
    min_voxels, max_voxels
        Objects of fewer or more voxels get the id 0. They count for whole objects.

    Returns
    -------
    Stitching

    Raises
    ------
    RunStateError
        If the records of two blocks contradict each other.
    """
    nodes = _Nodes()
    waiting: defaultdict[int, list[_Shell]] = defaultdict(list)
    for index in range(len(grid)):
        components = load(index)
        node = nodes.add(components)
        shells = waiting.pop(index, [])
        if components is None:
            if shells:
                raise _contradiction(index, int(shells[0].voxels[0]), grid)
            continue
        for shell in shells:
            labels, missing = _met(components, shell.voxels)
            if missing is not None:
                raise _contradiction(index, missing, grid)
            nodes.join(shell.nodes, node[labels])
        for owner, shell in _shells(components, node, grid).items():
            waiting[owner].append(shell)
    return nodes.solved(min_voxels, max_voxels)


def object_ids(
    components: BlockComponents,
    mapping: tuple[Int64s, Ids],
    min_voxels: int = 1,
    max_voxels: int | None = None,
) -> Ids:
    """Id of each label of a block.

    Parameters
    ----------
    components
        Record of the block.
    mapping
        Its touching labels and their ids: :meth:`Stitching.mapping`.
    min_voxels, max_voxels
        The limits given to :func:`stitch`; here they judge the objects inside of one block.

    Returns
    -------
    ndarray of uint64, shape (n + 1,)
        Entry 0 (background) is 0, and so is that of an object outside of the limits.
    """
    ids = np.zeros(components.n + 1, np.uint64)
    ids[1:] = _ids(components.first_voxel, components.voxels, min_voxels, max_voxels)
    labels, theirs = mapping
    ids[labels] = theirs
    return ids


def relabel(labels: Labels, ids: Ids, block: Block) -> Ids:
    """Ids of objects over the write box of a block.

    Parameters
    ----------
    labels : ndarray, shape of ``block.read``
        Labels, made as they were for the block's record.
    ids : ndarray of uint64, shape (n + 1,)
        Of :func:`object_ids`.
    block
        The block.

    Returns
    -------
    ndarray of uint64, shape of ``block.write``, Fortran order

    Raises
    ------
    FormatError
        If `labels` has not the shape of the read box.
    """
    if labels.shape != block.read.shape:
        raise FormatError(f"labels of shape {labels.shape} do not fill {block.read}")
    out = np.zeros(block.write.shape, np.uint64, order="F")
    _replace(labels[block.write.slices(block.read)], ids, out)
    return out


@dataclass(frozen=True, slots=True)
class _Shell:
    """Voxels of one block's shell that one other block owns, and the nodes of their labels."""

    voxels: Int64s
    nodes: Int64s


@dataclass(slots=True)
class _Nodes:
    """The touching labels of all blocks so far, numbered on, and the pairs that are one."""

    offsets: list[int] = field(default_factory=lambda: [0])
    labels: list[Int64s] = field(default_factory=list)
    first_voxel: list[Int64s] = field(default_factory=list)
    voxels: list[Int64s] = field(default_factory=list)
    pairs: list[Int64s] = field(default_factory=list)

    def add(self, components: BlockComponents | None) -> Int64s:
        """Take in the touching labels of the next block; node of each of its labels (or -1)."""
        start = self.offsets[-1]
        if components is None:
            self.offsets.append(start)
            return np.zeros(0, np.int64)
        labels = components.touching
        self.offsets.append(start + len(labels))
        self.labels.append(labels)
        self.first_voxel.append(components.first_voxel[labels - 1])
        self.voxels.append(components.voxels[labels - 1])
        node = np.full(components.n + 1, -1, np.int64)
        node[labels] = np.arange(start, start + len(labels))
        return node

    def join(self, a: Int64s, b: Int64s) -> None:
        self.pairs.append(np.unique(np.stack([a, b], axis=1), axis=0))

    def solved(self, min_voxels: int, max_voxels: int | None) -> Stitching:
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *self.pairs])
        root = roots(self.offsets[-1], pairs)
        first_voxel, voxels = _joined(self.first_voxel), _joined(self.voxels)
        _gather(root, first_voxel, voxels)
        ids = _ids(first_voxel[root], voxels[root], min_voxels, max_voxels)
        return Stitching(np.asarray(self.offsets, np.int64), _joined(self.labels), ids)


def _joined(arrays: list[Int64s]) -> Int64s:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def _shells(components: BlockComponents, node: Int64s, grid: Grid) -> dict[int, _Shell]:
    """The shell of a block by the block that owns its voxels."""
    voxels = components.shell_voxels
    if not len(voxels):
        return {}
    owners = grid.index_of(grid.bounds.from_raster_index(voxels))
    nodes = node[components.shell_labels]
    return {
        int(owner): _Shell(voxels[owners == owner], nodes[owners == owner])
        for owner in np.unique(owners)
    }


def _met(components: BlockComponents, voxels: Int64s) -> tuple[Labels, int | None]:
    """Labels of a block at voxels of its lower faces, and the first voxel without one."""
    faces = components.face_voxels
    place = np.searchsorted(faces, voxels)
    found = place < len(faces)
    found[found] = faces[place[found]] == voxels[found]
    missing = None if found.all() else int(voxels[~found][0])
    return components.face_labels[place[found]], missing


def _contradiction(index: int, voxel: int, grid: Grid) -> RunStateError:
    x, y, z = (int(v) for v in grid.bounds.from_raster_index(voxel))
    return RunStateError(
        f"voxel {x}, {y}, {z} belongs to a component in a block before block {index}, which owns "
        "it, but not in that block: the input changed between the two: label all blocks again"
    )


def _ids(first_voxel: Int64s, voxels: Int64s, min_voxels: int, max_voxels: int | None) -> Ids:
    keep = (first_voxel >= 0) & (voxels >= min_voxels)
    if max_voxels is not None:
        keep &= voxels <= max_voxels
    return np.where(keep, first_voxel + 1, 0).astype(np.uint64)


@njit(nogil=True, cache=True)
def roots(n: int, pairs: Int64s) -> Int64s:
    """Union-find: the smallest node of the group of each node (path halving)."""
    parent = np.arange(n)
    for i in range(len(pairs)):
        a, b = pairs[i, 0], pairs[i, 1]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    for i in range(n):
        # A parent is never above its node, so the parent's root is known already.
        parent[i] = parent[parent[i]]
    return parent


@njit(nogil=True, cache=True)
def _gather(roots: Int64s, first_voxel: Int64s, voxels: Int64s) -> None:
    """Bring the first voxel and the number of voxels of each group to its root, in place."""
    for i in range(len(roots)):
        root = roots[i]
        if root != i:
            voxels[root] += voxels[i]
            if first_voxel[i] >= 0 and (
                first_voxel[root] < 0 or first_voxel[i] < first_voxel[root]
            ):
                first_voxel[root] = first_voxel[i]


@njit(nogil=True, cache=True)
def _replace(labels: Labels, ids: Ids, out: Ids) -> None:
    for z in range(labels.shape[2]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[0]):
                label = labels[x, y, z]
                if label != 0:
                    out[x, y, z] = ids[label]
