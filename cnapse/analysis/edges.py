"""Connections from cell to cell, predicted against true, whatever synapses they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from cnapse.analysis.matching import Score, defined, ratio
from cnapse.analysis.synapse_set import SynapseSet

__all__ = [
    "LEAST_SYNAPSES",
    "Correlation",
    "EdgeScores",
    "EdgeThreshold",
    "Edges",
    "correlation_of",
    "edge_scores",
    "edges_of",
]

Ids = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

LEAST_SYNAPSES = (1, 2, 3, 5, 10)
# Sizes have no natural steps: those of the true edges give them.
_SIZE_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class Edges:
    """Directed edges between cells, sorted by cells, and their weights.

    Attributes
    ----------
    cells : ndarray of uint64, shape (n, 2)
        Presynaptic and postsynaptic cell.
    synapses : ndarray of float64, shape (n,)
        Number of synapses that make the edge; one counts once however often it has the cell.
    size : ndarray of float64, shape (n,), or None
        Sum of the sizes of its partner rows, nm3.
    """

    cells: Ids
    synapses: Floats
    size: Floats | None


@dataclass(frozen=True, slots=True)
class EdgeThreshold:
    """Two graphs, both without the edges below a weight.

    Attributes
    ----------
    least : float
        Least weight of an edge.
    score : Score
        Edges of the one graph against those of the other.
    real : int
        Predicted edges of at least this weight that are true at any weight.
    seen : int
        True edges of at least this weight that are predicted at any weight.
    """

    least: float
    score: Score
    real: int
    seen: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        s = self.score
        return {
            "least": self.least,
            **s.to_dict(),
            "precision_any": defined(ratio(self.real, s.true_positives + s.false_positives)),
            "recall_any": defined(ratio(self.seen, s.true_positives + s.false_negatives)),
        }


@dataclass(frozen=True, slots=True)
class Correlation:
    """Of the weights of all edges that either side has; a missing edge weighs 0."""

    pearson: float
    spearman: float
    edges: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "pearson": defined(self.pearson),
            "spearman": defined(self.spearman),
            "edges": self.edges,
        }


@dataclass(frozen=True, slots=True)
class EdgeScores:
    """Edges at several least weights; by size only where both sides know sizes."""

    by_synapses: tuple[EdgeThreshold, ...]
    by_size: tuple[EdgeThreshold, ...] | None
    synapses_correlation: Correlation
    size_correlation: Correlation | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        by_size, size = self.by_size, self.size_correlation
        return {
            "by_synapses": [threshold.to_dict() for threshold in self.by_synapses],
            "by_size_nm3": None if by_size is None else [t.to_dict() for t in by_size],
            "synapses_correlation": self.synapses_correlation.to_dict(),
            "size_correlation": None if size is None else size.to_dict(),
        }


def edges_of(synapses: SynapseSet) -> Edges:
    """Add up the partner rows between two cells; rows of unknown presynaptic cell are left out."""
    pre = synapses.pre[synapses.row]
    known = pre > 0
    pairs = np.stack([pre[known], synapses.post[known]], axis=1)
    cells, edge = np.unique(pairs, axis=0, return_inverse=True)
    edge = edge.reshape(-1)
    once = np.unique(np.stack([edge, synapses.row[known]], axis=1), axis=0)[:, 0]
    size: Floats | None = None
    if synapses.size is not None:
        size = np.bincount(edge, synapses.size[known], minlength=len(cells)).astype(np.float64)
    count = np.bincount(once, minlength=len(cells)).astype(np.float64)
    return Edges(cells, count, size)


def edge_scores(
    predicted: SynapseSet, truth: SynapseSet, *, least_synapses: Sequence[int] = LEAST_SYNAPSES
) -> EdgeScores:
    """Compare the graphs of cells of two sides.

    Parameters
    ----------
    predicted, truth
        With the cell ids of one segmentation.
    least_synapses
        Thresholds on the number of synapses. Those on the size are the least true size and the
        25th, 50th, 75th and 90th percentile of the true edges.
    """
    p, t = edges_of(predicted), edges_of(truth)
    cells, which = np.unique(np.concatenate([p.cells, t.cells]), axis=0, return_inverse=True)
    which = which.reshape(-1)

    def weights(ours: Floats, theirs: Floats) -> tuple[Floats, Floats]:
        both = np.zeros((2, len(cells)))
        both[0, which[: len(ours)]] = ours
        both[1, which[len(ours) :]] = theirs
        return both[0], both[1]

    counts = weights(p.synapses, t.synapses)
    there = (counts[0] > 0, counts[1] > 0)
    by_size, correlation = None, None
    if p.size is not None and t.size is not None:
        sizes = weights(p.size, t.size)
        steps = np.quantile(t.size, _SIZE_QUANTILES).tolist() if len(t.size) else []
        by_size = tuple(_at(float(least), sizes, there) for least in steps)
        correlation = correlation_of(*sizes)
    return EdgeScores(
        by_synapses=tuple(_at(least, counts, there) for least in least_synapses),
        by_size=by_size,
        synapses_correlation=correlation_of(*counts),
        size_correlation=correlation,
    )


def _at(
    least: float,
    weights: tuple[Floats, Floats],
    there: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
) -> EdgeThreshold:
    p, t = (side & (weight >= least) for side, weight in zip(there, weights, strict=True))
    return EdgeThreshold(
        least=least,
        score=Score(int((p & t).sum()), int((p & ~t).sum()), int((t & ~p).sum())),
        real=int((p & there[1]).sum()),
        seen=int((t & there[0]).sum()),
    )


def correlation_of(a: Floats, b: Floats) -> Correlation:
    """Of the weights of the same edges on both sides; NaN where it is not defined."""
    n = len(a)
    # Constant weights have no correlation, and scipy warns of them.
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(float("nan"), float("nan"), n)
    pearson, spearman = stats.pearsonr(a, b).statistic, stats.spearmanr(a, b).statistic
    return Correlation(float(pearson), float(spearman), n)
