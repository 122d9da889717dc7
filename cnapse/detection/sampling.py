"""Sample sections of an image, on which the statistics of a network are frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Box, Resolution
from cnapse.store import local_path
from cnapse.volumes.files import read_volume
from cnapse.volumes.precomputed import is_precomputed
from cnapse.volumes.reader import open_layer
from cnapse.volumes.resample import padded_indices, take

__all__ = ["Sample", "SampleSpec", "sample_sections"]

Image = npt.NDArray[np.uint8]

# Windows that hold less image than this share say more of the rim than of the tissue.
_LEAST_IMAGE = 0.5
_TRIES = 4


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """How sections are drawn.

    Parameters
    ----------
    count : int
        Number of windows; their sections are spread over z.
    size : int
        Side of a window in pixels, without the margin.
    seed : int
        Of their places in x and y.
    """

    count: int = 16
    size: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 1:
            raise ConfigError(
                f"a sample of {self.count} windows of {self.size} px: give at least one of each"
            )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Windows of sections, and where they start.

    Parameters
    ----------
    windows : list of ndarray of uint8, shape (x, y, sections)
    starts : list of (x, y, z)
        First voxel of each window, without its margin; z of its middle section.
    """

    windows: list[Image]
    starts: list[tuple[int, int, int]]


def sample_sections(
    path: str | Path,
    resolution: Resolution,
    spec: SampleSpec,
    *,
    margin: int,
    sections: int = 1,
    stride: int = 16,
) -> Sample:
    """Draw windows of an image, mirrored outside of its bounds as detection sees it.

    Where a window would hold more black (0) than image, another is drawn.

    Parameters
    ----------
    path
        A layer, or a file as `cnapse ingest` takes it.
    resolution : (x, y, z)
        Voxel size in nm.
    spec : SampleSpec
    margin : int
        Pixels at each side beyond the size.
    sections : int
        Neighbouring sections in a window.
    stride : int
        The sides of a window are multiples of it.

    Raises
    ------
    FormatError
        If the image is not uint8, or black.
    LayerNotFoundError, ResolutionError
        If it cannot be read.
    """
    bounds, read = _opened(path, resolution)
    rng = np.random.default_rng(spec.seed)
    sides = [-(-min(spec.size, n) // stride) * stride for n in bounds.shape[:2]]
    rests = [max(0, n - side) for n, side in zip(bounds.shape[:2], sides, strict=True)]
    windows: list[Image] = []
    starts: list[tuple[int, int, int]] = []
    for z in _spread(spec.count, bounds.start[2], bounds.stop[2]):
        for _ in range(_TRIES):
            x, y = (a + int(rng.integers(n + 1)) for a, n in zip(bounds.start, rests, strict=False))
            half = sections // 2
            box = Box((x, y, z - half), (x + sides[0], y + sides[1], z + half + 1), resolution)
            window = read(box.grown((margin, margin, 0)))
            if window.dtype != np.uint8:
                raise FormatError(f"{path} is {window.dtype}: detection needs an uint8 image")
            if np.count_nonzero(window) >= _LEAST_IMAGE * window.size:
                windows.append(window)
                starts.append((x, y, z))
                break
    if not windows:
        raise FormatError(f"{path} is black (0) at {spec.count * _TRIES} places: nothing to sample")
    return Sample(windows, starts)


def _spread(count: int, first: int, stop: int) -> list[int]:
    """Sections at equal distances, in the middle of equal parts."""
    return [first + (2 * i + 1) * (stop - first) // (2 * count) for i in range(count)]


def _opened(
    path: str | Path, resolution: Resolution
) -> tuple[Box, Callable[[Box], npt.NDArray[Any]]]:
    if local_path(path) is None or is_precomputed(path):
        layer = open_layer(path, resolution=resolution, kind="image")
        return layer.bounds, lambda box: layer.read(box, pad="mirror")
    array, bounds = read_volume(path, resolution=resolution)

    def read(box: Box) -> npt.NDArray[Any]:
        axes = zip(box.start, box.stop, bounds.start, bounds.stop, strict=True)
        indices = [padded_indices(a, b, (low, high), "mirror") - low for a, b, low, high in axes]
        return take(array, indices)

    return bounds, read
