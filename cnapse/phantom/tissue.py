"""Closely packed neurites: which cell a place belongs to, and how far it is from the next.

Neurites start from the points of a jittered lattice in the plane. Each follows its own smooth way
through z, is thick or thin, may end, and may be a branch of its neighbour (then both are one cell).
A place belongs to the neurite with the least power distance |x - p|^2 - w, in coordinates that are
warped by some plane waves so that outlines bend. The distance to the membrane between neurites a
and b is that to their bisector, (f_b - f_a) / (2 |p_b - p_a|).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

from cnapse.geometry import Box
from cnapse.phantom.hashing import noise, uniform
from cnapse.phantom.spec import PhantomSpec

__all__ = ["Plane", "cell_id_of", "jitter", "plane"]

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

_REACH = 2  # lattice points looked at to each side
_WAVES = 7
_JITTER_SECTIONS = 90_001


@dataclass(frozen=True, slots=True)
class Plane:
    """The tissue in one plane.

    Attributes
    ----------
    cell, other : ndarray of int64, shape (x, y)
        Number of the cell, and of the nearest other one.
    distance : ndarray of float32, shape (x, y)
        From the middle between the two, nm.
    site_i, site_j : ndarray of int32, shape (x, y)
        The lattice point of the neurite.
    from_x, from_y : ndarray of float32, shape (x, y)
        Place relative to the middle of the neurite, nm, in warped coordinates.
    """

    cell: Int64s
    other: Int64s
    distance: npt.NDArray[np.float32]
    site_i: npt.NDArray[np.int32]
    site_j: npt.NDArray[np.int32]
    from_x: npt.NDArray[np.float32]
    from_y: npt.NDArray[np.float32]


@njit(nogil=True, cache=True)
def cell_id_of(i: int, j: int) -> int:
    """Segment id of a lattice point: different ones for different points, in no order."""
    place = uint64(((i + 32768) << 16) | ((j + 32768) & 0xFFFF))
    mixed = (place * uint64(2654435769)) & uint64(0xFFFFFFFF)
    return int((mixed ^ (mixed >> uint64(15))) & uint64(0xFFFFFFFF)) + 1


@njit(nogil=True, cache=True)
def site_at(seed: int, i: int, j: int, z: float, spacing: float) -> tuple[float, float, float]:
    """Place (nm) and weight (nm2) of a neurite at a depth (nm)."""
    x = (i + 0.5 + 0.62 * (uniform(seed, i, j, 1) - 0.5)) * spacing
    y = (j + 0.5 + 0.62 * (uniform(seed, i, j, 2) - 0.5)) * spacing
    for k in range(3):
        length = spacing * (4.0 + 7.0 * uniform(seed, i, j, 10 + k))
        sway = 0.11 * spacing * (0.4 + uniform(seed, i, j, 20 + k))
        phase = 6.2831853 * (z / length + uniform(seed, i, j, 30 + k))
        turn = 6.2831853 * uniform(seed, i, j, 40 + k)
        x += sway * np.sin(phase) * np.cos(turn)
        y += sway * np.sin(phase) * np.sin(turn)
    thick = uniform(seed, i, j, 3)
    weight = spacing * spacing * (0.34 * thick * thick * thick - 0.05)
    if uniform(seed, i, j, 4) < 0.22:
        # It comes to an end, within some micrometres, at one side.
        end = (uniform(seed, i, j, 5) - 0.5) * 60.0 * spacing
        beyond = z - end if uniform(seed, i, j, 6) < 0.5 else end - z
        weight -= max(0.0, beyond + spacing) * spacing * 0.9
    return x, y, weight


@njit(nogil=True, cache=True)
def owner_of(seed: int, i: int, j: int) -> int:
    """The cell a neurite belongs to: its own, or its neighbour's if it is a branch of it."""
    if uniform(seed, i, j, 7) < 0.12 and uniform(seed, i + 1, j, 7) >= 0.12:
        return cell_id_of(i + 1, j)
    return cell_id_of(i, j)


@njit(nogil=True, cache=True)
def jitter(seed: int, section: int, scale: float) -> tuple[float, float]:
    """Displacement of a section, nm."""
    return (
        scale * noise(seed, section, 1, _JITTER_SECTIONS),
        scale * noise(seed, section, 2, _JITTER_SECTIONS),
    )


@njit(nogil=True, cache=True)
def _waves(seed: int, z: float, spacing: float) -> Floats:
    """Wave vectors, phases and amplitudes of the warp at a depth, for x (0) and y (1)."""
    waves = np.empty((2, _WAVES, 4))
    for axis in range(2):
        for k in range(_WAVES):
            length = spacing * (0.45 + 1.1 * uniform(seed, axis, k, 50))
            turn = 6.2831853 * uniform(seed, axis, k, 51)
            depth = spacing * (3.0 + 4.0 * uniform(seed, axis, k, 52))
            waves[axis, k, 0] = 6.2831853 / length * np.cos(turn)
            waves[axis, k, 1] = 6.2831853 / length * np.sin(turn)
            waves[axis, k, 2] = 6.2831853 * (uniform(seed, axis, k, 53) + z / depth)
            waves[axis, k, 3] = 0.028 * length
    return waves


@njit(nogil=True, cache=True)
def _plane(seed: int, x: Floats, y: Floats, z: float, spacing: float, out: tuple[Any, ...]) -> None:
    """Fill the arrays of a `Plane` at depth z, for voxel centres x and y (nm)."""
    cell, other, distance, site_i, site_j, from_x, from_y = out
    waves = _waves(seed, z, spacing)
    low_i, high_i = int(x[0] / spacing) - _REACH - 3, int(x[-1] / spacing) + _REACH + 3
    low_j, high_j = int(y[0] / spacing) - _REACH - 3, int(y[-1] / spacing) + _REACH + 3
    sites = np.empty((high_i - low_i + 1, high_j - low_j + 1, 3))
    owner = np.empty(sites.shape[:2], np.int64)
    for i in range(low_i, high_i + 1):
        for j in range(low_j, high_j + 1):
            sites[i - low_i, j - low_j] = site_at(seed, i, j, z, spacing)
            owner[i - low_i, j - low_j] = owner_of(seed, i, j)
    # sin(a + b) from the sines of a and b: no trigonometry per voxel.
    sin_x, cos_x = np.empty((2, _WAVES, len(x))), np.empty((2, _WAVES, len(x)))
    for axis in range(2):
        for k in range(_WAVES):
            for m in range(len(x)):
                sin_x[axis, k, m] = np.sin(waves[axis, k, 0] * x[m])
                cos_x[axis, k, m] = np.cos(waves[axis, k, 0] * x[m])
    side = 2 * _REACH + 1
    power = np.empty(side * side)
    for n in range(len(y)):
        sin_y, cos_y = np.empty((2, _WAVES)), np.empty((2, _WAVES))
        for axis in range(2):
            for k in range(_WAVES):
                phase = waves[axis, k, 1] * y[n] + waves[axis, k, 2]
                sin_y[axis, k] = waves[axis, k, 3] * np.sin(phase)
                cos_y[axis, k] = waves[axis, k, 3] * np.cos(phase)
        for m in range(len(x)):
            u, v = x[m], y[n]
            for k in range(_WAVES):
                u += sin_x[0, k, m] * cos_y[0, k] + cos_x[0, k, m] * sin_y[0, k]
                v += sin_x[1, k, m] * cos_y[1, k] + cos_x[1, k, m] * sin_y[1, k]
            centre_i = int(np.floor(u / spacing)) - _REACH - low_i
            centre_j = int(np.floor(v / spacing)) - _REACH - low_j
            best = 0
            for a in range(side):
                for b in range(side):
                    site = sites[centre_i + a, centre_j + b]
                    f = (u - site[0]) ** 2 + (v - site[1]) ** 2 - site[2]
                    power[a * side + b] = f
                    if f < power[best]:
                        best = a * side + b
            bi, bj = centre_i + best // side, centre_j + best % side
            mine = owner[bi, bj]
            nearest = 1e9
            next_cell = np.int64(0)
            for a in range(side):
                for b in range(side):
                    i, j = centre_i + a, centre_j + b
                    if owner[i, j] != mine:
                        apart = np.sqrt(
                            (sites[i, j, 0] - sites[bi, bj, 0]) ** 2
                            + (sites[i, j, 1] - sites[bi, bj, 1]) ** 2
                        )
                        d = (power[a * side + b] - power[best]) / (2.0 * max(apart, 1.0))
                        if d < nearest:
                            nearest = d
                            next_cell = owner[i, j]
            cell[m, n] = mine
            other[m, n] = next_cell
            distance[m, n] = nearest
            site_i[m, n] = bi + low_i
            site_j[m, n] = bj + low_j
            from_x[m, n] = u - sites[bi, bj, 0]
            from_y[m, n] = v - sites[bi, bj, 1]


def plane(spec: PhantomSpec, box: Box, section: int, depth: float = 0.0) -> Plane:
    """The tissue of a box in one section.

    Parameters
    ----------
    spec : PhantomSpec
    box : Box
        Its x and y are used.
    section : int
        Absolute z.
    depth : float
        Place within the section, in sections from its middle.
    """
    shape = box.shape[:2]
    hx, hy, hz = spec.resolution
    dx, dy = jitter(spec.seed, section, spec.jitter_nm)
    x = np.arange(box.start[0], box.stop[0], dtype=np.float64) * hx + (0.5 * hx + dx)
    y = np.arange(box.start[1], box.stop[1], dtype=np.float64) * hy + (0.5 * hy + dy)
    dtypes = (np.int64, np.int64, np.float32, np.int32, np.int32, np.float32, np.float32)
    arrays = tuple(np.empty(shape, dtype, order="F") for dtype in dtypes)
    _plane(spec.seed, x, y, (section + 0.5 + depth) * hz, spec.neurite_nm, arrays)
    return Plane(*arrays)
