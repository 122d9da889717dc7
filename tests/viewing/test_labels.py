"""Names and scale bars stay inside of their panel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnapse.viewing.labels import draw_name, draw_scale_bar, name_place
from cnapse.viewing.page import Page
from cnapse.viewing.panels import Screen

SCREEN = Screen((300, 200), (4.0, 4.0), 4.0)
CORNER = (40.0, 30.0)


def written(page: Page) -> np.ndarray:
    """Rows and columns of what is not white."""
    pixels = np.asarray(Image.open(io.BytesIO(page.png())).convert("RGB"))
    return np.argwhere((pixels != 255).any(axis=2))


def assert_inside(page: Page) -> None:
    found = written(page)
    rows, columns = SCREEN.shape
    assert len(found)
    assert (found.min(axis=0) >= (CORNER[1], CORNER[0])).all()
    assert (found.max(axis=0) < (CORNER[1] + rows, CORNER[0] + columns)).all()


@settings(max_examples=30, deadline=None)
@given(place=st.tuples(st.floats(0, 300), st.floats(0, 200)), width=st.floats(1, 280))
def test_a_name_is_whole_and_moved_no_farther_than_needed(
    place: tuple[float, float], width: float
) -> None:
    x, y = name_place(SCREEN, place, width)
    assert width / 2 <= x <= 300 - width / 2
    assert 10 <= y <= 190
    if width / 2 + 90 <= place[0] <= 160 - width / 2 and 50 <= place[1] <= 140:
        assert (x, y) == place


@pytest.mark.parametrize("place", [(0.0, 0.0), (299.0, 100.0), (299.0, 199.0)])
@pytest.mark.parametrize("name", ["3655975075", "a name that is far too long for this small panel"])
def test_names_are_drawn_inside(place: tuple[float, float], name: str) -> None:
    page = Page(400, 300)
    draw_name(page, SCREEN, CORNER, place, name)
    assert_inside(page)


@pytest.mark.parametrize("nm_per_pixel", [0.02, 4.0, 180.0])
def test_scale_bars_are_drawn_inside(nm_per_pixel: float) -> None:
    page = Page(400, 300)
    screen = Screen((300, 200), (nm_per_pixel, nm_per_pixel), nm_per_pixel)
    draw_scale_bar(page, screen, (CORNER[0] + 300, CORNER[1] + 200))
    assert_inside(page)
