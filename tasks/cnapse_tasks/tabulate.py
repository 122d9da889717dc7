"""Measures to rows, one task a part of the ids; for each assign block a list of its synapses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cnapse.synapses.measure import Measures, combine, synapse_table
from cnapse.tables import SYNAPSES, empty_table, filled, parquet_bytes
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost

__all__ = ["part_name", "parts_of"]


def components(run: Run) -> Mapping[str, object]:
    """What is flagged, and the blocks for which lists are made."""
    return {
        "weak_presynaptic": run.config.measure.weak_presynaptic,
        "assign_block": list(run.grid("assign").block_shape),
    }


def parts_of(run: Run) -> list[int]:
    """The parts in which there are synapses; the first one in any case."""
    names = run.data("measure").names()
    return sorted({0} | {int(name.partition("/")[0]) for name in names})


def part_name(part: int) -> str:
    """File of a part of a table."""
    return f"part-{part:08d}.parquet"


def indices(run: Run) -> Sequence[int]:
    """One task a part."""
    return parts_of(run)


def cost(run: Run) -> Cost:
    """Only tables, and the objects that blocks cut."""
    return Cost(run.part_count(), 0, 0, 0)


def prepare(run: Run) -> None:
    """Nothing to create."""


def forget(run: Run) -> None:
    """Take away the tables that were made public."""
    run.output.delete_folder("measures")


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Make the rows of one part."""
    store = run.data("measure")
    folder = f"{index:012d}"
    measures = combine(
        Measures.from_arrays(arrays)
        for name in store.names(folder)
        if (arrays := store.get_arrays(f"{folder}/{name}")) is not None
    )
    measured = synapse_table(
        measures,
        run.frame,
        read=run.layer("synapses").read,
        weak_presynaptic=run.config.measure.weak_presynaptic,
    )
    table = filled(measured, SYNAPSES) if len(measured) else empty_table(SYNAPSES)
    run.output.put(f"measures/{part_name(index)}", parquet_bytes(table, SYNAPSES))
    _list_for_blocks(run, index, table)
    return {"rows": len(table)}


def _list_for_blocks(run: Run, part: int, table: pd.DataFrame) -> None:
    """For each assign block, the synapses whose first voxel lies in it."""
    if table.empty:
        return
    voxels = run.frame.from_raster_index(table["first_voxel"].to_numpy())
    store = run.data("tabulate")
    for block, rows in table.groupby(run.grid("assign").index_of(voxels), sort=True):
        store.put(f"{int(str(block)):012d}/{part_name(part)}", parquet_bytes(rows, SYNAPSES))
