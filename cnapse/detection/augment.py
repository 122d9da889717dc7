"""Augmentations of training patches: small pure functions of a patch and a generator.

Moves (flip, rotate90, elastic) change the image and everything drawn in it alike; a section that
lies askew takes along what is drawn in it, which is drawn in the middle section. Changes of grey
values leave the drawing as it is, for what is hidden in one section is still there.

Flip, rotate90, contrast, blackpad, darkline, block and noise are those of detectEM; elastic,
misalignment, missing_section and blur are the usual ones for serial sections (Lee et al. 2017,
Lin et al. 2021, PyTorch Connectomics).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from cnapse.errors import ConfigError

__all__ = [
    "AUGMENTATIONS",
    "Patch",
    "augmented",
    "blackpad",
    "block",
    "blur",
    "contrast",
    "darkline",
    "elastic",
    "flip",
    "misalignment",
    "missing_section",
    "noise",
    "rotate90",
]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_KNOT_PX = 48
"""Distance between the knots of the elastic field."""
_ELASTIC_PX = 8.0
_MISALIGNED_PX = 10


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Neighbouring sections, and what is drawn in the middle one.

    Parameters
    ----------
    image : ndarray of uint8, shape (sections, y, x)
        An odd number of sections.
    label : ndarray of bool, shape (y, x)
        Where a density is.
    counts : ndarray of bool, shape (y, x)
        Where the loss counts; False where nobody knows.
    auxiliary : ndarray of bool, shape (y, x), optional
        What else is to be learned, as membranes.
    """

    image: Image
    label: Mask
    counts: Mask
    auxiliary: Mask | None = None

    @property
    def middle(self) -> int:
        """Index of the section that is drawn in."""
        return len(self.image) // 2

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels in y and x."""
        return self.label.shape[0], self.label.shape[1]

    def redrawn(self, change: Callable[[Mask], Mask]) -> Patch:
        """The patch with a change made to all that is drawn."""
        auxiliary = None if self.auxiliary is None else change(self.auxiliary)
        return replace(
            self, label=change(self.label), counts=change(self.counts), auxiliary=auxiliary
        )

    def moved(self, move: Callable[[Array], Array]) -> Patch:
        """The patch with one move, of the last two axes, made to the image and the drawing."""
        return replace(self.redrawn(move), image=move(self.image))


Augmentation = Callable[[Patch, np.random.Generator], Patch]


def flip(patch: Patch, rng: np.random.Generator) -> Patch:
    """Mirror either axis, each with probability 1/2."""
    axes = tuple(axis for axis in (-2, -1) if rng.random() < 0.5)
    return patch.moved(lambda array: np.flip(array, axes)) if axes else patch


def rotate90(patch: Patch, rng: np.random.Generator) -> Patch:
    """Turn by 0, 90, 180 or 270 degrees; 0 or 180 if the patch is not square."""
    height, width = patch.shape
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    return patch.moved(lambda array: np.rot90(array, turns, axes=(-2, -1)))


def elastic(patch: Patch, rng: np.random.Generator) -> Patch:
    """Bend all sections by one smooth field of up to 8 px.

    The field is a cubic B-spline with knots 48 px apart and coefficients of at most 8 px, so that
    it never folds (Choi & Lee 2000). Grey values are interpolated, drawings take the nearest
    pixel; both are mirrored at the edge.
    """
    height, width = patch.shape
    rows, columns = _spline(height), _spline(width)
    size = (2, rows.shape[1], columns.shape[1])
    field = rows @ rng.uniform(-_ELASTIC_PX, _ELASTIC_PX, size) @ columns.T
    y, x = np.indices(patch.shape) + field
    nearest = _pixels(np.rint(y), np.rint(x), patch.shape)
    image = _interpolated(patch.image, y, x)
    return replace(patch.redrawn(lambda drawn: drawn.ravel()[nearest]), image=image)


def misalignment(patch: Patch, rng: np.random.Generator) -> Patch:
    """Shift one section, or one and all after it, by up to 10 px; mirrored at the edge.

    The drawing moves if its section does.
    """
    first, single = int(rng.integers(len(patch.image))), bool(rng.random() < 0.5)
    off_y, off_x = (int(v) for v in rng.integers(-_MISALIGNED_PX, _MISALIGNED_PX + 1, 2))
    height, width = patch.shape
    start_y, start_x = _MISALIGNED_PX + off_y, _MISALIGNED_PX + off_x

    def shifted(array: Array) -> Array:
        wide = np.pad(array, _MISALIGNED_PX, mode="symmetric")
        return wide[start_y : start_y + height, start_x : start_x + width]

    last = first + 1 if single else len(patch.image)
    image = patch.image.copy()
    for index in range(first, last):
        image[index] = shifted(image[index])
    moved = replace(patch, image=image)
    return moved.redrawn(shifted) if first <= patch.middle < last else moved


def contrast(patch: Patch, rng: np.random.Generator) -> Patch:
    """Stretch the grey values around their mean by 0.7 to 1.3, and shift them by up to 25.

    Half the time each section by itself, as sections are stained and photographed one by one.
    """
    count = len(patch.image) if rng.random() < 0.5 else 1
    gain, shift = rng.uniform(0.7, 1.3, (count, 1, 1)), rng.uniform(-25, 25, (count, 1, 1))
    values = patch.image.astype(np.float32)
    mean = values.mean(axis=(1, 2), keepdims=True)
    return replace(patch, image=_grey((values - mean) * gain + mean + shift))


def blur(patch: Patch, rng: np.random.Generator) -> Patch:
    """Put one section out of focus: a Gaussian with a standard deviation of 0.7 to 2 px."""
    sigma = rng.uniform(0.7, 2.0)
    return _one_section(
        patch, rng, lambda section: _grey(gaussian_filter(section.astype(np.float32), sigma))
    )


def noise(patch: Patch, rng: np.random.Generator) -> Patch:
    """Add normal noise with a standard deviation of 2 to 20 grey values."""
    sigma = rng.uniform(2, 20)
    added = rng.standard_normal(patch.image.shape, dtype=np.float32) * np.float32(sigma)
    return replace(patch, image=_grey(patch.image + added))


def darkline(patch: Patch, rng: np.random.Generator) -> Patch:
    """Darken a straight line in one section, 2 to 8 px wide, as a fold does."""
    height, width = patch.shape
    angle = rng.uniform(0, np.pi)
    rows, columns = np.ogrid[:height, :width]
    centre = rng.uniform(0, height), rng.uniform(0, width)
    distance = np.abs((rows - centre[0]) * np.cos(angle) + (columns - centre[1]) * np.sin(angle))
    dark = np.where(distance < rng.uniform(1, 4), rng.uniform(0.2, 0.6), 1.0)
    return _one_section(patch, rng, lambda section: _grey(section.astype(np.float32) * dark))


def block(patch: Patch, rng: np.random.Generator) -> Patch:
    """Cover up to a quarter of each side of one section with one grey value, as dirt does."""
    rows, columns = (_interval(n, rng) for n in patch.shape)
    grey = int(rng.integers(256))

    def covered(section: Image) -> Image:
        section = section.copy()
        section[rows, columns] = grey
        return section

    return _one_section(patch, rng, covered)


def missing_section(patch: Patch, rng: np.random.Generator) -> Patch:
    """Take a neighbouring section out: black, or the middle one in its place.

    A patch of a single section stays as it is.
    """
    others = [index for index in range(len(patch.image)) if index != patch.middle]
    if not others:
        return patch
    index, is_black = others[int(rng.integers(len(others)))], bool(rng.integers(2))
    image = patch.image.copy()
    image[index] = 0 if is_black else image[patch.middle]
    return replace(patch, image=image)


def blackpad(patch: Patch, rng: np.random.Generator) -> Patch:
    """Blacken up to a quarter at one side, as where a section ends; nothing is there to find."""
    axis, at_end = int(rng.integers(2)), bool(rng.integers(2))
    length = patch.shape[axis]
    width = int(rng.integers(1, max(2, length // 4)))
    band = slice(length - width, None) if at_end else slice(0, width)
    inside: tuple[Any, ...] = (..., band, slice(None)) if axis == 0 else (..., band)
    image, label = patch.image.copy(), patch.label.copy()
    image[inside], label[inside] = 0, False
    auxiliary = patch.auxiliary
    if auxiliary is not None:
        auxiliary = auxiliary.copy()
        auxiliary[inside] = False
    return replace(patch, image=image, label=label, auxiliary=auxiliary)


AUGMENTATIONS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "flip": flip,
        "rotate90": rotate90,
        "elastic": elastic,
        "misalignment": misalignment,
        "contrast": contrast,
        "blur": blur,
        "noise": noise,
        "darkline": darkline,
        "block": block,
        "missing_section": missing_section,
        "blackpad": blackpad,
    }
)


def augmented(patch: Patch, rng: np.random.Generator, chances: Mapping[str, float]) -> Patch:
    """Apply each named augmentation with its chance, in the order of `AUGMENTATIONS`.

    Raises
    ------
    ConfigError
        If a name is not known.
    """
    unknown = sorted(set(chances) - set(AUGMENTATIONS))
    if unknown:
        raise ConfigError(
            f"augmentation {unknown[0]!r} is not known; there are: {', '.join(AUGMENTATIONS)}"
        )
    for name, change in AUGMENTATIONS.items():
        if rng.random() < chances.get(name, 0.0):
            patch = change(patch, rng)
    return patch.moved(np.ascontiguousarray)


def _one_section(patch: Patch, rng: np.random.Generator, change: Callable[[Image], Image]) -> Patch:
    """Change one section; there is as much dirt on the middle one as on the others."""
    index = int(rng.integers(len(patch.image)))
    image = patch.image.copy()
    image[index] = change(image[index])
    return replace(patch, image=image)


def _interpolated(image: Image, y: Floats, x: Floats) -> Image:
    """Bilinear values of all sections at places of a patch.

    What `scipy.ndimage.map_coordinates` gives, in a sixth of its time for three sections.
    """
    flat = image.reshape(len(image), -1)
    first_y, first_x = np.floor(y), np.floor(x)
    share_y, share_x = (y - first_y).astype(np.float32), (x - first_x).astype(np.float32)

    def row(at: Floats) -> Array:
        left, right = (_pixels(at, first_x + i, image.shape[1:]) for i in (0, 1))
        return flat[:, left] * (1 - share_x) + flat[:, right] * share_x

    return _grey(row(first_y) * (1 - share_y) + row(first_y + 1) * share_y)


def _pixels(y: Floats, x: Floats, shape: Sequence[int]) -> npt.NDArray[np.int64]:
    """Raster indices of whole places, mirrored at the outermost pixels."""
    rows, columns = (
        n - 1 - np.abs(n - 1 - np.abs(at.astype(np.int64)))
        for at, n in zip((y, x), shape, strict=True)
    )
    index: npt.NDArray[np.int64] = rows * shape[1] + columns
    return index


def _spline(length: int) -> npt.NDArray[np.float64]:
    """Weights of the knots at each pixel, shape (length, knots): a cubic B-spline, sums are 1."""
    places = np.arange(length) / _KNOT_PX
    knots = np.arange(-1, int(places[-1]) + 3)
    t = np.abs(places[:, None] - knots)
    near, far = 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6
    weights: npt.NDArray[np.float64] = np.where(t < 1, near, far)
    return weights


def _grey(values: Array) -> Image:
    grey: Image = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return grey


def _interval(length: int, rng: np.random.Generator) -> slice:
    size = int(rng.integers(1, max(2, length // 4)))
    first = int(rng.integers(0, length - size + 1))
    return slice(first, first + size)
