"""Partners by contact: the share of apposed membrane around a synapse's density.

The baseline that diffusion is compared with. Nothing diffuses; areas are measured::

    membrane      faces between a voxel of the presynaptic cell and one that is not of it
    around        faces whose centre is at most `reach_nm` from a voxel of the density
    apposed to    the cell nearest to the face's centre in front of it, at most `gap_nm` away, seen
                  straight through free space (label 0); two that are equally near get half each
    bare          membrane that is apposed to nothing

Distances are Euclidean in nm and end where the other voxel begins: cells whose labels touch are 0
apart, and with n free voxels between two flat walls they are n voxels apart. So nothing depends on
whether the segmentation draws extracellular space.

A staircase of faces has more area than the wall it stands for: by 41 % at 45 degrees. Each face
counts with the cosine of the angle between it and the wall, whose normal is the sum of the faces
(as vectors) within `NORMAL_NM`: exact for a plane (after Windreich, Kiryati, Lohmann, Pattern
Recognition 36, 2003, who give a table where this is a sum). Of the faces across the membrane of a
thin process only the near side counts, or both would cancel.

What it cannot do: tell the membrane at the release site from that on the back of a thin process,
or see around a corner.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import ConfigError
from cnapse.geometry import Triple, triple
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.labels import Labels, inside, labels_of

__all__ = ["GAP_NM", "NORMAL_NM", "REACH_NM", "ContactAreas", "contact_areas", "contact_shares"]

REACH_NM = 20.0
"""Membrane so near to the density counts: as far as emitters of the near rule at 4 nm."""

GAP_NM = 60.0
"""Cells further apart are not in contact: a cleft of 20 nm, and borders that are drawn wide."""

NORMAL_NM = 16.0
"""How far around a face the membrane's direction is looked for."""

_EXACT = 1e-6  # nm; distances that differ by less are equal

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ContactAreas:
    """Membrane around one density, by what it faces.

    Parameters
    ----------
    post_ids : ndarray of uint64, shape (n,)
        Cells that the membrane is apposed to, ascending.
    area_nm2 : ndarray of float64, shape (n,)
        Area of the presynaptic membrane that is apposed to each.
    bare_nm2 : float
        Area that is apposed to nothing.
    voxels : ndarray of int64, shape (n, 3)
        Per cell, the apposed voxel nearest to the mean place of contact, in the cutout.
    """

    post_ids: npt.NDArray[np.uint64]
    area_nm2: Floats
    bare_nm2: float
    voxels: Int64s


class _Stencils(NamedTuple):
    """Where to look from a face, per axis of its normal (index 0..2), for a face that looks up.

    ``ahead[begin[a]:begin[a + 1]]`` are offsets from the voxel in front of the face to voxels of
    another cell, nearest first, those of one distance in one ``rank``. ``near`` likewise: offsets
    from the voxel behind the face to voxels of the density.
    """

    ahead: Int64s
    rank: Int64s
    begin: Int64s
    near: Int64s
    near_begin: Int64s


def contact_areas(
    cells: npt.NDArray[np.unsignedinteger[Any]],
    density: npt.NDArray[np.bool_],
    density_start: Triple,
    pre_id: int,
    resolution: Sequence[float],
    *,
    reach_nm: float = REACH_NM,
    gap_nm: float = GAP_NM,
) -> ContactAreas:
    """Area of apposed membrane around a density, per cell.

    Parameters
    ----------
    cells : ndarray of unsigned int, shape (x, y, z)
        Cell labels of the cutout, 0 for free space. It should reach `reach_nm` + `gap_nm` beyond
        the density; nothing outside of it is seen.
    density : ndarray of bool, shape (x, y, z)
        Voxels of the synapse, over its own bounding box or a larger one.
    density_start : (x, y, z)
        Where `density` starts in the cutout; may lie outside of it.
    pre_id
        Presynaptic cell.
    resolution : (x, y, z)
        Voxel size, nm.
    reach_nm
        How far from the density membrane counts.
    gap_nm
        How far from the membrane a cell may be.

    Returns
    -------
    ContactAreas

    Raises
    ------
    ConfigError
        If a length is negative or not finite.
    FormatError
        If `cells` or `density` is no three-dimensional array of the right kind.
    """
    for name, value in (("reach_nm", reach_nm), ("gap_nm", gap_nm)):
        if not 0 <= value < math.inf:
            raise ConfigError(f"{name} = {value}: must be a length of at least 0, in nm")
    h = np.asarray(resolution, dtype=np.float64)
    labels = labels_of(cells, density, density_start, pre_id, paints=False)
    stencils = _stencils(tuple(h.tolist()), reach_nm, gap_nm)
    grown = np.array([math.floor(reach_nm / a + 0.5) + 1 for a in h])
    half = np.array([math.floor(NORMAL_NM / a) for a in h])
    part, low = _part(labels, grown + np.ceil((gap_nm + NORMAL_NM) / h).astype(np.int64) + 1)
    faced, area, places = _faces(part, stencils, grown, half, h)
    places += low
    return _summed(faced, area, places, h)


def contact_shares(
    cells: npt.NDArray[np.unsignedinteger[Any]],
    density: npt.NDArray[np.bool_],
    density_start: Triple,
    pre_id: int,
    resolution: Sequence[float],
    *,
    reach_nm: float = REACH_NM,
    gap_nm: float = GAP_NM,
) -> Arrivals:
    """Shares of the membrane around a density, in the form that diffusion gives.

    Parameters
    ----------
    cells, density, density_start, pre_id, resolution, reach_nm, gap_nm
        As for :func:`contact_areas`.

    Returns
    -------
    Arrivals
        ``raw_share`` is the share of all the membrane around the density, ``lost`` that of the
        membrane which is apposed to nothing; empty if there is no membrane around the density.

    Raises
    ------
    ConfigError, FormatError
        As :func:`contact_areas`.
    """
    found = contact_areas(
        cells, density, density_start, pre_id, resolution, reach_nm=reach_nm, gap_nm=gap_nm
    )
    whole = float(found.area_nm2.sum()) + found.bare_nm2
    if not whole:
        return Arrivals.none()
    return Arrivals(found.post_ids, found.area_nm2 / whole, found.bare_nm2 / whole, found.voxels)


def _part(labels: Labels, margin: Int64s) -> tuple[Labels, Int64s]:
    """What can matter of the cutout, and where it begins; one dtype and order for the kernels."""
    shape = np.array(labels.cells.shape)
    low = np.clip(np.array(labels.start) - margin, 0, shape)
    high = np.clip(np.array(labels.start) + labels.shape + margin, low, shape)
    cells = labels.cells[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    start = triple((np.array(labels.start) - low).tolist())
    return labels._replace(cells=cells.astype(np.uint64, order="F"), start=start), low


def _summed(
    faced: npt.NDArray[np.uint64], area: Floats, places: Int64s, voxel_nm: Floats
) -> ContactAreas:
    """Area per cell; label 0 is bare. The place is the apposed voxel nearest to the mean one."""
    hit = faced > 0
    post_ids, index = np.unique(faced[hit], return_inverse=True)
    weight, voxels = area[hit], places[hit]
    total = np.zeros(len(post_ids))
    mean = np.zeros((len(post_ids), 3))
    np.add.at(total, index, weight)
    np.add.at(mean, index, weight[:, None] * voxels)
    mean /= total[:, None]
    distance = (((voxels - mean[index]) * voxel_nm) ** 2).sum(axis=1)
    order = np.lexsort([voxels[:, 0], voxels[:, 1], voxels[:, 2], distance, index])
    nearest = order[np.searchsorted(index[order], np.arange(len(post_ids)))]
    return ContactAreas(post_ids, total, float(area[~hit].sum()), voxels[nearest])


@functools.lru_cache(maxsize=32)
def _stencils(resolution: tuple[float, ...], reach_nm: float, gap_nm: float) -> _Stencils:
    ahead = [_offsets(axis, resolution, gap_nm, in_front=True) for axis in range(3)]
    near = [_offsets(axis, resolution, reach_nm, in_front=False) for axis in range(3)]
    return _Stencils(
        np.concatenate([o for o, _ in ahead]),
        np.concatenate([r for _, r in ahead]),
        np.cumsum([0, *(len(o) for o, _ in ahead)]),
        np.concatenate([o for o, _ in near]),
        np.cumsum([0, *(len(o) for o, _ in near)]),
    )


def _offsets(
    axis: int, resolution: tuple[float, ...], reach_nm: float, *, in_front: bool
) -> tuple[Int64s, Int64s]:
    """Voxels (n, 3) within reach of the centre of a face, nearest first; and their rank.

    From the voxel in front of the face and only to what lies in front; or from the one behind it.
    """
    spans = [range(-(n := math.floor(reach_nm / h + 0.5) + 1), n + 1) for h in resolution]
    found: list[tuple[float, Triple]] = []
    for offset in itertools.product(*spans):
        ahead = offset[axis] if in_front else offset[axis] - 1
        if in_front and ahead < 0:
            continue
        # A voxel ahead by n begins n edges away; one behind by n ends n - 1 edges away.
        away = [max(abs(o) - 0.5, 0.0) for o in offset]
        away[axis] = float(max(ahead, -ahead - 1))
        distance = math.hypot(*(n * h for n, h in zip(away, resolution, strict=True)))
        if distance <= reach_nm + _EXACT:
            found.append((round(distance / _EXACT) * _EXACT, triple(offset)))
    found.sort()
    distances = np.array([distance for distance, _ in found])
    rank = np.cumsum(np.diff(distances, prepend=distances[:1]) > 0)
    return np.array([o for _, o in found], dtype=np.int64), rank.astype(np.int64)


@njit(nogil=True, cache=True)
def _faces(labels: Labels, stencils: _Stencils, grown: Any, half: Any, h: Any) -> Any:
    """Per face and apposed voxel: the cell (0 for none), the area in nm2, and the voxel."""
    faced = np.empty(64, dtype=np.uint64)
    area = np.empty(64, dtype=np.float64)
    places = np.zeros((64, 3), dtype=np.int64)
    targets = np.empty((len(stencils.ahead), 3), dtype=np.int64)
    shape, start, size = labels.cells.shape, labels.start, labels.shape
    low = [max(start[a] - grown[a], 0) for a in range(3)]
    high = [min(start[a] + size[a] + grown[a], shape[a]) for a in range(3)]
    n = 0
    for z in range(low[2], high[2]):
        for y in range(low[1], high[1]):
            for x in range(low[0], high[0]):
                if labels.cells[x, y, z] != labels.pre:
                    continue
                at = (x, y, z)
                for side in range(6):
                    axis, sign = side // 2, 2 * (side % 2) - 1
                    front = _beside(at, axis, sign)
                    if not inside(shape, front[0], front[1], front[2]):
                        continue
                    if labels.cells[front] == labels.pre:
                        continue
                    if not _near_density(labels, stencils, at, axis, sign):
                        continue
                    seen = _seen(labels, stencils, front, axis, sign, targets)
                    while n + max(seen, 1) > len(faced):
                        faced = np.append(faced, np.empty_like(faced))
                        area = np.append(area, np.empty_like(area))
                        places = np.concatenate((places, np.zeros_like(places)))
                    whole = _area(labels, at, axis, sign, half, h)
                    if seen == 0:
                        faced[n], area[n] = 0, whole
                        n += 1
                    for t in range(seen):
                        i, j, k = targets[t]
                        faced[n], area[n] = labels.cells[i, j, k], whole / seen
                        places[n] = targets[t]
                        n += 1
    return faced[:n].copy(), area[:n].copy(), places[:n].copy()


@njit(nogil=True, cache=True, inline="always")
def _beside(at: Any, axis: int, sign: int) -> Any:
    """The next voxel along an axis."""
    x, y, z = at
    return (
        x + (sign if axis == 0 else 0),
        y + (sign if axis == 1 else 0),
        z + (sign if axis == 2 else 0),
    )


@njit(nogil=True, cache=True)
def _near_density(labels: Labels, stencils: _Stencils, at: Any, axis: int, sign: int) -> bool:
    """Whether the face in front of voxel `at` is within reach of the density."""
    size, start = labels.shape, labels.start
    for n in range(stencils.near_begin[axis], stencils.near_begin[axis + 1]):
        offset = stencils.near[n]
        i = at[0] - start[0] + (offset[0] * sign if axis == 0 else offset[0])
        j = at[1] - start[1] + (offset[1] * sign if axis == 1 else offset[1])
        k = at[2] - start[2] + (offset[2] * sign if axis == 2 else offset[2])
        if inside(size, i, j, k) and labels.density[i + size[0] * (j + size[1] * k)]:
            return True
    return False


@njit(nogil=True, cache=True)
def _seen(
    labels: Labels, stencils: _Stencils, front: Any, axis: int, sign: int, targets: Any
) -> int:
    """How many voxels of other cells are nearest and seen from the face; fills `targets`."""
    seen, rank = 0, -1
    for n in range(stencils.begin[axis], stencils.begin[axis + 1]):
        if seen > 0 and stencils.rank[n] != rank:
            break
        offset = stencils.ahead[n]
        i = front[0] + (offset[0] * sign if axis == 0 else offset[0])
        j = front[1] + (offset[1] * sign if axis == 1 else offset[1])
        k = front[2] + (offset[2] * sign if axis == 2 else offset[2])
        if not inside(labels.cells.shape, i, j, k):
            continue
        label = labels.cells[i, j, k]
        if label in (np.uint64(0), labels.pre) or not _free(labels, front, i, j, k):
            continue
        targets[seen, 0], targets[seen, 1], targets[seen, 2] = i, j, k
        rank = stencils.rank[n]
        seen += 1
    return seen


@njit(nogil=True, cache=True)
def _free(labels: Labels, front: Any, i: int, j: int, k: int) -> bool:
    """Whether the voxels on the line from `front` up to a voxel are free; the last is not asked."""
    di, dj, dk = i - front[0], j - front[1], k - front[2]
    count = max(abs(di), abs(dj), abs(dk))
    for step in range(count):
        # Rounded division, halves up; exact in integers.
        x = front[0] + (2 * step * di + count) // (2 * count)
        y = front[1] + (2 * step * dj + count) // (2 * count)
        z = front[2] + (2 * step * dk + count) // (2 * count)
        if labels.cells[x, y, z] != 0:
            return False
    return True


@njit(nogil=True, cache=True)
def _area(labels: Labels, at: Any, axis: int, sign: int, half: Any, h: Any) -> float:
    """Area of one face, nm2, times the cosine of its angle to the wall that it is a step of."""
    faces_x, faces_y, faces_z = 0, 0, 0
    for z in range(at[2] - half[2], at[2] + half[2] + 1):
        for y in range(at[1] - half[1], at[1] + half[1] + 1):
            for x in range(at[0] - half[0], at[0] + half[0] + 1):
                if not inside(labels.cells.shape, x, y, z):
                    continue
                if labels.cells[x, y, z] != labels.pre:
                    continue
                for side in range(6):
                    b, way = side // 2, 2 * (side % 2) - 1
                    if b == axis and way != sign:
                        continue
                    front = _beside((x, y, z), b, way)
                    if not inside(labels.cells.shape, front[0], front[1], front[2]):
                        continue
                    if labels.cells[front] != labels.pre:
                        faces_x += way if b == 0 else 0
                        faces_y += way if b == 1 else 0
                        faces_z += way if b == 2 else 0
    volume = h[0] * h[1] * h[2]
    own = volume / h[axis]
    n_x, n_y, n_z = faces_x * volume / h[0], faces_y * volume / h[1], faces_z * volume / h[2]
    along = n_x if axis == 0 else n_y if axis == 1 else n_z
    return float(own * abs(along) / np.sqrt(n_x * n_x + n_y * n_y + n_z * n_z))
