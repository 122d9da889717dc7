"""Where the probability of a single volume goes: TIFF, HDF5 or a precomputed layer.

A file is written beside its place and moved there when it is whole; a layer gets its ``info`` last.
So nothing is ever half there under its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnapse.errors import CnapseError, ConfigError, LayerExistsError, storage_error
from cnapse.geometry import Box
from cnapse.store import Store, cloud_path, local_path
from cnapse.volumes.channels import ChannelsWriter, build_channels
from cnapse.volumes.ingest import default_chunk_size
from cnapse.volumes.writer import commit_info

__all__ = ["Output", "open_output"]

Levels = npt.NDArray[np.uint8]

_TIFF = (".tif", ".tiff")
_HDF5 = (".h5", ".hdf5", ".hdf")
# ImageJ's own format ends there; OME-TIFF goes on.
_IMAGEJ_BYTES = 2**32 - 2**20


class Output(Protocol):
    """What slabs of whole sections are written to.

    Attributes
    ----------
    depth : int
        Slabs are to have so many sections, counted from the first one of the volume.
    """

    @property
    def depth(self) -> int: ...  # noqa: D102

    def write(self, levels: Levels, box: Box) -> object:
        """Write sections: shape (x, y, z, classes), of a box that begins at a multiple of depth."""


@contextmanager
def open_output(
    path: str | Path, bounds: Box, classes: Sequence[str], *, overwrite: bool = False
) -> Iterator[Output]:
    """An output by the ending of its name; there when the block ends, gone if it fails.

    Parameters
    ----------
    path
        ``.tif``, ``.tiff``: z, y, x with ImageJ's voxel size. ``.h5``, ``.hdf5``: dataset ``main``,
        z, y, x, with the attribute ``element_size_um``. Anything else: a precomputed layer, whose
        voxels keep their coordinates. Several classes come as the axis c: TIFF z, c, y, x; HDF5
        c, z, y, x; channels of a layer.
    bounds : Box
    classes : sequence of str
    overwrite
        Whether to replace what is there; a layer must be deleted by hand.

    Raises
    ------
    LayerExistsError
        If something is there.
    ConfigError
        If its folder is not there.
    """
    suffix = Path(str(path)).suffix.lower()
    if "://" not in str(path) and suffix in _TIFF + _HDF5:
        opened = _tiff if suffix in _TIFF else _hdf5
        with (
            _replaced(Path(path).expanduser(), overwrite=overwrite) as part,
            opened(part, bounds, classes) as output,
        ):
            yield output
        return
    layer = _Layer(str(path), bounds, classes)
    yield layer
    commit_info(layer.path, layer.info)


@contextmanager
def _replaced(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A path beside another, moved there when the block ends, deleted if it fails."""
    if path.exists() and not overwrite:
        raise LayerExistsError(f"{path} exists already: use another path, or --overwrite")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}: make it first")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except CnapseError:
        raise
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        part.unlink(missing_ok=True)


class _Sections:
    """An array on disk, of which whole sections are written."""

    def __init__(self, array: Any, order: str, first: int, depth: int) -> None:
        self._array, self._order, self._first, self.depth = array, order, first, depth

    def write(self, levels: Levels, box: Box) -> None:
        axes = ["xyzc".index(axis) for axis in self._order]
        at = [slice(None)] * len(axes)
        at[self._order.index("z")] = slice(box.start[2] - self._first, box.stop[2] - self._first)
        turned = levels.transpose(*axes, *(a for a in range(4) if a not in axes))
        self._array[tuple(at)] = turned.reshape(turned.shape[: len(axes)])


@contextmanager
def _tiff(path: Path, bounds: Box, classes: Sequence[str]) -> Iterator[Output]:
    import tifffile

    width, height, depth = bounds.shape
    order = "zyx" if len(classes) == 1 else "zcyx"
    shape = [{"x": width, "y": height, "z": depth, "c": len(classes)}[axis] for axis in order]
    x, y, z = bounds.resolution
    described: dict[str, Any]
    # tifffile folds pages one pixel wide when it writes ImageJ's format.
    if width > 1 and bounds.voxels * len(classes) < _IMAGEJ_BYTES:
        options: dict[str, Any] = {"imagej": True, "resolution": (1 / x, 1 / y)}
        described = {"axes": order.upper(), "spacing": z, "unit": "nm"}
    else:
        options = {"ome": True, "bigtiff": True}
        described = {"axes": order.upper()}
        for axis, size in zip("XYZ", (x, y, z), strict=True):
            described |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "nm"}
    if len(classes) > 1 and "ome" in options:
        described["Channel"] = {"Name": list(classes)}
    array = tifffile.memmap(path, shape=shape, dtype=np.uint8, metadata=described, **options)
    yield _Sections(array, order, bounds.start[2], 1)
    array.flush()


@contextmanager
def _hdf5(path: Path, bounds: Box, classes: Sequence[str]) -> Iterator[Output]:
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError(f"{path}: writing HDF5 needs h5py: pip install h5py") from error
    order = "zyx" if len(classes) == 1 else "czyx"
    sizes = dict(zip("xyz", bounds.shape, strict=True)) | {"c": len(classes)}
    nm = dict(zip("xyz", bounds.resolution, strict=True))
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "main",
            shape=[sizes[axis] for axis in order],
            dtype=np.uint8,
            chunks=tuple(min(sizes[axis], {"x": 256, "y": 256}.get(axis, 1)) for axis in order),
            compression="gzip",
            compression_opts=1,
        )
        for axis, name in zip(data.dims, order, strict=True):
            axis.label = name
        data.attrs["element_size_um"] = [nm[axis] / 1e3 for axis in "zyx"]
        data.attrs["offset"] = [bounds.start["xyz".index(axis)] for axis in "zyx"]
        data.attrs["classes"] = list(classes)
        yield _Sections(data, order, bounds.start[2], 1)


class _Layer:
    """A precomputed layer with a channel for each class, raw chunks; its info is not yet there."""

    def __init__(self, path: str, bounds: Box, classes: Sequence[str]) -> None:
        if Store(path).exists("info"):
            raise LayerExistsError(
                f"{path} is a layer already: use another path, or delete it first"
            )
        local = local_path(path)
        if local is not None and local.is_file():
            raise LayerExistsError(f"{path} is a file: name it .tif or .h5, or give a folder")
        self.path = cloud_path(path)
        chunk = default_chunk_size(bounds.resolution)
        self.depth = chunk[2]
        self.info = build_channels(bounds, chunk, classes)
        self.write = ChannelsWriter(self.path, self.info).write
