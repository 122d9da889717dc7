"""Strata of candidates by doubt and size, and an order in which any beginning is a fair sample.

Candidates of like doubt and like size are a stratum; in each they are shuffled, and the strata take
turns. So the first n of each stratum are a simple random sample of it, wherever a reviewer stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Strata", "stratified", "turns"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Strata:
    """A grid of strata.

    Parameters
    ----------
    doubt_cuts, size_cuts : tuple of float
        Between the strata: ascending, each belongs to the stratum above it.
    """

    doubt_cuts: tuple[float, ...]
    size_cuts: tuple[float, ...]

    @classmethod
    def of(cls, doubt: Floats, size: Floats, parts: int = 3) -> Strata:
        """Strata cut at quantiles, so that each part of either holds about as many."""
        return cls(_quantiles(doubt, parts), _quantiles(size, parts))

    @property
    def shape(self) -> tuple[int, int]:
        """How many by doubt, and by size."""
        return len(self.doubt_cuts) + 1, len(self.size_cuts) + 1

    def __len__(self) -> int:
        by_doubt, by_size = self.shape
        return by_doubt * by_size

    def number(self, doubt: Floats, size: Floats) -> Indices:
        """The stratum of each candidate: size fastest; an unknown doubt counts as the highest."""
        by_doubt = np.searchsorted(self.doubt_cuts, doubt, side="right")
        by_size = np.searchsorted(self.size_cuts, size, side="right")
        found: Indices = (by_doubt * self.shape[1] + by_size).astype(np.int64)
        return found

    def describe(self, number: int) -> dict[str, Any]:
        """Limits of a stratum: from the first on, below the second; None is open."""
        by_doubt, by_size = divmod(number, self.shape[1])
        return {
            "doubt": _between(self.doubt_cuts, by_doubt),
            "size": _between(self.size_cuts, by_size),
        }


def stratified(number: Indices, seed: int) -> Indices:
    """Rows in an order any beginning of which is a sample: shuffled by stratum, strata in turns.

    Parameters
    ----------
    number : ndarray of int64, shape (n,)
        The stratum of each row.
    seed : int

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    shuffled = np.random.default_rng(seed).permutation(len(number)).astype(np.int64)
    return shuffled[np.lexsort((number[shuffled], turns(number[shuffled])))]


def turns(number: Indices) -> Indices:
    """Of each entry, how many of its stratum come before it."""
    order = np.argsort(number, kind="stable")
    in_order = number[order]
    first = np.searchsorted(in_order, in_order, side="left")
    found = np.empty(len(number), np.int64)
    found[order] = np.arange(len(number)) - first
    return found


def _quantiles(values: Floats, parts: int) -> tuple[float, ...]:
    known = values[np.isfinite(values)]
    if not len(known):
        return ()
    cuts = np.unique(np.quantile(known, np.arange(1, parts) / parts))
    # A cut at the least value has nothing below it.
    return tuple(float(cut) for cut in cuts if cut > known.min())


def _between(cuts: Sequence[float], place: int) -> list[float | None]:
    return [cuts[place - 1] if place else None, cuts[place] if place < len(cuts) else None]
