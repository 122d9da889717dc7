"""Which labels are one object over the whole volume: one task, over labels that touch faces only.

Where there is one superblock, it joins its blocks; where `join` did so, it joins superblocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import RunStateError
from cnapse.geometry import Grid
from cnapse.synapses.joining import OpenGroups
from cnapse.synapses.stitching import BlockIds, stitch, stitch_groups
from cnapse_tasks import join, label
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost

Labels = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint64]

_NO_LABELS = (np.zeros(0, np.int64), np.zeros(0, np.uint64))


def components(run: Run) -> Mapping[str, object]:
    """The size limits: they judge whole objects."""
    return join.limits(run)._asdict()


def indices(run: Run) -> Sequence[int]:  # noqa: ARG001 - the same for every run
    """One task."""
    return range(1)


def cost(run: Run) -> Cost:  # noqa: ARG001 - depends on the objects
    """Only sparse records are read and written."""
    return Cost(1, 0, 0, 0)


def prepare(run: Run) -> None:
    """Nothing to create."""


def execute(run: Run, index: int) -> Mapping[str, object]:  # noqa: ARG001 - there is one task
    """Give the objects' ids to the touching labels of blocks, or to open groups of superblocks."""
    return _of_superblocks(run) if join.is_needed(run) else _of_blocks(run)


def _of_blocks(run: Run) -> Mapping[str, object]:
    grid, store = label.grid_of(run), run.data("stitch")
    result = stitch(grid, lambda i: join.load_components(run, i), *join.limits(run))
    for block in range(len(grid)):
        labels, ids = result.mapping(block)
        if len(labels):
            store.put_arrays(f"{block:012d}.st", {"labels": labels, "ids": ids})
    return {"touching": len(result.labels)}


def _of_superblocks(run: Run) -> Mapping[str, object]:
    store, groups = run.data("stitch"), 0
    found = stitch_groups(join.grid_of(run), lambda i: _open_groups(run, i), *join.limits(run))
    for superblock, ids in enumerate(found):
        groups += len(ids)
        store.put_arrays(f"open/{superblock:012d}.st", {"ids": ids})
    return {"open": groups}


def mapping_of(run: Run, index: int) -> tuple[Labels, Ids]:
    """The touching labels of a block, and the ids of their objects."""
    if not join.is_needed(run):
        arrays = run.data("stitch").get_arrays(f"{index:012d}.st")
        return (arrays["labels"], arrays["ids"]) if arrays else _NO_LABELS
    arrays = run.data("join").get_arrays(f"{index:012d}.st")
    if arrays is None:
        return _NO_LABELS
    superblock = _superblock_of(label.grid_of(run), join.grid_of(run), index)
    open_ids = _there(run, "stitch", superblock)["ids"]
    return BlockIds.from_arrays(arrays).resolved(open_ids)


def _superblock_of(blocks: Grid, superblocks: Grid, index: int) -> int:
    return int(superblocks.index_of(blocks[index].write.start))


def _open_groups(run: Run, index: int) -> OpenGroups:
    return OpenGroups.from_arrays(_there(run, "join", index))


def _there(run: Run, stage: str, superblock: int) -> dict[str, npt.NDArray[Any]]:
    """What a stage left of a superblock."""
    store, name = run.data(stage), f"open/{superblock:012d}.st"
    arrays = store.get_arrays(name)
    if arrays is None:
        raise RunStateError(
            f"{store.path}/{name} is not there: make it again with --from {stage} --redo"
        )
    return arrays
