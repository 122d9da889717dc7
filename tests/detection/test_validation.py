from types import SimpleNamespace

import numpy as np
import pytest

from cnapse.detection import validation
from cnapse.detection.datasets import AnnotatedVolume
from cnapse.detection.recording import panels
from cnapse.detection.validation import Criteria, ModelScore, compare, score


def cubes(shape=(60, 50, 3)):
    labels = np.zeros(shape, np.uint64)
    for number, (x, y) in enumerate([(5, 5), (30, 10), (40, 35)], start=1):
        labels[x : x + 8, y : y + 8] = number
    image = np.random.default_rng(0).integers(60, 90, shape, dtype=np.uint8)
    return AnnotatedVolume(image, labels)


def found_of(volume, missing=2):
    found = np.where(volume.labels > 0, 255, 0).astype(np.uint8)
    found[volume.labels == missing] = 0
    found[55, 45, 0] = 255  # dust
    found[10:18, 30:38] = 200  # a false one
    return found


def test_counts_of_voxels_and_objects(monkeypatch):
    volume = cubes()
    found = found_of(volume)
    monkeypatch.setattr(validation, "predict", lambda bundle, volumes, **_: [found, found])
    bundle = SimpleNamespace(resolution=(4.0, 4.0, 50.0))
    counted = score(bundle, [volume, volume], Criteria(min_voxels=5))
    objects = counted.objects
    assert (objects.true_positives, objects.false_positives, objects.false_negatives) == (4, 2, 2)
    assert counted.object_f1 == pytest.approx(4 / 6)
    n = 8 * 8 * 3
    voxels = counted.voxels
    assert (voxels.true_positives, voxels.false_positives, voxels.false_negatives) == (
        2 * 2 * n,
        2 * (n + 1),
        2 * n,
    )
    assert counted.total == counted.object_f1 + counted.voxel_f1
    assert ModelScore.from_dict(counted.to_dict()) == counted


def test_thresholds_sizes_and_overlaps_are_criteria():
    volume = cubes()
    found = found_of(volume)
    assert compare([found], [volume], Criteria(min_voxels=1)).objects.false_positives == 2
    high = compare([found], [volume], Criteria(threshold=0.9, min_voxels=5))
    assert high.objects.false_positives == 0
    wide = np.where(volume.labels > 0, 255, 0).astype(np.uint8)
    wide[4:20, 4:20] = 255
    assert compare([wide], [volume]).objects.true_positives == 3
    assert compare([wide], [volume], Criteria(min_iou=0.5)).objects.true_positives == 2


def test_a_gap_joins_what_is_predicted_and_what_is_drawn():
    volume = cubes()
    found = np.where(volume.labels > 0, 255, 0).astype(np.uint8)
    found[8:10, 5:13] = 0  # the first one in two
    two = compare([found], [volume], resolution=(4, 4, 50))
    assert two.objects.false_positives == 1
    joined = compare([found], [volume], Criteria(gap_nm=12), resolution=(4, 4, 50))
    assert (joined.objects.true_positives, joined.objects.false_positives) == (3, 0)
    # The first and the second are 18 px and less apart: one object, drawn and predicted.
    wide = compare([found], [volume], Criteria(gap_nm=72), resolution=(4, 4, 50))
    assert (wide.objects.true_positives, wide.objects.false_negatives) == (2, 0)


def test_cross_entropy_is_that_of_the_levels():
    volume = cubes()
    values = np.random.default_rng(1).integers(0, 256, volume.image.shape, dtype=np.uint8)
    p = np.clip(values / 255, 0.5 / 255, 254.5 / 255)
    expected = -np.log(np.where(volume.labels > 0, p, 1 - p)).mean()
    assert compare([values], [volume]).cross_entropy == pytest.approx(expected)


def test_what_is_ignored_does_not_count():
    volume = cubes()
    found = found_of(volume)
    ignore = np.zeros(volume.image.shape, bool)
    ignore[10:18, 30:38] = True  # the false one
    ignore[30:38, 10:18] = True  # the missed one
    ignore[55, 45, 0] = True
    masked = AnnotatedVolume(volume.image, volume.labels, ignore=ignore)
    counted = compare([found], [masked], Criteria(min_voxels=1))
    assert counted.object_f1 == counted.voxel_f1 == 1
    wild = np.where(ignore, 255 - found, found)
    assert compare([wild], [masked], Criteria(min_voxels=1)) == counted


def test_nothing_found_scores_0():
    volume = cubes((60, 50, 1))
    counted = compare([np.zeros(volume.image.shape, np.uint8)], [volume])
    assert counted.total == 0


def test_panels_show_image_truth_and_what_was_found():
    volume = cubes()
    picture = panels([volume, volume], [found_of(volume)] * 2)
    assert picture.shape == (2 * 50 + 4, 3 * 60 + 8, 3)
    assert picture.dtype == np.uint8
    plain, truth, found = picture[:50, :60], picture[:50, 64:124], picture[:50, 128:]
    np.testing.assert_array_equal(plain[..., 0], plain[..., 2])
    blue = truth[..., 2].astype(int) > truth[..., 0] + 50
    orange = found[..., 0].astype(int) > found[..., 2] + 50
    np.testing.assert_array_equal(blue, volume.labels[..., 0].T > 0)
    np.testing.assert_array_equal(orange, found_of(volume)[..., 0].T > 0)
