"""One section as the pixels of a picture: grey EM, tinted cells, probability, outlines.

Sections come as [x, y] and leave as pictures do: rows run along y, columns along x. Pixels are
square in nm; labels take the nearest voxel or, where they are outlined, the half-way line between
voxels, so that contours do not show the voxels' steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.viewing.palette import rgb

__all__ = [
    "PROBABILITY",
    "PROBABILITY_ALPHA",
    "Screen",
    "as_probability",
    "black_and_white",
    "blend",
    "blend_probability",
    "grey",
    "outline",
    "resampled",
    "shape_of",
    "tint",
]

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

PROBABILITY = "#ff5a14"
PROBABILITY_ALPHA = 0.55
_FAINTEST = 0.06


@dataclass(frozen=True, slots=True)
class Screen:
    """How a section becomes pixels.

    Parameters
    ----------
    voxels : (x, y)
        Number of voxels of the section.
    voxel_nm : (x, y)
        Their size.
    nm_per_pixel : float
        Size of a pixel.
    """

    voxels: tuple[int, int]
    voxel_nm: tuple[float, float]
    nm_per_pixel: float

    @classmethod
    def fitted(cls, voxels: Sequence[int], voxel_nm: Sequence[float], width_px: int) -> Screen:
        """A screen whose longer side has `width_px` pixels."""
        (nx, ny), (hx, hy) = voxels[:2], voxel_nm[:2]
        return cls((nx, ny), (hx, hy), max(nx * hx, ny * hy) / width_px)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        columns, rows = (
            max(1, round(n * h / self.nm_per_pixel))
            for n, h in zip(self.voxels, self.voxel_nm, strict=True)
        )
        return rows, columns

    def pixel(self, voxel: Sequence[float]) -> tuple[float, float]:
        """Column and row of a place in voxels, counted from the section's corner."""
        x, y = (v * h / self.nm_per_pixel for v, h in zip(voxel, self.voxel_nm, strict=True))
        return x, y


def resampled(section: npt.NDArray[Any], screen: Screen) -> Pixels:
    """A section as pixels, bilinear; averaged where pixels are larger than voxels.

    Parameters
    ----------
    section : ndarray, shape (x, y)
    screen : Screen
        Size of the picture, and of a voxel in it.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
    """
    rows, columns = screen.shape
    fine = max(1, math.ceil(screen.nm_per_pixel / min(screen.voxel_nm)))
    picture = section.T.astype(np.float32)
    for axis, pixels in ((0, rows * fine), (1, columns * fine)):
        picture = _stretched(picture, axis, pixels)
    pooled: Pixels = picture.reshape(rows, fine, columns, fine).mean(axis=(1, 3))
    return pooled


def _stretched(picture: Pixels, axis: int, pixels: int) -> Pixels:
    """Linear interpolation along an axis; the outermost values go on outside."""
    count = picture.shape[axis]
    place = (np.arange(pixels, dtype=np.float64) + 0.5) * count / pixels - 0.5
    place = np.clip(place, 0, count - 1)
    lower = np.minimum(place.astype(np.int64), max(0, count - 2))
    weight = (place - lower).astype(np.float32)
    if axis == 0:
        weight = weight[:, None]
    upper = np.minimum(lower + 1, count - 1)
    mixed: Pixels = (
        np.take(picture, lower, axis) * (1 - weight) + np.take(picture, upper, axis) * weight
    )
    return mixed


def shape_of(mask: Mask, screen: Screen) -> Mask:
    """A mask [x, y] as pixels: those nearer to its voxels than to others."""
    shape: Mask = resampled(mask, screen) > 0.5
    return shape


def outline(shape: Mask) -> Mask:
    """The pixels of a shape that touch others by a side: its contour, one pixel wide.

    The picture's edge is no border.
    """
    padded = np.pad(shape, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    contour: Mask = shape & ~inner
    return contour


def black_and_white(image: npt.NDArray[Any]) -> tuple[float, float]:
    """The values to be shown black and white: percentiles 0.5 and 99.5 of what is not 0.

    0 is mostly what stands where there is no image.
    """
    present = image[image != 0]
    if present.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(present, [0.5, 99.5]))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def grey(section: npt.NDArray[Any], screen: Screen, contrast: tuple[float, float]) -> Pixels:
    """A section as RGB from 0 to 1, shape (rows, columns, 3)."""
    low, high = contrast
    value = np.clip((resampled(section, screen) - low) / (high - low), 0, 1).astype(np.float32)
    return np.repeat(value[:, :, None], 3, axis=2)


def blend(picture: Pixels, where: Mask, colour: str, alpha: float) -> None:
    """Lay a colour over some pixels, in place."""
    picture[where] += alpha * (_unit(colour) - picture[where])


def as_probability(section: npt.NDArray[Any]) -> Pixels:
    """Probability from 0 to 1, of a `section` stored as whole numbers (255 p) or as floats."""
    if np.issubdtype(section.dtype, np.integer):
        return section.astype(np.float32) / np.float32(np.iinfo(section.dtype).max)
    return section.astype(np.float32)


def blend_probability(picture: Pixels, probability: Pixels, screen: Screen, alpha: float) -> None:
    """Lay probability over a picture, in place: the surer the less transparent."""
    weight = np.clip(resampled(probability, screen), 0, 1)
    weight = np.float32(alpha) * np.where(weight < _FAINTEST, 0, weight)
    picture += weight[:, :, None] * (_unit(PROBABILITY) - picture)


def tint(
    picture: Pixels,
    labels: npt.NDArray[Any],
    screen: Screen,
    colours: Mapping[int, str],
    *,
    alpha: float,
) -> None:
    """Colour the cells of a section, `labels` [x, y], and draw their contours, in place."""
    for label, colour in colours.items():
        shape = shape_of(labels == label, screen)
        blend(picture, shape, colour, alpha)
        blend(picture, outline(shape), colour, 0.85)


def _unit(colour: str) -> Pixels:
    return np.array(rgb(colour), dtype=np.float32) / np.float32(255)
