"""Detection of a single volume, from a file or layer to a file or layer.

Slabs of whole sections are read, predicted and written at the same time (`pipeline`), so memory
holds a few slabs: width x height x (sections of a slab) bytes each. What is larger is for
``cnapse run``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.detection.backends import engine_of
from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.inference import Precision, detect_block, fitting_tile, read_box, with_tile
from cnapse.detection.outputs import Output
from cnapse.detection.pipeline import overlapped
from cnapse.detection.tta import Augmentation
from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Box, format_resolution
from cnapse.volumes.resample import padded_indices, take
from cnapse.volumes.sources import Source

__all__ = ["Options", "check_pixels", "check_resolution", "detect_volume"]

Image = npt.NDArray[np.uint8]

# 4 and 4.6 nm look alike to a network; 4 and 8 nm do not.
_OTHER_SIZE = 1.6
# A slab is as many times as deep as it reads neighbours.
_TWICE_AT_MOST = 4


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is run; see `cnapse.detection.inference.detect_block`."""

    precision: Precision = "float32"
    device: str = "cpu"
    batch: int = 1
    zero_is_missing: bool = False
    augment: Augmentation = "none"
    compiled: bool = False


def check_resolution(
    model: ModelBundle, name: str, resolution: tuple[float, float, float], way_out: str
) -> None:
    """Refuse to run a model on voxels of quite another size than it was trained on.

    Raises
    ------
    ConfigError
    """
    pairs = zip(model.resolution, resolution, strict=True)
    if any(max(a / b, b / a) > _OTHER_SIZE for a, b in pairs):
        raise ConfigError(
            f"model {name} was trained at {format_resolution(model.resolution)}, {way_out}"
        )


def check_pixels(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse images that are not uint8, which is what networks are trained on.

    Parameters
    ----------
    name : str
        Of the image, for the error.
    dtype : dtype
        Of its pixels.

    Raises
    ------
    FormatError
    """
    if dtype != np.uint8:
        raise FormatError(
            f"{name} has pixels of {dtype}, detection takes uint8: make it so with "
            "`cnapse ingest IMAGE LAYER --auto-range`, and give the layer"
        )


def detect_volume(
    image: Source,
    bounds: Box,
    model: ModelBundle,
    output: Output,
    options: Options | None = None,
    *,
    mask: Source | None = None,
    tile: tuple[int, int] | None = None,
    progress: Callable[[int], object] | None = None,
) -> str:
    """Predict a volume.

    Parameters
    ----------
    image : Source
        Of uint8.
    bounds : Box
        Its voxels; tiles are counted from their start.
    model : ModelBundle
    output : Output
        Made for these bounds and the classes of the model.
    options : Options, optional
    mask : Source, optional
        Of the same shape; probability is 0 where it is 0.
    tile : (x, y), optional
        Default: `fitting_tile`. It does not matter in float32 with frozen statistics.
    progress : callable, optional
        Is told how many sections were predicted.

    Returns
    -------
    str
        Which path was taken: see `cnapse.detection.backends.Engine.took`.

    Raises
    ------
    FormatError
        If the image is not uint8 or the mask has another shape.
    ConfigError
        As `detect_block`.
    """
    options = options or Options()
    _check(image, mask)
    model = with_tile(model, tile or fitting_tile(model, bounds))
    task = _Task(image, mask, bounds, model, options, progress or (lambda _: None))
    overlapped(
        _slabs(image, bounds, model, output.depth), task.read, task.compute, task.write(output)
    )
    return task.took


@dataclass(frozen=True, slots=True)
class _Slab:
    """Sections of an image with their neighbours, and a mask of them."""

    read: Box
    image: Image
    mask: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class _Task:
    image: Source
    mask: Source | None
    bounds: Box
    model: ModelBundle
    options: Options
    progress: Callable[[int], object]

    @property
    def took(self) -> str:
        options = self.options
        return engine_of(
            self.model,
            options.precision,
            options.device,
            compiled=options.compiled,
            augmentation=options.augment,
        ).took

    def read(self, slab: Box) -> _Slab:
        """Whole sections; in z as far as there are any."""
        read = slab.grown((0, 0, self.model.sections // 2)).intersection(self.bounds)
        mask = None if self.mask is None else self._sections(self.mask, slab) != 0
        return _Slab(read, self._sections(self.image, read), mask)

    def compute(self, slab: Box, found: _Slab) -> Image:
        """Levels, shape (x, y, z, classes)."""
        levels = np.zeros((*slab.shape, len(self.model.classes)), np.uint8, order="F")
        for z in range(slab.shape[2]):
            section = Box.from_shape(
                (*slab.shape[:2], 1), slab.resolution, (*slab.start[:2], slab.start[2] + z)
            )
            mask = None if found.mask is None else found.mask[:, :, z : z + 1]
            levels[:, :, z] = self._section(section, found, mask).reshape(levels[:, :, z].shape)
            self.progress(1)
        return levels

    def write(self, output: Output) -> Callable[[Box, Image], object]:
        """What writes a slab."""
        return lambda slab, levels: output.write(levels, slab)

    def _section(self, section: Box, found: _Slab, mask: npt.NDArray[np.bool_] | None) -> Image:
        read = read_box(section, self.bounds, self.model)
        indices = [
            padded_indices(
                read.start[a], read.stop[a], (self.bounds.start[a], self.bounds.stop[a]), "mirror"
            )
            - found.read.start[a]
            for a in range(3)
        ]
        options = self.options
        return detect_block(
            np.asarray(take(found.image, indices)),
            section,
            self.bounds,
            self.model,
            precision=options.precision,
            device=options.device,
            batch=options.batch,
            zero_is_missing=options.zero_is_missing,
            mask=mask,
            augment=options.augment,
            compiled=options.compiled,
        )

    def _sections(self, source: Source, box: Box) -> npt.NDArray[Any]:
        array = np.empty(box.shape, dtype=source.dtype, order="F")
        source.read_into(array, box.start[2] - self.bounds.start[2])
        return array


def _slabs(image: Source, bounds: Box, model: ModelBundle, depth: int) -> list[Box]:
    """Slabs of which each reads and writes whole chunks, and few sections twice."""
    decoded = image.chunk_size[2] if image.chunk_size else 1
    neighbours = model.sections - 1
    wanted = max(depth, decoded, _TWICE_AT_MOST * neighbours)
    step = -(-wanted // depth) * depth
    first, last = bounds.start[2], bounds.stop[2]
    return [
        Box((*bounds.start[:2], z), (*bounds.stop[:2], min(z + step, last)), bounds.resolution)
        for z in range(first, last, step)
    ]


def _check(image: Source, mask: Source | None) -> None:
    check_pixels(image.name, image.dtype)
    if mask is not None and mask.shape != image.shape:
        raise FormatError(
            f"mask {mask.name} has {mask.shape} voxels, {image.name} has {image.shape}: they must "
            "be the same"
        )
