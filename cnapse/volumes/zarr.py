"""Zarr (v2, v3), OME-Zarr and N5 folders, read with tensorstore.

Taken from metadata are: OME-Zarr's axes, scales and translations (0.3 to 0.5, the finest scale
unless another is named), Zarr v3's dimension names, and N5's ``axes``, ``resolution`` with
``units``, and ``pixelResolution`` with its unit where the array is no downsampled one. N5 without
axes is x, y, z, as its specification has it; Zarr without axes must be told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, FormatError, LayerNotFoundError
from cnapse.volumes.arrays import ArraySource, Metadata, choose_axes, one_line
from cnapse.volumes.sources import Source, file_identity
from cnapse.volumes.units import in_nm

__all__ = ["is_zarr", "open_zarr"]

_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", "attributes.json")
_DRIVERS = {"zarr.json": "zarr3", ".zarray": "zarr", "attributes.json": "n5"}
_LISTED = 5


@dataclass(frozen=True, slots=True)
class _Node:
    """A folder that may be an array or a group."""

    path: Path

    def json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        try:
            found = json.loads(file.read_bytes()) if file.is_file() else {}
        except (ValueError, RecursionError, OSError) as error:
            raise FormatError(
                f"{file} cannot be read ({one_line(error)}): copy it again"
            ) from error
        return found if isinstance(found, dict) else {}

    @property
    def array_file(self) -> str | None:
        """The file that describes it if it is an array."""
        if self.json("zarr.json").get("node_type") == "array":
            return "zarr.json"
        if (self.path / ".zarray").is_file():
            return ".zarray"
        return "attributes.json" if "dimensions" in self.json("attributes.json") else None

    @property
    def multiscales(self) -> list[Any]:
        """OME-Zarr's description of the images in this group."""
        attributes = self.json("zarr.json").get("attributes", {})
        return list(
            attributes.get("ome", {}).get("multiscales")
            or self.json(".zattrs").get("multiscales", [])
        )


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr or N5 group or array, or its name says so."""
    named = path.suffix.lower() in (".zarr", ".n5")
    return named or any((path / name).is_file() for name in _FILES)


def open_zarr(
    path: Path,
    dataset: str | None = None,
    axes: str | None = None,
    *,
    ignore_metadata: bool = False,
) -> Source:
    """Open an array of a folder; see `cnapse.volumes.sources.open_source`.

    Raises
    ------
    ConfigError
        If there are several arrays and none is named, or the axes are not told or do not fit.
    LayerNotFoundError
        If there is no such folder or array.
    FormatError
        If its metadata cannot be read, or it is no single volume.
    """
    if not path.is_dir():
        raise LayerNotFoundError(f"{path}: no such file or folder: check the path")
    node = _find(path, dataset)
    kind = str(node.array_file)
    array = _TensorArray(node.path, kind)
    stated = _ome_metadata(path, node.path) or _own_metadata(node, kind)
    default = "xyz" if kind == "attributes.json" else None
    chosen = choose_axes(array, stated.axes, axes, default=default, ignore_metadata=ignore_metadata)
    sized = [len(v) for v in (stated.sizes, stated.begins) if v is not None]
    if any(n != len(array.shape) for n in sized):
        raise FormatError(f"{array.name}: its metadata has not one voxel size for each of its axes")
    return ArraySource(array, stated, chosen)


class _TensorArray:
    """An array opened with tensorstore."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.name, self._kind = path, str(path), kind
        self._store = _opened(path, _DRIVERS[kind])
        self.shape: tuple[int, ...] = tuple(self._store.shape)
        self.dtype: np.dtype[Any] = np.dtype(self._store.dtype.numpy_dtype)
        chunks = self._store.chunk_layout.read_chunk.shape
        self.chunks: tuple[int, ...] | None = tuple(c or 1 for c in chunks) if chunks else None

    def read(self, where: tuple[slice, ...]) -> npt.NDArray[Any]:
        try:
            found: npt.NDArray[Any] = self._store[where].read().result()
        except Exception as error:
            # tensorstore raises what its codecs and file system say, as ValueError and others.
            raise FormatError(
                f"{self.name} cannot be decoded ({one_line(error)}): copy or export it again"
            ) from error
        return found

    def identity(self) -> list[list[object]]:
        # Chunks may be millions: the file that describes them stands for them.
        return [file_identity(self.path / self._kind)]


def _opened(path: Path, driver: str) -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading Zarr and N5 needs tensorstore: pip install tensorstore"
        ) from error
    place = {"driver": "file", "path": f"{path.absolute()}/"}
    try:
        return tensorstore.open({"driver": driver, "kvstore": place}, open=True, read=True).result()
    except (ValueError, OSError, NotImplementedError) as error:
        raise FormatError(f"{path} cannot be opened: {one_line(error)}") from error


def _find(path: Path, dataset: str | None) -> _Node:
    node = _Node(path / dataset.strip("/") if dataset else path)
    if node.array_file:
        return node
    images = node.multiscales
    if images and images[0].get("datasets"):
        finest = _Node(node.path / str(images[0]["datasets"][0]["path"]))
        if finest.array_file:
            return finest
        raise LayerNotFoundError(
            f"{finest.path}: the array that {node.path} names is missing: copy it again"
        )
    arrays = _arrays(path)
    if not arrays:
        raise LayerNotFoundError(f"{path}: no Zarr or N5 array in this folder: check the path")
    if dataset:
        raise LayerNotFoundError(
            f"{path}: no array {dataset}, there are {_listed(arrays)}: correct the name"
        )
    if len(arrays) > 1:
        raise ConfigError(
            f"{path} holds {len(arrays)} arrays, {_listed(arrays)}: name one, as in "
            f"{path}:{arrays[0]}"
        )
    return _Node(path / arrays[0])


def _arrays(path: Path, below: str = "") -> list[str]:
    """Arrays in a folder, by their path inside of it; those of three axes or more."""
    node = _Node(path / below)
    if node.array_file:
        return [below] if below else []
    # Folders of chunks are in arrays only, which are not entered.
    folders = (
        sorted(p.name for p in node.path.iterdir() if p.is_dir()) if node.path.is_dir() else []
    )
    return [a for name in folders for a in _arrays(path, f"{below}/{name}".strip("/"))]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _ome_metadata(root: Path, array: Path) -> Metadata | None:
    """What the group around an array says of it, if one does."""
    for group in array.absolute().parents:
        for image in _Node(group).multiscales:
            for scale in image.get("datasets", []):
                if (group / str(scale.get("path"))) == array.absolute():
                    return _scale_metadata(image, scale)
        if not any((group / name).is_file() for name in _FILES) and group != root.absolute():
            break
    return None


def _scale_metadata(image: dict[str, Any], scale: dict[str, Any]) -> Metadata:
    axes = [a if isinstance(a, dict) else {"name": a} for a in image.get("axes", [])]
    letters = "".join(str(a["name"]) for a in axes) or None
    sizes = begins = None
    # The group's transformations come after the array's own.
    for transform in (
        *scale.get("coordinateTransformations", []),
        *image.get("coordinateTransformations", []),
    ):
        if transform["type"] == "scale":
            factor = np.array(transform["scale"], dtype=float)
            sizes = factor if sizes is None else sizes * factor
            begins = None if begins is None else begins * factor
        elif transform["type"] == "translation":
            step = np.array(transform["translation"], dtype=float)
            begins = step if begins is None else begins + step
    if sizes is None or len(axes) != len(sizes):
        return Metadata(letters)
    units = np.array([in_nm(str(a.get("unit", ""))) or 0.0 for a in axes])
    return Metadata(letters, _floats(sizes * units), _floats(begins, units))


def _floats(values: Any, units: Any = 1.0) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(v) for v in np.asarray(values) * units)


def _own_metadata(node: _Node, kind: str) -> Metadata:
    if kind == "attributes.json":
        return _n5_metadata(node.json(kind))
    return Metadata(_letters(node.json(kind).get("dimension_names")))


def _letters(names: Any) -> str | None:
    if not isinstance(names, list) or not all(isinstance(n, str) and len(n) == 1 for n in names):
        return None
    return "".join(names).lower() or None


def _n5_metadata(attributes: dict[str, Any]) -> Metadata:
    axes = _letters(attributes.get("axes"))
    values, units = attributes.get("resolution"), attributes.get("units")
    own = attributes.get("pixelResolution")
    if isinstance(own, dict) and set(attributes.get("downsamplingFactors", [1])) == {1}:
        values = values or own.get("dimensions")
        units = units or [own.get("unit", "")] * len(values or [])
    if not values or not units or len(values) != len(units):
        return Metadata(axes)
    sizes = tuple(float(v) * (in_nm(str(u)) or 0.0) for v, u in zip(values, units, strict=True))
    return Metadata(axes, sizes)
