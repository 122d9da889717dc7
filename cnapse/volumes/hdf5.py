"""HDF5 datasets, read with h5py.

HDF5 itself knows neither axes nor units. Taken are dimension labels and vigra's ``axistags`` (as
ilastik writes), and a voxel size where its unit is told: ``element_size_um``, or ``resolution``
together with ``unit`` or ``units``. Without labels an array of three axes is z, y, x.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import CnapseError, ConfigError, FormatError, LayerNotFoundError, storage_error
from cnapse.volumes.arrays import ArraySource, Metadata, choose_axes, one_line
from cnapse.volumes.sources import Source, file_identity
from cnapse.volumes.units import in_nm

__all__ = ["SUFFIXES", "is_hdf5", "open_hdf5"]

SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")

_MAGIC = b"\x89HDF\r\n\x1a\n"
_LISTED = 5


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does, or its name says that it is."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def open_hdf5(
    path: Path,
    dataset: str | None = None,
    axes: str | None = None,
    *,
    ignore_metadata: bool = False,
) -> Source:
    """Open a dataset of a file; see `cnapse.volumes.sources.open_source`.

    Raises
    ------
    ConfigError
        If the file has several volumes and none is named, or the axes do not fit.
    LayerNotFoundError
        If there is no such file or dataset.
    FormatError
        If it is no HDF5 file, or the dataset no volume.
    """
    if not path.is_file():
        raise LayerNotFoundError(f"{path}: no such file or folder: check the path")
    with _opened(path) as file:
        try:
            node = _find(file, path, dataset)
            array = _Dataset(path, node)
            stated = _metadata(node)
        except CnapseError:
            raise
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise FormatError(
                f"{path} is not a readable HDF5 file ({one_line(error)}): copy it again"
            ) from error
    default = "zyx"
    chosen = choose_axes(array, stated.axes, axes, default=default, ignore_metadata=ignore_metadata)
    return ArraySource(array, stated, chosen)


class _Dataset:
    """A dataset of a file, opened anew for each strip."""

    def __init__(self, path: Path, node: Any) -> None:
        self.path, self.key = path, str(node.name)
        self.name = f"{path}:{self.key}"
        self.shape: tuple[int, ...] = tuple(node.shape or ())
        self.dtype: np.dtype[Any] = node.dtype
        self.chunks: tuple[int, ...] | None = node.chunks

    def read(self, where: tuple[slice, ...]) -> npt.NDArray[Any]:
        try:
            with _opened(self.path) as file:
                found: npt.NDArray[Any] = file[self.key][where]
        except (OSError, RuntimeError, ValueError) as error:
            raise FormatError(
                f"{self.name} cannot be decoded ({one_line(error)}): copy or export it again"
            ) from error
        return found

    def identity(self) -> list[list[object]]:
        return [[*file_identity(self.path), self.key]]


def _opened(path: Path) -> Any:
    try:
        # The one import of it: others ask a node whether it has axes.
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError(f"{path}: reading HDF5 needs h5py: pip install h5py") from error
    try:
        return h5py.File(path, "r")
    except PermissionError as error:
        raise storage_error(error, path) from error
    except OSError as error:
        raise FormatError(
            f"{path} is not a readable HDF5 file ({one_line(error)}): copy it again"
        ) from error


def _find(file: Any, path: Path, dataset: str | None) -> Any:
    volumes = _volumes(file)
    if dataset is None:
        if len(volumes) == 1:
            return file[volumes[0]]
        if not volumes:
            raise FormatError(f"{path} holds no dataset of three or more axes: is it a volume?")
        raise ConfigError(
            f"{path} holds {len(volumes)} volumes, {_listed(volumes)}: name one, as in "
            f"{path}:{volumes[0]}"
        )
    node = file.get(dataset)
    if not hasattr(node, "ndim"):
        found = f"there are {_listed(volumes)}" if volumes else "it has no volumes"
        raise LayerNotFoundError(f"{path}: no dataset {dataset}, {found}: correct the name")
    return node


def _volumes(file: Any) -> list[str]:
    found: list[str] = []

    def visit(_name: str, node: Any) -> None:
        if getattr(node, "ndim", 0) > 2:
            found.append(str(node.name))

    file.visititems(visit)
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _metadata(node: Any) -> Metadata:
    return Metadata(_axes(node), _sizes(node))


def _axes(node: Any) -> str | None:
    if "axistags" in node.attrs:
        tags = json.loads(node.attrs["axistags"])["axes"]
        return "".join(str(tag["key"]) for tag in tags)
    labels = [str(dimension.label).lower() for dimension in node.dims]
    return "".join(labels) if labels and all(len(label) == 1 for label in labels) else None


def _sizes(node: Any) -> tuple[float, ...] | None:
    if "element_size_um" in node.attrs:
        values, scale = node.attrs["element_size_um"], 1e3
    else:
        unit = _unit(node)
        if unit is None or "resolution" not in node.attrs:
            return None
        values, scale = node.attrs["resolution"], unit
    sizes = tuple(scale * float(v) for v in np.ravel(values))
    # Some write three sizes, of z, y, x, for an array with channels before them.
    return (0.0,) * (node.ndim - len(sizes)) + sizes if len(sizes) <= node.ndim else None


def _unit(node: Any) -> float | None:
    """The one unit of all axes, in nm."""
    value = node.attrs.get("units", node.attrs.get("unit"))
    if value is None:
        return None
    texts = {v.decode() if isinstance(v, bytes) else str(v) for v in np.ravel(value)}
    return in_nm(texts.pop()) if len(texts) == 1 else None
