"""A run's partners as annotations: a line from each synapse to each cell that it reaches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.errors import TableError
from cnapse.geometry import Resolution
from cnapse.viewing.annotations import AnnotationSchema, AnnotationTable, Property
from cnapse.viewing.palette import POSTSYNAPTIC, rgb

__all__ = [
    "POSTSYNAPTIC_CELL",
    "PRESYNAPTIC_CELL",
    "SYNAPSE_OBJECT",
    "ids_fit",
    "partner_lines",
    "schema",
]

PRESYNAPTIC_CELL = "presynaptic cell"
POSTSYNAPTIC_CELL = "postsynaptic cell"
SYNAPSE_OBJECT = "synapse"

_FROM = ["x_pos", "y_pos", "z_pos"]
_TO = ["post_x", "post_y", "post_z"]
# An id is that of the synapse, and behind it which of its partners this is.
_RANK_BITS = 10
_LARGEST_SHIFTED = 1 << (64 - _RANK_BITS)
# Knuth's multiplicative hash: neighbouring ids get other colours.
_HASH = np.uint64(11400714819323198485)


def schema(resolution: Resolution) -> AnnotationSchema:
    """What the layer of lines holds.

    Parameters
    ----------
    resolution : (x, y, z)
        Voxel size in nm that positions are stored in.
    """
    return AnnotationSchema(
        "LINE",
        (
            Property("size", "float32", "share x volume of the synapse, nm3"),
            Property("share", "float32", "share among the partners of the synapse"),
            Property("doubt", "float32", "of the synapse, 0 to 1, to order review by"),
            Property("flags", "uint32", "flags of the synapse, a bit each"),
            Property("partners", "uint8", "postsynaptic cells of the synapse"),
            Property("colour", "rgb", "of the postsynaptic cell"),
        ),
        (PRESYNAPTIC_CELL, POSTSYNAPTIC_CELL, SYNAPSE_OBJECT),
        resolution,
    )


def partner_lines(
    synapses: pd.DataFrame, partners: pd.DataFrame, *, first_id: int | None = None
) -> AnnotationTable:
    """The rows of one part of both tables.

    Parameters
    ----------
    synapses, partners : DataFrame
        As :data:`cnapse.tables.SYNAPSES` and :data:`cnapse.tables.PARTNERS` describe them; every
        row of `partners` has its synapse.
    first_id : int, optional
        Ids count from here. By default they are made of those of the synapses, which must be below
        2^54: 1024 x synapse + the partner's place among the partners by id.

    Returns
    -------
    AnnotationTable
        Of :func:`schema`: from the synapse's position to where the cell is hit.

    Raises
    ------
    TableError
        If ids cannot be made of those of the synapses.
    """
    rows = partners.sort_values(["syn_id", "post_id"], ignore_index=True)
    of_synapse = rows["syn_id"].to_numpy(np.uint64)
    doubt = synapses.set_index("syn_id")["doubt"].reindex(of_synapse).to_numpy(np.float64)
    start, stop = rows[_FROM].to_numpy(np.float64), rows[_TO].to_numpy(np.float64)
    ends = np.where(np.isfinite(stop), stop, start)
    post = rows["post_id"].to_numpy(np.uint64)
    return AnnotationTable(
        _ids(of_synapse) if first_id is None else _counted(len(rows), first_id),
        np.stack([start, ends], axis=1),
        {
            "size": rows["size"].to_numpy(np.float32),
            "share": rows["share"].to_numpy(np.float32),
            "doubt": np.nan_to_num(doubt).astype(np.float32),
            "flags": rows["flags"].to_numpy(np.uint32),
            "partners": np.minimum(rows["n_partners"].to_numpy(np.int64), 255).astype(np.uint8),
            "colour": colours_of(post),
        },
        {
            PRESYNAPTIC_CELL: rows["pre_id"].to_numpy(np.uint64),
            POSTSYNAPTIC_CELL: post,
            SYNAPSE_OBJECT: of_synapse,
        },
    )


def ids_fit(synapses: npt.NDArray[np.uint64]) -> bool:
    """Whether lines can have ids made of those of their synapses.

    Parameters
    ----------
    synapses : ndarray of uint64, shape (n,)
        The synapse of each line, in any order.
    """
    values, counts = np.unique(synapses, return_counts=True)
    if not len(values):
        return True
    return int(values[-1]) < _LARGEST_SHIFTED and int(counts.max()) <= 1 << _RANK_BITS


def colours_of(cells: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """A colour for each cell, shape (n, 3): the same wherever it is a partner."""
    palette = np.array([rgb(colour) for colour in POSTSYNAPTIC], np.uint8)
    hashed = (cells * _HASH) >> np.uint64(32)
    chosen: npt.NDArray[np.uint8] = palette[(hashed % np.uint64(len(palette))).astype(np.intp)]
    return chosen


def _ids(synapses: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Ids of rows that are sorted by synapse."""
    if not len(synapses):
        return synapses
    begins = np.flatnonzero(np.r_[True, synapses[1:] != synapses[:-1]])
    lengths = np.diff(np.r_[begins, len(synapses)])
    ranks = np.arange(len(synapses)) - np.repeat(begins, lengths)
    if not ids_fit(synapses):
        raise TableError(
            f"lines cannot take their ids from synapses with ids up to {synapses.max()} and up to "
            f"{lengths.max()} partners (2^{64 - _RANK_BITS} and {1 << _RANK_BITS} are the limits): "
            "give first_id"
        )
    return (synapses << np.uint64(_RANK_BITS)) + ranks.astype(np.uint64)


def _counted(rows: int, first_id: int) -> npt.NDArray[np.uint64]:
    return np.uint64(first_id) + np.arange(rows, dtype=np.uint64)
