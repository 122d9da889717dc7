"""The curve and the gallery of `cnapse evaluate detection`."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cnapse.analysis.detection_curve import draw_curve
from cnapse.analysis.detection_evaluation import Comparison, Side, evaluate_detection
from cnapse.analysis.detection_gallery import PREDICTED, TRUE, draw_errors, error_tiles
from cnapse.analysis.detection_inputs import as_volume
from cnapse.analysis.detection_scores import MatchRule
from cnapse.analysis.detection_sweep import sweep
from cnapse.viewing.palette import rgb

NM = (4.0, 4.0, 40.0)


@pytest.fixture(scope="module")
def compared() -> Comparison:
    truth = np.zeros((80, 60, 6), np.uint8)
    truth[10:20, 10:20, 2:4] = truth[60:70, 40:50, 1:5] = 1
    levels = np.zeros(truth.shape, np.float32)
    levels[10:20, 10:20, 2:4] = 1
    levels[40:60, 5:15, 3] = 0.9
    levels[38:42, 50:54, 0] = 0.9
    stored = np.rint(255 * ndimage.gaussian_filter(levels, (0.5, 0.5, 0))).astype(np.uint8)
    volume = as_volume(stored, NM, "map")
    truth_side = Side(as_volume(truth, NM, "truth"), "mask")
    return Comparison(
        Side(volume, "probability"), truth_side, volume.bounds, volume, None, (32, 32, 3)
    )


def has(picture: np.ndarray, colour: str) -> bool:
    return bool((picture == rgb(colour)).all(axis=-1).any())


def test_tiles_show_the_errors_largest_first(compared) -> None:
    result = evaluate_detection(compared, [MatchRule()])
    false, missed = error_tiles(compared, result, None)
    assert [tile.voxels for tile in false] == sorted((t.voxels for t in false), reverse=True)
    assert len(false) == 2
    assert len(missed) == 1
    assert false[0].box.start[2] == 3, "the section in which it is"
    assert (false[0].predicted == false[0].id).sum() == false[0].voxels
    assert missed[0].iou == 0
    # Voxels 60..69, 40..49, 1..4: positions are of voxel centres.
    assert missed[0].position_nm == (260.0, 180.0, 120.0)
    assert len(error_tiles(compared, result, None, most=1)[0]) == 1


def test_the_gallery_outlines_both_sides(compared) -> None:
    result = evaluate_detection(compared, [MatchRule()])
    em = as_volume(np.full((80, 60, 6), 128, np.uint8), NM)
    tiles = error_tiles(compared, result, em)
    drawn = draw_errors(*tiles, title="Errors", totals=(2, 1))
    assert drawn == draw_errors(*tiles, title="Errors", totals=(2, 1))
    picture = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"))
    assert has(picture, PREDICTED)
    assert has(picture, TRUE)
    empty = draw_errors([], [], title="Errors", totals=(0, 0))
    assert np.asarray(Image.open(io.BytesIO(empty))).shape[0] < picture.shape[0] - 400


def test_the_curve_is_the_same_every_time(compared) -> None:
    result = evaluate_detection(compared, [MatchRule()])
    trials = sweep(compared, MatchRule(), [0.3, 0.5, 0.7])
    levels = result.counts.levels
    assert levels is not None
    drawn = draw_curve(trials, levels, "IoU 0.1", title="map", threshold=0.5)
    assert drawn == draw_curve(trials, levels, "IoU 0.1", title="map", threshold=0.5)
    assert Image.open(io.BytesIO(drawn)).size == (1800, 900)
    other = draw_curve(trials[:2], levels, "IoU 0.1", title="map", threshold=0.5)
    assert other != drawn
