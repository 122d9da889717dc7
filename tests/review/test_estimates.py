"""Intervals hold what they promise; kappa and area against definitions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.review.estimates import (
    area_under_curve,
    clustered,
    cohens_kappa,
    post_stratified,
    wilson,
)

COUNTS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 500)), min_size=1, max_size=6
).map(lambda rows: [(k, k + m, k + m + rest) for k, m, rest in rows])


def test_wilson_is_where_the_score_test_is_at_its_limit() -> None:
    z = 1.959963984540054
    for k, n in [(0, 7), (3, 7), (7, 7), (95, 100)]:
        for end in wilson(k, n):
            if end not in (k / n,):
                assert abs(k / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n))
    assert wilson(0, 0) == (0, 1)


@given(COUNTS)
@settings(max_examples=40, deadline=None)
def test_post_stratified_is_the_weighted_mean(rows: list[tuple[int, int, int]]) -> None:
    hits, looked, population = (list(column) for column in zip(*rows, strict=True))
    found = post_stratified(hits, looked, population)
    seen = [(k, n, size) for k, n, size in rows if n]
    if not seen:
        assert math.isnan(found.value)
        return
    # Each one judged stands for as many as its stratum has of it.
    total = sum(size for _, _, size in seen)
    assert found.value == pytest.approx(sum(size / n * k for k, n, size in seen) / total)
    assert 0 <= found.low <= found.value <= found.high <= 1
    if all(n == size for _, n, size in seen):
        assert found.low == found.high


def covered(rng: np.random.Generator, true: list[float], n: int, size: int, times: int) -> float:
    population = np.full(len(true), size)
    right = np.round(np.array(true) * size).astype(int)
    hits = 0
    for _ in range(times):
        drawn = rng.hypergeometric(right, size - right, n)
        found = post_stratified(drawn.tolist(), [n] * len(true), population.tolist())
        hits += found.low <= right.sum() / population.sum() + 1e-12 <= found.high + 2e-12
    return hits / times


@pytest.mark.parametrize(
    ("true", "n", "size"),
    [
        ([0.9] * 9, 10, 1000),
        ([0.99] * 9, 10, 1000),
        ([0.2, 0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.999], 5, 1000),
        ([0.95] * 9, 30, 60),
    ],
)
def test_95_percent_are_about_95_percent(true: list[float], n: int, size: int) -> None:
    assert 0.92 < covered(np.random.default_rng(0), true, n, size, 800) <= 0.99


def test_boxes_that_differ_tell_less() -> None:
    alike = clustered([8, 8, 8, 8], [10, 10, 10, 10])
    differing = clustered([10, 10, 10, 2], [10, 10, 10, 10])
    assert alike.value == differing.value == 0.8
    assert (alike.low, alike.high) == wilson(32, 40)
    assert differing.high - differing.low > 1.5 * (alike.high - alike.low)
    assert clustered([5], [5]).low == wilson(5, 5)[0]
    assert math.isnan(clustered([0, 0], [0, 0]).value)
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(600):
        share = np.clip(0.8 + 0.15 * rng.standard_normal(8), 0, 1)
        sizes = rng.integers(5, 40, 8)
        found = clustered(rng.binomial(sizes, share).tolist(), sizes.tolist())
        hits += found.low <= 0.79 <= found.high
    assert hits / 600 > 0.92


def test_kappa_is_cohens() -> None:
    """The example of the textbooks: 45 and 15, 25 and 15."""
    pairs = [("y", "y")] * 45 + [("y", "n")] * 15 + [("n", "y")] * 25 + [("n", "n")] * 15
    first, second = zip(*pairs, strict=True)
    assert cohens_kappa(first, second) == pytest.approx(0.1304, abs=1e-4)
    assert cohens_kappa("abab", "abab") == 1
    assert cohens_kappa("ab", "ba") == -1
    assert math.isnan(cohens_kappa("aa", "aa"))
    assert math.isnan(cohens_kappa([], []))


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=25))
@settings(max_examples=40, deadline=None)
def test_area_is_the_chance_of_the_right_order(items: list[tuple[int, bool]]) -> None:
    score = np.array([s for s, _ in items], float)
    true = np.array([t for _, t in items], bool)
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(score[true], score[~true])]
    found = area_under_curve(score, true)
    assert found == pytest.approx(np.mean(pairs)) if pairs else math.isnan(found)
