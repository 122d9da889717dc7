"""Partners of the synapses whose first voxel lies in a block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from cnapse.geometry import Box, triple
from cnapse.names import load_cells
from cnapse.partners.assign import Evidence, assign_many
from cnapse.partners.parameters import AssignParameters, parameters_of
from cnapse.store import canonical_json
from cnapse.tables import read_part
from cnapse_tasks.run import PART_BITS, Run
from cnapse_tasks.stages import Cost

# What is read at once, for synapses and cells of 8 bytes each: half a GB.
LARGEST_READ_VOXELS = 1 << 25


def components(run: Run) -> Mapping[str, object]:
    """The parameters of the assignment, and the cells."""
    return {
        "cells": run.layer_identity("cells"),
        "synapses": run.layer_identity("synapses"),
        "vesicles": run.layer_identity("vesicles"),
        "direction": run.layer_identity("direction"),
        "parameters": described(run),
        "block": list(run.grid("assign").block_shape),
    }


def parameters(run: Run) -> AssignParameters:
    """The preset with what the configuration changes."""
    section = run.config.assign
    only = load_cells(section.only) if section.only else None
    return parameters_of(section.preset, seed=run.config.seed, only=only, **section.overrides())


def covers_cleft(run: Run) -> bool:
    """Whether objects cover both sides of the cleft, so that assignment finds the presynaptic."""
    return run.config.assign.density == "cleft"


def described(run: Run) -> dict[str, object]:
    """All that partners depend on, as it stands in the tables' metadata."""
    how = parameters(run)
    values = {**asdict(how), "preset": run.config.assign.preset}
    rule = how.emitter_rule(run.config.resolution)
    values["reaches_vx"] = {"presynaptic": rule.pre_reach, "lower": rule.lower, "upper": rule.upper}
    if how.only is not None:
        listed = canonical_json(sorted(how.only))
        values["only"] = {"cells": len(how.only), "sha256": hashlib.sha256(listed).hexdigest()}
    return values


def indices(run: Run) -> Sequence[int]:
    """One task a block."""
    return range(len(run.grid("assign")))


def cost(run: Run) -> Cost:
    """At most everything once, if there are synapses everywhere."""
    voxels = run.frame.voxels
    return Cost(len(run.grid("assign")), voxels, 16 * voxels, 0)


def prepare(run: Run) -> None:
    """Refuse a step that jumps over membranes before any task is made."""
    parameters(run).check(run.config.resolution)


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Assign the synapses of one block."""
    table = _synapses_of(run, index)
    how = parameters(run)
    synapses, bounds = run.layer("synapses"), run.layer("cells").bounds
    found = [
        assign_many(
            synapses.read(box),
            run.read_cells(box),
            box,
            rows,
            how,
            bounds=bounds,
            evidence=Evidence(run.read_vesicles(box), run.read_direction(box)),
        )
        for rows, box in _batches(table, run.frame, bounds, how)
    ]
    if found:
        partners = pd.concat([rows for rows, _ in found], ignore_index=True)
        per_synapse = pd.concat([rows for _, rows in found], ignore_index=True)
        _write_parts(run, index, "partners", partners)
        _write_parts(run, index, "synapses", per_synapse)
    return {"synapses": len(table), "rows": sum(len(rows) for rows, _ in found)}


def _synapses_of(run: Run, index: int) -> pd.DataFrame:
    """The rows that `tabulate` listed for a block, in the order of their first voxels."""
    store = run.data("tabulate")
    folder = f"{index:012d}"
    parts = [read_part(store, f"{folder}/{name}") for name in store.names(folder)]
    if not parts:
        return pd.DataFrame({"first_voxel": []})
    return pd.concat(parts, ignore_index=True).sort_values("first_voxel", ignore_index=True)


def _batches(
    table: pd.DataFrame, frame: Box, bounds: Box, how: AssignParameters
) -> Iterator[tuple[pd.DataFrame, Box]]:
    """Rows in a row whose cutouts fit into one read, and the box to read."""
    first = 0
    hull: Box | None = None
    for i, needed in enumerate(_needed(table, frame, bounds, how)):
        joined = needed if hull is None else hull.hull(needed)
        if hull is not None and joined.voxels > LARGEST_READ_VOXELS:
            yield table[first:i], hull
            first, joined = i, needed
        hull = joined
    if hull is not None:
        yield table[first:], hull


def _needed(table: pd.DataFrame, frame: Box, bounds: Box, how: AssignParameters) -> Iterator[Box]:
    """What each synapse needs to be read; one voxel for one that is too large to be looked at."""
    if table.empty:
        return
    corners = table[[f"{end}_{axis}" for end in ("start", "stop") for axis in "xyz"]].to_numpy()
    for row in corners.tolist():
        extent = Box(triple(row[:3]), triple(row[3:]), frame.resolution)
        cutout = how.cutout(extent, bounds)
        if cutout.empty or how.too_large(cutout):
            yield Box.from_shape((1, 1, 1), frame.resolution, extent.start)
        else:
            yield extent.hull(cutout)


def _write_parts(run: Run, index: int, name: str, rows: pd.DataFrame) -> None:
    """Sort rows into the parts of the tables."""
    store = run.data("assign")
    part = (rows["syn_id"].to_numpy(np.uint64) - np.uint64(1)) >> np.uint64(PART_BITS)
    for number, group in rows.groupby(part, sort=True):
        arrays = {str(column): group[column].to_numpy() for column in group}
        store.put_arrays(f"{name}/{int(str(number)):012d}/{index:012d}.st", arrays)
