"""What assignment says of a synapse, as a record and as rows of the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.geometry import Box
from cnapse.partners.arrivals import Arrivals
from cnapse.tables import PARTNERS, SYNAPSES, SynapseFlag

__all__ = ["ASSIGNED", "PARTNER_ROWS", "Assignment", "Site", "partner_rows", "synapse_rows"]

Array = npt.NDArray[Any]

_AXES = ("x", "y", "z")

PARTNER_ROWS = (
    "syn_id",
    "pre_id",
    "post_id",
    "size",
    "share",
    "share_error",
    "raw_share",
    "lost",
    "post_x",
    "post_y",
    "post_z",
    "n_partners",
    "flags",
)
"""Columns of a partner row that assignment fills."""

ASSIGNED = (
    "syn_id",
    "pre_id",
    "pre_fraction",
    "emitters",
    "lost",
    "trapped",
    "near_cut",
    "disagreement",
    "n_partners",
    "flags",
)
"""Columns of a synapse row that assignment fills."""


@dataclass(frozen=True, slots=True)
class Site:
    """One synapse, as far as assignment needs to know it.

    Parameters
    ----------
    syn_id, pre_id
        The synapse and its presynaptic cell; 0 for none.
    extent : Box
        Voxels that the synapse's bounding box covers.
    first_voxel
        Raster index of the synapse's first voxel in the full bounds: chooses its random numbers.
    """

    syn_id: int
    pre_id: int
    extent: Box
    first_voxel: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """Partners of one synapse.

    Parameters
    ----------
    pre_id
        Presynaptic cell; 0 for none.
    pre_fraction
        Its share of the object's voxels on cells, where assignment chose it; else nan.
    post_ids : ndarray of uint64, shape (n,)
        Partners, ascending.
    share : ndarray of float64, shape (n,)
        Share among the partners; adds up to 1.
    share_error : ndarray of float64, shape (n,)
        Standard error of `share` by sampling; 0 where it is exact.
    raw_share : ndarray of float64, shape (n,)
        Share of all the transmitter. Dropped cells and `lost` make up the rest.
    post_nm : ndarray of float64, shape (n, 3)
        Centre of the absorbing voxel nearest to the mean place of absorption, nm.
    emitters
        Number of emitter voxels.
    lost
        Share of the transmitter that reached no cell.
    trapped
        The part of it that lies in closed pockets; 0 where the method cannot tell.
    near_cut
        Chance that the published walks, repeated, would put some cell on the other side of the
        least share: 1 for a share right at it.
    disagreement
        Total variation between the shares of both methods; nan unless both ran.
    flags : SynapseFlag
    arrivals : Arrivals
        All the cells that were reached, before small ones are dropped.
    """

    pre_id: int
    pre_fraction: float
    post_ids: npt.NDArray[np.uint64]
    share: npt.NDArray[np.float64]
    share_error: npt.NDArray[np.float64]
    raw_share: npt.NDArray[np.float64]
    post_nm: npt.NDArray[np.float64]
    emitters: int
    lost: float
    trapped: float
    near_cut: float
    disagreement: float
    flags: SynapseFlag
    arrivals: Arrivals

    @classmethod
    def none(cls, pre_id: int, flags: SynapseFlag) -> Assignment:
        """No transmitter was released, so none is lost either."""
        nothing = Arrivals.none()
        shares = nothing.raw_share
        return cls(
            pre_id=pre_id,
            pre_fraction=math.nan,
            post_ids=nothing.post_ids,
            share=shares,
            share_error=shares,
            raw_share=shares,
            post_nm=np.empty((0, 3)),
            emitters=0,
            lost=0.0,
            trapped=0.0,
            near_cut=0.0,
            disagreement=math.nan,
            flags=flags,
            arrivals=nothing,
        )


def partner_rows(table: pd.DataFrame, found: Sequence[Assignment]) -> pd.DataFrame:
    """One row a partner: columns :data:`PARTNER_ROWS`, in the order of the table, then by post_id.

    Parameters
    ----------
    table : DataFrame
        Columns syn_id and size (nm3).
    found : sequence of Assignment
        One for each row.
    """
    counts = np.array([len(a.post_ids) for a in found], dtype=np.int64)
    places = _joined([a.post_nm for a in found], np.empty((0, 3)))
    share = _joined([a.share for a in found], np.empty(0))
    size = np.repeat(table["size"].to_numpy(np.float64), counts)
    columns: dict[str, Any] = {
        "syn_id": np.repeat(table["syn_id"].to_numpy(), counts),
        "pre_id": np.repeat(np.array([a.pre_id for a in found], np.uint64), counts),
        "post_id": _joined([a.post_ids for a in found], np.empty(0, np.uint64)),
        "size": share * size,
        "share": share,
        "share_error": _joined([a.share_error for a in found], np.empty(0)),
        "raw_share": _joined([a.raw_share for a in found], np.empty(0)),
        "lost": np.repeat([a.lost for a in found], counts),
        **{f"post_{axis}": places[:, i] for i, axis in enumerate(_AXES)},
        "n_partners": np.repeat(counts, counts),
        "flags": np.repeat([int(a.flags) for a in found], counts),
    }
    return _typed(columns, PARTNER_ROWS, PARTNERS.columns)


def synapse_rows(table: pd.DataFrame, found: Sequence[Assignment]) -> pd.DataFrame:
    """One row a synapse: columns :data:`ASSIGNED`."""
    columns: dict[str, Any] = {
        "syn_id": table["syn_id"].to_numpy(),
        "pre_id": np.array([a.pre_id for a in found], np.uint64),
        "pre_fraction": [a.pre_fraction for a in found],
        "emitters": [a.emitters for a in found],
        "lost": [a.lost for a in found],
        "trapped": [a.trapped for a in found],
        "near_cut": [a.near_cut for a in found],
        "disagreement": [a.disagreement for a in found],
        "n_partners": [len(a.post_ids) for a in found],
        "flags": [int(a.flags) for a in found],
    }
    return _typed(columns, ASSIGNED, SYNAPSES.columns)


def _typed(columns: dict[str, Any], names: Sequence[str], schema: Sequence[Any]) -> pd.DataFrame:
    """The columns in order, each of the dtype that the schema says."""
    dtypes = {column.name: column.dtype for column in schema}
    return pd.DataFrame({name: np.asarray(columns[name]).astype(dtypes[name]) for name in names})


def _joined(parts: Sequence[Array], empty: Array) -> Array:
    return np.concatenate(parts) if parts else empty
