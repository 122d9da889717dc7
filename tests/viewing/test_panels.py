"""Pixels of a panel, checked against slow and simple ways to get them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cnapse.viewing import panels
from cnapse.viewing.palette import rgb
from cnapse.viewing.panels import Screen


def screen_for(shape: tuple[int, int], width: int) -> Screen:
    return Screen.fitted(shape, (4.0, 4.0), width)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), radius=st.floats(0.5, 6))
def test_the_outline_is_the_shape_without_its_inside(seed: int, radius: float) -> None:
    noise = np.random.default_rng(seed).standard_normal((40, 50))
    shape = ndimage.gaussian_filter(noise, radius) > 0
    inside = ndimage.binary_erosion(shape, border_value=1)
    np.testing.assert_array_equal(panels.outline(shape), shape & ~inside)


def test_rows_run_along_y_and_columns_along_x() -> None:
    section = np.zeros((30, 20))
    section[25, 3] = 1
    screen = screen_for((30, 20), 60)
    assert screen.shape == (40, 60)
    picture = panels.resampled(section, screen)
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    assert (column // 2, row // 2) == (25, 3)
    assert screen.pixel((25.5, 3.5)) == (51.0, 7.0)


def test_pixels_are_square_in_nm() -> None:
    screen = Screen.fitted((100, 100), (4.0, 8.0), 200)
    assert screen.shape == (200, 100)


def test_one_pixel_a_voxel_changes_nothing() -> None:
    section = np.random.default_rng(0).integers(0, 255, (30, 20))
    np.testing.assert_array_equal(panels.resampled(section, screen_for((30, 20), 30)), section.T)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_pixels_larger_than_voxels_are_means(factor: int) -> None:
    section = np.random.default_rng(0).random((24, 48))
    picture = panels.resampled(section, screen_for((24, 48), 48 // factor))
    means = section.reshape(24 // factor, factor, 48 // factor, factor).mean(axis=(1, 3)).T
    np.testing.assert_allclose(picture, means, rtol=1e-5)


@pytest.mark.parametrize("width", [37, 100, 161])
def test_a_shape_keeps_its_area_and_place(width: int) -> None:
    mask = np.zeros((50, 50), dtype=bool)
    mask[10:30, 20:45] = True
    screen = screen_for((50, 50), width)
    shape = panels.shape_of(mask, screen)
    scale = width / 50
    assert shape.mean() == pytest.approx(mask.mean(), abs=2 * 45 / 2500 / scale)
    rows, columns = np.nonzero(shape)
    assert columns.mean() + 0.5 == pytest.approx(20 * scale, abs=1)
    assert rows.mean() + 0.5 == pytest.approx(32.5 * scale, abs=1)


def test_black_and_white_ignores_what_is_missing() -> None:
    image = np.zeros((10, 10, 2), dtype=np.uint8)
    image[5:] = np.linspace(50, 150, 100).reshape(5, 10, 2)
    low, high = panels.black_and_white(image)
    assert 50 <= low < 53
    assert 147 < high <= 150
    assert panels.black_and_white(np.zeros((3, 3))) == (0.0, 1.0)
    low, high = panels.black_and_white(np.full((3, 3), 7))
    assert low < 7 < high


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.array([[0, 255]], np.uint8), [[0, 1]]),
        (np.array([[0, 65535]], np.uint16), [[0, 1]]),
        (np.array([[0.25, 1]], np.float64), [[0.25, 1]]),
        (np.array([[False, True]]), [[0, 1]]),
    ],
)
def test_probability_of_any_dtype(stored: np.ndarray, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(panels.as_probability(stored), expected)


def test_a_cell_has_its_colour_and_a_contour_on_its_border() -> None:
    labels = np.zeros((40, 40), dtype=np.uint64)
    labels[8:24, 12:30] = 2**63
    screen = screen_for((40, 40), 80)
    picture = np.full((80, 80, 3), 0.5, dtype=np.float32)
    panels.tint(picture, labels, screen, {2**63: "#0072b2"}, alpha=0.3)
    shape = panels.shape_of(labels == 2**63, screen)
    assert (picture[~shape] == 0.5).all()
    colour = np.array(rgb("#0072b2")) / 255
    contour = panels.outline(shape)
    np.testing.assert_allclose(
        picture[shape & ~contour],
        np.broadcast_to(0.35 + 0.3 * colour, (np.sum(shape & ~contour), 3)),
        atol=1e-6,
    )
    distance = np.abs(picture[contour] - colour).max()
    assert distance < 0.08


def test_probability_shows_by_its_strength_and_not_where_it_is_faint() -> None:
    picture = np.full((1, 4, 3), 0.5, dtype=np.float32)
    probability = np.array([[0.0], [0.05], [0.5], [1.0]], dtype=np.float32)
    panels.blend_probability(picture, probability, Screen((4, 1), (4, 4), 4), alpha=0.6)
    change = np.abs(picture - 0.5).max(axis=2)[0]
    assert list(change[:2]) == [0, 0]
    assert change[3] == pytest.approx(2 * change[2])
    assert picture[0, 3, 0] > picture[0, 3, 1] > picture[0, 3, 2]
