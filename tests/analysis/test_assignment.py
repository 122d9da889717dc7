"""Assignment group by group against the Hungarian method on the whole dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from cnapse.analysis.assignment import best_pairs
from cnapse.analysis.matching import match_by_distance

SEEDS = st.integers(0, 2**32)


def dense_best(rows: np.ndarray, columns: np.ndarray, worth: np.ndarray, n: int, m: int) -> float:
    """The greatest total; pairs that are no candidates are worth nothing."""
    value = np.zeros((n, m))
    value[rows, columns] = worth
    return float(value[linear_sum_assignment(value, maximize=True)].sum())


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(1, 30), st.floats(0.01, 0.6), st.booleans())
def test_groups_give_what_the_dense_matrix_gives(
    seed: int, n: int, m: int, density: float, sparse: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.random((n, m)) < density)
    shuffled = rng.permutation(len(rows))
    rows, columns = rows[shuffled], columns[shuffled]
    worth = rng.random(len(rows)) + rng.choice([1e-9, 1.0, n + m])
    chosen = best_pairs(rows, columns, worth, **({"dense": 0} if sparse else {}))
    assert (np.diff(chosen) > 0).all()
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    assert worth[chosen].sum() == pytest.approx(dense_best(rows, columns, worth, n, m))


@pytest.mark.parametrize("dense", [0, 1 << 20])
def test_a_lone_good_pair_is_left_for_two(dense: int) -> None:
    chosen = best_pairs([0, 0, 1], [0, 1, 0], [10.0, 6.0, 6.0], dense=dense)
    assert chosen.tolist() == [1, 2]
    chosen = best_pairs([0, 0, 1], [0, 1, 0], [13.0, 6.0, 6.0], dense=dense)
    assert chosen.tolist() == [0]


def test_no_candidates_no_pairs() -> None:
    assert best_pairs([], [], []).tolist() == []


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from([40.0, 90.0, 200.0]))
def test_distances_in_a_crowd_match_as_the_dense_matrix_does(seed: int, max_nm: float) -> None:
    """From lone pairs to one group of nearly all of 100 x 90 synapses."""
    rng = np.random.default_rng(seed)
    a, b = rng.random((100, 3)) * 500, rng.random((90, 3)) * 500
    match = match_by_distance(a, b, max_nm)
    distance = cdist(a, b)
    value = np.where(distance <= max_nm, 1 + len(b) - distance / max_nm, 0)
    best = linear_sum_assignment(value, maximize=True)
    real = distance[best] <= max_nm
    assert len(match.predicted) == real.sum()
    assert match.quality.sum() == pytest.approx(distance[best][real].sum())
