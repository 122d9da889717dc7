"""Grown cells against a plain distance transform, and box by box."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cnapse.volumes.grow import grown_labels, reach_of


@given(st.integers(0, 2**32 - 1), st.floats(0, 30), st.sampled_from([(4, 4, 50), (4.6, 8, 30)]))
@settings(max_examples=30, deadline=None)
def test_background_takes_the_nearest_label(seed, grow_nm, resolution) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 6, (17, 13, 2)).astype(np.uint64)
    labels[rng.random(labels.shape) < 0.93] = 0
    out = grown_labels(labels, grow_nm, resolution)
    for z in range(2):
        background = labels[:, :, z] == 0
        away = (
            ndimage.distance_transform_edt(background, sampling=resolution[:2])
            if (~background).any()
            else np.full(background.shape, np.inf)
        )
        np.testing.assert_array_equal(out[:, :, z] > 0, away <= grow_nm + 1e-9)
        for x, y in np.argwhere(out[:, :, z] > 0):
            d = np.hypot(
                (np.arange(17) - x)[:, None] * resolution[0],
                (np.arange(13) - y)[None] * resolution[1],
            )
            nearest = (labels[:, :, z] > 0) & (d <= away[x, y] + 1e-9)
            assert out[x, y, z] == labels[:, :, z][nearest].min()


@given(st.integers(0, 2**32 - 1), st.integers(0, 16), st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_a_box_with_its_rim_equals_the_whole(seed, x, y) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (17, 13, 2)).astype(np.uint32)
    labels[rng.random(labels.shape) < 0.8] = 0
    whole = grown_labels(labels, 12, (4, 4, 50))
    rx, ry, _ = reach_of(12, (4, 4, 50))
    x0, y0 = max(0, x - rx), max(0, y - ry)
    part = labels[x0 : x + rx + 4, y0 : y + ry + 4]
    grown = grown_labels(part, 12, (4, 4, 50))
    inside = grown[x - x0 : x - x0 + 4, y - y0 : y - y0 + 4]
    np.testing.assert_array_equal(inside, whole[x : x + 4, y : y + 4])


def test_nothing_grows_over_other_cells_or_sections() -> None:
    labels = np.zeros((5, 1, 2), np.uint64)
    labels[[0, 4], 0, 0] = 7, 3
    out = grown_labels(labels, 8, (4, 4, 50))
    assert out[:, 0, 0].tolist() == [7, 7, 3, 3, 3]
    assert not out[:, :, 1].any()
    assert grown_labels(labels, 3.9, (4, 4, 50)).tolist() == labels.tolist()
