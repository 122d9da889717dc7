"""Which labels of which blocks are one object: one task, over face-touching labels only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnapse.synapses.components import BlockComponents
from cnapse.synapses.stitching import stitch
from cnapse_tasks import label
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost


def components(run: Run) -> Mapping[str, object]:
    """The size limits: they judge whole objects."""
    section = run.config.label
    return {"min_voxels": section.min_voxels, "max_voxels": section.max_voxels}


def indices(run: Run) -> Sequence[int]:  # noqa: ARG001 - the same for every run
    """One task."""
    return range(1)


def cost(run: Run) -> Cost:  # noqa: ARG001 - depends on the objects
    """Only sparse records are read and written."""
    return Cost(1, 0, 0, 0)


def prepare(run: Run) -> None:
    """Nothing to create."""


def execute(run: Run, index: int) -> Mapping[str, object]:  # noqa: ARG001 - there is one task
    """Join labels over faces; each block gets the ids of its touching labels."""
    section = run.config.label
    grid = label.grid_of(run)
    result = stitch(grid, lambda i: load_components(run, i), section.min_voxels, section.max_voxels)
    store = run.data("stitch")
    for block in range(len(grid)):
        labels, ids = result.mapping(block)
        if len(labels):
            store.put_arrays(f"{block:012d}.st", {"labels": labels, "ids": ids})
    return {"touching": len(result.labels)}


def load_components(run: Run, index: int) -> BlockComponents | None:
    """What `label` kept of a block, or None if it had no label."""
    arrays = run.data("label").get_arrays(f"{index:012d}.st")
    return None if arrays is None else BlockComponents.from_arrays(arrays)
