"""The CREMI score against its definition, tried out on every assignment there is."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from cnapse.analysis.cremi import cremi_score
from cnapse.analysis.matching import Score
from cnapse.analysis.synapse_set import SynapseSet
from cnapse.errors import ConfigError

PLACES = ["x_pos", "y_pos", "z_pos"]
POST = ["post_x", "post_y", "post_z"]


def side(table: pd.DataFrame) -> SynapseSet:
    return SynapseSet.from_tables("some", table)


def random_pairs(rng: np.random.Generator, n: int, cells: int, wide: float) -> pd.DataFrame:
    """A synapse for each pair."""
    columns = {
        "syn_id": np.arange(1, n + 1, dtype=np.uint64),
        "pre_id": rng.integers(1, cells + 1, n).astype(np.uint64),
        "post_id": rng.integers(1, cells + 1, n).astype(np.uint64),
    }
    places = {name: rng.random(n) * wide for name in (*PLACES, *POST)}
    return pd.DataFrame(columns | places)


def costs(predicted: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """Square, as the challenge fills it: 800 where nothing can match."""
    size = max(len(predicted), len(truth))
    cost = np.full((size, size), 800.0)
    for i, p in enumerate(predicted.to_dict("records")):
        for j, t in enumerate(truth.to_dict("records")):
            pre = np.sqrt(sum((p[name] - t[name]) ** 2 for name in PLACES))
            post = np.sqrt(sum((p[name] - t[name]) ** 2 for name in POST))
            same = p["pre_id"] == t["pre_id"] and p["post_id"] == t["post_id"]
            if same and pre <= 400 and post <= 400:
                cost[i, j] = (pre + post) / 2
    return cost


def expected(matches: int, predicted: pd.DataFrame, truth: pd.DataFrame) -> Score:
    return Score(matches, len(predicted) - matches, len(truth) - matches)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 5), st.integers(0, 5))
def test_the_cheapest_of_all_assignments(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = random_pairs(rng, n, 1, 600), random_pairs(rng, m, 1, 600)
    cost = costs(predicted, truth)
    rows = range(len(cost))
    best = min(
        itertools.permutations(rows), key=lambda columns: cost[list(rows), list(columns)].sum()
    )
    matches = sum(cost[i, j] <= 400 for i, j in zip(rows, best, strict=True))
    assert cremi_score(side(predicted), side(truth)) == expected(matches, predicted, truth)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60), st.integers(1, 3))
def test_as_the_hungarian_method_on_the_full_matrix(seed: int, n: int, m: int, cells: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = random_pairs(rng, n, cells, 900), random_pairs(rng, m, cells, 900)
    cost = costs(predicted, truth)
    matches = int((cost[linear_sum_assignment(cost)] <= 400).sum())
    assert cremi_score(side(predicted), side(truth)) == expected(matches, predicted, truth)


def pair(**changes: float) -> pd.DataFrame:
    values: dict[str, list[float]] = {"syn_id": [1], "pre_id": [7], "post_id": [8]}
    values |= {name: [0.0] for name in (*PLACES, *POST)}
    return pd.DataFrame(values | {name: [value] for name, value in changes.items()})


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({"x_pos": 400, "post_z": -400}, 1),
        ({"x_pos": 400.1}, 0),
        ({"post_y": 400.1}, 0),
        ({"pre_id": 9}, 0),
        ({"post_id": 9}, 0),
        ({"pre_id": 8, "post_id": 7}, 0),
    ],
)
def test_both_ends_must_be_right(changes: dict[str, float], right: int) -> None:
    assert cremi_score(side(pair(**changes)), side(pair())) == Score(right, 1 - right, 1 - right)


def test_cheap_matches_may_be_worth_more_than_many() -> None:
    """Two chains of three pairs: as the challenge has it, not as many as possible."""
    table = pd.concat([pair(syn_id=i, x_pos=x, post_x=x) for i, x in enumerate([0, 399, 798], 1)])
    other = pd.concat(
        [pair(syn_id=i, x_pos=x, post_x=x) for i, x in enumerate([399, 798, 1197], 1)]
    )
    assert cremi_score(side(table), side(other)) == Score(2, 1, 1)


def test_an_unknown_cell_matches_nothing_not_even_itself() -> None:
    table = pair(pre_id=0)
    assert cremi_score(side(table), side(table)) == Score(0, 1, 1)


def test_without_places_there_is_no_score() -> None:
    assert cremi_score(side(pair()), side(pair().drop(columns="post_x"))) is None
    assert cremi_score(side(pair().drop(columns="x_pos")), side(pair())) is None
    with pytest.raises(ConfigError, match="must be positive, not 0 nm"):
        cremi_score(side(pair()), side(pair()), 0)
