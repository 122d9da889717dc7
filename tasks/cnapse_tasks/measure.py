"""Integer sums and cell counts of each object, block by block, sorted into parts by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnapse.synapses.measure import measure_block
from cnapse_tasks.run import PART_BITS, Run
from cnapse_tasks.stages import Cost


def components(run: Run) -> Mapping[str, object]:
    """The layers that are measured."""
    return {
        "synapses": run.layer_identity("synapses"),
        "cells": run.layer_identity("cells"),
        "probability": run.layer_identity("probability"),
        **run.frame_components("measure"),
    }


def indices(run: Run) -> Sequence[int]:
    """One task a block."""
    return range(len(run.grid("measure")))


def cost(run: Run) -> Cost:
    """Synapses and cells of 8 bytes, probability of 1."""
    voxels = run.frame.voxels
    per_voxel = 17 if has_probability(run) else 16
    return Cost(len(run.grid("measure")), voxels, per_voxel * voxels, 0)


def prepare(run: Run) -> None:
    """Check that there is something to read."""
    run.layer("synapses")
    run.layer("cells")


def has_probability(run: Run) -> bool:
    """Whether there is a map: a hand-drawn binary one says nothing."""
    if run.config.label.binary:
        return False
    return run.first_layer != "synapses" or run.given("probability") is not None


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Measure the voxels of one block."""
    box = run.grid("measure")[index].write
    synapses = run.layer("synapses").read(box)
    if not synapses.any():
        return {"objects": 0}
    cells = run.read_cells(box)
    probability = run.layer("probability").read(box) if has_probability(run) else None
    measures = measure_block(synapses, cells, probability, box, run.frame)
    store = run.data("measure")
    for part in np.unique((measures.ids - np.uint64(1)) >> np.uint64(PART_BITS)).tolist():
        first = (part << PART_BITS) + 1
        own = measures.between(first, first + (1 << PART_BITS) - 1)
        store.put_arrays(f"{part:012d}/{index:012d}.st", own.to_arrays())
    return {"objects": len(measures), "voxels": box.voxels}
