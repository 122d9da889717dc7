"""Augmentations of training patches: small pure functions of an image, its label and a generator.

Image and label are (y, x) or (x, y) arrays of one shape, uint8 and bool. Moves change both alike;
changes of grey values leave the label as it is, for what is hidden in one section is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError

__all__ = [
    "AUGMENTATIONS",
    "augmented",
    "blackpad",
    "block",
    "contrast",
    "darkline",
    "flip",
    "noise",
    "rotate90",
]

Image = npt.NDArray[np.uint8]
Label = npt.NDArray[np.bool_]
Pair = tuple[Image, Label]
Augmentation = Callable[[Image, Label, np.random.Generator], Pair]


def flip(image: Image, label: Label, rng: np.random.Generator) -> Pair:
    """Mirror either axis, each with probability 1/2."""
    for axis in (0, 1):
        if rng.random() < 0.5:
            image, label = np.flip(image, axis), np.flip(label, axis)
    return image, label


def rotate90(image: Image, label: Label, rng: np.random.Generator) -> Pair:
    """Turn by 0, 90, 180 or 270 degrees; 0 or 180 if the patch is not square."""
    square = image.shape[0] == image.shape[1]
    turns = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
    return np.rot90(image, turns), np.rot90(label, turns)


def contrast(image: Image, label: Label, rng: np.random.Generator) -> Pair:
    """Stretch the grey values around their mean by 0.7 to 1.3, and shift them by up to 25."""
    gain, shift = rng.uniform(0.7, 1.3), rng.uniform(-25, 25)
    values = image.astype(np.float32)
    return _grey((values - values.mean()) * gain + values.mean() + shift), label


def blackpad(image: Image, label: Label, rng: np.random.Generator) -> Pair:
    """Blacken up to a quarter at one side, as where a section ends; nothing is there to find."""
    axis, at_end = int(rng.integers(2)), bool(rng.integers(2))
    width = int(rng.integers(1, max(2, image.shape[axis] // 4)))
    band = slice(image.shape[axis] - width, None) if at_end else slice(0, width)
    index = (band, slice(None)) if axis == 0 else (slice(None), band)
    image, label = image.copy(), label.copy()
    image[index], label[index] = 0, False
    return image, label


def darkline(image: Image, label: Label, rng: np.random.Generator) -> Pair:
    """Darken a straight line, 2 to 8 px wide, as a fold does."""
    angle = rng.uniform(0, np.pi)
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    centre = rng.uniform(0, image.shape[0]), rng.uniform(0, image.shape[1])
    distance = np.abs((rows - centre[0]) * np.cos(angle) + (columns - centre[1]) * np.sin(angle))
    dark = np.where(distance < rng.uniform(1, 4), rng.uniform(0.2, 0.6), 1.0)
    return _grey(image.astype(np.float32) * dark), label


def block(image: Image, label: Label, rng: np.random.Generator) -> Pair:
    """Cover a rectangle of up to a quarter of each side with one grey value, as dirt does."""
    index = tuple(_interval(n, rng) for n in image.shape)
    image = image.copy()
    image[index] = rng.integers(256)
    return image, label


def noise(image: Image, label: Label, rng: np.random.Generator) -> Pair:
    """Add normal noise with a standard deviation of 2 to 20 grey values."""
    sigma = rng.uniform(2, 20)
    added = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)
    return _grey(image + added), label


AUGMENTATIONS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "flip": flip,
        "rotate90": rotate90,
        "contrast": contrast,
        "noise": noise,
        "darkline": darkline,
        "block": block,
        "blackpad": blackpad,
    }
)


def augmented(
    image: Image, label: Label, rng: np.random.Generator, chances: Mapping[str, float]
) -> Pair:
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
            image, label = change(image, label, rng)
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


def _grey(values: npt.NDArray[Any]) -> Image:
    grey: Image = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return grey


def _interval(length: int, rng: np.random.Generator) -> slice:
    size = int(rng.integers(1, max(2, length // 4)))
    first = int(rng.integers(0, length - size + 1))
    return slice(first, first + size)
