"""Scores of detection: brute-force oracles, and the same for all blocks."""

from __future__ import annotations

from dataclasses import replace

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist

from cnapse.analysis.detection_clefts import cleft_distances
from cnapse.analysis.detection_counts import count
from cnapse.analysis.detection_evaluation import (
    Comparison,
    Side,
    evaluate_detection,
    ignored_voxels,
)
from cnapse.analysis.detection_inputs import as_volume, common_box, kind_of, stored_levels
from cnapse.analysis.detection_objects import Cut, block_grid, objects_of
from cnapse.analysis.detection_report import report, search_report, sweep_report
from cnapse.analysis.detection_scores import (
    MatchRule,
    average_precision,
    judged,
    precision_recall,
    size_bins,
)
from cnapse.analysis.detection_sweep import best, spread, sweep
from cnapse.errors import BoundsError, ConfigError, FormatError, ResolutionError
from cnapse.synapses.merging import joined

NM = (4.0, 5.0, 40.0)
SHAPE = (15, 12, 6)
BLOCKS = st.tuples(st.integers(4, 15), st.integers(4, 12), st.integers(2, 6))
RULES = [MatchRule("overlap", 0.1), MatchRule("distance", 60.0)]


def smooth(seed: int, shape=SHAPE) -> np.ndarray:
    """A map with blobs, as it is stored."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (2, 2, 0.7))
    noise = (noise - noise.min()) / np.ptp(noise)
    return np.asfortranarray(np.rint(255 * noise).astype(np.uint8))


def comparison(
    levels: np.ndarray, truth: np.ndarray, block=(64, 64, 64), hidden=None, **cut
) -> Comparison:
    """A map against a drawing."""
    volume, true = as_volume(levels, NM, "map"), as_volume(truth, NM, "truth")
    mask = None if hidden is None else as_volume(hidden, NM)
    return Comparison(
        Side(volume, "probability", Cut(**cut)),
        Side(true, "mask"),
        volume.bounds,
        volume,
        ignored_voxels(mask, (0, 0, 0), volume.bounds),
        block,
    )


def components(mask: np.ndarray, connectivity: int, least: int = 1) -> np.ndarray:
    padded = cc3d.connected_components(np.pad(mask, 1), connectivity=connectivity)
    found = padded[1:-1, 1:-1, 1:-1].astype(np.int64)
    sizes = np.bincount(found.ravel())
    found[sizes[found] < least] = 0
    return found


@given(
    st.integers(0, 10**6), BLOCKS,
    st.floats(0.45, 0.8), st.sampled_from([6, 18, 26]), st.integers(1, 12), st.booleans(),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_no_figure_depends_on_the_blocks(seed, block, threshold, connectivity, least, hide) -> None:
    levels, truth = smooth(seed), smooth(seed + 1) > 150
    truth |= smooth(seed) > 190
    hidden = (smooth(seed + 2) > 160) if hide else None
    whole = comparison(
        levels, truth, hidden=hidden,
        threshold=threshold, connectivity=connectivity, min_voxels=least, max_voxels=400,
    )  # fmt: skip
    parts = replace(whole, block=block)
    one, other = (evaluate_detection(c, RULES) for c in (whole, parts))
    assert one.to_dict() == other.to_dict()
    assert report(one) == report(other)


@given(st.integers(0, 10**6), st.floats(0.4, 0.8), st.sampled_from([6, 18, 26]), st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_counts_against_the_whole_volume(seed, threshold, connectivity, least) -> None:
    levels, truth = smooth(seed), (smooth(seed + 1) > 150) | (smooth(seed) > 190)
    compared = comparison(
        levels, truth, (8, 8, 3),
        threshold=threshold, connectivity=connectivity, min_voxels=least,
    )  # fmt: skip
    result = evaluate_detection(compared, RULES)
    p = components(levels / 255 >= threshold, connectivity, least)
    t = components(truth, 26)
    assert result.voxels.true_positives == np.sum((p > 0) & (t > 0))
    assert result.voxels.false_positives == np.sum((p > 0) & (t == 0))
    assert result.voxels.false_negatives == np.sum((p == 0) & (t > 0))
    ids = [np.unique(a[a > 0]) for a in (p, t)]
    iou = np.array(
        [
            [np.sum((p == a) & (t == b)) / np.sum((p == a) | (t == b)) for b in ids[1]]
            for a in ids[0]
        ]
    ).reshape(len(ids[0]), len(ids[1]))
    good = np.where(iou >= 0.1, iou, 0)
    chosen = good[linear_sum_assignment(good, maximize=True)]
    score = result.matched[0].score
    # Assignments of one total may differ in number only where IoUs tie, which they do not here.
    assert score.true_positives == np.sum(chosen > 0)
    assert score.false_positives == len(ids[0]) - score.true_positives
    assert score.false_negatives == len(ids[1]) - score.true_positives
    near = np.array(
        [
            [np.linalg.norm((np.argwhere(p == a).mean(0) - np.argwhere(t == b).mean(0)) * NM) <= 60
             for b in ids[1]]
            for a in ids[0]
        ]
    ).reshape(iou.shape)  # fmt: skip
    by_distance = near[linear_sum_assignment(near, maximize=True)].sum()
    assert result.matched[1].score.true_positives == by_distance


@given(st.integers(0, 10**6), st.integers(1, 254), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_average_precision_is_that_of_every_threshold(seed, threshold, coarse) -> None:
    levels = (smooth(seed) // coarse * coarse).astype(np.uint8)
    truth = smooth(seed + 1) > 170
    histogram = np.stack([np.bincount(levels[side], minlength=256) for side in (~truth, truth)])
    precision, recall = precision_recall(histogram)
    found = levels >= threshold
    if found.any():
        assert precision[threshold] == pytest.approx(np.mean(truth[found]))
    assert recall[threshold] == pytest.approx(np.mean(found[truth]))
    # By its definition: over the distinct values, falling.
    area, before = 0.0, 0.0
    for value in np.unique(levels)[::-1]:
        kept = levels >= value
        now = np.mean(kept[truth])
        area += np.mean(truth[kept]) * (now - before)
        before = now
    assert average_precision(histogram) == pytest.approx(area)


def test_average_precision_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    levels, truth = smooth(3), smooth(4) > 140
    result = evaluate_detection(comparison(levels, truth, (5, 5, 5)), RULES)
    expected = metrics.average_precision_score(truth.ravel(), levels.ravel())
    assert result.average_precision == pytest.approx(expected)


@given(st.integers(0, 10**6), BLOCKS, st.booleans())
@settings(max_examples=15, deadline=None)
def test_cleft_distances_are_those_of_distance_transforms(seed, block, hide) -> None:
    rng = np.random.default_rng(seed)
    p, t = (rng.random((2, *SHAPE)) > rng.uniform(0.7, 0.999)).astype(np.uint8)
    hidden = smooth(seed) > 150 if hide else np.zeros(SHAPE, bool)
    volumes = [as_volume(a, NM) for a in (p, t)]
    grid = block_grid(volumes[0].bounds, block)
    sources = [objects_of(volume, "mask", grid, Cut()) for volume in volumes]
    ignore = as_volume(hidden, NM).read if hide else None
    found = cleft_distances(*sources, ignore)
    for one, mine, other in ((found.to_truth, p, t), (found.to_prediction, t, p)):
        asked = (mine > 0) & ~hidden
        assert one.voxels == asked.sum()
        if not other.any() or not asked.any():
            assert np.isnan(one.mean)
            continue
        distance = ndimage.distance_transform_edt(other == 0, sampling=NM)[asked]
        assert one.mean == pytest.approx(distance.mean(), abs=1e-6)
        assert one.largest == pytest.approx(distance.max())
        assert one.false == (distance > 200).sum()
    assert found.cremi == pytest.approx(
        (found.to_truth.mean + found.to_prediction.mean) / 2, nan_ok=True
    )


def boxes(*places: tuple[int, int]) -> np.ndarray:
    """Objects 1, 2, ... along x, 4 x 4 x 4 voxels or longer."""
    labels = np.zeros((60, 4, 4), np.uint16)
    for number, (start, stop) in enumerate(places, 1):
        labels[start:stop] = number
    return labels


def labelled(predicted: np.ndarray, truth: np.ndarray, hidden=None, **rule):
    volumes = [as_volume(a, NM) for a in (predicted, truth)]
    grid = block_grid(volumes[0].bounds, (7, 3, 2))
    sources = [objects_of(volume, "labels", grid, Cut()) for volume in volumes]
    counts = count(*sources, ignore=None if hidden is None else as_volume(hidden, NM).read)
    return counts, judged(counts, MatchRule(**rule))


def test_what_is_mostly_ignored_does_not_count() -> None:
    truth = boxes((2, 6), (10, 14), (20, 24), (30, 34))
    # Finds the 1st (ignored) and the 2nd, which it reaches from under the mask; false at 40, 50.
    predicted = boxes((2, 6), (6, 13), (40, 44), (50, 54))
    hidden = np.zeros(truth.shape, bool)
    hidden[:10] = hidden[38:42] = hidden[22:24] = True
    hidden[43:45] = True
    counts, found = labelled(predicted, truth, hidden)
    assert found.match.predicted.tolist() == [2]
    assert found.match.true.tolist() == [2]
    assert found.match.unmatched_true.tolist() == [3, 4], "half under the mask still counts"
    assert found.match.unmatched_predicted.tolist() == [4], "3 voxels of 4 of the third are hidden"
    assert found.not_counted == (2, 1)
    assert counts.ignored == hidden.sum()


def test_what_matches_an_ignored_object_is_not_false() -> None:
    truth, predicted = boxes((10, 20)), boxes((16, 26))
    hidden = np.zeros(truth.shape, bool)
    hidden[:17] = True
    _, found = labelled(predicted, truth, hidden)
    assert found.not_counted == (1, 1)
    assert np.isnan(found.score.f1)


def test_objects_at_a_face_may_not_count() -> None:
    labels = np.zeros((20, 20, 20), np.uint16)
    labels[0:4, 5:9, 5:9], labels[8:12, 8:12, 8:12], labels[5:9, 5:9, 16:20] = 1, 2, 3
    _, found = labelled(labels, labels, skip_touching=True)
    assert found.match.true.tolist() == [2]
    assert found.not_counted == (2, 2)


def test_a_border_is_ignored_from_each_face() -> None:
    box = as_volume(np.zeros((10, 8, 6), np.uint8), NM).bounds
    hidden = ignored_voxels(None, (3, 0, 1), box)(box)
    assert hidden.sum() == 10 * 8 * 6 - 4 * 8 * 4
    assert not hidden[3:7, :, 1:5].any()
    with pytest.raises(BoundsError, match="leaves nothing"):
        ignored_voxels(None, (5, 0, 0), box)


def test_bins_of_size_go_by_own_size() -> None:
    truth = boxes((0, 2), (4, 8), (10, 20))
    predicted = boxes((0, 2), (14, 19), (30, 40))
    counts, found = labelled(predicted, truth)
    small, middle, large = size_bins(counts, found.match, [50, 100])
    assert (small.true, small.found, small.predicted, small.right) == (1, 1, 1, 1)
    assert (middle.true, middle.found, middle.predicted, middle.right) == (1, 0, 1, 1)
    assert (large.true, large.found, large.predicted, large.right) == (1, 1, 1, 0)
    assert sum(b.true for b in size_bins(counts, found.match)) == 3
    with pytest.raises(ConfigError, match="must be positive and rise, not 5, 5"):
        size_bins(counts, found.match, [5, 5])


@given(st.integers(0, 10**6), BLOCKS, st.floats(1, 60))
@settings(max_examples=15, deadline=None)
def test_gaps_join_objects_whatever_the_blocks(seed, block, gap_nm) -> None:
    mask = np.random.default_rng(seed).random(SHAPE) > 0.98
    volume = as_volume(mask.astype(np.uint8), NM)
    found = Side(volume, "mask", gap_nm=gap_nm).objects(block_grid(volume.bounds, block))
    ids = np.zeros(SHAPE, np.uint64)
    for part in found.grid:
        ids[part.write.slices(volume.bounds)] = found.read(part)
    # Voxels that touch are one object whatever the gap: link them at no distance.
    places = np.argwhere(mask)
    apart = pdist(places * np.asarray(NM))
    apart[pdist(places, "chebyshev") <= 1] = 0
    expected = fcluster(linkage(apart, "single"), gap_nm, "distance")
    pairs = np.unique(np.stack([ids[mask].astype(np.int64), expected]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    together = joined(np.asfortranarray(labels).astype(np.uint32), gap_nm, NM)
    assert len(np.unique(together[mask])) == len(np.unique(expected))


def test_a_gap_makes_two_pieces_one_in_the_score_and_the_sweep() -> None:
    truth = boxes((10, 30)).astype(np.uint8)
    levels = 255 * truth
    levels[20:23] = 0
    pieces = evaluate_detection(comparison(levels, truth, (9, 9, 9)), RULES).matched[0].score
    assert (pieces.true_positives, pieces.false_positives) == (1, 1)
    both = comparison(levels, truth, (9, 9, 9))
    both = replace(both, predicted=replace(both.predicted, gap_nm=4 * NM[0]))
    one = evaluate_detection(both, RULES).matched[0].score
    assert (one.true_positives, one.false_positives, one.false_negatives) == (1, 0, 0)
    trials = sweep(both, RULES[0], [0.5], min_voxels=[1, 10**4])
    assert trials[0].objects.score == one
    assert trials[1].objects.score.true_positives == 0


def test_whole_labels_of_other_sizes_are_dropped() -> None:
    labels = boxes((0, 3), (5, 20), (30, 36))
    volume = as_volume(labels, NM)
    for block in ((60, 4, 4), (7, 3, 2)):
        grid = block_grid(volume.bounds, block)
        source = objects_of(volume, "labels", grid, Cut(min_voxels=6 * 16, max_voxels=10 * 16))
        left = np.concatenate([source.read(b).ravel() for b in grid])
        assert np.unique(left, return_counts=True)[0].tolist() == [0, 3]
        assert (left == 3).sum() == 6 * 16


def test_the_largest_total_overlap_wins() -> None:
    """A greedy choice takes the first pair and leaves the others without."""
    _, found = labelled(boxes((0, 9), (9, 20)), boxes((0, 4), (4, 14)))
    assert list(zip(found.match.predicted, found.match.true, strict=True)) == [(1, 1), (2, 2)]


@given(st.integers(0, 10**6))
@settings(max_examples=3, deadline=None)
def test_a_sweep_is_one_evaluation_each(seed) -> None:
    levels, truth = smooth(seed), smooth(seed + 1) > 160
    compared = comparison(levels, truth, (9, 9, 4))
    trials = sweep(compared, RULES[0], [0.6], connectivities=[6, 26], min_voxels=[1, 8])
    assert len(trials) == 4
    for trial in trials:
        alone = replace(compared, predicted=replace(compared.predicted, cut=trial.cut))
        result = evaluate_detection(alone, RULES[:1])
        assert result.matched[0].to_dict() == trial.objects.to_dict()
        assert result.voxels == trial.voxels
    top = best(trials)
    known = [t.objects.score.f1 for t in trials if not np.isnan(t.objects.score.f1)]
    if known:
        assert top is not None
        assert top.objects.score.f1 == max(known)
        marked = [line for line in search_report(trials, "IoU 0.1").splitlines() if "  *" in line]
        assert len(marked) == 1
        assert marked[0].startswith(f"{top.cut.threshold:g}")
    assert sweep_report(trials[:1], "IoU 0.1").count("\n") == 2


def test_spread_has_both_ends() -> None:
    assert spread(0.1, 0.3, 0.1) == [0.1, 0.2, 0.3]
    assert len(spread()) == 19


def test_floats_count_as_they_would_be_stored() -> None:
    levels = smooth(1)
    read = stored_levels(as_volume((levels / 255).astype(np.float32), NM)).read
    box = as_volume(levels, NM).bounds
    np.testing.assert_array_equal(read(box), levels)
    for bad in (1.5, -0.1, np.nan):
        volume = as_volume(np.full((2, 2, 2), bad, np.float32), NM, "map.tif")
        with pytest.raises(FormatError, match=r"map.tif has values outside of 0 to 1"):
            stored_levels(volume).read(volume.bounds)


def test_what_values_mean() -> None:
    small, large, real = (
        as_volume(np.zeros((2, 2, 2), dtype), NM, "v") for dtype in ("u1", "u4", "f4")
    )
    assert kind_of(small, None, truth=False) == "probability"
    assert kind_of(small, None, truth=True) == "mask"
    assert kind_of(replace(small, segmentation=True), None, truth=True) == "labels"
    assert kind_of(large, None, truth=False) == kind_of(large, None, truth=True) == "labels"
    assert kind_of(real, None, truth=False) == "probability"
    with pytest.raises(ConfigError, match=r"v is float32: a truth has labels or a drawn mask"):
        kind_of(real, None, truth=True)
    with pytest.raises(ConfigError, match="v is float32: labels are whole numbers"):
        kind_of(real, "labels", truth=False)


def test_the_box_is_what_both_have() -> None:
    one, other = (as_volume(np.zeros(s, np.uint8), NM, "v") for s in ((9, 9, 9), (5, 12, 9)))
    assert common_box(one, other).shape == (5, 9, 9)
    assert common_box(one, other, (1, 1, 1), (3, 3, 3)).start == (1, 1, 1)
    with pytest.raises(BoundsError, match="neither tells where it begins"):
        common_box(replace(one, placed=False), replace(other, placed=False))
    with pytest.raises(BoundsError, match="reach out of what v and v share"):
        common_box(one, other, (0, 0, 0), (6, 6, 6))
    with pytest.raises(ResolutionError, match="bring one to the other first"):
        common_box(one, as_volume(np.zeros((2, 2, 2), np.uint8), (4, 4, 40)))


def test_nothing_to_compare_is_no_error() -> None:
    empty = np.zeros(SHAPE, np.uint8)
    result = evaluate_detection(comparison(empty, empty > 0), RULES)
    assert result.to_dict()["cremi_clefts"]["score_nm"] is None
    assert "0/0/0" in report(result)


def test_a_sweep_needs_a_probability() -> None:
    compared = comparison(smooth(1), smooth(2) > 150)
    labels = replace(compared, predicted=replace(compared.predicted, kind="labels"))
    with pytest.raises(ConfigError, match="map is no probability: there is no threshold to try"):
        sweep(labels, RULES[0], [0.5])
    with pytest.raises(ConfigError, match="connectivity must be 6, 18 or 26, not 8"):
        sweep(compared, RULES[0], [0.5], connectivities=[8])
