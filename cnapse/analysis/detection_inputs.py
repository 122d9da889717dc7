"""What `cnapse evaluate detection` compares: volumes of any format, and the box they share.

Files are held in memory, layers are read block by block. A probability counts as it is stored,
``rint(255 p)``; floats are rounded to that first, so that a file and a layer score the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnapse.errors import BoundsError, ConfigError, FormatError, ResolutionError
from cnapse.geometry import Box, Resolution, Triple, format_resolution, same_resolution
from cnapse.volumes.files import read_volume
from cnapse.volumes.precomputed import is_precomputed
from cnapse.volumes.reader import open_layer
from cnapse.volumes.sources import open_source

__all__ = ["Kind", "Volume", "common_box", "held", "kind_of", "open_volume", "stored_levels"]

Kind = Literal["probability", "labels", "mask"]
"""A map to be cut by a threshold; ids of objects; or a drawing, of which all but 0 counts."""

Array = npt.NDArray[Any]

_LARGEST_STORED = 255
_HELD_VOXELS = 1 << 28
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume that is read box by box.

    Parameters
    ----------
    name : str
        For messages.
    bounds : Box
        Its voxels.
    dtype : numpy dtype
    segmentation : bool or None
        What the layer says it is; None for a file, which does not tell.
    placed : bool
        Whether it tells where it begins.
    """

    name: str
    bounds: Box
    dtype: np.dtype[Any]
    segmentation: bool | None
    placed: bool
    _read: Callable[[Box], Array]

    def read(self, box: Box) -> Array:
        """The voxels of a box, shape (x, y, z), Fortran order; 0 outside of the bounds."""
        out = np.zeros(box.shape, self.dtype, order="F")
        inside = box.intersection(self.bounds)
        if not inside.empty:
            out[inside.slices(box)] = self._read(inside)
        return out


def open_volume(
    path: str | Path,
    resolution: Sequence[float] | None = None,
    *,
    fill_missing: bool = False,
    channel: int | None = None,
) -> Volume:
    """Open a TIFF, HDF5, Zarr or PNG volume, or a layer.

    Parameters
    ----------
    path
        As `cnapse.volumes.files.read_volume` takes it.
    resolution : (x, y, z), optional
        Voxel size in nm: a layer is read at it, a file must have it.
    fill_missing
        Whether missing chunks of a layer stand for 0.
    channel : int, optional
        Of a layer that has several.

    Raises
    ------
    LayerNotFoundError, FormatError, ResolutionError, ConfigError
        One line that names the file and the way out.
    """
    # Image stacks are read from disk only: whatever has a protocol is a layer.
    if "://" in str(path) or is_precomputed(path):
        layer = open_layer(path, resolution=resolution, fill_missing=fill_missing, channel=channel)
        segmentation = layer.kind == "segmentation"
        return Volume(str(path), layer.bounds, layer.dtype, segmentation, True, layer.read)
    placed = open_source(path).begin is not None
    array, bounds = read_volume(path, resolution=resolution)
    return _in_memory(str(path), array, bounds, None, placed=placed)


def held(volume: Volume, box: Box, largest: int = _HELD_VOXELS) -> Volume:
    """The volume with a box of it in memory, if that has at most `largest` voxels."""
    if box.voxels > largest:
        return volume
    array = volume.read(box)
    return _in_memory(volume.name, array, box, volume.segmentation, placed=True)


def kind_of(volume: Volume, given: Kind | None, *, truth: bool) -> Kind:
    """What the values of a volume mean.

    A segmentation, and integers of more than 8 bits, are labels. 8 bits (and floats) are a
    probability where something is predicted, and a drawing where something is true.

    Raises
    ------
    ConfigError
        If floats are called labels, or a truth is a float or a probability.
    """
    option = "--truth-kind" if truth else "--kind"
    if truth and (given == "probability" or (given is None and volume.dtype.kind == "f")):
        raise ConfigError(
            f"{volume.name} is {volume.dtype}: a truth has labels or a drawn mask; give "
            f"{option} labels or {option} mask if it does"
        )
    if given == "labels" and volume.dtype.kind == "f":
        raise ConfigError(f"{volume.name} is {volume.dtype}: labels are whole numbers")
    if given is not None:
        return given
    if volume.segmentation or (volume.dtype.kind in "ui" and volume.dtype.itemsize > 1):
        return "labels"
    if volume.dtype == np.bool_:
        return "mask"
    return "mask" if truth else "probability"


def stored_levels(volume: Volume) -> Volume:
    """A probability as it is stored: uint8, ``rint(255 p)``.

    Raises
    ------
    FormatError
        If it is neither uint8 nor a float between 0 and 1 (that, when it is read).
    """
    if volume.dtype == np.uint8:
        return volume
    if volume.dtype.kind != "f":
        raise FormatError(
            f"{volume.name} is {volume.dtype}: a probability is uint8 (255 p) or float; "
            "say --kind labels or --kind mask if it is none"
        )

    def read(box: Box) -> Array:
        values = volume.read(box)
        # NaN fails both comparisons.
        if not np.all((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)):
            raise FormatError(
                f"{volume.name} has values outside of 0 to 1 in {box}: write 255 p as uint8, or p"
            )
        stored: Array = np.rint(np.clip(values, 0, 1) * _LARGEST_STORED).astype(np.uint8)
        return stored

    return replace(volume, dtype=np.dtype(np.uint8), _read=read)


def common_box(
    predicted: Volume, truth: Volume, start: Triple | None = None, stop: Triple | None = None
) -> Box:
    """The voxels that both have, or those of them that were asked for.

    Raises
    ------
    ResolutionError
        If the voxels differ in size.
    BoundsError
        If they share none, or not those asked for; or if two files of different shapes do not
        tell where they begin.
    ConfigError
        If only one of `start` and `stop` is given.
    """
    one, other = predicted.bounds, truth.bounds
    if not same_resolution(one.resolution, other.resolution):
        raise ResolutionError(
            f"{predicted.name} has voxels of {format_resolution(one.resolution)} and {truth.name} "
            f"of {format_resolution(other.resolution)}: bring one to the other first"
        )
    if not (predicted.placed or truth.placed) and one.shape != other.shape:
        raise BoundsError(
            f"{predicted.name} has {one.shape} voxels and {truth.name} {other.shape}, and neither "
            "tells where it begins: cut both to one box, or ingest them with --offset"
        )
    shared = one.intersection(other.at(one.resolution))
    if shared.empty:
        raise BoundsError(f"{predicted.name} {one} and {truth.name} {other} share no voxel")
    if (start is None) != (stop is None):
        raise ConfigError("give both --start and --stop, or neither")
    if start is None or stop is None:
        return shared
    wanted = Box(start, stop, one.resolution)
    if wanted.empty or not shared.contains(wanted):
        raise BoundsError(
            f"--start and --stop {wanted} are empty or reach out of what {predicted.name} and "
            f"{truth.name} share, {shared}"
        )
    return wanted


def _in_memory(
    name: str, array: Array, bounds: Box, segmentation: bool | None, *, placed: bool
) -> Volume:
    def read(box: Box) -> Array:
        found: Array = array[Box(box.start, box.stop, bounds.resolution).slices(bounds)]
        return found

    return Volume(name, bounds, array.dtype, segmentation, placed, read)


def as_volume(array: Array, resolution: Resolution, name: str = "array") -> Volume:
    """An array in memory as a volume that begins at voxel 0, 0, 0."""
    bounds = Box.from_shape(array.shape, resolution)
    return _in_memory(name, array, bounds, None, placed=True)
