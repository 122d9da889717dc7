"""Sharded copies of layers: many chunks in one file, for volumes of millions of chunks.

The stored chunks are packed as they are, so a copy holds the same voxels to the bit and nothing is
decoded. (igneous decodes; where an image is 0 it then gives chunks at the rim a whole chunk's size,
which readers refuse: cloud-volume 12.15, `make_shard_chunks`.)

A shard is a box of chunks, so each can be made by a task of its own. CloudVolume knows the format.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnapse.errors import FormatError, LayerNotFoundError
from cnapse.geometry import Box, Grid, triple
from cnapse.store import Store, cloud_path
from cnapse.volumes.presence import chunk_boxes, chunk_codes
from cnapse.volumes.stored import load_info
from cnapse.volumes.writer import GZIPPED, chunk_name

__all__ = ["shard_grid", "sharded_info", "sharding_of", "write_shard"]

SHARD_BYTES = 1 << 28


def sharded_info(source: str | Path, *, shard_bytes: int = SHARD_BYTES) -> dict[str, Any]:
    """The ``info`` of the sharded copy of a layer; `commit_info` creates it.

    Parameters
    ----------
    source
        A layer whose scales are not sharded.
    shard_bytes : int
        The most that the chunks of a shard may hold before compression.

    Raises
    ------
    FormatError
        If the source is sharded already.
    """
    info = copy.deepcopy(load_info(source))
    for scale in info["scales"]:
        if scale.get("sharding"):
            raise FormatError(f"{cloud_path(source)} is sharded already: copy it as it is")
        scale["sharding"] = sharding_of(info["data_type"], scale, shard_bytes)
    return info


def sharding_of(
    dtype: str, scale: Mapping[str, Any], shard_bytes: int = SHARD_BYTES
) -> dict[str, Any]:
    """How the chunks of a scale are packed into shards, as it stands in the ``info``."""
    from cloudvolume.datasource.precomputed import sharding

    made = sharding.compute_shard_params_for_image(
        dataset_size=scale["size"],
        chunk_size=scale["chunk_sizes"][0],
        encoding=scale["encoding"],
        dtype=dtype,
        uncompressed_shard_bytesize=shard_bytes,
        data_encoding="gzip" if scale["encoding"] in GZIPPED else "raw",
    ).to_dict()
    # Plain numbers, as JSON takes them.
    return {key: value if isinstance(value, str) else int(value) for key, value in made.items()}


def shard_grid(info: Mapping[str, Any], mip: int) -> Grid:
    """The boxes of the shards of one scale, counted in its voxels."""
    from cloudvolume.datasource.precomputed import sharding

    scale = info["scales"][mip]
    bounds = Box.from_shape(scale["size"], scale["resolution"], scale["voxel_offset"])
    shape = sharding.image_shard_shape_from_spec(
        scale["sharding"], scale["size"], scale["chunk_sizes"][0]
    )
    return Grid(bounds, triple([int(v) for v in shape]))


def write_shard(
    source: str | Path, target: str | Path, info: Mapping[str, Any], mip: int, index: int
) -> int:
    """Pack the chunks of one shard.

    Parameters
    ----------
    source
        The layer.
    target
        Its copy, a folder on disk or in a bucket.
    info : mapping
        What `sharded_info` gave for the source.
    mip : int
    index : int
        Of the shard in `shard_grid`.

    Returns
    -------
    int
        How many chunks it holds.

    Raises
    ------
    LayerNotFoundError
        If a chunk is missing.
    FormatError
        If the info's sharding does not go with its grid of shards.
    """
    from cloudvolume.datasource.precomputed import sharding

    scale, grid = info["scales"][mip], shard_grid(info, mip)
    boxes = chunk_boxes(scale, grid[index].write)
    codes = chunk_codes(scale, boxes)
    spec = sharding.ShardingSpecification.from_dict(scale["sharding"])
    names = {spec.compute_shard_location(code).shard_number for code in codes}
    if len(names) != 1:
        raise FormatError(
            f"{cloud_path(target)}: {grid[index].write} is not one shard, but {names}"
        )
    chunks = _chunks(source, scale["key"], boxes)
    shard = spec.synthesize_shard(dict(zip(codes, chunks, strict=True)))
    Store(target).put(f"{scale['key']}/{names.pop()}.shard", bytes(shard))
    return len(boxes)


def _chunks(source: str | Path, key: str, boxes: list[Box]) -> list[bytes]:
    store = Store(source)
    names = [chunk_name(key, box) for box in boxes]
    found = store.get_all(names)
    for name in names:
        if found[name] is None:
            raise LayerNotFoundError(f"{store.path}: chunk {name} is missing: make the layer again")
    return [content for name in names if (content := found[name]) is not None]
