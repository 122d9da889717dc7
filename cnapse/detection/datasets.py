"""Annotated volumes in memory: an image, the densities in it, and what else is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.detection.settings import LayerSource, PhantomSource
from cnapse.errors import BoundsError, FormatError
from cnapse.geometry import Box, Resolution
from cnapse.store import local_path

__all__ = ["AnnotatedVolume", "Densities", "as_objects", "load_source"]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Densities:
    """Voxels of densities, those of one object together.

    Parameters
    ----------
    voxels : ndarray of int64
        Raster indices, x fastest.
    begins : ndarray of int64, shape (objects + 1,)
        Where each object begins in `voxels`.
    shape : (x, y, z)
        Of the volume.
    """

    voxels: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, labels: Array) -> Densities:
        """The densities of a volume: `labels` of unsigned int, shape (x, y, z), 0 = none."""
        flat = labels.ravel(order="F")
        voxels = np.flatnonzero(flat)
        voxels = voxels[np.argsort(flat[voxels], kind="stable")]
        ids = flat[voxels]
        changes = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        begins = np.concatenate([[0], changes, [len(ids)]]) if len(ids) else np.zeros(1)
        return cls(voxels, begins.astype(np.int64), labels.shape)

    def __len__(self) -> int:
        return len(self.begins) - 1

    def draw(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """A voxel of a density: each object is as likely as any other, then each of its voxels."""
        which = int(rng.integers(len(self)))
        index = int(self.voxels[rng.integers(self.begins[which], self.begins[which + 1])])
        nx, ny, _ = self.shape
        return index % nx, index // nx % ny, index // (nx * ny)


@dataclass(frozen=True, eq=False)
class AnnotatedVolume:
    """An image and what is drawn in it.

    Parameters
    ----------
    image : ndarray of uint8, shape (x, y, z)
    labels : ndarray of unsigned int, shape (x, y, z)
        Densities, 0 = none; objects of one value are its connected components.
    name : str
        For messages.
    ignore : ndarray of bool, shape (x, y, z), optional
        Voxels that do not count.
    auxiliary : ndarray of bool, shape (x, y, z), optional
        Something else to learn.

    Raises
    ------
    FormatError
        If they do not fit together.
    """

    image: Image
    labels: Array
    name: str = "volume"
    ignore: Mask | None = None
    auxiliary: Mask | None = None

    def __post_init__(self) -> None:
        drawn = [a for a in (self.labels, self.ignore, self.auxiliary) if a is not None]
        shapes = {array.shape for array in (self.image, *drawn)}
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or len(shapes) > 1:
            raise FormatError(
                f"{self.name}: image {self.image.shape} {self.image.dtype} and drawings "
                f"{', '.join(str(array.shape) for array in drawn)}: give a uint8 image and "
                "drawings of the same box"
            )

    @cached_property
    def objects(self) -> Array:
        """Densities that count, by object."""
        objects = as_objects(self.labels)
        return objects if self.ignore is None else np.where(self.ignore, 0, objects)

    @cached_property
    def densities(self) -> Densities:
        """Where the objects are."""
        return Densities.of(self.objects)


def as_objects(labels: Array) -> Array:
    """Objects as drawn; those of a drawing in one value are its components (26-connected).

    Parameters
    ----------
    labels : ndarray of unsigned int, shape (x, y, z)
        0 = none.

    Returns
    -------
    ndarray of unsigned int, shape (x, y, z)
        `labels` itself if it has several values, or none.
    """
    values = np.unique(labels)
    if np.count_nonzero(values) != 1:
        return labels
    import cc3d

    # cc3d fails on boxes one voxel thick.
    padded = np.pad(labels > 0, 1)
    found: Array = cc3d.connected_components(padded, connectivity=26)[1:-1, 1:-1, 1:-1]
    return found


def load_source(source: LayerSource | PhantomSource, resolution: Resolution) -> AnnotatedVolume:
    """Bring the voxels of a source into memory.

    Raises
    ------
    BoundsError
        If the box reaches out of image or drawings, or they do not overlap.
    LayerNotFoundError, FormatError, ConfigError, ResolutionError
        If one of them cannot be read.
    """
    if isinstance(source, PhantomSource):
        return _rendered(source, resolution)
    return _read(source, resolution)


def _rendered(source: PhantomSource, resolution: Resolution) -> AnnotatedVolume:
    from cnapse.phantom import Phantom, PhantomSpec

    spec = PhantomSpec(resolution=resolution, **source.model_dump(exclude={"validation"}))
    made = Phantom(spec).render(spec.bounds)
    return AnnotatedVolume(made["image"], made["densities"], f"phantom {source.seed}")


@dataclass(frozen=True, slots=True)
class _Opened:
    path: str
    bounds: Box
    read: Callable[[Box], Array]


def _read(source: LayerSource, resolution: Resolution) -> AnnotatedVolume:
    names = ["image", "labels", *(n for n in ("ignore", "auxiliary") if getattr(source, n))]
    opened = {name: _open(getattr(source, name), name, resolution) for name in names}
    box = _shared(source, opened, resolution)
    arrays = {name: one.read(box) for name, one in opened.items()}
    ignore, auxiliary = arrays.get("ignore"), arrays.get("auxiliary")
    first, last = source.auxiliary_range
    return AnnotatedVolume(
        arrays["image"],
        arrays["labels"],
        source.image,
        ignore=None if ignore is None else ignore != 0,
        auxiliary=None if auxiliary is None else (auxiliary >= first) & (auxiliary <= last),
    )


def _open(path: str, name: str, resolution: Resolution) -> _Opened:
    """A layer, of which a box is read; or a file, which is read whole."""
    from cnapse.volumes.files import read_volume
    from cnapse.volumes.reader import open_layer

    local = local_path(path)
    if local is None or path.startswith("precomputed://") or (local / "info").is_file():
        layer = open_layer(
            path, resolution=resolution, kind="image" if name == "image" else "segmentation"
        )
        return _Opened(path, layer.bounds, layer.read)
    array, bounds = read_volume(local, resolution=resolution)
    return _Opened(path, bounds, lambda box: array[box.slices(bounds)].copy(order="F"))


def _shared(source: LayerSource, opened: dict[str, _Opened], resolution: Resolution) -> Box:
    """The box to read."""
    box = opened["image"].bounds
    for name, one in opened.items():
        both = box.intersection(one.bounds)
        if both.empty:
            raise BoundsError(f"{source.image} and {getattr(source, name)} do not overlap")
        box = both
    if source.start is None or source.stop is None:
        return box
    wanted = Box(source.start, source.stop, resolution)
    if wanted.empty or not box.contains(wanted):
        raise BoundsError(
            f"box {wanted} of {source.image} is empty or reaches out of what image and labels "
            f"share, {box}"
        )
    return wanted
