"""Label again, and write the objects' ids: cheaper than keeping the label volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnapse.checksums import crcs_as_text
from cnapse.errors import RunStateError
from cnapse.synapses.stitching import object_ids, relabel
from cnapse_tasks import join, label, stitch
from cnapse_tasks.intact import KEY as CHECKSUMS
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost


def components(run: Run) -> Mapping[str, object]:
    """How the layer is stored; all else lies in the stages before."""
    return run.storage_components("synapses")


def indices(run: Run) -> Sequence[int]:
    """One task a block."""
    return label.indices(run)


def cost(run: Run) -> Cost:
    """The probability is read again; ids of 8 bytes are written."""
    again = label.cost(run)
    return Cost(again.tasks, again.voxels, again.bytes_read, 8 * run.frame.voxels)


def prepare(run: Run) -> None:
    """Create the layer of synapses."""
    run.create_output("synapses")


def forget(run: Run) -> None:
    """Take away the layer: other parameters may give it other bounds."""
    run.output.delete_folder("synapses")


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Write the ids of one block."""
    block = label.grid_of(run)[index]
    labelled = label.labels_of(run, block)
    record = join.load_components(run, index)
    if labelled is None:
        ids = np.zeros(block.write.shape, np.uint64, order="F")
    else:
        labels, n = labelled
        if record is None or n != record.n:
            had = 0 if record is None else record.n
            raise RunStateError(
                f"block {index} has {n} labels now and had {had} in stage label: "
                "the probability layer changed; make it again with --from label --redo"
            )
        table = object_ids(record, stitch.mapping_of(run, index), *join.limits(run))
        ids = relabel(labels, table, block)
    checksums = run.writer("synapses").write(ids, block.write)
    return {"voxels": block.write.voxels, CHECKSUMS: crcs_as_text(checksums)}
