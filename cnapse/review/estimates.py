"""Proportions and how sure one can be of them: pure functions of counts.

- Wilson, E. B. (1927), J. Am. Stat. Assoc. 22, 209: the interval of one proportion.
- Korn, E. L. & Graubard, B. I. (1998), Survey Methodology 24, 193: intervals at the effective size
  of a sample that comes in strata or clusters; by them with Clopper's and Pearson's interval, here
  with Wilson's, which is less wide (Dean, N. & Pagano, M. 2015, J. Surv. Stat. Methodol. 3, 484).
- Cohen, J. (1960), Educ. Psychol. Meas. 20, 37: kappa.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = [
    "LEVEL",
    "Proportion",
    "area_under_curve",
    "clustered",
    "cohens_kappa",
    "post_stratified",
    "wilson",
]

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Proportion:
    """A proportion with the ends of its 95 % interval; NaN where nothing was looked at."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def unknown(cls) -> Proportion:
        """Of nothing: anything from 0 to 1."""
        return cls(math.nan, 0.0, 1.0, 0)


def wilson(hits: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Ends of Wilson's score interval of `hits` among `n`.

    Parameters
    ----------
    hits, n : float
        Not negative; need not be whole (effective sizes).
    level : float
        Probability that the interval is to have.
    """
    if n <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = min(1.0, hits / n)
    shrunk = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrunk
    half = z / shrunk * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and 1 the ends are p itself, up to rounding.
    return min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half))


def post_stratified(
    hits: Sequence[int], looked: Sequence[int], population: Sequence[int], level: float = LEVEL
) -> Proportion:
    """A proportion of a population, from a simple random sample of each stratum.

    Parameters
    ----------
    hits, looked, population : sequence of int
        Of each stratum: how many were right, looked at, and are there. Strata of which none was
        looked at are left out: the proportion is that of the others.
    level : float

    Returns
    -------
    Proportion
        The sum of the strata's proportions, weighted by their populations; Wilson's interval at
        the effective size, which counts what was looked at of a finite stratum. So it is a point
        where all was looked at.

    Notes
    -----
    A stratum of few, all of them right, would seem to have no variance: for it each proportion is
    drawn towards the whole's by one observation.
    """
    known = [
        (k, n, max(size, n)) for k, n, size in zip(hits, looked, population, strict=True) if n > 0
    ]
    if not known:
        return Proportion.unknown()
    total = sum(size for _, _, size in known)
    number = sum(n for _, n, _ in known)
    p = min(1.0, math.fsum(size / total * k / n for k, n, size in known))
    weights = [(size / total) ** 2 * (1 - n / size) / n for _, n, size in known]
    if not any(weights):
        return Proportion(p, p, p, number)
    drawn = [(k + p) / (n + 1) for k, n, _ in known]
    spread = p * (1 - p)
    if spread > 0:
        variance = sum(w * q * (1 - q) for w, q in zip(weights, drawn, strict=True))
        effective = spread / variance
    else:
        effective = 1 / sum(weights)
    low, high = wilson(p * effective, effective, level)
    return Proportion(p, low, high, number)


def clustered(hits: Sequence[int], sizes: Sequence[int], level: float = LEVEL) -> Proportion:
    """A proportion from whole clusters (boxes), which need not be alike.

    Parameters
    ----------
    hits, sizes : sequence of int
        Of each cluster.
    level : float

    Returns
    -------
    Proportion
        All hits among all; Wilson's interval at the effective size: the number divided by the
        design effect, from the ratio's variance between clusters, and by what so few clusters
        leave open of that. One cluster tells nothing of it: its members count as independent.
    """
    pairs = [(k, n) for k, n in zip(hits, sizes, strict=True) if n > 0]
    total = sum(n for _, n in pairs)
    if not total:
        return Proportion.unknown()
    p = sum(k for k, _ in pairs) / total
    effect = 1.0
    if len(pairs) > 1 and 0 < p < 1:
        between = sum((k - p * n) ** 2 for k, n in pairs) * len(pairs) / (len(pairs) - 1)
        effect = between / total / (p * (1 - p))
    if effect > 1:
        effect *= _student(level, len(pairs) - 1) ** 2
    effective = total / max(1.0, effect)
    low, high = wilson(p * effective, effective, level)
    return Proportion(p, low, high, total)


def _student(level: float, freedom: int) -> float:
    """How much wider Student's quantile is than the normal one."""
    from scipy.special import stdtrit

    upper = 0.5 + level / 2
    return float(stdtrit(freedom, upper)) / NormalDist().inv_cdf(upper)


def cohens_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Agreement of two judges beyond chance; NaN where chance alone would agree always.

    Parameters
    ----------
    first, second : sequence
        What each said of the same items.
    """
    n = len(first)
    if not n:
        return math.nan
    kinds = {*first, *second}
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    expected = sum(first.count(kind) * second.count(kind) for kind in kinds) / n**2
    return math.nan if expected == 1 else (observed - expected) / (1 - expected)


def area_under_curve(score: npt.NDArray[np.float64], true: npt.NDArray[np.bool_]) -> float:
    """Chance that a true one has the higher score than a false one; ties count half.

    NaN if there are not both. From ranks, as Mann and Whitney (1947) do.
    """
    n_true, n_false = int(true.sum()), int((~true).sum())
    if not n_true or not n_false:
        return math.nan
    ordered = np.sort(score)
    ranks = (
        np.searchsorted(ordered, score, side="left")
        + np.searchsorted(ordered, score, side="right")
        + 1
    ) / 2
    return float((ranks[true].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))
