"""Creating layers and writing them, chunk by whole chunk.

On local disk the files are what any static web server, Neuroglancer and tensorstore read: encodings
that compress themselves or none, never gzip'd chunks. Each file appears whole or not at all
(CloudFiles would write in place). In buckets chunks are gzip'd, with the header that says so.

Writes are whole chunks, or end where the layer ends; two writers that share no box share no file.
Chunks of zeros are written too, so that a missing file always means that something is missing.
Sharded layers cannot be written: CloudVolume would replace the whole shard.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import BoundsError, FormatError, LayerExistsError, ResolutionError
from cnapse.geometry import Block, Box, Grid, Triple, format_resolution, same_resolution, triple
from cnapse.store import Store, cloud_path, local_path
from cnapse.volumes.stored import Kind, load_info

__all__ = [
    "GZIPPED",
    "LayerWriter",
    "build_info",
    "chunk_name",
    "commit_info",
    "create_layer",
    "open_writer",
]

_UNSIGNED = frozenset({"uint8", "uint16", "uint32", "uint64"})
_ENCODINGS: dict[Kind, dict[str, frozenset[str]]] = {
    "image": {
        "raw": _UNSIGNED | {"int8", "int16", "int32", "float32"},
        "png": frozenset({"uint8", "uint16"}),
        "jpeg": frozenset({"uint8"}),
        "jxl": frozenset({"uint8"}),
    },
    "segmentation": {
        "compressed_segmentation": frozenset({"uint32", "uint64"}),
        "raw": _UNSIGNED,
        "compresso": _UNSIGNED,
    },
}
"""For each kind, the encodings (the default first where the dtype allows it) and their dtypes."""

_CSEG_BLOCK = (8, 8, 8)
_CHUNKS_AT_ONCE = 64
GZIPPED = frozenset({"raw", "compressed_segmentation", "compresso"})
"""Encodings that do not compress, or leave much over: gzip'd in buckets and shards."""

_CONTENT_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "jxl": "image/jxl",
    "compressed_segmentation": "image/x.compressed_segmentation",
    "compresso": "image/x.compresso",
}
# What CloudFiles appends to files that it compressed; such a file would shadow ours.
_COMPRESSED_SUFFIXES = (".gz", ".br", ".zstd", ".xz", ".bz2")


class LayerWriter:
    """Writes boxes of the finest scale of a layer; made by `create_layer` or `open_writer`.

    Attributes
    ----------
    path : str
        Where the layer is, with its protocol.
    info : dict
        Its ``info``.
    bounds : Box
        All of its voxels.
    chunk_size : (x, y, z)
        Its storage chunks, anchored to ``bounds.start``.
    dtype : numpy.dtype
    kind : {"image", "segmentation"}
    """

    def __init__(self, path: str | Path, info: dict[str, Any]) -> None:
        self.path = cloud_path(path)
        self.info = info
        scale = info["scales"][0]
        self.kind: Kind = info["type"]
        self.dtype: np.dtype[Any] = np.dtype(info["data_type"])
        self.bounds = Box.from_shape(scale["size"], scale["resolution"], scale["voxel_offset"])
        self.chunk_size: Triple = triple(scale["chunk_sizes"][0])
        self.encoding: str = scale["encoding"]
        self._store = Store(self.path)
        self._is_local = local_path(self.path) is not None

    def __repr__(self) -> str:
        return f"LayerWriter({self.path!r}, {self.dtype}, {self.bounds})"

    def write(self, array: npt.NDArray[Any], box: Box) -> list[int]:
        """Write whole chunks.

        Parameters
        ----------
        array : ndarray, shape ``box.shape``
            In either memory order, of the layer's dtype.
        box : Box
            Begins at chunk borders; ends at chunk borders or where the layer ends.

        Returns
        -------
        list of int
            The CRC-32 of each chunk as encoded, before a bucket's gzip; x fastest.

        Raises
        ------
        FormatError
            If dtype or shape do not fit.
        BoundsError
            If the box is not in the layer or not on its chunk grid.
        ResolutionError
            If the box is counted in other voxels.
        """
        self._check(array, box)
        if box.empty:
            return []
        blocks = list(Grid(box, self.chunk_size))
        checksums: list[int] = []
        # So many at a time are in memory, encoded, and on their way to a bucket.
        for first in range(0, len(blocks), _CHUNKS_AT_ONCE):
            checksums += self._put(array, box, blocks[first : first + _CHUNKS_AT_ONCE])
        return checksums

    def _put(self, array: npt.NDArray[Any], box: Box, blocks: Sequence[Block]) -> list[int]:
        from cloudvolume import chunks

        key = self.info["scales"][0]["key"]
        named = {
            chunk_name(key, block.write): bytes(
                chunks.encode(array[block.write.slices(box)][..., None], self.encoding, _CSEG_BLOCK)
            )
            for block in blocks
        }
        self._store.put_all(
            named.items(),
            compress=self.encoding in GZIPPED,
            content_type=_CONTENT_TYPES.get(self.encoding, "application/octet-stream"),
        )
        if self._is_local:
            suffixed = (name + suffix for name in named for suffix in _COMPRESSED_SUFFIXES)
            self._store.delete(suffixed)
        return [zlib.crc32(content) for content in named.values()]

    def _check(self, array: npt.NDArray[Any], box: Box) -> None:
        if not same_resolution(box.resolution, self.bounds.resolution):
            raise ResolutionError(
                f"{self.path} has voxels of {format_resolution(self.bounds.resolution)}, the box "
                f"{box} has others: use box.at(writer.bounds.resolution)"
            )
        if array.dtype != self.dtype:
            raise FormatError(
                f"{self.path} holds {self.dtype}, the array is {array.dtype}: convert it with "
                f'array.astype("{self.dtype}")'
            )
        if array.shape != box.shape:
            raise FormatError(
                f"{self.path}: an array of shape {array.shape} does not fill {box}, "
                f"whose shape is {box.shape}"
            )
        if not self.bounds.contains(box):
            raise BoundsError(f"{self.path} covers {self.bounds}, cannot write {box}")
        if not (box.empty or self._aligned(box)):
            raise BoundsError(
                f"{self.path}: {box} cuts through storage chunks of {list(self.chunk_size)} that "
                f"begin at {list(self.bounds.start)}: write whole chunks, or up to the layer's end"
            )

    def _aligned(self, box: Box) -> bool:
        axes = zip(
            box.start, box.stop, self.bounds.start, self.bounds.stop, self.chunk_size, strict=True
        )
        return all(
            (start - low) % chunk == 0 and (stop == high or (stop - low) % chunk == 0)
            for start, stop, low, high, chunk in axes
        )


def create_layer(
    path: str | Path,
    *,
    kind: Kind,
    dtype: npt.DTypeLike,
    bounds: Box,
    chunk_size: int | Triple,
    encoding: str | None = None,
    exist_ok: bool = False,
) -> LayerWriter:
    """Create a layer without voxels, and open it for writing.

    Parameters
    ----------
    path
        A folder on disk or in a bucket.
    kind : {"image", "segmentation"}
    dtype
        Segmentations take unsigned integers.
    bounds : Box
        The voxels of the layer and their size.
    chunk_size : (x, y, z)
        Voxels in one file.
    encoding : str, optional
        Default: ``"raw"`` for images, ``"compressed_segmentation"`` for segmentations of uint32
        and uint64. Also ``"png"``, ``"jpeg"`` and ``"jxl"`` (lossy) for images, and
        ``"compresso"`` (which tensorstore does not read) for segmentations.
    exist_ok
        Whether the layer may be there already, with the same voxels; scales that were added to it
        (mips) are kept.

    Raises
    ------
    LayerExistsError
        If there is a layer, or (with `exist_ok`) one that differs: the difference is named.
    FormatError
        If dtype and encoding do not go together.
    BoundsError
        If `bounds` is empty.
    """
    info = build_info(
        kind=kind, dtype=dtype, bounds=bounds, chunk_size=chunk_size, encoding=encoding
    )
    store = Store(path)
    if store.exists("info"):
        return _existing(store.path, info, exist_ok=exist_ok)
    commit_info(store.path, info)
    return LayerWriter(store.path, info)


def open_writer(path: str | Path) -> LayerWriter:
    """Open the finest scale of a layer for writing.

    Raises
    ------
    LayerNotFoundError
        If there is no layer.
    FormatError
        If it is sharded, or has several channels.
    """
    info = load_info(path)
    scale = info["scales"][0]
    if scale.get("sharding"):
        raise FormatError(
            f"{cloud_path(path)} is sharded, and writing a chunk would replace a whole shard: "
            "write to an unsharded layer"
        )
    if int(info.get("num_channels", 1)) != 1:
        raise FormatError(f"{cloud_path(path)} has several channels; only one can be written")
    return LayerWriter(path, info)


def build_info(
    *,
    kind: Kind,
    dtype: npt.DTypeLike,
    bounds: Box,
    chunk_size: int | Triple,
    encoding: str | None = None,
) -> dict[str, Any]:
    """The ``info`` that `create_layer` writes, with the same parameters.

    Raises
    ------
    BoundsError
        If there is no voxel in the bounds.
    FormatError
        For a chunk without voxels, or what the format, or the encoding, cannot hold.
    """
    name = np.dtype(dtype).name
    if bounds.empty:
        raise BoundsError(f"a layer must have voxels, not {bounds}")
    chunk = triple(chunk_size)
    if min(chunk) < 1:
        raise FormatError(f"a chunk must have at least 1 voxel per axis, not {list(chunk)}")
    scale: dict[str, Any] = {
        "chunk_sizes": [list(chunk)],
        "encoding": _checked_encoding(kind, name, encoding),
        "key": "_".join(f"{v:.12g}" for v in bounds.resolution),
        # Whole numbers are written as such, as other programs do.
        "resolution": [int(v) if v.is_integer() else v for v in bounds.resolution],
        "size": list(bounds.shape),
        "voxel_offset": list(bounds.start),
    }
    if scale["encoding"] == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = list(_CSEG_BLOCK)
    return {
        "@type": "neuroglancer_multiscale_volume",
        "data_type": name,
        "num_channels": 1,
        "scales": [scale],
        "type": kind,
    }


def commit_info(path: str | Path, info: Mapping[str, Any]) -> None:
    """Write the ``info`` and provenance of a layer; the info last, since it makes the layer."""
    store = Store(path)
    store.put_json("provenance", _provenance())
    store.put_json("info", info)


def _provenance() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        cnapse_version = version("cnapse")
    except PackageNotFoundError:
        cnapse_version = "unknown"
    return {
        "description": f"made by cnapse {cnapse_version}",
        "owners": [],
        "processing": [{"by": "cnapse", "method": {"version": cnapse_version}}],
        "sources": [],
    }


def _checked_encoding(kind: Kind, dtype: str, encoding: str | None) -> str:
    known = _ENCODINGS[kind]
    fitting = [name for name, dtypes in known.items() if dtype in dtypes]
    if not fitting:
        needed = "unsigned integers" if kind == "segmentation" else "integers or float32"
        raise FormatError(f"a layer of type {kind} cannot hold {dtype}: it takes {needed}")
    if encoding is None:
        return fitting[0]
    if encoding not in fitting:
        raise FormatError(
            f"encoding {encoding!r} does not go with a layer of type {kind} and {dtype}: "
            f"use {' or '.join(fitting)}"
        )
    return encoding


def _existing(path: str, wanted: dict[str, Any], *, exist_ok: bool) -> LayerWriter:
    if not exist_ok:
        raise LayerExistsError(
            f"{path}: there is a layer already: delete it or choose another path"
        )
    found = load_info(path)
    for name, (there, here) in _differences(found, wanted).items():
        raise LayerExistsError(
            f"{path}: there is a layer already, with {name} {there} instead of {here}: "
            "delete it or choose another path"
        )
    return LayerWriter(path, found)


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs in the fields that decide the voxels, by name: (found, wanted)."""
    fields = {name: (found.get(name), wanted[name]) for name in ("type", "data_type")}
    fields["num_channels"] = (found.get("num_channels", 1), 1)
    there, here = found["scales"][0], wanted["scales"][0]
    fields |= {name: (there.get(name), value) for name, value in here.items()}
    different = {name: pair for name, pair in fields.items() if pair[0] != pair[1]}
    if "resolution" in different and same_resolution(there["resolution"], here["resolution"]):
        del different["resolution"]
    # Another program may call the folder of a scale what it likes.
    different.pop("key", None)
    return different


def chunk_name(key: str, box: Box) -> str:
    """The file of a chunk, in the folder `key` of its scale."""
    axes = "_".join(f"{a}-{b}" for a, b in zip(box.start, box.stop, strict=True))
    return f"{key}/{axes}"
