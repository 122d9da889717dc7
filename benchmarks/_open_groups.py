"""What `join` would leave of a cubic millimetre with 10^9 synapses, for the last step of `stitch`.

250,000 x 250,000 x 25,000 voxels of 4 x 4 x 40 nm in 24,025 superblocks of 8192 x 8192 x 1024
voxels. Objects of 80 x 80 x 7 voxels are cut by the faces of superblocks in 2.6 of 100 cases, which
makes 26 million cut objects, 52 million open groups. Written are twice as many: 100 million groups,
which are 50 million objects.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from _stitching import empty_run

from cnapse.geometry import Box, Grid, Triple
from cnapse.synapses.joining import OpenGroups
from cnapse_tasks import join
from cnapse_tasks.run import Run

Int64s = npt.NDArray[np.int64]

SHAPE: Triple = (250_000, 250_000, 25_000)
QUICK_SHAPE: Triple = (40_000, 40_000, 5_000)
GROUPS = 100_000_000
_RESOLUTION = (4.0, 4.0, 40.0)


def prepare(folder: Path, shape: Triple) -> Run:
    """A run whose probability map is an info without voxels."""
    return empty_run(folder, Box.from_shape(shape, _RESOLUTION))


def write_open_groups(folder: Path, shape: Triple) -> tuple[int, int]:
    """Write the record of each superblock; numbers of groups and of exits."""
    run = prepare(folder, shape)
    store, grid = run.data("join"), join.grid_of(run)
    per_face = round(GROUPS / 6 * 8192 * 8192 * 1024 / (SHAPE[0] * SHAPE[1] * SHAPE[2]))
    groups = exits = 0
    for block in grid:
        record = _record(grid, block.index, per_face)
        store.put_arrays(f"open/{block.index:012d}.st", record.to_arrays())
        groups += len(record.voxels)
        exits += len(record.exit_keys)
    return groups, exits


def _record(grid: Grid, index: int, count: int) -> OpenGroups:
    """Each face of a superblock is passed by so many objects."""
    write, last = grid[index].write, grid.bounds.stop
    steps = (1, grid.shape[0], grid.shape[0] * grid.shape[1])
    lower = [_keys(grid, index, a, count) for a in range(3) if write.start[a] > 0]
    upper = [_keys(grid, index + steps[a], a, count) for a in range(3) if write.stop[a] < last[a]]
    entries = np.concatenate([np.zeros(0, np.int64), *lower])
    exits = np.concatenate([np.zeros(0, np.int64), *upper])
    order = np.argsort(entries)
    total = len(entries) + len(exits)
    before = np.sort(np.random.default_rng(index).integers(0, grid.bounds.voxels, len(exits)))
    return OpenGroups(
        np.concatenate([entries, before]),
        np.full(total, 100, np.int64),
        entries[order],
        order,
        exits,
        np.arange(len(entries), total),
    )


def _keys(grid: Grid, index: int, axis: int, count: int) -> Int64s:
    """First voxels of labels on the lower face of a superblock across an axis, all different."""
    box = grid[index].write
    u, v = (a for a in range(3) if a != axis)
    rng = np.random.default_rng([index, axis])
    place = np.zeros((count, 3), np.int64)
    place[:, axis] = box.start[axis]
    area = (box.shape[u] - 1) * (box.shape[v] - 1)
    chosen = np.sort(rng.choice(area, min(count, area), replace=False, shuffle=False))
    place = place[: len(chosen)]
    # Not on the first rows, which other faces share.
    place[:, u] = box.start[u] + 1 + chosen % (box.shape[u] - 1)
    place[:, v] = box.start[v] + 1 + chosen // (box.shape[u] - 1)
    return grid.bounds.raster_index(place)
