"""How doubtful a synapse is, from named parts, so that people look at the worst first.

Each part is a number from 0 (nothing to doubt) to 1; the doubt is ``1 - product(1 - part)``. It
orders review. It is no probability of being wrong: `cnapse evaluate` tells that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.tables import SynapseFlag

__all__ = ["PARTS", "DoubtLimits", "doubt", "doubt_parts", "with_doubt"]

Floats = npt.NDArray[np.float64]

_SHOWN = 0.05
_BORDER = 0.5
_UNASSIGNED = (
    SynapseFlag.NO_PRESYNAPTIC_CELL
    | SynapseFlag.NO_EMITTERS
    | SynapseFlag.NOTHING_HIT
    | SynapseFlag.TOO_LARGE
)


@dataclass(frozen=True, slots=True)
class DoubtLimits:
    """What sizes and probabilities are compared with: the limits at which objects are dropped.

    Parameters
    ----------
    min_voxels, max_voxels
        Of an object; None for no upper limit.
    threshold
        Probability from which on a voxel counts.
    cleft
        Objects cover both sides of the cleft, so that no cell has all of one.
    """

    min_voxels: int = 1
    max_voxels: int | None = None
    threshold: float = 0.5
    cleft: bool = False


def _unassigned(table: pd.DataFrame, _: DoubtLimits) -> Floats:
    return np.where(table["flags"].to_numpy(np.uint32) & _UNASSIGNED, 1.0, 0.0)


def _lost(table: pd.DataFrame, _: DoubtLimits) -> Floats:
    return table["lost"].to_numpy(np.float64)


def _near_cut(table: pd.DataFrame, _: DoubtLimits) -> Floats:
    return table["near_cut"].to_numpy(np.float64)


def _presynaptic(table: pd.DataFrame, limits: DoubtLimits) -> Floats:
    """0 where one cell has all of the object, 1 where it has no more than half."""
    if limits.cleft:
        return np.where(table["flags"].to_numpy(np.uint32) & SynapseFlag.UNDECIDED_SIDE, 1.0, 0.0)
    fraction: Floats = table["pre_fraction"].to_numpy(np.float64)
    return 2 * (1 - fraction)


def _size(table: pd.DataFrame, limits: DoubtLimits) -> Floats:
    """1 at either limit, a quarter at twice (half) of it."""
    voxels = table["voxels"].to_numpy(np.float64)
    near = limits.min_voxels / voxels
    if limits.max_voxels is not None:
        near = np.maximum(near, voxels / limits.max_voxels)
    squared: Floats = near**2
    return squared


def _probability(table: pd.DataFrame, limits: DoubtLimits) -> Floats:
    """1 where the mean is no higher than the threshold, 0 where it is 1."""
    mean = table["mean_probability"].to_numpy(np.float64)
    room = 1 - limits.threshold
    return (1 - mean) / room if room else np.zeros(len(mean))


def _border(table: pd.DataFrame, _: DoubtLimits) -> Floats:
    return np.where(table["flags"].to_numpy(np.uint32) & SynapseFlag.BORDER, _BORDER, 0.0)


def _methods(table: pd.DataFrame, _: DoubtLimits) -> Floats:
    return table["disagreement"].to_numpy(np.float64)


PARTS: dict[str, Callable[[pd.DataFrame, DoubtLimits], Floats]] = {
    "unassigned": _unassigned,
    "lost": _lost,
    "near_cut": _near_cut,
    "presynaptic": _presynaptic,
    "size": _size,
    "probability": _probability,
    "border": _border,
    "methods": _methods,
}
"""What there may be to doubt, by name."""


def doubt_parts(table: pd.DataFrame, limits: DoubtLimits | None = None) -> pd.DataFrame:
    """The parts of the doubt in each synapse.

    Parameters
    ----------
    table : DataFrame
        Rows of ``synapses``: flags, lost, near_cut, pre_fraction, voxels, mean_probability,
        disagreement.
    limits : DoubtLimits, optional

    Returns
    -------
    DataFrame
        One column of :data:`PARTS` each, 0 to 1. What is not known (no probability map, one method
        only) is no doubt.
    """
    limits = limits or DoubtLimits()
    parts = {
        name: np.clip(np.nan_to_num(part(table, limits)), 0, 1) for name, part in PARTS.items()
    }
    return pd.DataFrame(parts, index=table.index)


def doubt(parts: pd.DataFrame) -> Floats:
    """The doubt of each row of `doubt_parts`."""
    combined: Floats = 1 - np.prod(1 - parts.to_numpy(np.float64), axis=1)
    return combined


def with_doubt(table: pd.DataFrame, limits: DoubtLimits | None = None) -> pd.DataFrame:
    """The rows with the columns ``doubt`` and ``doubts``, which names the parts, largest first."""
    parts = doubt_parts(table, limits)
    columns: dict[str, Any] = {"doubt": doubt(parts), "doubts": _named(parts)}
    return table.assign(**columns)


def _named(parts: pd.DataFrame) -> list[str]:
    values = parts.to_numpy(np.float64)
    order = np.argsort(-values, axis=1, kind="stable")
    names = list(parts.columns)
    return [
        "|".join(f"{names[i]} {row[i]:.2f}" for i in best if row[i] >= _SHOWN)
        for row, best in zip(values.tolist(), order.tolist(), strict=True)
    ]
