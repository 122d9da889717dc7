"""Labels of the blocks of one superblock that are one object, and objects that go on elsewhere.

A *superblock* is a box of blocks. :func:`join` walks over its blocks in raster order: a block's
lower faces meet the shells that the blocks before it have left for it, and where both hold a voxel
the two labels are one. Shells that reach into another superblock meet the faces of its blocks,
which are loaded for that once more::

    |  b  |  b  |  b  |n    b: blocks of the superblock
    |  b  |  b  |  b  |n    n: neighbours of the superblocks on its upper sides, faces only
     nnnnnnnnnnnnnnnnnn

A group of labels is *open* if it met a label of another superblock (an *exit*), or if it has a
voxel on the superblock's outer lower faces, where others may meet it (an *entry*). Labels are named
to other superblocks by their *key*, the first voxel in their block: no other label has it, and it
tells the block. :func:`open_ids` is one union-find over the open groups of all superblocks.

Nothing needs the memory of all labels: a superblock that of its touching labels, the last step that
of the open groups. Each carries its first voxel and its number of voxels, 16 bytes, from which ids
and size limits of whole objects follow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import RunStateError
from cnapse.geometry import Box, Grid, Triple
from cnapse.synapses.components import BlockComponents, Labels
from cnapse.synapses.records import ArrayRecord
from cnapse.synapses.unions import Ids, Int64s, Unions, id_of_each

__all__ = ["Joined", "Load", "OpenGroups", "blocks_in", "join", "open_ids"]

Load = Callable[[int], BlockComponents | None]
"""Record of a block, by index; None for a block without any voxel in its read box."""


@dataclass(frozen=True, slots=True)
class OpenGroups(ArrayRecord):
    """The groups of one superblock that may go on in others.

    Attributes
    ----------
    first_voxel, voxels : ndarray of int64, shape (g,)
        Of each group, as far as it lies in the superblock; -1 and 0 if it lives in shells only.
    entry_keys, entry_groups : ndarray of int64, shape (n,)
        Labels with voxels on the outer lower faces, sorted by key, and the group of each.
    exit_keys, exit_groups : ndarray of int64, shape (m,)
        Labels of other superblocks, by key, and the group that each belongs to.
    """

    first_voxel: Int64s
    voxels: Int64s
    entry_keys: Int64s
    entry_groups: Int64s
    exit_keys: Int64s
    exit_groups: Int64s


@dataclass(frozen=True, slots=True)
class Joined:
    """The labels of one superblock that touch a face or shell of their block, in groups.

    Attributes
    ----------
    blocks : list of int
        Its blocks, in raster order.
    offsets : ndarray of int64, shape (blocks + 1,)
        The labels of the i-th block are ``offsets[i]:offsets[i + 1]`` of the next two arrays.
    labels : ndarray of int64, shape (m,)
        Touching labels, sorted within each block.
    groups : ndarray of int64, shape (m,)
        Open groups are numbered from 0, closed ones from -1 downwards.
    closed_first_voxel, closed_voxels : ndarray of int64, shape (c,)
        Of the closed groups -1, -2, ...
    open : OpenGroups
    """

    blocks: list[int]
    offsets: Int64s
    labels: Int64s
    groups: Int64s
    closed_first_voxel: Int64s
    closed_voxels: Int64s
    open: OpenGroups


def blocks_in(grid: Grid, part: Box) -> list[int]:
    """The blocks of a grid whose write boxes lie in a part of it, in raster order."""
    nx, ny, _ = grid.shape
    x, y, z = (
        range((a - origin) // size, -(-(b - origin) // size))
        for a, b, origin, size in zip(
            part.start, part.stop, grid.bounds.start, grid.block_shape, strict=True
        )
    )
    return [i + nx * (j + ny * k) for k in z for j in y for i in x]


def join(grid: Grid, part: Box, load: Load) -> Joined:
    """Find the labels of one superblock that are one object.

    Parameters
    ----------
    grid : Grid
        Of the label stage (one voxel of upper halo). Its bounds are the frame in which the records
        count their voxels.
    part : Box
        The superblock: it begins at borders of blocks, and ends there or with the grid.
    load
        Gives the record of a block, by index; called once for each block of the superblock, in
        raster order, and then once for each block of another that its shells reach into.

    Returns
    -------
    Joined

    Raises
    ------
    RunStateError
        If the records of two blocks contradict each other.
    """
    blocks = blocks_in(grid, part)
    unions = Unions()
    waiting: defaultdict[int, list[_Shell]] = defaultdict(list)
    offsets, labels = [0], [np.zeros(0, np.int64)]
    entry_keys, entry_nodes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for index in blocks:
        components = load(index)
        shells = waiting.pop(index, [])
        if components is None:
            _check_none(shells, index, grid)
            offsets.append(unions.count)
            continue
        touching = components.touching
        start = unions.add(components.first_voxel[touching - 1], components.voxels[touching - 1])
        node = np.full(components.n + 1, -1, np.int64)
        node[touching] = np.arange(start, unions.count)
        offsets.append(unions.count)
        labels.append(touching)
        for shell in shells:
            unions.join(shell.nodes, node[_met(components, shell.voxels, index, grid)])
        entering = _entering(components, grid[index].write, part, grid)
        entry_keys.append(components.first_voxel[entering - 1])
        entry_nodes.append(node[entering])
        for owner, shell in _shells(components, node, grid):
            waiting[owner].append(shell)
    exit_keys, exit_nodes = _exits(grid, waiting, load)
    keys, nodes = np.concatenate(entry_keys), np.concatenate(entry_nodes)
    order = np.argsort(keys)
    return _grouped(
        unions,
        (blocks, np.asarray(offsets, np.int64), np.concatenate(labels)),
        (keys[order], nodes[order]),
        (exit_keys, exit_nodes),
    )


def open_ids(
    grid: Grid,
    load: Callable[[int], OpenGroups],
    min_voxels: int = 1,
    max_voxels: int | None = None,
) -> tuple[Int64s, Ids]:
    """Find the open groups of different superblocks that are one object.

    Parameters
    ----------
    grid : Grid
        Of the superblocks; its bounds are the frame.
    load
        Gives the open groups of a superblock, by index; called once for each, in raster order.
    min_voxels, max_voxels
        Objects of fewer or more voxels get the id 0.

    Returns
    -------
    offsets : ndarray of int64, shape (superblocks + 1,)
        The groups of superblock i are ``offsets[i]:offsets[i + 1]`` of the ids.
    ids : ndarray of uint64, shape (groups,)

    Raises
    ------
    RunStateError
        If the records of two superblocks contradict each other.
    """
    unions = Unions()
    offsets = [0]
    waiting: defaultdict[int, list[tuple[Int64s, Int64s]]] = defaultdict(list)
    for index in range(len(grid)):
        groups = load(index)
        start = unions.add(groups.first_voxel, groups.voxels)
        offsets.append(unions.count)
        for keys, nodes in waiting.pop(index, []):
            place, missing = _places(groups.entry_keys, keys)
            if missing is not None:
                raise _contradiction(grid, missing, f"superblock {index}")
            unions.join(nodes, start + groups.entry_groups[place])
        for owner, chosen in _by_owner(groups.exit_keys, grid):
            waiting[owner].append((groups.exit_keys[chosen], start + groups.exit_groups[chosen]))
    ids = id_of_each(unions.solved(), min_voxels, max_voxels)
    return np.asarray(offsets, np.int64), ids


@dataclass(frozen=True, slots=True)
class _Shell:
    """Voxels of one block's shell that one other block owns, and the nodes of their labels."""

    voxels: Int64s
    nodes: Int64s


def _shells(components: BlockComponents, node: Int64s, grid: Grid) -> Iterator[tuple[int, _Shell]]:
    """The shell of a block by the block that owns its voxels."""
    voxels, nodes = components.shell_voxels, node[components.shell_labels]
    for owner, chosen in _by_owner(voxels, grid):
        yield owner, _Shell(voxels[chosen], nodes[chosen])


def _by_owner(voxels: Int64s, grid: Grid) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """The blocks that own some voxels (raster indices), and which of them each owns."""
    if len(voxels):
        owners = np.empty(len(voxels), np.int64)
        _find_owners(voxels, grid.bounds.shape, grid.block_shape, grid.shape, owners)
        for owner in np.unique(owners).tolist():
            yield owner, owners == owner


def _met(components: BlockComponents, voxels: Int64s, index: int, grid: Grid) -> Labels:
    """Labels of a block at voxels of its lower faces."""
    place, missing = _places(components.face_voxels, voxels)
    if missing is not None:
        raise _contradiction(grid, missing, f"block {index}")
    return components.face_labels[place]


def _places(known: Int64s, wanted: Int64s) -> tuple[Int64s, int | None]:
    """Where in a sorted array values stand, and the first that does not."""
    place = np.searchsorted(known, wanted)
    found = place < len(known)
    found[found] = known[place[found]] == wanted[found]
    return place, None if found.all() else int(wanted[~found][0])


def _check_none(shells: list[_Shell], index: int, grid: Grid) -> None:
    """A block without a record must not be reached into."""
    if shells:
        raise _contradiction(grid, int(shells[0].voxels[0]), f"block {index}")


def _contradiction(grid: Grid, voxel: int, where: str) -> RunStateError:
    x, y, z = (int(v) for v in grid.bounds.from_raster_index(voxel))
    return RunStateError(
        f"voxel {x}, {y}, {z} belongs to a component in a block before {where}, which owns "
        "it, but not in that block: the input changed between the two: label all blocks again"
    )


def _entering(components: BlockComponents, block: Box, part: Box, grid: Grid) -> Int64s:
    """Labels of a block with voxels on the outer lower faces of its superblock, sorted."""
    outer = [axis for axis in range(3) if part.start[axis] > grid.bounds.start[axis]]
    if not any(block.start[axis] == part.start[axis] for axis in outer):
        return np.zeros(0, np.int64)
    places = grid.bounds.from_raster_index(components.face_voxels)
    on_face = (places[:, outer] == np.asarray(part.start)[outer]).any(axis=1)
    return np.unique(components.face_labels[on_face]).astype(np.int64)


def _exits(grid: Grid, waiting: Mapping[int, list[_Shell]], load: Load) -> tuple[Int64s, Int64s]:
    """Labels of other superblocks that shells reach, by key, and the nodes that reach them."""
    found = [np.zeros((2, 0), np.int64)]
    for index in sorted(waiting):
        components = load(index)
        if components is None:
            raise _contradiction(grid, int(waiting[index][0].voxels[0]), f"block {index}")
        for shell in waiting[index]:
            labels = _met(components, shell.voxels, index, grid)
            pairs = np.stack([components.first_voxel[labels.astype(np.int64) - 1], shell.nodes])
            found.append(np.unique(pairs, axis=1))
    keys, nodes = np.concatenate(found, axis=1)
    return keys, nodes


def _grouped(
    unions: Unions,
    touching: tuple[list[int], Int64s, Int64s],
    entries: tuple[Int64s, Int64s],
    exits: tuple[Int64s, Int64s],
) -> Joined:
    root, first_voxel, voxels = unions.solved()
    is_root = root == np.arange(len(root))
    is_open = np.zeros(len(root), np.bool_)
    is_open[root[entries[1]]] = True
    is_open[root[exits[1]]] = True
    opened, closed = np.flatnonzero(is_open), np.flatnonzero(is_root & ~is_open)
    number = np.empty(len(root), np.int64)
    number[opened] = np.arange(len(opened))
    number[closed] = -1 - np.arange(len(closed))
    groups = number[root]
    return Joined(
        *touching,
        groups,
        first_voxel[closed],
        voxels[closed],
        OpenGroups(
            first_voxel[opened],
            voxels[opened],
            entries[0],
            groups[entries[1]],
            exits[0],
            groups[exits[1]],
        ),
    )


@njit(nogil=True, cache=True)
def _find_owners(
    voxels: Int64s, frame: Triple, block: Triple, blocks: Triple, owners: Int64s
) -> None:
    """Index of the block that writes each voxel, given by raster index: `Grid.index_of`, faster."""
    for i in range(len(voxels)):
        row, x = divmod(voxels[i], frame[0])
        z, y = divmod(row, frame[1])
        owners[i] = x // block[0] + blocks[0] * (y // block[1] + blocks[1] * (z // block[2]))
