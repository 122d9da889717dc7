"""Matches against brute force and plain loops; overlaps by blocks against the whole."""

from __future__ import annotations

import itertools
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.analysis.matching import (
    ObjectMatch,
    Overlaps,
    Score,
    match_by_distance,
    match_objects,
    match_overlaps,
    merge_overlaps,
    overlaps,
)
from cnapse.errors import ConfigError, FormatError, TableError

Array = npt.NDArray[Any]
SEEDS = st.integers(0, 2**32)


def labels(rng: np.random.Generator, shape: tuple[int, ...], n: int = 4) -> Array:
    known = rng.choice(np.array([1, 2, 5, 9, 2**40, 2**64 - 1], np.uint64), n, replace=False)
    return known[rng.integers(0, n, shape)] * (rng.random(shape) < 0.7)


def ious(predicted: Array, truth: Array) -> dict[tuple[int, int], float]:
    found = {}
    for a, b in itertools.product(set(predicted.flat) - {0}, set(truth.flat) - {0}):
        both = int(((predicted == a) & (truth == b)).sum())
        if both:
            found[int(a), int(b)] = both / int(((predicted == a) | (truth == b)).sum())
    return found


def best_total(worth: dict[tuple[int, int], float]) -> float:
    """The largest total over all one-to-one choices, by trying each."""
    if not worth:
        return 0.0
    (pair, value), *rest = worth.items()
    without = best_total(dict(rest))
    free = {k: v for k, v in rest if k[0] != pair[0] and k[1] != pair[1]}
    return max(without, value + best_total(free))


def assert_one_to_one(match: ObjectMatch) -> None:
    assert len(set(match.predicted.tolist())) == len(match.predicted)
    assert len(set(match.true.tolist())) == len(match.true)
    assert not set(match.predicted.tolist()) & set(match.unmatched_predicted.tolist())
    assert not set(match.true.tolist()) & set(match.unmatched_true.tolist())


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([0.02, 0.1, 0.2, 0.5]))
def test_the_total_overlap_is_the_largest_there_is(seed: int, min_iou: float) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = labels(rng, (5, 4, 3)), labels(rng, (5, 4, 3))
    match = match_objects(predicted, truth, min_iou)
    assert_one_to_one(match)
    worth = {k: v for k, v in ious(predicted, truth).items() if v >= min_iou}
    pairs = list(zip(match.predicted.tolist(), match.true.tolist(), strict=True))
    assert match.quality.tolist() == [worth[pair] for pair in pairs]
    assert match.quality.sum() == pytest.approx(best_total(worth), abs=1e-12)
    everything = [*match.predicted.tolist(), *match.unmatched_predicted.tolist()]
    assert sorted(everything) == sorted({int(v) for v in predicted.flat} - {0})
    everything = [*match.true.tolist(), *match.unmatched_true.tolist()]
    assert sorted(everything) == sorted({int(v) for v in truth.flat} - {0})


def test_groups_give_what_one_large_assignment_gives() -> None:
    rng = np.random.default_rng(7)
    predicted, truth = np.zeros((200, 40), np.uint32), np.zeros((200, 40), np.uint32)
    for i in range(1, 120):
        for array in (predicted, truth):
            x, y = rng.integers(0, 190), rng.integers(0, 30)
            array[x : x + rng.integers(2, 9), y : y + rng.integers(2, 9)] = i
    match = match_objects(predicted, truth, 0.1)
    graph = nx.Graph()
    for (a, b), iou in ious(predicted, truth).items():
        if iou >= 0.1:
            graph.add_edge(("p", a), ("t", b), weight=iou)
    expected = nx.max_weight_matching(graph)
    assert len(match.predicted) > 20
    assert match.quality.sum() == pytest.approx(sum(graph.edges[e]["weight"] for e in expected))


def test_greedy_would_be_wrong() -> None:
    """The best pair of all, 7 and 1, is given up for two good ones."""
    truth = np.repeat([1, 1, 2], [10, 6, 6])
    predicted = np.repeat([7, 8, 7], [10, 6, 6])
    assert max(ious(predicted, truth).items(), key=lambda i: i[1]) == ((7, 1), 10 / 22)
    match = match_objects(predicted, truth, 0.1)
    assert dict(zip(match.predicted.tolist(), match.true.tolist(), strict=True)) == {7: 2, 8: 1}
    assert match.quality.tolist() == [6 / 16, 6 / 16]


def test_one_good_pair_leaves_the_others_alone() -> None:
    """8 and 2 do not overlap: they stay unmatched rather than be paired with each other."""
    truth = np.repeat([1, 1, 2], [10, 2, 4])
    predicted = np.repeat([7, 8, 7], [10, 2, 4])
    match = match_objects(predicted, truth, 0.1)
    assert (match.predicted.tolist(), match.true.tolist()) == ([7], [1])
    assert (match.unmatched_predicted.tolist(), match.unmatched_true.tolist()) == ([8], [2])


def test_two_far_pairs_are_better_than_one_near_pair() -> None:
    match = match_by_distance([[0, 0, 0], [11, 0, 0]], [[10, 0, 0], [30, 0, 0]], 20)
    assert match.quality.tolist() == [10.0, 19.0]


def test_the_least_overlap_is_enough_and_below_it_is_not() -> None:
    predicted, truth = np.zeros(20, np.uint8), np.zeros(20, np.uint8)
    predicted[:10], truth[9:10] = 3, 4  # IoU 1 / 10
    assert match_objects(predicted, truth).predicted.tolist() == [3]
    predicted[10] = 3
    match = match_objects(predicted, truth)
    assert match.score == Score(0, 1, 1)
    assert match.unmatched_predicted.tolist() == [3]
    assert match.unmatched_true.tolist() == [4]


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_overlaps_of_blocks_add_up(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = labels(rng, (8, 5, 3)), labels(rng, (8, 5, 3))
    whole = overlaps(predicted, np.asfortranarray(truth))
    cuts = zip(np.array_split(predicted, n), np.array_split(truth, n), strict=True)
    merged = merge_overlaps([overlaps(np.asfortranarray(p), t) for p, t in cuts])
    for name in Overlaps.__slots__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(merged, name), err_msg=name)
    pairs = zip(whole.pair_predicted.tolist(), whole.pair_true.tolist(), strict=True)
    assert dict(zip(pairs, whole.iou.tolist(), strict=True)) == ious(predicted, truth)


def test_nothing_matches_nothing() -> None:
    none = np.zeros((3, 3, 3), np.uint64)
    match = match_objects(none, none)
    assert match.score == Score(0, 0, 0)
    assert np.isnan(match.score.f1)
    assert match.score.to_dict()["f1"] is None
    nothing = merge_overlaps([])
    assert match_overlaps(nothing).score == Score(0, 0, 0)
    assert not len(nothing.predicted_ids)
    assert not len(nothing.true_ids)
    assert match_objects(none, none + 1).score == Score(0, 0, 1)
    assert match_by_distance([], [[1, 2, 3]], 10).score == Score(0, 0, 1)


def test_scores() -> None:
    score = Score(6, 2, 4)
    assert (score.precision, score.recall, score.f1) == (0.75, 0.6, 12 / 18)
    assert Score(0, 0, 3).recall == 0
    assert np.isnan(Score(0, 0, 3).precision)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 5), st.integers(0, 5))
def test_distances_match_as_many_as_possible_then_as_near_as_possible(
    seed: int, n: int, m: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, (n, 3)) * 10.0, rng.integers(0, 5, (m, 3)) * 10.0
    match = match_by_distance(a, b, 20)
    assert_one_to_one(match)
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    options = [(0, 0.0)]
    for k in range(1, min(n, m) + 1):
        for rows in itertools.combinations(range(n), k):
            options += [
                (-k, distance[rows, columns].sum())
                for columns in itertools.permutations(range(m), k)
                if (distance[rows, columns] <= 20).all()
            ]
    count, total = min(options)
    assert len(match.predicted) == -count
    assert match.quality.sum() == pytest.approx(total)
    index = match.predicted.astype(int), match.true.astype(int)
    assert match.quality.tolist() == distance[index].tolist()


def test_distances_keep_the_ids_of_the_rows() -> None:
    match = match_by_distance(
        [[0, 0, 0], [100, 0, 0]], [[101, 0, 0], [0, 0, 0], [500, 0, 0]], 50, [30, 10], [7, 8, 5]
    )
    assert match.predicted.tolist() == [10, 30]
    assert match.true.tolist() == [7, 8]
    assert match.quality.tolist() == [1.0, 0.0]
    assert match.unmatched_true.tolist() == [5]


def test_what_cannot_be_matched_is_named() -> None:
    with pytest.raises(FormatError, match=r"shape \(2, 2\) and truth of shape \(2, 3\): bring"):
        match_objects(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(ConfigError, match="min_iou must be above 0 and at most 1, not 0"):
        match_objects(np.zeros(2, np.uint8), np.zeros(2, np.uint8), 0)
    with pytest.raises(ConfigError, match="must be positive, not 0 nm"):
        match_by_distance([[0, 0, 0]], [[0, 0, 0]], 0)
    with pytest.raises(TableError, match="2 true positions have 1 different ids"):
        match_by_distance([[0, 0, 0]], [[0, 0, 0]] * 2, 5, None, [4, 4])
