"""The hash of the sharded format, and one to draw lots with.

MurmurHash3_x86_128 (Austin Appleby, public domain) of eight bytes with seed 0, of which the low
eight count: neuroglancer's ``sharded.md``, "Sharding specification".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, uint32, uint64

from cnapse.phantom.hashing import hashed

__all__ = ["lots", "murmur"]

Ids = npt.NDArray[np.uint64]


@njit(nogil=True, cache=True)
def murmur(keys: Ids) -> Ids:
    """The hash that the format gives to ids: low eight bytes of MurmurHash3_x86_128."""
    result = np.empty(len(keys), np.uint64)
    for i in range(len(keys)):
        low, high = uint32(keys[i]), uint32(keys[i] >> uint64(32))
        # Eight bytes are a tail without a block: four of them go to the first of four sums of 32
        # bits, four to the second.
        one = _rotated(uint32(low * uint32(0x239B961B)), 15)
        one = uint32(uint32(one * uint32(0xAB0E9789)) ^ uint32(8))
        two = _rotated(uint32(high * uint32(0xAB0E9789)), 16)
        two = uint32(uint32(two * uint32(0x38B34AE5)) ^ uint32(8))
        one = uint32(one + two + uint32(16))
        two, rest = uint32(two + one), uint32(uint32(8) + one)
        one, two, rest = _final(one), _final(two), _final(rest)
        one = uint32(one + two + rest + rest)
        two = uint32(two + one)
        result[i] = uint64(one) | (uint64(two) << uint64(32))
    return result


@njit(nogil=True, cache=True)
def lots(keys: Ids, seed: int) -> Ids:
    """Numbers as if drawn by lot, another one for each key."""
    result = np.empty(len(keys), np.uint64)
    for i in range(len(keys)):
        # Each step of it takes 64 bits to 64 others, so no two keys get the same.
        result[i] = hashed(seed, keys[i], 0, 0)
    return result


@njit(nogil=True, cache=True, inline="always")
def _rotated(value: np.uint32, bits: int) -> np.uint32:
    return uint32(uint32(value << uint32(bits)) | uint32(value >> uint32(32 - bits)))


@njit(nogil=True, cache=True, inline="always")
def _final(value: np.uint32) -> np.uint32:
    value = uint32(uint32(value ^ (value >> uint32(16))) * uint32(0x85EBCA6B))
    value = uint32(uint32(value ^ (value >> uint32(13))) * uint32(0xC2B2AE35))
    return uint32(value ^ (value >> uint32(16)))
