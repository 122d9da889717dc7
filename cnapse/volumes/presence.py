"""Which chunks of a layer are there: asked only where one was missed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cnapse.geometry import Box, Grid, triple

if TYPE_CHECKING:
    from cloudvolume import CloudVolume

__all__ = ["chunk_boxes", "chunk_codes", "missing_chunks"]


def missing_chunks(volume: CloudVolume, scale: Mapping[str, Any], box: Box) -> int:
    """How many chunks of a box are not there.

    Parameters
    ----------
    volume : CloudVolume
        Opened at the scale.
    scale : mapping
        As it stands in the layer's info.
    box : Box
        Inside of the scale's bounds.
    """
    if not scale.get("sharding"):
        from cloudvolume.lib import Bbox

        there = volume.exists(Bbox(box.start, box.stop))
        return len(there) - sum(map(bool, there.values()))
    codes = chunk_codes(scale, chunk_boxes(scale, box))
    found = volume.image.shard_reader(volume.mip).exists(codes, path=scale["key"])
    return sum(found.get(code) is None for code in codes)


def chunk_boxes(scale: Mapping[str, Any], box: Box) -> list[Box]:
    """The boxes of the chunks that a box touches, clipped to the scale's bounds."""
    bounds, chunk = _bounds(scale), triple(scale["chunk_sizes"][0])
    axes = list(zip(box.start, box.stop, bounds.start, bounds.stop, chunk, strict=True))
    start = triple([low + (a - low) // c * c for a, _, low, _, c in axes])
    stop = triple([min(high, low - (low - b) // c * c) for _, b, low, high, c in axes])
    return [block.write for block in Grid(Box(start, stop, bounds.resolution), chunk)]


def chunk_codes(scale: Mapping[str, Any], boxes: Iterable[Box]) -> list[int]:
    """The compressed Morton codes of chunks: their keys in shards."""
    from cloudvolume.datasource.precomputed.common import compressed_morton_code

    bounds, chunk = _bounds(scale), triple(scale["chunk_sizes"][0])
    places = [
        [(a - low) // c for a, low, c in zip(box.start, bounds.start, chunk, strict=True)]
        for box in boxes
    ]
    grid_size = [-(-n // c) for n, c in zip(bounds.shape, chunk, strict=True)]
    codes: list[int] = compressed_morton_code(np.array(places), np.array(grid_size)).tolist()
    return codes


def _bounds(scale: Mapping[str, Any]) -> Box:
    start = scale.get("voxel_offset", (0, 0, 0))
    return Box.from_shape(scale["size"], scale["resolution"], start)
