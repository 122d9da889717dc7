"""Reading layers by resolution: any path that CloudVolume knows, at any voxel size that nests.

A layer is opened at a resolution in nm or at a mip. Without a scale of just that resolution the
nearest finer one is downsampled (`cnapse.volumes.resample`), else a coarser one has its voxels
repeated. All grids are anchored at 0 nm, and each mip's own voxel offset counts.

One channel is read at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, FormatError, LayerNotFoundError, ResolutionError
from cnapse.geometry import Box, Resolution, Triple, format_resolution, same_resolution, triple
from cnapse.store import cloud_path
from cnapse.volumes.resample import PadMode, Ratio, downsample, nested_ratio, padded_indices, take
from cnapse.volumes.stored import SMALLEST_CREDIBLE_NM, Kind, StoredLayer, load_info

__all__ = ["Kind", "Layer", "PadMode", "open_layer", "read_cutouts"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer opened at one resolution; made by `open_layer`.

    Parameters
    ----------
    resolution : (x, y, z)
        Voxel size in nm that boxes are counted in and that `read` returns.
    bounds : Box
        All voxels of the layer at that resolution; those cut by its rim are included.
    mip : int
        The stored scale that is read.
    ratio : Ratio
        How voxels of `resolution` lie on those of `mip`.
    """

    resolution: Resolution
    bounds: Box
    mip: int
    ratio: Ratio
    _source: StoredLayer = field(repr=False)

    @property
    def path(self) -> str:
        """Where the layer is, with its protocol."""
        return self._source.path

    @property
    def info(self) -> dict[str, Any]:
        """The layer's ``info`` as stored."""
        return self._source.info

    @property
    def kind(self) -> Kind:
        """``"image"`` or ``"segmentation"``."""
        return "segmentation" if self.info["type"] == "segmentation" else "image"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the arrays that `read` returns."""
        dtype: np.dtype[Any] = np.dtype(self.info["data_type"])
        return dtype

    @property
    def chunk_size(self) -> Triple:
        """Storage chunk of the scale that is read, in its own voxels."""
        return self._source.chunk_size(self.mip)

    @property
    def missing_chunks(self) -> int:
        """How many chunks were not there and stood for 0, counted at each read of one."""
        return self._source.missing

    def at(self, resolution: Sequence[float]) -> Layer:
        """The same layer opened at another resolution (nm).

        Raises
        ------
        ResolutionError
            If no scale of the layer nests with it.
        """
        return _open_at(self._source, resolution)

    def read(self, box: Box, *, pad: PadMode | None = None) -> Array:
        """Read the voxels of a box.

        Parameters
        ----------
        box : Box
            At this layer's resolution. It may reach past the bounds, or lie outside of them.
        pad : {"zero", "edge", "mirror"}, optional
            What stands outside the bounds: 0 (the default for segmentations), the nearest voxel
            (the default for images), or the volume mirrored at the centre of its outermost voxels
            as often as needed (numpy's "reflect").

        Returns
        -------
        ndarray, shape (x, y, z), Fortran order

        Raises
        ------
        ResolutionError
            If the box is counted in other voxels.
        ConfigError
            If `pad` is something else.
        LayerNotFoundError
            If a chunk is missing and the layer was not opened with `fill_missing`.
        FormatError
            If a chunk is damaged.
        """
        if not same_resolution(box.resolution, self.resolution):
            raise ResolutionError(
                f"{self.path} is open at {format_resolution(self.resolution)}, the box {box} is "
                "not: use box.at(layer.resolution), or layer.at(box.resolution)"
            )
        mode = pad or ("zero" if self.kind == "segmentation" else "edge")
        if mode not in ("zero", "edge", "mirror"):
            raise ConfigError(f'pad must be "zero", "edge" or "mirror", not {mode!r}')
        # Resolutions that are equal up to rounding are one from here on.
        wanted = Box(box.start, box.stop, self.resolution)
        if wanted.empty or self.bounds.contains(wanted):
            return self._read_inside(wanted)
        return self._read_zero(wanted) if mode == "zero" else self._read_padded(wanted, mode)

    def _read_zero(self, box: Box) -> Array:
        out = np.zeros(box.shape, dtype=self.dtype, order="F")
        inside = box.intersection(self.bounds)
        if not inside.empty:
            out[inside.slices(box)] = self._read_inside(inside)
        return out

    def _read_padded(self, box: Box, mode: Literal["edge", "mirror"]) -> Array:
        axes = zip(box.start, box.stop, self.bounds.start, self.bounds.stop, strict=True)
        indices = [padded_indices(a, b, (low, high), mode) for a, b, low, high in axes]
        first = triple([int(i.min()) for i in indices])
        last = triple([int(i.max()) + 1 for i in indices])
        found = self._read_inside(Box(first, last, self.resolution))
        return take(found, [i - a for i, a in zip(indices, first, strict=True)])

    def _read_inside(self, box: Box) -> Array:
        """Read a box inside the bounds: slab by slab, since source voxels may be many more."""
        if box.empty:
            return np.zeros(box.shape, dtype=self.dtype, order="F")
        if self.ratio == Ratio():
            return np.asfortranarray(self._source.download(self.mip, box))
        out = np.empty(box.shape, dtype=self.dtype, order="F")
        for slab in self._slabs(box):
            out[slab.slices(box)] = self._resampled(slab)
        return out

    def _slabs(self, box: Box) -> Iterator[Box]:
        """Slabs along z that end with the storage chunks, so that each chunk is decoded once."""
        chunk = self.chunk_size[2] * self.ratio.up[2]
        origin = self._source.bounds(self.mip).start[2] * self.ratio.up[2]
        factor = self.ratio.down[2]
        z, stop = box.start[2], box.stop[2]
        while z < stop:
            chunk_end = origin + ((z * factor - origin) // chunk + 1) * chunk
            end = min(stop, max(z + 1, chunk_end // factor))
            yield Box((*box.start[:2], z), (*box.stop[:2], end), self.resolution)
            z = end

    def _resampled(self, box: Box) -> Array:
        stored = self._source.bounds(self.mip)
        start, stop = self.ratio.to_source(box.start, box.stop)
        source = Box(start, stop, stored.resolution).clamped(stored)
        array = self._source.download(self.mip, source)
        if self.ratio.down != (1, 1, 1):
            array = downsample(array, source.start, self.ratio.down, kind=self.kind)
        if self.ratio.up == (1, 1, 1):
            return array
        first = [a // k for a, k in zip(source.start, self.ratio.down, strict=True)]
        axes = zip(box.start, box.stop, self.ratio.up, first, strict=True)
        return take(array, [np.arange(a, b) // m - origin for a, b, m, origin in axes])


def open_layer(
    path: str | Path,
    *,
    resolution: Sequence[float] | None = None,
    mip: int | None = None,
    kind: Kind | None = None,
    fill_missing: bool = False,
    channel: int | None = None,
    cache_bytes: int = 0,
    check: Callable[[int, Box], None] | None = None,
) -> Layer:
    """Open a layer for reading.

    Parameters
    ----------
    path
        Any path that CloudVolume knows (``gs://``, ``s3://``, ``https://``, ``file://``, ...); one
        without protocol is on this machine's disk. ``precomputed://`` before it is taken off.
    resolution : (x, y, z), optional
        Voxel size in nm to read at, whether the layer has such a scale or not.
    mip : int, optional
        A stored scale. With neither, the finest one.
    kind : {"image", "segmentation"}, optional
        What the layer must be.
    fill_missing
        Whether missing chunks stand for 0; otherwise they are an error.
    channel : int, optional
        Which channel to read of an image that has several.
    cache_bytes : int
        Memory for decoded chunks, for many small reads of the same place.
    check : callable, optional
        Called with mip and box, in voxels of that mip, before voxels are read; raises if the chunks
        are not as they were written.

    Raises
    ------
    LayerNotFoundError
        If there is no layer, or no such mip.
    FormatError
        If it is of the other kind, empty, damaged, or has several channels.
    ResolutionError
        If no scale nests with the wanted resolution.
    ConfigError
        If both resolution and mip are given.
    """
    if resolution is not None and mip is not None:
        raise ConfigError(f"{path}: give a resolution or a mip, not both")
    text = cloud_path(path)
    info = load_info(text)
    _check_kind(text, info, kind)
    source = StoredLayer(
        text, info, fill_missing, _checked_channel(text, info, channel), cache_bytes, check
    )
    if resolution is not None:
        return _open_at(source, resolution)
    finest = min(range(len(source.resolutions)), key=lambda m: _volume(source.resolutions[m]))
    return _open_mip(source, finest if mip is None else mip)


def read_cutouts(layers: Mapping[str, Layer], box: Box) -> dict[str, Array]:
    """Read one box of several layers, each brought to the box's resolution.

    Parameters
    ----------
    layers : mapping of name to Layer
    box : Box
        May reach past the bounds of any of them: segmentations are 0 there, images repeat their
        nearest voxel.

    Returns
    -------
    dict of name to ndarray, each of shape ``box.shape``
    """
    return {name: layer.at(box.resolution).read(box) for name, layer in layers.items()}


def _check_kind(path: str, info: Mapping[str, Any], kind: Kind | None) -> None:
    if kind not in (None, info["type"]):
        needed = "an image" if kind == "image" else f"a {kind}"
        raise FormatError(
            f"{path} is of type {info['type']}, but {needed} is needed: check that the layers are "
            f'not swapped, or set "type" in its info to "{kind}" if it is one'
        )


def _checked_channel(path: str, info: Mapping[str, Any], channel: int | None) -> int:
    count = int(info.get("num_channels", 1))
    if channel is None and count > 1:
        raise FormatError(
            f"{path} has {count} channels, one is needed: choose it with channel=0 to {count - 1}"
        )
    if channel is not None and not 0 <= channel < count:
        raise FormatError(f"{path} has no channel {channel}: it has {count}, counted from 0")
    return channel or 0


def _open_mip(source: StoredLayer, mip: int) -> Layer:
    count = len(source.resolutions)
    if not 0 <= mip < count:
        raise LayerNotFoundError(f"{source.path} has no mip {mip}: it has {_scales(source)}")
    return Layer(source.resolution(mip), source.bounds(mip), mip, Ratio(), source)


def _open_at(source: StoredLayer, resolution: Sequence[float]) -> Layer:
    wanted = Box((0, 0, 0), (0, 0, 0), _as_resolution(resolution)).resolution
    if min(wanted) < SMALLEST_CREDIBLE_NM:
        raise ResolutionError(
            f"{source.path} cannot be read at {format_resolution(wanted)}: that looks like "
            f"micrometres: did you mean {format_resolution([1000 * v for v in wanted])}?"
        )
    mip, ratio = _choose_scale(source, wanted)
    stored = source.bounds(mip)
    bounds = Box(*ratio.to_wanted(stored.start, stored.stop), wanted)
    return Layer(wanted, bounds, mip, ratio, source)


def _choose_scale(source: StoredLayer, wanted: Resolution) -> tuple[int, Ratio]:
    """The scale to read: the same, else the nearest finer one, else the nearest other one."""
    nesting = [
        (max(ratio.up) > 1, ratio.change, mip, ratio)
        for mip, stored in enumerate(source.resolutions)
        if (ratio := nested_ratio(stored, wanted)) is not None
    ]
    if not nesting:
        raise ResolutionError(
            f"{source.path} cannot be read at {format_resolution(wanted)}: it has "
            f"{_scales(source)}; {_other_resolution(source, wanted)}"
        )
    _, _, mip, ratio = min(nesting, key=lambda found: found[:3])
    return mip, ratio


def _other_resolution(source: StoredLayer, wanted: Resolution) -> str:
    """What was meant, if it can be guessed."""
    for stored in source.resolutions:
        if same_resolution(sorted(stored), sorted(wanted)):
            return f"the order is x, y, z: did you mean {format_resolution(stored)}?"
    return "ask for one of these, or for whole multiples or fractions of one"


def _scales(source: StoredLayer) -> str:
    return ", ".join(
        f"mip {mip} at {format_resolution(r)}" for mip, r in enumerate(source.resolutions)
    )


def _volume(resolution: Resolution) -> float:
    return resolution[0] * resolution[1] * resolution[2]


def _as_resolution(values: Sequence[float]) -> Resolution:
    x, y, z = (float(v) for v in values)
    return x, y, z
