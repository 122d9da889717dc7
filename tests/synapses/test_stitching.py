"""Blocks, stitched, are the whole: against cc3d on the whole volume, and scipy where it can."""

from __future__ import annotations

from collections.abc import Callable

import cc3d
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cnapse.errors import FormatError, RunStateError
from cnapse.geometry import Box, Grid
from cnapse.synapses.components import (
    BlockComponents,
    Connectivity,
    block_components,
    label_box,
)
from cnapse.synapses.joining import OpenGroups, blocks_in, join
from cnapse.synapses.stitching import (
    BlockIds,
    Stitching,
    block_ids,
    object_ids,
    relabel,
    stitch,
    stitch_groups,
)

RESOLUTION = (4.0, 4.0, 50.0)

Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint64]


def by_blocks(
    mask: Mask,
    grid: Grid,
    connectivity: Connectivity,
    min_voxels: int = 1,
    max_voxels: int | None = None,
    superblock: tuple[int, int, int] | None = None,
) -> Ids:
    """What the label, join, stitch and relabel stages do, empty read boxes left out.

    `superblock` counts blocks per axis; None is all of them.
    """

    def labelled(index: int) -> tuple[npt.NDArray[np.unsignedinteger], BlockComponents] | None:
        block = grid[index]
        part = mask[block.read.slices(grid.bounds)]
        if not part.any():
            return None
        labels, n = label_box(part, connectivity)
        components = block_components(labels, n, block, grid.bounds)
        return labels, BlockComponents.from_arrays(components.to_arrays())

    records = [labelled(i) for i in range(len(grid))]

    def load(index: int) -> BlockComponents | None:
        record = records[index]
        return record[1] if record else None

    if superblock is None:
        done = stitch(grid, load, min_voxels, max_voxels)
        mapping = Stitching.from_arrays(done.to_arrays()).mapping
    else:
        mapping = by_superblocks(grid, load, superblock, min_voxels, max_voxels)
    out = np.zeros(mask.shape, np.uint64)
    for block, record in zip(grid, records, strict=True):
        if record is not None:
            ids = object_ids(record[1], mapping(block.index), min_voxels, max_voxels)
            out[block.write.slices(grid.bounds)] = relabel(record[0], ids, block)
    return out


def by_superblocks(
    grid: Grid,
    load: Callable[[int], BlockComponents | None],
    superblock: tuple[int, int, int],
    min_voxels: int,
    max_voxels: int | None,
) -> Callable[[int], tuple[npt.NDArray[np.int64], Ids]]:
    """Touching labels and ids of a block, joined superblock by superblock, in any order."""
    size = tuple(n * b for n, b in zip(superblock, grid.block_shape, strict=True))
    coarse = Grid(grid.bounds, size)
    opened: dict[int, OpenGroups] = {}
    known: dict[int, tuple[int, BlockIds]] = {}
    for part in reversed(coarse):
        joined = join(grid, part.write, load)
        opened[part.index] = OpenGroups.from_arrays(joined.open.to_arrays())
        for index, ids in block_ids(joined, min_voxels, max_voxels):
            assert index not in known
            known[index] = part.index, BlockIds.from_arrays(ids.to_arrays())
    found = list(stitch_groups(coarse, opened.__getitem__, min_voxels, max_voxels))

    def mapping(index: int) -> tuple[npt.NDArray[np.int64], Ids]:
        if index not in known:
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        owner, ids = known[index]
        return ids.resolved(found[owner])

    return mapping


def whole(
    mask: Mask, connectivity: Connectivity, min_voxels: int = 1, max_voxels: int | None = None
) -> Ids:
    """The oracle: cc3d over the whole volume, numbered by a plain loop over its objects."""
    # Padded, because cc3d 4.1.1 fails for volumes that are one voxel thick.
    labels = np.asarray(cc3d.connected_components(np.pad(mask, 1), connectivity=connectivity))
    flat = labels[1:-1, 1:-1, 1:-1].ravel(order="F")
    out = np.zeros(flat.shape, np.uint64)
    for label in range(1, int(flat.max(initial=0)) + 1):
        voxels = np.flatnonzero(flat == label)
        if len(voxels) >= min_voxels and (max_voxels is None or len(voxels) <= max_voxels):
            out[voxels] = voxels[0] + 1
    return out.reshape(mask.shape, order="F")


@st.composite
def volumes(draw: st.DrawFn) -> tuple[Mask, Grid]:
    shape = draw(st.tuples(*[st.integers(1, 14)] * 3))
    start = draw(st.tuples(*[st.integers(-1000, 1000)] * 3))
    block = draw(st.tuples(*[st.integers(1, 16)] * 3))
    density = draw(st.sampled_from([0.02, 0.1, 0.2, 0.35, 0.6, 0.95]))
    mask = np.random.default_rng(draw(st.integers(0, 2**32))).random(shape) < density
    if draw(st.booleans()):
        mask = np.asfortranarray(mask)
    return mask, Grid(Box.from_shape(shape, RESOLUTION, start), block, halo_upper=(1, 1, 1))


@settings(max_examples=150, deadline=None)
@given(
    volumes(),
    st.sampled_from([6, 18, 26]),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(4, 40)),
)
def test_blocks_equal_the_whole_volume(
    volume: tuple[Mask, Grid],
    connectivity: Connectivity,
    min_voxels: int,
    max_voxels: int | None,
) -> None:
    mask, grid = volume
    expected = whole(mask, connectivity, min_voxels, max_voxels)
    np.testing.assert_array_equal(
        by_blocks(mask, grid, connectivity, min_voxels, max_voxels), expected
    )


@settings(max_examples=100, deadline=None)
@given(
    volumes(),
    st.sampled_from([6, 18, 26]),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(4, 40)),
    st.tuples(*[st.integers(1, 4)] * 3),
)
def test_superblocks_leave_no_trace(
    volume: tuple[Mask, Grid],
    connectivity: Connectivity,
    min_voxels: int,
    max_voxels: int | None,
    superblock: tuple[int, int, int],
) -> None:
    mask, grid = volume
    expected = whole(mask, connectivity, min_voxels, max_voxels)
    np.testing.assert_array_equal(
        by_blocks(mask, grid, connectivity, min_voxels, max_voxels, superblock), expected
    )


def test_only_what_goes_on_is_open() -> None:
    """Of four bars along x, one passes the border of the superblocks, and one comes up to it."""
    mask = np.zeros((16, 9, 3), bool)
    mask[0:16, 0, 1] = mask[0:7, 2, 1] = mask[8:11, 4, 1] = mask[12:16, 6, 1] = True
    bounds = Box.from_shape(mask.shape, RESOLUTION, (-3, 8, 1))
    grid = Grid(bounds, (2, 9, 3), halo_upper=(1, 1, 1))
    coarse = Grid(bounds, (8, 9, 3))

    def load(index: int) -> BlockComponents:
        labels, n = label_box(mask[grid[index].read.slices(bounds)], 6)
        return block_components(labels, n, grid[index], bounds)

    left, right = (join(grid, part.write, load) for part in coarse)
    assert blocks_in(grid, coarse[1].write) == right.blocks == [4, 5, 6, 7]
    first = 16 * 9
    # The third bar begins at the border: the superblock before it has it in its shell only.
    assert left.open.first_voxel.tolist() == [first, -1]
    assert left.open.voxels.tolist() == [8, 0]
    assert left.open.exit_keys.tolist() == [first + 8, first + 4 * 16 + 8]
    assert len(left.open.entry_keys) == 0
    assert right.open.entry_keys.tolist() == [first + 8, first + 4 * 16 + 8]
    assert right.open.voxels.tolist() == [8, 3]
    assert len(right.open.exit_keys) == 0
    assert sorted(left.closed_voxels) == [7]
    assert sorted(right.closed_voxels) == [4]


@pytest.mark.parametrize("lost", ["the record", "the voxel", "the entry"])
def test_superblocks_that_contradict_each_other_are_refused(lost: str) -> None:
    mask = np.ones((4, 2, 1), bool)
    changed = mask.copy()
    changed[2] = False
    grid = Grid(Box.from_shape(mask.shape, RESOLUTION, (7, 0, 0)), (1, 2, 1), halo_upper=(1, 1, 1))
    coarse = Grid(grid.bounds, (2, 2, 1))

    def load(index: int, now: Mask) -> BlockComponents | None:
        if lost == "the record" and index == 2:
            return None
        now = changed if lost == "the voxel" and index >= 2 else now
        labels, n = label_box(now[grid[index].read.slices(grid.bounds)], 6)
        return block_components(labels, n, grid[index], grid.bounds)

    where = "superblock 1" if lost == "the entry" else "block 2"

    def stitched() -> None:
        opened = [
            join(grid, coarse[0].write, lambda i: load(i, mask)).open,
            join(grid, coarse[1].write, lambda i: load(i, changed)).open,
        ]
        list(stitch_groups(coarse, opened.__getitem__))

    with pytest.raises(RunStateError, match=rf"voxel 9, 0, 0 .*before {where},.*label all blocks"):
        stitched()


@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (18, 2), (26, 3)])
@pytest.mark.parametrize("block", [(1, 1, 1), (4, 3, 2), (5, 7, 1), (100, 100, 100)])
def test_connectivity_means_what_scipy_means(
    connectivity: Connectivity, rank: int, block: tuple[int, int, int]
) -> None:
    mask = np.random.default_rng(3).random((13, 11, 9)) < 0.15
    grid = Grid(Box.from_shape(mask.shape, RESOLUTION, (-5, 7, 0)), block, halo_upper=(1, 1, 1))
    ours = by_blocks(mask, grid, connectivity)
    theirs, n = ndimage.label(mask, structure=ndimage.generate_binary_structure(3, rank))
    pairs = np.unique(np.stack([ours[mask], theirs[mask]]), axis=1)
    assert pairs.shape == (2, n)
    assert len(np.unique(pairs[0])) == n


def test_voxels_that_touch_across_a_corner_both_ways() -> None:
    """The anti-diagonal pair is seen by a block in which both voxels live in the shell only."""
    for flip in (False, True):
        mask = np.zeros((4, 4, 4), bool)
        mask[1, 2, 1] = mask[2, 1, 2] = True
        if flip:
            mask = mask[::-1]
        grid = Grid(Box.from_shape((4, 4, 4), RESOLUTION), (2, 2, 2), halo_upper=(1, 1, 1))
        out = by_blocks(mask, grid, 26)
        assert len(np.unique(out[mask])) == 1
        assert len(np.unique(by_blocks(mask, grid, 18)[mask])) == 2


def test_size_limits_count_for_whole_objects() -> None:
    """Ten voxels in five blocks pass a limit of ten, though no block holds more than two."""
    mask = np.zeros((10, 3, 3), bool)
    mask[:, 1, 1] = True
    mask[0, 1, 1] = True
    grid = Grid(Box.from_shape(mask.shape, RESOLUTION), (2, 3, 3), halo_upper=(1, 1, 1))
    first = 1 + 10 * (1 + 3 * 1)
    assert set(np.unique(by_blocks(mask, grid, 6, min_voxels=10))) == {0, first}
    assert not by_blocks(mask, grid, 6, min_voxels=11).any()
    assert not by_blocks(mask, grid, 6, max_voxels=9).any()
    assert by_blocks(mask, grid, 6, max_voxels=10).any()


def test_each_record_is_loaded_once_and_in_order() -> None:
    mask = np.ones((6, 6, 6), bool)
    grid = Grid(Box.from_shape(mask.shape, RESOLUTION), (2, 3, 2), halo_upper=(1, 1, 1))
    asked: list[int] = []

    def load(index: int) -> BlockComponents:
        asked.append(index)
        block = grid[index]
        labels, n = label_box(mask[block.read.slices(grid.bounds)], 6)
        return block_components(labels, n, block, grid.bounds)

    done = stitch(grid, load)
    assert asked == list(range(len(grid)))
    assert set(done.ids.tolist()) == {1}


@pytest.mark.parametrize("lost", ["the record", "a voxel"])
def test_records_that_contradict_each_other_are_refused(lost: str) -> None:
    mask = np.ones((4, 2, 1), bool)
    changed = mask.copy()
    changed[2, 1, 0] = False
    grid = Grid(Box.from_shape(mask.shape, RESOLUTION, (7, 0, 0)), (2, 2, 1), halo_upper=(1, 1, 1))

    def load(index: int) -> BlockComponents | None:
        if lost == "the record" and index == 1:
            return None
        block = grid[index]
        now = mask if index == 0 else changed
        labels, n = label_box(now[block.read.slices(grid.bounds)], 6)
        return block_components(labels, n, block, grid.bounds)

    with pytest.raises(RunStateError, match=r"voxel 9, [01], 0 .*before block 1.*label all blocks"):
        stitch(grid, load)


def test_an_empty_volume_has_no_objects() -> None:
    grid = Grid(Box.from_shape((4, 4, 4), RESOLUTION), (2, 2, 2), halo_upper=(1, 1, 1))
    done = stitch(grid, lambda _: None)
    assert len(done.labels) == 0
    assert len(done.mapping(7)[1]) == 0


def test_relabel_refuses_labels_of_another_box() -> None:
    grid = Grid(Box.from_shape((4, 4, 4), RESOLUTION), (2, 2, 2), halo_upper=(1, 1, 1))
    with pytest.raises(FormatError, match=r"shape \(2, 2, 2\) do not fill \[0:3 0:3 0:3\]"):
        relabel(np.zeros((2, 2, 2), np.uint32), np.zeros(1, np.uint64), grid[0])
