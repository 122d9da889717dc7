"""Which labels of which blocks are one object, and the object's id.

1. In each superblock, a box of blocks, labels that meet at faces are put into groups
   (:mod:`cnapse.synapses.joining`).
2. One union-find over the groups that go on in other superblocks.
3. An object's id is 1 + the raster index of its first voxel in the frame, or 0 (deleted) if the
   whole object is outside of the size limits.
4. Each block labels again and replaces its numbers (:func:`object_ids`, :func:`relabel`).

The result does not depend on the superblocks; with a single one there is no step 2
(:func:`stitch`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

from cnapse.errors import FormatError
from cnapse.geometry import Block, Grid
from cnapse.synapses.components import BlockComponents, Labels
from cnapse.synapses.joining import Joined, Load, OpenGroups, join, open_ids
from cnapse.synapses.records import ArrayRecord
from cnapse.synapses.unions import Ids, Int64s, object_id

__all__ = [
    "BlockIds",
    "Stitching",
    "block_ids",
    "object_ids",
    "relabel",
    "stitch",
    "stitch_groups",
]


@dataclass(frozen=True, slots=True)
class Stitching(ArrayRecord):
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


def stitch(grid: Grid, load: Load, min_voxels: int = 1, max_voxels: int | None = None) -> Stitching:
    """Find the labels of different blocks that are one object, with all blocks in one superblock.

    Parameters
    ----------
    grid
        The grid of the label stage (one voxel of upper halo). Its bounds are the frame in which
        the records count their voxels.
    load
        Gives the record of a block, by index; called once a block, in order.
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
    joined = join(grid, grid.bounds, load)
    ids = object_id(joined.closed_first_voxel, joined.closed_voxels, min_voxels, max_voxels)
    return Stitching(joined.offsets, joined.labels, ids[-1 - joined.groups])


def stitch_groups(
    grid: Grid,
    load: Callable[[int], OpenGroups],
    min_voxels: int = 1,
    max_voxels: int | None = None,
) -> Iterator[Ids]:
    """Find the open groups of different superblocks that are one object.

    Parameters
    ----------
    grid : Grid
        Of the superblocks; its bounds are the frame.
    load
        Gives the open groups of a superblock, by index; called once for each, in order.
    min_voxels, max_voxels
        As for :func:`stitch`.

    Yields
    ------
    ndarray of uint64, shape (g,)
        For each superblock, in order, the ids of its open groups.

    Raises
    ------
    RunStateError
        If the records of two superblocks contradict each other.
    """
    offsets, ids = open_ids(grid, load, min_voxels, max_voxels)
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        yield ids[start:stop]


@dataclass(frozen=True, slots=True)
class BlockIds(ArrayRecord):
    """The touching labels of one block, and their ids as far as its superblock knows them.

    Attributes
    ----------
    labels : ndarray of int64, shape (m,)
        Sorted.
    ids : ndarray of uint64, shape (m,)
        0 for an object outside of the size limits, and for an open group.
    groups : ndarray of int64, shape (m,)
        The open group of its superblock that a label belongs to; -1 for none.
    """

    labels: Int64s
    ids: Ids
    groups: Int64s

    def resolved(self, open_groups: Ids) -> tuple[Int64s, Ids]:
        """Labels and ids, given those of the open groups of the superblock."""
        ids = self.ids.copy()
        is_open = self.groups >= 0
        ids[is_open] = open_groups[self.groups[is_open]]
        return self.labels, ids


def block_ids(
    joined: Joined, min_voxels: int = 1, max_voxels: int | None = None
) -> Iterator[tuple[int, BlockIds]]:
    """The ids of a superblock's labels, block by block; blocks without touching labels left out."""
    closed = object_id(joined.closed_first_voxel, joined.closed_voxels, min_voxels, max_voxels)
    is_open = joined.groups >= 0
    ids = np.zeros(len(joined.groups), np.uint64)
    ids[~is_open] = closed[-1 - joined.groups[~is_open]]
    groups = np.where(is_open, joined.groups, -1)
    ends = zip(joined.offsets[:-1].tolist(), joined.offsets[1:].tolist(), strict=True)
    for index, (start, stop) in zip(joined.blocks, ends, strict=True):
        if stop > start:
            part = slice(start, stop)
            yield index, BlockIds(joined.labels[part], ids[part], groups[part])


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
    ids[1:] = object_id(components.first_voxel, components.voxels, min_voxels, max_voxels)
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


@njit(nogil=True, cache=True)
def _replace(labels: Labels, ids: Ids, out: Ids) -> None:
    for z in range(labels.shape[2]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[0]):
                label = labels[x, y, z]
                if label != 0:
                    out[x, y, z] = ids[label]
