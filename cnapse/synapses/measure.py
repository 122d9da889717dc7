"""Size, place, probability and presynaptic cell of each object.

1. Per block, one scan over the write box cuts the objects into *runs*: voxels in a row along x with
   the same object and the same cell. Everything is summed in integers (:func:`measure_block`).
2. Sums of blocks add up exactly, in any order (:func:`combine`).
3. Centroids, fractions and flags are computed once, from whole objects (:func:`synapse_table`).

So a table does not depend on the blocks it came from, to the bit. What does not add up is the
object's *position* (:mod:`cnapse.synapses.position`): an object that lies in one block has it
already; one that is cut by blocks has it from its runs, which are kept for that; one of very many
runs is read again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.geometry import Box, triple
from cnapse.synapses.position import Ids, Int64s, Read, nearest_voxels, position_of
from cnapse.synapses.sums import LARGEST_STORED, Measures, combine, measure_block
from cnapse.tables import SynapseFlag

__all__ = [
    "MEASURED",
    "WEAK_PRESYNAPTIC",
    "Measures",
    "combine",
    "measure",
    "measure_block",
    "synapse_table",
]

WEAK_PRESYNAPTIC = 0.6
"""A presynaptic cell that covers a smaller share of an object than this is flagged as weak."""

MEASURED = (
    *("syn_id", "pre_id", "size", "x_pos", "y_pos", "z_pos", "pre_fraction", "voxels", "sections"),
    *("centroid_x", "centroid_y", "centroid_z"),
    *("start_x", "start_y", "start_z", "stop_x", "stop_y", "stop_z", "first_voxel"),
    *("mean_probability", "max_probability", "flags"),
)
"""Columns of the synapses table that measuring fills, in order."""


def synapse_table(
    measures: Measures, frame: Box, read: Read, *, weak_presynaptic: float = WEAK_PRESYNAPTIC
) -> pd.DataFrame:
    """The synapses table, as far as measuring fills it.

    The presynaptic cell is the one with most voxels under the whole object, background only if
    there is nothing else, ties to the smaller id.

    Parameters
    ----------
    measures
        Of whole objects.
    frame
        Full bounds of the layer: its voxel size, and the border that an object may touch.
    read
        Gives the synapse layer over a box, shape (x, y, z); called for objects cut by blocks of
        which some runs were not kept.
    weak_presynaptic
        A presynaptic cell with a smaller share of the covered voxels gets a flag.

    Returns
    -------
    DataFrame
        Columns :data:`MEASURED`, sorted by id. Positions in nm are centres of voxels.

    Raises
    ------
    RunStateError
        If an object that is cut by blocks is not in the layer.
    """
    h = np.asarray(frame.resolution)
    centroid = (measures.sums / measures.voxels[:, None] + 0.5) * h
    position = (_positions(measures, frame, read) + 0.5) * h
    pre_id, pre_voxels, covered = _presynaptic(measures)
    with np.errstate(invalid="ignore"):
        pre_fraction = pre_voxels / covered
        mean = measures.probability_sum / (LARGEST_STORED * measures.known)
    most = np.where(measures.known > 0, measures.probability_max / LARGEST_STORED, np.nan)
    border = (measures.start <= frame.start).any(axis=1) | (measures.stop >= frame.stop).any(axis=1)
    flags = (
        np.where(covered == 0, SynapseFlag.NO_PRESYNAPTIC_CELL, 0)
        | np.where(pre_fraction < weak_presynaptic, SynapseFlag.WEAK_PRESYNAPTIC, 0)
        | np.where(border, SynapseFlag.BORDER, 0)
    )
    section_of = np.searchsorted(measures.ids, measures.section_id)
    columns = {
        "syn_id": measures.ids,
        "pre_id": pre_id,
        "size": measures.voxels * frame.voxel_volume_nm3,
        **_by_axis("{}_pos", position),
        "pre_fraction": pre_fraction,
        "voxels": measures.voxels,
        "sections": np.bincount(section_of, minlength=len(measures)).astype(np.int32),
        **_by_axis("centroid_{}", centroid),
        **_by_axis("start_{}", measures.start),
        **_by_axis("stop_{}", measures.stop),
        "first_voxel": measures.first_voxel,
        "mean_probability": mean,
        "max_probability": most,
        "flags": flags.astype(np.uint32),
    }
    return pd.DataFrame({name: columns[name] for name in MEASURED})


def measure(
    synapses: npt.NDArray[Any],
    cells: npt.NDArray[Any],
    box: Box,
    probability: npt.NDArray[Any] | None = None,
    *,
    weak_presynaptic: float = WEAK_PRESYNAPTIC,
) -> pd.DataFrame:
    """The synapses table of whole arrays; as one block of the stages does it.

    Parameters
    ----------
    synapses, cells : ndarray of int, shape (x, y, z)
        Objects and cell labels, 0 for none.
    probability : ndarray of uint8 (255 p) or float in 0..1, shape (x, y, z), optional
    box : Box
        What the arrays cover, with their voxel size.
    weak_presynaptic
        As for :func:`synapse_table`.

    Returns
    -------
    DataFrame
        Columns :data:`MEASURED`.

    Raises
    ------
    FormatError
        If an array does not fill the box, or is of the wrong kind.
    """
    measures = measure_block(synapses, cells, probability, box, box)
    return synapse_table(
        measures, box, lambda part: synapses[part.slices(box)], weak_presynaptic=weak_presynaptic
    )


def _positions(measures: Measures, frame: Box, read: Read) -> Int64s:
    """Of objects in one block, which are known; of others from their runs, or by reading them."""
    position = measures.position.copy()
    cut = measures.parts > 1
    index = np.searchsorted(measures.ids, measures.run_of)
    rows = measures.run_rows.astype(np.int64)
    covered = np.zeros(len(measures), np.int64)
    np.add.at(covered, index, rows[:, 3])
    complete = cut & (covered == measures.voxels)
    chosen = complete[index]
    nearest = nearest_voxels(
        index[chosen], rows[chosen], measures.voxels, measures.sums, np.asarray(frame.resolution)
    )
    position[complete] = nearest[complete]
    for i in np.flatnonzero(cut & ~complete):
        start, stop = triple(measures.start[i].tolist()), triple(measures.stop[i].tolist())
        extent = Box(start, stop, frame.resolution)
        position[i] = position_of(
            int(measures.ids[i]), extent, int(measures.voxels[i]), measures.sums[i], read
        )
    return position


def _presynaptic(measures: Measures) -> tuple[Ids, Int64s, Int64s]:
    """Presynaptic cell of each object, the voxels it covers, and those that any cell covers."""
    on_cell = measures.cell_id > 0
    cell, voxels = measures.cell_id[on_cell], measures.cell_voxels[on_cell]
    index = np.searchsorted(measures.ids, measures.cell_of[on_cell])
    order = np.lexsort([cell, -voxels, index])
    winner = order[np.unique(index[order], return_index=True)[1]]
    pre_id = np.zeros(len(measures), np.uint64)
    pre_voxels = np.zeros(len(measures), np.int64)
    covered = np.zeros(len(measures), np.int64)
    pre_id[index[winner]] = cell[winner]
    pre_voxels[index[winner]] = voxels[winner]
    np.add.at(covered, index, voxels)
    return pre_id, pre_voxels, covered


def _by_axis(name: str, values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    return {name.format(axis): values[:, i] for i, axis in enumerate("xyz")}
