"""Which labels of the blocks of one superblock are one object; only runs of many blocks need it.

With few blocks `stitch` does all of it in one task. With more, each task here takes one superblock
of 16 x 16 x 16 blocks, and `stitch` only what goes on from one superblock into another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cnapse.geometry import Grid, triple
from cnapse.synapses.components import BlockComponents
from cnapse.synapses.joining import join
from cnapse.synapses.stitching import block_ids
from cnapse_tasks import label
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost

_BLOCKS_PER_AXIS = 16
# Up to here one task joins them all, in seconds.
_MOST_BLOCKS = _BLOCKS_PER_AXIS**3


class SizeLimits(NamedTuple):
    """Fewest and most voxels of an object."""

    min_voxels: int
    max_voxels: int | None


def components(run: Run) -> Mapping[str, object]:
    """The size limits: objects inside of one superblock are judged here."""
    return {**limits(run)._asdict(), "superblock": list(grid_of(run).block_shape)}


def limits(run: Run) -> SizeLimits:
    """How many voxels an object must and may have."""
    return SizeLimits(run.config.label.min_voxels, run.config.label.max_voxels)


def is_needed(run: Run) -> bool:
    """Whether there is more than one superblock."""
    return len(label.grid_of(run)) > _MOST_BLOCKS


def grid_of(run: Run) -> Grid:
    """The superblocks."""
    grid = label.grid_of(run)
    if not is_needed(run):
        return Grid(grid.bounds, grid.bounds.shape)
    return Grid(grid.bounds, triple([_BLOCKS_PER_AXIS * size for size in grid.block_shape]))


def indices(run: Run) -> Sequence[int]:
    """One task a superblock."""
    return range(len(grid_of(run)))


def cost(run: Run) -> Cost:
    """Only sparse records are read and written."""
    return Cost(len(grid_of(run)), 0, 0, 0)


def prepare(run: Run) -> None:
    """Nothing to create."""


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Join the labels of one superblock; what is open goes to `stitch`."""
    part = grid_of(run)[index].write
    joined = join(label.grid_of(run), part, lambda i: load_components(run, i))
    store = run.data("join")
    for block, ids in block_ids(joined, *limits(run)):
        store.put_arrays(f"{block:012d}.st", ids.to_arrays())
    store.put_arrays(f"open/{index:012d}.st", joined.open.to_arrays())
    return {"touching": len(joined.labels), "open": len(joined.open.voxels)}


def load_components(run: Run, index: int) -> BlockComponents | None:
    """What `label` kept of a block, or None if it had no label."""
    arrays = run.data("label").get_arrays(f"{index:012d}.st")
    return None if arrays is None else BlockComponents.from_arrays(arrays)
