"""Annotated volumes in memory, and the patches that are drawn from them.

The patches of a step follow from the seed and the number of the step alone, so a training that was
stopped goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.detection.augment import augmented
from cnapse.detection.settings import LayerSource, PhantomSource
from cnapse.errors import BoundsError, FormatError
from cnapse.geometry import Box, Resolution

__all__ = [
    "AnnotatedVolume",
    "Sampling",
    "check_volumes",
    "draw_batch",
    "draw_sections",
    "load_source",
]

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AnnotatedVolume:
    """An image and the densities in it.

    Parameters
    ----------
    image : ndarray of uint8, shape (x, y, z)
    labels : ndarray of unsigned int, shape (x, y, z)
        Densities, 0 = none.
    name : str
        For messages.
    """

    image: Image
    labels: npt.NDArray[Any]
    name: str = "volume"
    _density_voxels: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.shape != self.labels.shape:
            raise FormatError(
                f"{self.name}: image {self.image.shape} {self.image.dtype} and labels "
                f"{self.labels.shape}: give a uint8 image and labels of the same box"
            )
        object.__setattr__(self, "_density_voxels", np.flatnonzero(self.labels.ravel(order="F")))

    @property
    def has_densities(self) -> bool:
        """Whether anything is marked."""
        return len(self._density_voxels) > 0

    def random_density(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """A voxel on a density."""
        index = int(self._density_voxels[rng.integers(len(self._density_voxels))])
        nx, ny, _ = self.image.shape
        return index % nx, index // nx % ny, index // (nx * ny)


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
    """

    patch: int
    batch: int
    density_share: float
    augment: Mapping[str, float]


def load_source(source: LayerSource | PhantomSource, resolution: Resolution) -> AnnotatedVolume:
    """Bring the voxels of a source into memory.

    Raises
    ------
    BoundsError
        If the box reaches out of its layers.
    """
    if isinstance(source, PhantomSource):
        return _rendered(source, resolution)
    return _read(source, resolution)


def draw_batch(
    volumes: Sequence[AnnotatedVolume], sampling: Sampling, rng: np.random.Generator
) -> tuple[Image, npt.NDArray[np.bool_]]:
    """Draw patches; volumes count by their voxels.

    Returns
    -------
    (ndarray of uint8, ndarray of bool), shape (batch, y, x)
    """
    pairs = [_draw_patch(volumes, sampling, rng) for _ in range(sampling.batch)]
    return np.stack([image for image, _ in pairs]), np.stack([label for _, label in pairs])


def draw_sections(
    volumes: Sequence[AnnotatedVolume],
    count: int,
    patch: int,
    margin: int,
    rng: np.random.Generator,
) -> list[Image]:
    """Draw unchanged sections with a margin at each side, mirrored where the volume ends.

    Returns
    -------
    list of ndarray of uint8, shape (patch + 2 margin,) * 2
        Axis order x, y.
    """
    drawn = []
    for _ in range(count):
        volume = volumes[_pick(volumes, rng)]
        nx, ny, nz = volume.image.shape
        x, y, z = (int(rng.integers(n)) for n in (nx - patch + 1, ny - patch + 1, nz))
        wide = np.pad(volume.image[:, :, z], margin, mode="reflect")
        drawn.append(wide[x : x + patch + 2 * margin, y : y + patch + 2 * margin])
    return drawn


def check_volumes(volumes: Sequence[AnnotatedVolume], patch: int) -> None:
    """Refuse volumes that cannot be trained on.

    Raises
    ------
    BoundsError
        If one is smaller than a patch.
    FormatError
        If nothing is marked in any of them.
    """
    if not any(volume.has_densities for volume in volumes):
        names = ", ".join(volume.name for volume in volumes)
        raise FormatError(f"nothing is marked in {names}: there is nothing to learn")
    for volume in volumes:
        if min(volume.image.shape[:2]) < patch:
            raise BoundsError(
                f"{volume.name} has {volume.image.shape} voxels: smaller than a patch of {patch} "
                "px; set patch lower"
            )


def _draw_patch(
    volumes: Sequence[AnnotatedVolume], sampling: Sampling, rng: np.random.Generator
) -> tuple[Image, npt.NDArray[np.bool_]]:
    volume = volumes[_pick(volumes, rng)]
    patch = sampling.patch
    x, y, z = (int(rng.integers(n)) for n in volume.image.shape)
    if volume.has_densities and rng.random() < sampling.density_share:
        x, y, z = volume.random_density(rng)
        x, y = (int(v + rng.integers(-(patch // 4), patch // 4 + 1)) for v in (x, y))
    size_x, size_y, _ = volume.image.shape
    x = min(max(x - patch // 2, 0), size_x - patch)
    y = min(max(y - patch // 2, 0), size_y - patch)
    index = (slice(x, x + patch), slice(y, y + patch), z)
    return augmented(volume.image[index].T, volume.labels[index].T > 0, rng, sampling.augment)


def _pick(volumes: Sequence[AnnotatedVolume], rng: np.random.Generator) -> int:
    sizes = np.array([volume.image.size for volume in volumes], dtype=np.float64)
    return int(rng.choice(len(volumes), p=sizes / sizes.sum()))


def _rendered(source: PhantomSource, resolution: Resolution) -> AnnotatedVolume:
    from cnapse.phantom import Phantom, PhantomSpec

    spec = PhantomSpec(resolution=resolution, **source.model_dump(exclude={"validation"}))
    made = Phantom(spec).render(spec.bounds)
    return AnnotatedVolume(made["image"], made["densities"], f"phantom {source.seed}")


def _read(source: LayerSource, resolution: Resolution) -> AnnotatedVolume:
    from cnapse.volumes.reader import open_layer

    image = open_layer(source.image, resolution=resolution)
    labels = open_layer(source.labels, resolution=resolution, kind="segmentation")
    box = image.bounds.intersection(labels.bounds)
    if source.start is not None and source.stop is not None:
        wanted = Box(source.start, source.stop, resolution)
        if wanted.empty or not box.contains(wanted):
            raise BoundsError(
                f"box {wanted} of {source.image} is empty or reaches out of what image and labels "
                f"share, {box}"
            )
        box = wanted
    if box.empty:
        raise BoundsError(f"{source.image} and {source.labels} do not overlap")
    return AnnotatedVolume(image.read(box), labels.read(box), source.image)
