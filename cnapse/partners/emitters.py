"""Voxels that release transmitter: outside of the presynaptic cell, near it and the density.

Two published rules. Both ask for a voxel within a ball around the presynaptic cell and within a
flat footprint (in the plane of the section) around the density::

    rule           density         ball  footprint        may lie in        published by
    near           as it is        2     box, -5 .. +4    free space, cells Cnapse (J. A. Bae)
    extracellular  painted as pre  1     disk of 6        free space        Witvliet et al. 2021

Reaches are voxels, as published (at 4 x 4 x 50 and 4 x 4 x 30 nm), or given in nm.

1. The footprint is drawn around each run of density voxels along x, into a mask no larger than
   the density's bounding box grown by the footprint.
2. Each voxel of that mask that may be an emitter looks for the presynaptic cell in its ball,
   nearest voxels first.

So the work depends on the density alone, not on the size of the cutout.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import ConfigError
from cnapse.geometry import Triple
from cnapse.partners.labels import Labels, inside, label_at, labels_of

__all__ = [
    "EmitterRule",
    "RuleName",
    "ball_offsets",
    "find_emitters",
    "footprint_rows",
]

RuleName = Literal["near", "extracellular"]
Pair = tuple[int, int]

_PRE_REACH: dict[str, Triple] = {"near": (2, 2, 2), "extracellular": (1, 1, 1)}
_DENSITY_REACH: dict[str, Pair] = {"near": (5, 4), "extracellular": (6, 6)}


@dataclass(frozen=True, slots=True)
class EmitterRule:
    """A rule with its reaches in voxels.

    Parameters
    ----------
    name
        ``near`` or ``extracellular``.
    pre_reach : (x, y, z)
        Half axes of the ball around the presynaptic cell.
    lower, upper : (x, y)
        How far the footprint reaches from a density voxel to lower and to higher coordinates. A
        disk (rule ``extracellular``) needs both to be equal.

    Raises
    ------
    ConfigError
        For an unknown rule, or reaches that cannot be.
    """

    name: RuleName
    pre_reach: Triple
    lower: Pair
    upper: Pair

    def __post_init__(self) -> None:
        if self.name not in _PRE_REACH:
            raise ConfigError(f"emitter rule {self.name!r} is unknown: give near or extracellular")
        if min(self.pre_reach) < 1 or min(*self.lower, *self.upper) < 0:
            raise ConfigError(
                f"reaches {self.pre_reach} around the presynaptic cell and {self.lower}, "
                f"{self.upper} around the density: the first must be at least 1 voxel, "
                "the others at least 0"
            )
        if self.paints and self.lower != self.upper:
            raise ConfigError(
                f"rule {self.name} has a disk around the density: it cannot reach {self.lower} "
                f"voxels down and {self.upper} up; give the same twice"
            )

    @classmethod
    def published(
        cls,
        name: RuleName,
        *,
        pre_reach_vx: Triple | None = None,
        density_reach_vx: Pair | None = None,
    ) -> EmitterRule:
        """The rule with its published reaches in voxels, or with others.

        `density_reach_vx` is how far the footprint reaches down and up, in both axes of the plane.

        Raises
        ------
        ConfigError
            For another rule, or reaches that it cannot have.
        """
        if name not in _PRE_REACH:
            raise ConfigError(f"emitter rule {name!r} is unknown: give near or extracellular")
        low, high = density_reach_vx or _DENSITY_REACH[name]
        return cls(name, pre_reach_vx or _PRE_REACH[name], (low, low), (high, high))

    def in_nm(
        self,
        resolution: Sequence[float],
        *,
        pre_reach_nm: float | None = None,
        density_reach_nm: float | None = None,
    ) -> EmitterRule:
        """The rule with one or both reaches given in nm: ``max(1, round(reach / h))`` per axis."""
        ball, lower, upper = self.pre_reach, self.lower, self.upper
        if pre_reach_nm is not None:
            x, y, z = (_voxels(pre_reach_nm, h) for h in resolution)
            ball = (x, y, z)
        if density_reach_nm is not None:
            lower = upper = (
                _voxels(density_reach_nm, resolution[0]),
                _voxels(density_reach_nm, resolution[1]),
            )
        return EmitterRule(self.name, ball, lower, upper)

    @property
    def paints(self) -> bool:
        """Whether density voxels count as the presynaptic cell, and emitters must be free."""
        return self.name == "extracellular"


@functools.lru_cache(maxsize=64)
def ball_offsets(rule: EmitterRule) -> npt.NDArray[np.int64]:
    """Offsets (n, 3) within the ball around the presynaptic cell, nearest first; read-only."""
    rx, ry, rz = rule.pre_reach
    whole = (rx * ry * rz) ** 2
    weights = ((ry * rz) ** 2, (rx * rz) ** 2, (rx * ry) ** 2)
    offsets = itertools.product(*(range(-r, r + 1) for r in rule.pre_reach))

    def distance(offset: tuple[int, ...]) -> int:
        return sum(w * d * d for w, d in zip(weights, offset, strict=True))

    inside = sorted((o for o in offsets if distance(o) <= whole), key=distance)
    return _frozen(inside)


@functools.lru_cache(maxsize=64)
def footprint_rows(rule: EmitterRule) -> npt.NDArray[np.int64]:
    """Rows (dy, first dx, last dx) of the footprint around a density voxel; read-only."""
    (x_low, y_low), (x_high, y_high) = rule.lower, rule.upper
    if not rule.paints:
        return _frozen([(dy, -x_low, x_high) for dy in range(-y_low, y_high + 1)])
    halves = [(dy, _half_chord(x_low, y_low, dy)) for dy in range(-y_low, y_low + 1)]
    return _frozen([(dy, -half, half) for dy, half in halves])


def _frozen(rows: Sequence[tuple[int, ...]]) -> npt.NDArray[np.int64]:
    array = np.array(rows, dtype=np.int64)
    array.setflags(write=False)
    return array


def find_emitters(
    cells: npt.NDArray[np.unsignedinteger[Any]],
    density: npt.NDArray[np.bool_],
    density_start: Triple,
    pre_id: int,
    rule: EmitterRule,
) -> npt.NDArray[np.int32]:
    """Emitter voxels of one synapse.

    Parameters
    ----------
    cells : ndarray of unsigned int, shape (x, y, z)
        Cell labels of the cutout, 0 for free space.
    density : ndarray of bool, shape (x, y, z)
        Voxels of the synapse, over its own bounding box or a larger one.
    density_start : (x, y, z)
        Where `density` starts in the cutout; may lie outside of it.
    pre_id
        Presynaptic cell.
    rule
        Which voxels emit.

    Returns
    -------
    ndarray of int32, shape (n, 3)
        Voxel coordinates in the cutout, in raster order (x fastest). Nothing outside of the cutout
        is looked at.

    Raises
    ------
    FormatError
        If `cells` or `density` is no three-dimensional array of the right kind.
    """
    labels = labels_of(cells, density, density_start, pre_id, paints=rule.paints)
    emitters: npt.NDArray[np.int32] = _emitters(labels, ball_offsets(rule), footprint_rows(rule))
    return emitters


@njit(nogil=True, cache=True)
def _emitters(labels: Labels, ball: Any, footprint: Any) -> Any:
    low, mask = _near_density(labels, footprint)
    found = np.empty((mask.sum(), 3), dtype=np.int32)
    n = 0
    for k in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            for i in range(mask.shape[2]):
                if mask[k, j, i] == 0:
                    continue
                x, y, z = low[0] + i, low[1] + j, low[2] + k
                label = label_at(labels, x, y, z)
                if label == labels.pre or (labels.paints and label != 0):
                    continue
                if _near_pre(labels, ball, x, y, z):
                    found[n, 0], found[n, 1], found[n, 2] = x, y, z
                    n += 1
    return found[:n].copy()


@njit(nogil=True, cache=True)
def _near_density(labels: Labels, footprint: Any) -> Any:
    """First voxel, and mask [z, y, x], of what the footprint covers inside of the cutout."""
    start, shape = labels.start, labels.shape
    low, high = _covered(start, shape, labels.cells.shape, footprint)
    mask = np.zeros((high[2] - low[2], high[1] - low[1], high[0] - low[0]), dtype=np.uint8)
    nx = shape[0]
    for k in range(shape[2]):
        z = start[2] + k - low[2]
        if z < 0 or z >= mask.shape[0]:
            continue
        for j in range(shape[1]):
            row = labels.density[nx * (j + shape[1] * k) :][:nx]
            i = 0
            while i < nx:
                if not row[i]:
                    i += 1
                    continue
                first = i
                while i < nx and row[i]:
                    i += 1
                x = start[0] - low[0]
                _draw(mask, z, start[1] + j - low[1], x + first, x + i - 1, footprint)
    return low, mask


@njit(nogil=True, cache=True)
def _covered(start: Triple, shape: Triple, bounds: Triple, footprint: Any) -> Any:
    """First voxel, and one past the last, that the footprint can cover inside of the cutout."""
    low, high = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
    below = (-footprint[:, 1].min(), -footprint[:, 0].min(), 0)
    above = (footprint[:, 2].max(), footprint[:, 0].max(), 0)
    for a in range(3):
        low[a] = max(start[a] - below[a], 0)
        high[a] = max(min(start[a] + shape[a] + above[a], bounds[a]), low[a])
    return low, high


@njit(nogil=True, cache=True)
def _draw(mask: Any, z: int, y: int, first: int, last: int, footprint: Any) -> None:
    """Draw the footprint around a run of density voxels, from `first` to `last` along x."""
    for row in range(footprint.shape[0]):
        to = y + footprint[row, 0]
        if to < 0 or to >= mask.shape[1]:
            continue
        a = max(first + footprint[row, 1], 0)
        b = min(last + footprint[row, 2], mask.shape[2] - 1)
        for i in range(a, b + 1):
            mask[z, to, i] = 1


@njit(nogil=True, cache=True)
def _near_pre(labels: Labels, ball: Any, x: int, y: int, z: int) -> bool:
    for n in range(ball.shape[0]):
        i, j, k = x + ball[n, 0], y + ball[n, 1], z + ball[n, 2]
        if inside(labels.cells.shape, i, j, k) and label_at(labels, i, j, k) == labels.pre:
            return True
    return False


def _voxels(reach_nm: float, voxel_nm: float) -> int:
    """A reach in whole voxels: halves up, and at least 1."""
    return max(1, math.floor(reach_nm / voxel_nm + 0.5))


def _half_chord(rx: int, ry: int, dy: int) -> int:
    """Largest dx with (dx/rx)^2 + (dy/ry)^2 <= 1."""
    if rx == 0 or ry == 0:
        return rx
    return math.isqrt(rx * rx * (ry * ry - dy * dy)) // ry
