"""Chunk files that cannot be whole: decoders of segmentations read past the end of such ones.

What passes may still be another content than was written: only a checksum tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnapse.geometry import Triple

__all__ = ["is_cut"]

_WORD = np.dtype("<u4")
_OFFSET_BITS = 24


def is_cut(content: bytes, info: Mapping[str, Any], shape: Triple) -> bool:
    """Whether a chunk of a layer's finest scale is surely not all of what was written.

    Parameters
    ----------
    content : bytes
        The file.
    info : mapping
        The layer's.
    shape : (x, y, z)
        Voxels of the chunk.

    Notes
    -----
    Of compressed_segmentation the offsets of each block's table and values are looked at, as the
    format is described in Neuroglancer; of raw chunks the length; of others whether there is
    anything.
    """
    if not content:
        return True
    scale = info["scales"][0]
    channels = int(info.get("num_channels", 1))
    if scale["encoding"] == "raw":
        wanted: int = math.prod(shape) * channels * np.dtype(info["data_type"]).itemsize
        return len(content) != wanted
    if scale["encoding"] == "compressed_segmentation":
        block = scale["compressed_segmentation_block_size"]
        return _is_cut_segmentation(content, shape, block, np.dtype(info["data_type"]))
    return False


def _is_cut_segmentation(
    content: bytes, shape: Triple, block: list[int], dtype: np.dtype[Any]
) -> bool:
    """Whether a block's table or values reach past the end; of one channel."""
    if len(content) % _WORD.itemsize:
        return True
    words = np.frombuffer(content, _WORD)
    blocks = math.prod(-(-n // b) for n, b in zip(shape, block, strict=True))
    first = int(words[0])
    # The only channel begins after the list of channels.
    if first != 1 or words.size < first + 2 * blocks:
        return True
    headers = words[first : first + 2 * blocks].astype(np.int64).reshape(blocks, 2)
    tables = headers[:, 0] & ((1 << _OFFSET_BITS) - 1)
    bits = headers[:, 0] >> _OFFSET_BITS
    values_end = headers[:, 1] + -(-bits * math.prod(block) // 32)
    tables_end = tables + dtype.itemsize // _WORD.itemsize
    return max(int(values_end.max()), int(tables_end.max())) > words.size - first
