"""The rows of a connectome in the tables of other projects: CAVE, neuPrint, Synaptor.

A row is one synapse and one postsynaptic cell, with the ids that it has in the table: cells of
several ids are not merged here. `cnapse annotate` and `cnapse connectome` read all of them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cnapse.analysis.exports.export import Export
from cnapse.analysis.exports.rows import csv_of, parquet_of

__all__ = ["write_cave", "write_neuprint", "write_synaptor"]

_NANOMETRE = (1.0, 1.0, 1.0)
# What neuPrint's data sets count places in.
_NEUPRINT_NM = (8.0, 8.0, 8.0)
_CENTRE = ("x_pos", "y_pos", "z_pos")
_POST = ("post_x", "post_y", "post_z")


def write_cave(export: Export, folder: Path) -> None:
    """``cave_synapses.parquet``: a row as caveclient's ``materialize.synapse_query`` gives it.

    ``id`` counts the rows from 1. The presynaptic and the central place are that of the synapse,
    the postsynaptic one is where the cell is hit.

    Raises
    ------
    TableError
        If the table has no ids or no places.
    """
    export.need("cave")
    unit = export.unit_nm or _NANOMETRE
    metadata = {"resolution_nm": " ".join(f"{value:g}" for value in unit)}
    parquet_of(_cave(export, unit), folder / "cave_synapses.parquet", metadata)


def write_neuprint(export: Export, folder: Path) -> None:
    """Neurons, connections and synapses as neuPrint has them.

    ``neuprint_neurons.csv`` (bodyId, instance, pre, post), ``neuprint_connections.csv``
    (bodyId_pre, bodyId_post, weight) as ``fetch_adjacencies`` gives them, and
    ``neuprint_synapses.parquet`` as ``fetch_synapse_connections`` does, with places in voxels of
    8 nm unless said otherwise. As there, ``pre`` counts synapses, ``post`` and ``weight``
    count postsynaptic sites.

    Raises
    ------
    TableError
        If the table has no ids.
    """
    export.need("neuprint")
    connectome = export.connectome
    csv_of(connectome.segment_batches(), folder / "neuprint_neurons.csv")
    csv_of(connectome.segment_edge_batches(), folder / "neuprint_connections.csv")
    parquet_of(
        _neuprint(export, export.unit_nm or _NEUPRINT_NM), folder / "neuprint_synapses.parquet"
    )


def write_synaptor(export: Export, folder: Path) -> None:
    """``synaptor_edges.csv``: Synaptor's final edge list (cleft, presynaptic and postsynaptic).

    Synaptor has one partner a cleft; here a cleft has a row for each of its partners.

    Raises
    ------
    TableError
        If the table has no ids or no places.
    """
    export.need("synaptor")
    csv_of(_synaptor(export, export.unit_nm or _NANOMETRE), folder / "synaptor_edges.csv")


def _cave(export: Export, unit: Sequence[float]) -> Iterator[pa.RecordBatch]:
    first = 1
    for batch in export.connectome.kept_batches():
        n = batch.num_rows
        pre, post = _lists(batch, _CENTRE, unit), _lists(batch, _POST, unit)
        yield pa.record_batch(
            {
                "id": pa.array(np.arange(first, first + n, dtype=np.uint64)),
                "valid": pa.array(np.ones(n, np.bool_)),
                "pre_pt_root_id": pc.fill_null(batch.column("pre_id"), 0),
                "post_pt_root_id": pc.fill_null(batch.column("post_id"), 0),
                "size": _numbers(batch, "size"),
                "pre_pt_position": pre,
                "post_pt_position": post,
                "ctr_pt_position": pre,
            }
        )
        first += n


def _neuprint(export: Export, unit: Sequence[float]) -> Iterator[pa.RecordBatch]:
    for batch in export.connectome.kept_batches():
        columns = {
            "bodyId_pre": pc.fill_null(batch.column("pre_id"), 0),
            "bodyId_post": pc.fill_null(batch.column("post_id"), 0),
        }
        for end, names in (("pre", _CENTRE), ("post", _POST)):
            points = _points(batch, names, unit)
            columns.update({f"{a}_{end}": pa.array(points[:, i]) for i, a in enumerate("xyz")})
        yield pa.record_batch(columns)


def _synaptor(export: Export, unit: Sequence[float]) -> Iterator[pa.RecordBatch]:
    for batch in export.connectome.kept_batches():
        columns = {
            "cleft_segid": pc.fill_null(batch.column("syn_id"), 0),
            "presyn_segid": pc.fill_null(batch.column("pre_id"), 0),
            "postsyn_segid": pc.fill_null(batch.column("post_id"), 0),
            "size": _numbers(batch, "size"),
        }
        for end, names in (("centroid", _CENTRE), ("presyn", _CENTRE), ("postsyn", _POST)):
            points = _points(batch, names, unit)
            columns.update({f"{end}_{a}": pa.array(points[:, i]) for i, a in enumerate("xyz")})
        yield pa.record_batch(columns)


def _points(batch: pa.RecordBatch, names: Sequence[str], unit: Sequence[float]) -> np.ndarray:
    """Places in units, shape (n, 3); NaN where there are none; postsynaptic ones may be missing."""
    there = names if names[0] in batch.schema.names else _CENTRE
    if there[0] not in batch.schema.names:
        return np.full((batch.num_rows, 3), np.nan)
    axes = [np.asarray(_numbers(batch, name).to_numpy(False)) for name in there]
    return np.stack(axes, axis=1) / np.asarray(unit, np.float64)


def _lists(batch: pa.RecordBatch, names: Sequence[str], unit: Sequence[float]) -> pa.Array:
    points = _points(batch, names, unit)
    offsets = pa.array(np.arange(0, 3 * len(points) + 1, 3, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(points.reshape(-1)))


def _numbers(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column of numbers; NaN where there is none."""
    if name not in batch.schema.names:
        return pa.array(np.full(batch.num_rows, np.nan))
    return pc.fill_null(batch.column(name), float("nan"))
