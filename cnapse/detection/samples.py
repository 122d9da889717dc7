"""Patches that are drawn from annotated volumes.

The patches of a step follow from the seed and the number of the step alone, so a training that was
stopped goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cnapse.detection.augment import Patch, augmented
from cnapse.detection.datasets import AnnotatedVolume
from cnapse.errors import BoundsError, FormatError
from cnapse.volumes.resample import padded_indices

__all__ = [
    "Batch",
    "Sampling",
    "check_volumes",
    "draw_batch",
    "draw_sections",
    "is_on_density",
    "neighbours",
]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# The part of a patch that may lie beyond a rim, at each side.
_BEYOND = 4


@dataclass(frozen=True, slots=True)
class Sampling:
    """How patches are drawn.

    Parameters
    ----------
    patch : int
        Side of a patch in pixels.
    batch : int
    density_share : float
        Share of the patches that are put on a density, off its centre by up to a quarter.
    augment : dict
        Chance of each augmentation.
    sections : int
        Neighbouring sections in a patch, an odd number.
    border : int
        Pixels to each side of an outline that do not count.
    """

    patch: int
    batch: int
    density_share: float
    augment: Mapping[str, float]
    sections: int = 1
    border: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Patches, one after another.

    Parameters
    ----------
    image : ndarray of uint8, shape (n, sections, y, x)
    label, counts : ndarray of bool, shape (n, y, x)
    auxiliary : ndarray of bool, shape (n, y, x), optional
    """

    image: Image
    label: Mask
    counts: Mask
    auxiliary: Mask | None


def is_on_density(number: int, share: float) -> bool:
    """Whether a patch (by its number from 0) is put on a density.

    Of the first n patches, ``floor(n share)`` are, for any n.
    """
    return int((number + 1) * share) > int(number * share)


def draw_batch(
    volumes: Sequence[AnnotatedVolume],
    sampling: Sampling,
    rng: np.random.Generator,
    first: int = 0,
) -> Batch:
    """Draw patches.

    Those on a density take each density of all volumes as often as any other; for the others the
    volumes count by their voxels.

    Parameters
    ----------
    volumes : sequence of AnnotatedVolume
    sampling : Sampling
    rng : Generator
    first : int
        Number of the first patch: see `is_on_density`.
    """
    patches = [
        _draw_patch(volumes, sampling, rng, is_on_density(first + i, sampling.density_share))
        for i in range(sampling.batch)
    ]
    auxiliary = [patch.auxiliary for patch in patches if patch.auxiliary is not None]
    return Batch(
        np.stack([patch.image for patch in patches]),
        np.stack([patch.label for patch in patches]),
        np.stack([patch.counts for patch in patches]),
        np.stack(auxiliary) if auxiliary else None,
    )


def draw_sections(
    volumes: Sequence[AnnotatedVolume],
    count: int,
    patch: int,
    margin: int,
    rng: np.random.Generator,
    sections: int = 1,
) -> list[Image]:
    """Draw unchanged stacks of sections with a margin, mirrored where the volume ends.

    Returns
    -------
    list of ndarray of uint8, shape (patch + 2 margin, patch + 2 margin, sections)
        Axis order x, y, z.
    """
    drawn = []
    sizes = [volume.image.size for volume in volumes]
    for _ in range(count):
        volume = volumes[_pick(sizes, rng)]
        nx, ny, nz = volume.image.shape
        rests = (max(nx - patch, 0) + 1, max(ny - patch, 0) + 1, nz)
        x, y, z = (int(rng.integers(n)) for n in rests)
        columns, rows = (
            padded_indices(start - margin, start + patch + margin, (0, size), "mirror")
            for start, size in ((x, nx), (y, ny))
        )
        drawn.append(volume.image[np.ix_(columns, rows, neighbours(z, sections, nz))])
    return drawn


def check_volumes(volumes: Sequence[AnnotatedVolume], patch: int) -> None:
    """Refuse volumes that cannot be trained on.

    Raises
    ------
    BoundsError
        If one is smaller than half a patch.
    FormatError
        If nothing is marked in any of them.
    """
    if not any(len(volume.densities) for volume in volumes):
        names = ", ".join(volume.name for volume in volumes)
        raise FormatError(f"nothing is marked in {names}: there is nothing to learn")
    for volume in volumes:
        if min(volume.image.shape[:2]) < patch - 2 * (patch // _BEYOND):
            raise BoundsError(
                f"{volume.name} has {volume.image.shape} voxels: less than half a patch of {patch} "
                "px; set patch lower"
            )


def neighbours(z: int, sections: int, depth: int) -> npt.NDArray[np.int64]:
    """Indices of a section and of those around it, mirrored where the volume ends."""
    reach = sections // 2
    return padded_indices(z - reach, z + reach + 1, (0, depth), "mirror")


def _draw_patch(
    volumes: Sequence[AnnotatedVolume],
    sampling: Sampling,
    rng: np.random.Generator,
    on_density: bool,
) -> Patch:
    patch = sampling.patch
    if on_density:
        volume = volumes[_pick([len(volume.densities) for volume in volumes], rng)]
        x, y, z = volume.densities.draw(rng)
        x, y = (int(v + rng.integers(-(patch // 4), patch // 4 + 1)) for v in (x, y))
    else:
        volume = volumes[_pick([volume.image.size for volume in volumes], rng)]
        x, y, z = (int(rng.integers(n)) for n in volume.image.shape)
    size_x, size_y, depth = volume.image.shape
    columns, rows = _span(x, patch, size_x), _span(y, patch, size_y)
    sections = neighbours(z, sampling.sections, depth)
    image = volume.image[np.ix_(columns, rows, sections)]
    plane = np.ix_(columns, rows)
    label = volume.labels[..., z][plane].T > 0
    ignore, auxiliary = volume.ignore, volume.auxiliary
    counts = ~_outlines(label, sampling.border)
    if ignore is not None:
        counts &= ~ignore[..., z][plane].T
    cut = Patch(
        image.T,
        label,
        counts,
        None if auxiliary is None else auxiliary[..., z][plane].T,
    )
    return augmented(cut, rng, sampling.augment)


def _span(middle: int, patch: int, size: int) -> npt.NDArray[np.int64]:
    """Indices of a patch along an axis: up to a quarter of it beyond the rim, mirrored there.

    So the network learns what it is shown at the rim of a volume when it is run.
    """
    outside = patch // _BEYOND
    start = min(max(middle - patch // 2, -outside), max(size - patch + outside, -outside))
    return padded_indices(start, start + patch, (0, size), "mirror")


def _outlines(label: Mask, width: int) -> Mask:
    """Pixels at most `width` from the other side of an outline, along rows, columns or both."""
    if not width or not label.any():
        return np.zeros_like(label)
    side = 2 * width + 1
    highest = ndimage.maximum_filter(label, side, mode="nearest")
    return np.not_equal(highest, ndimage.minimum_filter(label, side, mode="nearest"))


def _pick(weights: Sequence[int], rng: np.random.Generator) -> int:
    shares = np.array(weights, dtype=np.float64)
    return int(rng.choice(len(weights), p=shares / shares.sum()))
