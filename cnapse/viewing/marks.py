"""Small marks on a picture, drawn without steps: discs, rings and lines.

Places are (column, row) in pixels from the picture's upper left corner, so that pixel 0 has its
centre at 0.5. What lies outside of the picture is cut off.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from cnapse.viewing.palette import rgb
from cnapse.viewing.panels import Pixels

__all__ = ["disc", "lay", "line", "thick"]

Place = Sequence[float]


def lay(picture: Pixels, weight: Pixels, colour: str) -> None:
    """Lay a colour over a picture, in place; `weight` (rows, columns) is 0 to 1."""
    unit = np.array(rgb(colour), dtype=np.float32) / np.float32(255)
    picture += weight[:, :, None] * (unit - picture)


def disc(
    picture: Pixels,
    places: Iterable[Place],
    radius: float,
    colour: str,
    *,
    edge: str = "",
    edge_px: float = 1.0,
) -> None:
    """Draw filled circles, with a rim if `edge` is a colour, in place."""
    for place in places:
        for size, paint in ((radius + edge_px, edge), (radius, colour)):
            if paint:
                part, apart = _near([place], picture, size + 1)
                lay(picture[part], np.clip(size + 0.5 - apart, 0, 1), paint)


def line(
    picture: Pixels, places: Sequence[Place], width: float, colour: str, *, alpha: float = 1.0
) -> None:
    """Draw a line through places, in place; where it crosses itself it is no darker."""
    weight = np.zeros(picture.shape[:2], dtype=np.float32)
    for start, stop in itertools.pairwise(places):
        part, apart = _near([start, stop], picture, width + 1)
        weight[part] = np.maximum(weight[part], np.clip(width / 2 + 0.5 - apart, 0, 1))
    lay(picture, np.float32(alpha) * weight, colour)


def thick(contour: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A contour one pixel wider, to the right and below."""
    padded = np.pad(contour, ((1, 0), (1, 0)))
    wider: npt.NDArray[np.bool_] = (
        padded[1:, 1:] | padded[:-1, 1:] | padded[1:, :-1] | padded[:-1, :-1]
    )
    return wider


def _near(
    ends: Sequence[Place], picture: Pixels, reach: float
) -> tuple[tuple[slice, slice], Pixels]:
    """The part of the picture near a segment (or a place), and how far each of its pixels is."""
    points = np.asarray(ends, dtype=np.float64)
    rows, columns = picture.shape[:2]
    low = np.floor(points.min(axis=0) - reach).astype(int)
    high = np.ceil(points.max(axis=0) + reach).astype(int) + 1
    left, top = np.clip(low, 0, (columns, rows)).tolist()
    right, bottom = np.clip(high, 0, (columns, rows)).tolist()
    x = np.arange(left, right)[None, :] + 0.5 - points[0, 0]
    y = np.arange(top, bottom)[:, None] + 0.5 - points[0, 1]
    along = points[-1] - points[0]
    length = float(along @ along)
    share = np.clip((x * along[0] + y * along[1]) / length, 0, 1) if length else np.zeros((1, 1))
    apart = np.hypot(x - share * along[0], y - share * along[1]).astype(np.float32)
    return (slice(top, bottom), slice(left, right)), apart
