"""One-to-one assignment of the greatest total worth, among few candidates of many objects.

The Hungarian method on a dense matrix needs the square of the number of objects. Here each group
of objects that candidates link is solved by itself: a lone candidate is simply taken, a small
group is a small dense matrix (`scipy.optimize.linear_sum_assignment`), and a large group, as where
synapses are so dense that chains of them run through the whole volume, is solved on the sparse
candidates (LAPJVsp: Jonker and Volgenant 1987, `scipy.sparse.csgraph`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

__all__ = ["best_pairs"]

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# A dense matrix of so many elements (8 MB) is no burden; above, most of it would be empty.
_DENSE = 1 << 20


def best_pairs(
    rows: npt.ArrayLike, columns: npt.ArrayLike, worth: npt.ArrayLike, *, dense: int = _DENSE
) -> Int64s:
    """Choose candidates so that no row and no column occurs twice and their worth is greatest.

    Parameters
    ----------
    rows, columns : array_like of int, shape (n,)
        The two objects of each candidate, numbered from 0; no pair occurs twice.
    worth : array_like of float, shape (n,)
        What a candidate adds to the total; positive.
    dense : int
        Groups of at most so many rows x columns are solved on a dense matrix.

    Returns
    -------
    ndarray of int64
        Indices of the chosen candidates, sorted.
    """
    p, t = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    value = np.asarray(worth, np.float64)
    if not len(p):
        return np.zeros(0, np.int64)
    n = int(p.max()) + 1
    size = n + int(t.max()) + 1
    links = coo_array((np.ones(len(p), np.int8), (p, n + t)), shape=(size, size))
    group = connected_components(links, directed=False)[1][p]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    counts = np.diff(starts, append=len(order))
    alone = order[starts[counts == 1]]
    chosen = [alone, *_of_groups(order, starts[counts > 1], counts[counts > 1], p, t, value, dense)]
    return np.sort(np.concatenate(chosen))


def _of_groups(
    order: Int64s, starts: Int64s, counts: Int64s, p: Int64s, t: Int64s, worth: Floats, dense: int
) -> Iterator[Int64s]:
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        members = order[start : start + count]
        rows, row = np.unique(p[members], return_inverse=True)
        columns, column = np.unique(t[members], return_inverse=True)
        solve = _by_matrix if len(rows) * len(columns) <= dense else _by_candidates
        yield members[solve(row, column, worth[members], len(rows), len(columns))]


def _by_matrix(row: Int64s, column: Int64s, worth: Floats, n: int, m: int) -> Int64s:
    # Pairs that are no candidates are worth nothing: an assignment to them means no match.
    value = np.zeros((n, m))
    which = np.full((n, m), -1)
    value[row, column], which[row, column] = worth, np.arange(len(worth))
    best: Int64s = which[linear_sum_assignment(value, maximize=True)]
    return best[best >= 0]


def _by_candidates(row: Int64s, column: Int64s, worth: Floats, n: int, m: int) -> Int64s:
    # A column of its own for each row, worth nothing, lets it stay unmatched. Costs are shifted to
    # be positive, because a sparse matrix holds no zeros; each row has one, so nothing changes.
    top = float(worth.max()) + 1.0
    cost = np.concatenate([top - worth, np.full(n, top)])
    i = np.concatenate([row, np.arange(n)])
    j = np.concatenate([column, m + np.arange(n)])
    matrix = csr_array((cost, (i, j)), shape=(n, m + n))
    matched_row, matched_column = min_weight_full_bipartite_matching(matrix)
    partner = np.empty(n, np.int64)
    partner[matched_row] = matched_column
    best: Int64s = np.flatnonzero(partner[row] == column)
    return best
