"""Connections as shapes that are wide where they begin and narrow where they end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["bezier", "tapered", "widths_of"]

Points = npt.NDArray[np.float64]

_STEPS = 28


def bezier(controls: npt.ArrayLike) -> Points:
    """Points on a Bezier curve.

    Parameters
    ----------
    controls : array of float, shape (3 or 4, 2)

    Returns
    -------
    ndarray of float64, shape (m, 2)
    """
    # De Casteljau, for all t at once.
    points = np.asarray(controls, dtype=np.float64)[None]
    t = np.linspace(0, 1, _STEPS)[:, None, None]
    while points.shape[1] > 1:
        points = points[:, :-1] * (1 - t) + points[:, 1:] * t
    return points[:, 0]


def tapered(curve: Points, width: float, tip: float = 0.25) -> Points:
    """The outline of a band along a curve, from `width` to ``tip * width``.

    Parameters
    ----------
    curve : ndarray of float64, shape (m, 2)
    width : float
        In the units of the curve.
    tip : float

    Returns
    -------
    ndarray of float64, shape (2 m, 2)
    """
    along = np.gradient(curve, axis=0)
    length = np.hypot(along[:, 0], along[:, 1])[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.where(length > 0, length, 1.0)
    half = (0.5 * width * np.linspace(1.0, tip, len(curve)))[:, None]
    return np.concatenate([curve + across * half, (curve - across * half)[::-1]])


def widths_of(weights: npt.ArrayLike, least: float, largest: float) -> npt.NDArray[np.float64]:
    """Widths that grow with the root of the weight, the largest weight as `largest`."""
    values = np.asarray(weights, dtype=np.float64)
    top = values.max(initial=0.0)
    if top <= 0:
        return np.full(values.shape, least)
    return np.asarray(np.maximum(least, largest * np.sqrt(values / top)), dtype=np.float64)
