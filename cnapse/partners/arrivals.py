"""What a method of diffusion finds: which cells the transmitter reaches, how much, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Arrivals"]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Where the transmitter of one synapse went.

    Parameters
    ----------
    post_ids : ndarray of uint64, shape (n,)
        Cells that were reached, ascending.
    raw_share : ndarray of float64, shape (n,)
        Share of all the transmitter that each took up.
    lost : float
        Share that reached no cell; with `raw_share` it adds up to 1.
    voxels : ndarray of int64, shape (n, 3)
        Per cell, the absorbing voxel nearest to the mean place of absorption, in the cutout.
    particles : int
        How many were released; 0 for the exact solution, which has no sampling error.
    trapped : float
        The part of `lost` that lies in closed pockets, where the method can tell.
    """

    post_ids: npt.NDArray[np.uint64]
    raw_share: npt.NDArray[np.float64]
    lost: float
    voxels: npt.NDArray[np.int64]
    particles: int = 0
    trapped: float = 0.0

    def distance(self, other: Arrivals) -> float:
        """Total variation between where the transmitter went: half the sum of differences."""
        ids = np.union1d(self.post_ids, other.post_ids)
        shares = np.zeros((2, len(ids)))
        for row, arrivals in zip(shares, (self, other), strict=True):
            row[np.searchsorted(ids, arrivals.post_ids)] = arrivals.raw_share
        apart = np.abs(shares[0] - shares[1]).sum() + abs(self.lost - other.lost)
        return float(apart / 2)

    @classmethod
    def none(cls) -> Arrivals:
        """Nothing released, nothing reached."""
        empty: dict[str, Any] = {
            "post_ids": np.empty(0, np.uint64),
            "raw_share": np.empty(0, np.float64),
            "voxels": np.empty((0, 3), np.int64),
        }
        return cls(lost=0.0, **empty)
