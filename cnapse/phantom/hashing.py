"""Random numbers that are a function of place: the same for whatever block asks for them.

The mixing function is splitmix64 (Steele, Lea and Flood 2014).
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

__all__ = ["hashed", "noise", "smooth_noise", "uniform"]

_TO_UNIT = 1.0 / (1 << 53)


@njit(nogil=True, cache=True, inline="always")
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> uint64(27))) * uint64(0x94D049BB133111EB)
    return value ^ (value >> uint64(31))


@njit(nogil=True, cache=True)
def hashed(seed: int, a: int, b: int, c: int) -> np.uint64:
    """64 random bits for a seed and three whole numbers."""
    golden = uint64(0x9E3779B97F4A7C15)
    h = _mixed(uint64(seed) + golden)
    h = _mixed(h ^ (uint64(a) * golden))
    h = _mixed(h + uint64(b) * uint64(0xD6E8FEB86659FD93))
    return _mixed(h ^ (uint64(c) * uint64(0xA0761D6478BD642F)))


@njit(nogil=True, cache=True)
def uniform(seed: int, a: int, b: int, c: int) -> float:
    """A number in [0, 1) for a seed and three whole numbers."""
    return (hashed(seed, a, b, c) >> uint64(11)) * _TO_UNIT


@njit(nogil=True, cache=True)
def noise(seed: int, x: int, y: int, z: int) -> float:
    """White noise of mean 0 and variance 1: the sum of four uniform numbers."""
    bits = hashed(seed, x, y, z)
    total = 0.0
    for _ in range(4):
        total += float(bits & uint64(0xFFFF)) / 65535.0
        bits >>= uint64(16)
    return (total - 2.0) * 1.7320508


@njit(nogil=True, cache=True)
def smooth_noise(seed: int, x: float, y: float, z: int) -> float:
    """Noise in [-1, 1] that changes over one unit of x and y, and anew with each z."""
    i, j = int(np.floor(x)), int(np.floor(y))
    u, v = x - i, y - j
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    a = uniform(seed, i, j, z) * (1 - u) + uniform(seed, i + 1, j, z) * u
    b = uniform(seed, i, j + 1, z) * (1 - u) + uniform(seed, i + 1, j + 1, z) * u
    return 2.0 * (a * (1 - v) + b * v) - 1.0
