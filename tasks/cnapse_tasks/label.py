"""Probability to the components of each block; `relabel` labels again in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnapse.geometry import Block, Grid
from cnapse.synapses.components import Labels, block_components, label_box, threshold_mask
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost


def components(run: Run) -> Mapping[str, object]:
    """The map, what counts as a density, and how voxels touch."""
    section = run.config.label
    return {
        "probability": run.layer_identity("probability"),
        "threshold": None if section.binary else section.threshold,
        "binary": section.binary,
        "connectivity": section.connectivity,
        **run.frame_components("label"),
    }


def grid_of(run: Run) -> Grid:
    """Blocks that read one voxel more on their upper sides."""
    grid = run.grid("label")
    return Grid(grid.bounds, grid.block_shape, halo_upper=(1, 1, 1))


def indices(run: Run) -> Sequence[int]:
    """One task a block."""
    return range(len(grid_of(run)))


def cost(run: Run) -> Cost:
    """What is written is sparse, and small beside what is read."""
    read = sum(block.read.voxels for block in grid_of(run))
    return Cost(len(grid_of(run)), read, read, 0)


def prepare(run: Run) -> None:
    """Check that there is something to read."""
    run.layer("probability")


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Label one block and keep what its neighbours must know."""
    block = grid_of(run)[index]
    labelled = labels_of(run, block)
    if labelled is None:
        return {"labels": 0}
    labels, n = labelled
    record = block_components(labels, n, block, run.frame)
    run.data("label").put_arrays(f"{index:012d}.st", record.to_arrays())
    return {"labels": n, "voxels": block.write.voxels}


def labels_of(run: Run, block: Block) -> tuple[Labels, int] | None:
    """Labels over the read box, or None where no voxel of it counts."""
    counted = block.read.intersection(run.region)
    if counted.empty:
        return None
    section = run.config.label
    values = run.layer("probability").read(counted)
    mask = np.zeros(block.read.shape, np.bool_, order="F")
    mask[counted.slices(block.read)] = threshold_mask(
        values, section.threshold, binary=section.binary
    )
    if not mask.any():
        return None
    return label_box(mask, section.connectivity)
