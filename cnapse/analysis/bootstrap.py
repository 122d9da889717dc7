"""How far an F1 would wander had other synapses been looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["f1_interval"]


def f1_interval(
    right: npt.ArrayLike,
    false: npt.ArrayLike,
    missed: npt.ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of an F1 over synapses (Efron 1979).

    Parameters
    ----------
    right, false, missed : array_like of int, shape (n,)
        What each synapse adds to true positives, false positives and false negatives.
    level : float
        Probability that the interval is to have.
    resamples, seed : int
        How many times n synapses are drawn with replacement, and from which seed.

    Returns
    -------
    (low, high), or None if there is nothing to draw from or no F1 is defined

    Notes
    -----
    Synapses that add the same are alike, so the number of each kind in a resample is drawn from a
    multinomial: the same distribution as drawing synapse by synapse, at a cost that does not grow
    with their number.
    """
    columns = [np.asarray(values, np.int64) for values in (right, false, missed)]
    kinds, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    n = int(counts.sum())
    if n == 0:
        return None
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=resamples)
    tp, fp, fn = (drawn @ kinds).T
    whole = 2 * tp + fp + fn
    f1 = 2 * tp[whole > 0] / whole[whole > 0]
    if not len(f1):
        return None
    tail = 50 * (1 - level)
    low, high = np.percentile(f1, [tail, 100 - tail])
    return float(low), float(high)
