"""What is written on a panel: a scale bar, and names that stay inside of it."""

from __future__ import annotations

import math

import numpy as np

from cnapse.viewing.page import INK, Page, elided, text_width
from cnapse.viewing.panels import Mask, Screen

__all__ = ["Corner", "draw_name", "draw_scale_bar", "name_place", "roomiest", "round_length"]

Corner = tuple[float, float]

_EDGE = 6.0
_BAR_SHARE = 0.32
# Of a panel: the section's name stands in the upper left corner, the scale bar in the lower right.
_SECTION_NAME = (84.0, 40.0)
_BAR_ROOM = (0.42, 54.0)


def round_length(longest: float) -> float:
    """The greatest of 1, 2, 5, 10, 20, 50, ... that is not longer."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest)


def draw_scale_bar(page: Page, screen: Screen, corner: Corner, *, size: float = 8) -> None:
    """A bar of a round length in the lower right corner of a panel.

    Parameters
    ----------
    page : Page
    screen : Screen
        Size of the panel, and its nm per pixel.
    corner : (x, y)
        The panel's lower right corner on the page.
    size : float
        Of the letters, in points; margins follow it.
    """
    length_nm = round_length(_BAR_SHARE * screen.shape[1] * screen.nm_per_pixel)
    length = length_nm / screen.nm_per_pixel
    thick = max(3.0, 0.7 * size)
    x, y = corner[0] - 1.6 * size - length, corner[1] - 1.2 * size - thick
    page.rectangle(x, y, length, thick, fill="white", edge=INK)
    name = f"{length_nm / 1000:g} µm" if length_nm >= 1000 else f"{length_nm:g} nm"
    # A bar shorter than its name would push the name over the panel's edge.
    middle = min(x + length / 2, corner[0] - _EDGE - text_width(name, size, bold=True) / 2)
    page.text(
        middle, y - 1.6 * size, name, size=size, colour="white", bold=True, side="center", halo=INK
    )


def roomiest(shape: Mask, room: float) -> tuple[float, float] | None:
    """Column and row of the pixel farthest from a shape's rim; None if that is too near."""
    from scipy.ndimage import distance_transform_edt

    # The picture's edge cuts a name off, so it counts as a rim.
    distance = distance_transform_edt(np.pad(shape, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return (float(column), float(row)) if distance[row, column] >= room else None


def name_place(screen: Screen, place: Corner, width: float) -> Corner:
    """Where the middle of a name goes so that it is whole, and on nothing else that is written.

    Parameters
    ----------
    screen : Screen
        Size of the panel.
    place : (column, row)
        Where it would best be.
    width : float
        Of the name, in pixels.

    Returns
    -------
    (column, row)
    """
    rows, columns = screen.shape
    half = width / 2 + _EDGE
    across = min(max(place[0], half), max(half, columns - half))
    beside, below = _SECTION_NAME
    top = below if across - half < beside else 16.0
    share, above = _BAR_ROOM
    bottom = rows - (above if across + half > (1 - share) * columns else 14.0)
    return across, min(max(place[1], top), max(top, bottom))


def draw_name(
    page: Page, screen: Screen, corner: Corner, place: Corner, name: str, *, size: float = 8
) -> None:
    """Write a cell's name on a panel.

    Parameters
    ----------
    page : Page
    screen : Screen
        Size of the panel.
    corner : (x, y)
        The panel's upper left corner on the page.
    place : (column, row)
        Where it would best be, as `roomiest` tells.
    name : str
        Cut short where it is wider than the panel.
    size : float
        Of the letters, in points.
    """
    room = screen.shape[1] - 2 * _EDGE
    text = name
    while text_width(text, size, bold=True) > room and len(text) > 1:
        text = elided(name, len(text) - 1)
    x, y = name_place(screen, place, text_width(text, size, bold=True))
    page.text(
        corner[0] + x, corner[1] + y, text,
        size=size, bold=True, colour="white", side="center", halo=INK,
    )  # fmt: skip
