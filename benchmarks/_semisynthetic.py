"""Active zones placed on real membranes, with the partners known by construction.

1. Cells are real: hand-made labels of FIB-25 (10 nm, drawn again at 4 nm by the cell with most of
   the eight voxels around a point), or derived neurites of a larval nerve cord (4.6 x 4.6 x 50 nm,
   the membrane given to the nearest neurite). Both then touch; a gap of any width is opened around
   their interfaces, in the plane alone where sections are thick.
2. A release site is drawn on the interface of a presynaptic cell with others, where the cell is at
   least 100 nm deep: there are vesicles behind a zone (thinner places are a setting of their own).
   The zone is the presynaptic membrane at most `radius` away on paths through the cleft. Its
   density is what of the presynaptic cell lies behind it: at most 40 nm deep, and nearer to the
   zone than to any other membrane (or, as a setting of its own, all of the cell behind a disk, so
   that in a thin process the density reaches the membrane on its back).
3. The truth, on the clean fine cells with a cleft of 16 nm::

       partner       at least 10 % of the foreign membrane that is seen from the release site, in a
                     straight line through the cleft, at most `radius` away
       no partner    at most 1 % of the foreign membrane that can be reached through the cleft at
                     all, on paths of at most `outer` radii (1.5); nor touches the presynaptic cell
                     so near
       else          ambiguous: the place is left out, and counted

It is a construction, and biased: towards synapses that release at one place and into what lies
within sight of it; towards clear cases, since a place with a doubtful cell is left out; and towards
any method that looks at the membrane around the zone, because that is what the truth is made of. On
clean data the contact area does so itself. The outer limit decides most: a cell 30 nm from the rim
of a zone of 60 nm is none of its partners by 1.5 radii, and makes the place ambiguous by 2. It says
nothing about which cells have receptors. What is asked is how a method stands up to labels that are
*not* those of which the truth was made.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from numba import njit
from scipy import ndimage

from cnapse.geometry import Box, Resolution

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

CLEFT_NM = 16.0
DEPTH_NM = 40.0
SEEN_SHARE = 0.10
REACHED_SHARE = 0.01
PADDING_NM = 100.0
VESICLES_NM = 100.0
_THICK_NM = 20.0  # sections thicker than this touch face to face: no gap is resolved between them
_FILLED_NM = 46.0


@dataclass(frozen=True, slots=True)
class Cells:
    """Real cells [x, y, z] without a gap; voxel size and that of the fine grid, nm."""

    name: str
    labels: npt.NDArray[np.uint16]
    resolution: Resolution
    fine: Resolution


@dataclass(frozen=True, slots=True)
class Fine:
    """A piece of the cells on the fine grid: labels, and how far each voxel is from an interface.

    ``origin_nm`` is the corner of the first voxel.
    """

    labels: npt.NDArray[np.uint16]
    apart: npt.NDArray[np.float32]
    origin_nm: Floats
    voxel_nm: Floats

    def sampled(self, array: Array, nm: Sequence[Floats]) -> Array:
        """An array over these voxels on a grid given by its three axes, nm; edges are repeated."""
        index = [
            np.clip(np.floor((v - o) / h).astype(np.int64), 0, n - 1)
            for v, o, h, n in zip(nm, self.origin_nm, self.voxel_nm, array.shape, strict=True)
        ]
        return np.asfortranarray(array[np.ix_(*index)])


@dataclass(frozen=True, slots=True)
class Zone:
    """What zones are drawn: their radius in nm, the outer limit in radii, and in which processes.

    ``thin`` asks for places where the presynaptic cell is less than 100 nm deep.
    """

    radius: float = 60.0
    outer: float = 1.5
    thin: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """An active zone: where, in which cell, and who its partners are by construction.

    ``seed`` draws what may differ between places: how the voxels lie, which way the segmentation is
    displaced.
    """

    fine: Fine
    site_nm: Floats
    normal: Floats
    radius: float
    pre_id: int
    partners: frozenset[int]
    seed: int


@dataclass(frozen=True, slots=True)
class Setting:
    """What is done to the clean tissue before a method sees it.

    ``gap_nm`` is free space between cells, all of it; ``eroded_nm`` the most that a cell loses in
    addition, drawn for each; ``shift_vx`` by how many voxels the cells are displaced in the plane
    against the density; ``painted`` the radius of the density relative to the zone's; ``filling``
    says that the density fills thin processes up to their back.
    """

    name: str
    voxel_nm: Resolution
    gap_nm: float = 16.0
    eroded_nm: float = 0.0
    shift_vx: int = 0
    painted: float = 1.0
    filling: bool = False
    zone: Zone = Zone()


# --- the tissue -----------------------------------------------------------------------------------


def fib25(folder: Path) -> Cells:
    """Bodies of FIB-25 at 10 nm."""
    labels = tifffile.imread(folder / "fib25" / "neurons.tif")
    return Cells("FIB-25", np.asfortranarray(labels.T), (10.0, 10.0, 10.0), (4.0, 4.0, 4.0))


def vnc(folder: Path) -> Cells:
    """Derived neurites of the nerve cord; sections 0..14, where the labels are good."""
    labels = tifffile.imread(folder / "vnc_sstem" / "neurites_derived.tif")[:15]
    h = (4.6, 4.6, 50.0)
    filled = np.stack([_filled(section.T, h[0]) for section in labels], axis=2)
    return Cells("VNC", np.asfortranarray(filled), h, h)


def _filled(section: Array, voxel_nm: float) -> Array:
    """A section whose membrane belongs to the nearest neurite."""
    distance, (i, j) = ndimage.distance_transform_edt(section == 0, return_indices=True)
    return np.where(distance * voxel_nm <= _FILLED_NM, section[i, j], 0)


def fine_piece(cells: Cells, centre_nm: Floats, half_nm: float) -> Fine:
    """The cells around a point on the fine grid."""
    h, fine = np.array(cells.resolution), np.array(cells.fine)
    whole = np.array(cells.labels.shape) * h
    low = np.floor(np.maximum(centre_nm - half_nm, 0) / fine).astype(np.int64)
    high = np.ceil(np.minimum(centre_nm + half_nm, whole) / fine - 1e-9).astype(np.int64)
    if cells.resolution == cells.fine:
        part = cells.labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        labels = np.asfortranarray(part)
    else:
        labels = np.empty(tuple(high - low), np.uint16, order="F")
        _redrawn(cells.labels, labels, (low + 0.5) * fine / h - 0.5, fine / h)
    return Fine(labels, _apart(labels, fine), low * fine, fine)


@njit(nogil=True, cache=True)
def _redrawn(coarse: Any, out: Any, first: Any, step: Any) -> None:
    """The label with most weight in trilinear interpolation between voxel centres."""
    names, weights = np.zeros(8, np.uint16), np.zeros(8)
    last_x, last_y, last_z = coarse.shape[0] - 1, coarse.shape[1] - 1, coarse.shape[2] - 1
    for z in range(out.shape[2]):
        at_z = first[2] + step[2] * z
        k = int(np.floor(at_z))
        for y in range(out.shape[1]):
            at_y = first[1] + step[1] * y
            j = int(np.floor(at_y))
            for x in range(out.shape[0]):
                at_x = first[0] + step[0] * x
                i = int(np.floor(at_x))
                n = 0
                for corner in range(8):
                    a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
                    w = 1 - abs(at_x - i - a)
                    w *= (1 - abs(at_y - j - b)) * (1 - abs(at_z - k - c))
                    u = min(max(i + a, 0), last_x)
                    v = min(max(j + b, 0), last_y)
                    name = coarse[u, v, min(max(k + c, 0), last_z)]
                    m = 0
                    while m < n and names[m] != name:
                        m += 1
                    if m == n:
                        names[m], weights[m] = name, 0.0
                        n += 1
                    weights[m] += w
                best = 0
                for m in range(1, n):
                    if weights[m] > weights[best]:
                        best = m
                out[x, y, z] = names[best]


def _interfaces(labels: Array, voxel_nm: Floats) -> npt.NDArray[np.bool_]:
    """Voxels that touch another label, within the section where sections are thick."""
    near = np.zeros(labels.shape, bool, order="F")
    for axis in np.flatnonzero(voxel_nm <= _THICK_NM):
        a, b = np.moveaxis(labels, axis, 0)[1:], np.moveaxis(labels, axis, 0)[:-1]
        marks = np.moveaxis(near, axis, 0)
        marks[1:] |= a != b
        marks[:-1] |= a != b
    return near


def _apart(labels: Array, voxel_nm: Floats) -> npt.NDArray[np.float32]:
    """Distance from each voxel's centre to the nearest interface, nm."""
    inner = ~_interfaces(labels, voxel_nm)
    half = voxel_nm.min() / 2
    if (voxel_nm <= _THICK_NM).all():
        distance = ndimage.distance_transform_edt(inner, sampling=voxel_nm)
    else:
        sections = np.moveaxis(inner, 2, 0)
        found = [ndimage.distance_transform_edt(s, sampling=voxel_nm[:2]) for s in sections]
        distance = np.stack(found, axis=2)
    return np.asarray(distance + half, dtype=np.float32)


# --- the truth ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What the construction says about a site: partners, or None if a cell is ambiguous."""

    partners: frozenset[int] | None
    seen_nm2: float


def truth_at(fine: Fine, site: Array, zone: Zone) -> Found:
    """Partners of a zone around the interface voxel `site` of a piece (module docstring, 3)."""
    free = (fine.apart < CLEFT_NM / 2) | (fine.labels == 0)
    pre_id = fine.labels[tuple(site)]
    outer = zone.outer * zone.radius
    path = _paths(free, site, fine.voxel_nm, outer)
    count = int(fine.labels.max()) + 1
    seen, reached = np.zeros(count), np.zeros(count)
    _areas(fine.labels, free, path, site, fine.voxel_nm, zone.radius, outer, seen, reached)
    if not seen.sum():
        return Found(None, 0.0)
    is_partner = seen >= SEEN_SHARE * seen.sum()
    is_none = reached <= REACHED_SHARE * reached.sum()
    is_partner[[0, pre_id]] = False
    is_none[[0, pre_id]] = True
    partners = frozenset(np.flatnonzero(is_partner).tolist())
    return Found(partners if (is_partner | is_none).all() else None, float(seen.sum()))


@njit(nogil=True, cache=True)
def _paths(free: Any, site: Any, h: Any, longest: float) -> Any:
    """Length of the shortest path from the site through free voxels (26 neighbours), nm."""
    path = np.full(free.shape, np.inf)
    path[site[0], site[1], site[2]] = 0.0
    queue = [(site[0], site[1], site[2])]
    while len(queue) > 0:
        coming = [(site[0], site[1], site[2]) for _ in range(0)]
        for x, y, z in queue:
            for i in range(max(x - 1, 0), min(x + 2, free.shape[0])):
                for j in range(max(y - 1, 0), min(y + 2, free.shape[1])):
                    for k in range(max(z - 1, 0), min(z + 2, free.shape[2])):
                        if not free[i, j, k]:
                            continue
                        dx, dy, dz = (x - i) * h[0], (y - j) * h[1], (z - k) * h[2]
                        to = path[x, y, z] + np.sqrt(dx * dx + dy * dy + dz * dz)
                        if to < path[i, j, k] - 1e-9 and to <= longest:
                            path[i, j, k] = to
                            coming.append((i, j, k))
        queue = coming
    return path


@njit(nogil=True, cache=True)
def _areas(
    labels: Any,
    free: Any,
    path: Any,
    site: Any,
    h: Any,
    radius: float,
    outer: float,
    seen: Any,
    reached: Any,
) -> None:
    """Area per label of the faces on the cleft: seen from the site; and reached, or touching."""
    volume = h[0] * h[1] * h[2]
    pre = labels[site[0], site[1], site[2]]
    low = [max(int(site[a] - outer / h[a]) - 1, 0) for a in range(3)]
    high = [min(int(site[a] + outer / h[a]) + 2, free.shape[a]) for a in range(3)]
    for x in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for z in range(low[2], high[2]):
                label = labels[x, y, z]
                if free[x, y, z] or label == pre:
                    continue
                for side in range(6):
                    axis, way = side // 2, 2 * (side % 2) - 1
                    i = x + (way if axis == 0 else 0)
                    j = y + (way if axis == 1 else 0)
                    k = z + (way if axis == 2 else 0)
                    if not (0 <= i < free.shape[0] and 0 <= j < free.shape[1]):
                        continue
                    if not 0 <= k < free.shape[2]:
                        continue
                    dx = ((x + i) / 2 - site[0]) * h[0]
                    dy = ((y + j) / 2 - site[1]) * h[1]
                    dz = ((z + k) / 2 - site[2]) * h[2]
                    away = np.sqrt(dx * dx + dy * dy + dz * dz)
                    area = volume / h[axis]
                    if not free[i, j, k]:
                        if labels[i, j, k] == pre and away <= outer:
                            reached[label] += area
                        continue
                    if path[i, j, k] <= outer:
                        reached[label] += area
                    if away <= radius and _in_sight(free, site, i, j, k):
                        seen[label] += area


@njit(nogil=True, cache=True)
def _in_sight(free: Any, site: Any, i: int, j: int, k: int) -> bool:
    """Whether all voxels on the straight line from the site to a voxel are free."""
    di, dj, dk = i - site[0], j - site[1], k - site[2]
    count = 2 * max(abs(di), abs(dj), abs(dk))
    for step in range(1, count):
        x = site[0] + (2 * step * di + count) // (2 * count)
        y = site[1] + (2 * step * dj + count) // (2 * count)
        z = site[2] + (2 * step * dk + count) // (2 * count)
        if not free[x, y, z]:
            return False
    return True


# --- placing zones --------------------------------------------------------------------------------


@dataclass(slots=True)
class Counts:
    """What became of the sites that were drawn."""

    placed: int = 0
    ambiguous: int = 0
    no_cleft: int = 0
    other_depth: int = 0
    enough_of_that_kind: int = 0


def place_zones(
    cells: Cells, wanted: dict[int, int], zone: Zone, seed: int, tries: int
) -> tuple[list[Place], Counts]:
    """Draw release sites until there are as many of each number of partners as wanted.

    A site is drawn uniformly among the interface voxels of the data whose crop lies in the volume.
    """
    rng = np.random.default_rng(seed)
    counts, places, left = Counts(), [], dict(wanted)
    sites = _sites(cells, zone.radius)
    for index in rng.permutation(len(sites))[:tries]:
        if not any(left.values()):
            break
        near = (sites[index] + 0.5) * cells.resolution
        small = fine_piece(cells, near, max(zone.outer * zone.radius, VESICLES_NM) + 2 * CLEFT_NM)
        site = _interface_voxel(small, near, cells.labels[tuple(sites[index])])
        if site is None:
            counts.no_cleft += 1
            continue
        at = small.origin_nm + (site + 0.5) * small.voxel_nm
        pre_id = int(small.labels[tuple(site)])
        normal = _normal(small, site, pre_id)
        if zone.thin != _is_thin(small, at, normal, pre_id):
            counts.other_depth += 1
            continue
        found = truth_at(small, site, zone)
        if found.seen_nm2 < 0.25 * np.pi * zone.radius**2:
            counts.no_cleft += 1
        elif found.partners is None:
            counts.ambiguous += 1
        elif not left.get(len(found.partners), 0):
            counts.enough_of_that_kind += 1
        else:
            fine = fine_piece(cells, at, zone.radius + PADDING_NM + 24)
            own_seed = 1000 * seed + int(index)
            places.append(Place(fine, at, normal, zone.radius, pre_id, found.partners, own_seed))
            left[len(found.partners)] -= 1
            counts.placed += 1
    return places, counts


def _sites(cells: Cells, radius: float) -> Array:
    """Interface voxels of cells, so far inside that a crop has its padding (in the plane)."""
    h = np.array(cells.resolution)
    near = _interfaces(cells.labels, h) & (cells.labels > 0)
    margin = np.ceil((radius + 60.0) / h).astype(int)
    inner = np.zeros(near.shape, bool)
    inner[tuple(slice(m, n - m) for m, n in zip(margin, near.shape, strict=True))] = True
    return np.argwhere(near & inner)


def _interface_voxel(fine: Fine, near_nm: Floats, pre_id: int) -> Array | None:
    """The interface voxel of the presynaptic cell nearest to a point, on the fine grid."""
    near = (fine.apart <= fine.voxel_nm.min()) & (fine.labels == pre_id)
    candidates = np.argwhere(near)
    if not len(candidates):
        return None
    away = ((candidates + 0.5) * fine.voxel_nm + fine.origin_nm - near_nm) ** 2
    return np.asarray(candidates[np.argmin(away.sum(axis=1))])


def _normal(fine: Fine, site: Array, pre_id: int) -> Floats:
    """Unit vector out of the presynaptic cell: from its centre of mass within 40 nm of the site."""
    reach = np.ceil(40.0 / fine.voxel_nm).astype(int)
    low = np.maximum(site - reach, 0)
    part = fine.labels[tuple(slice(a, b) for a, b in zip(low, site + reach + 1, strict=True))]
    offset = (np.indices(part.shape).reshape(3, -1).T + low - site) * fine.voxel_nm
    own = (part == pre_id).ravel() & ((offset**2).sum(axis=1) <= 40.0**2)
    other = ~(part == pre_id).ravel() & ((offset**2).sum(axis=1) <= 40.0**2)
    vector = offset[other].sum(axis=0) - offset[own].sum(axis=0)
    return np.asarray(vector / np.linalg.norm(vector))


def _is_thin(fine: Fine, at_nm: Floats, normal: Floats, pre_id: int) -> bool:
    """Whether the presynaptic cell ends less than `VESICLES_NM` behind a site."""
    behind = at_nm - np.arange(2.0, VESICLES_NM, 2.0)[:, None] * normal
    index = np.floor((behind - fine.origin_nm) / fine.voxel_nm).astype(np.int64)
    x, y, z = np.clip(index, 0, np.array(fine.labels.shape) - 1).T
    return bool((fine.labels[x, y, z] != pre_id).any())


# --- what a method gets to see --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Volume:
    """Labels and density of one place in one setting, [x, y, z] over `box`."""

    cells: npt.NDArray[np.uint64]
    density: npt.NDArray[np.bool_]
    box: Box


def seen_as(place: Place, setting: Setting) -> Volume | None:
    """The tissue as a segmentation in this setting shows it; None if no density voxel is left."""
    rng = np.random.default_rng(place.seed)
    phase, angle = rng.random(3), rng.uniform(0, 2 * np.pi)
    loss = rng.random(int(place.fine.labels.max()) + 1)
    h = np.array(setting.voxel_nm)
    half = np.ceil((setting.painted * place.radius + PADDING_NM) / h).astype(int) + 1
    axes = [
        s + (np.arange(-n, n + 1) + p - 0.5) * size
        for s, n, p, size in zip(place.site_nm, half, phase, h, strict=True)
    ]
    drawn = _slab if setting.filling else _behind
    density = place.fine.sampled(drawn(place, setting.painted * place.radius), axes)
    shift = np.rint(setting.shift_vx * np.array([np.cos(angle), np.sin(angle), 0.0])) * h
    moved = [a - b for a, b in zip(axes, shift, strict=True)]
    labels = place.fine.sampled(place.fine.labels, moved)
    apart = place.fine.sampled(place.fine.apart, moved)
    kept = apart >= setting.gap_nm / 2 + setting.eroded_nm * loss[labels]
    if not density.any():
        return None
    cells = np.asfortranarray(np.where(kept, labels, 0).astype(np.uint64))
    return Volume(cells, density, Box.from_shape(cells.shape, setting.voxel_nm))


@functools.lru_cache(maxsize=64)
def _behind(place: Place, radius: float) -> npt.NDArray[np.bool_]:
    """The presynaptic cell behind the zone: no other membrane is nearer; on the fine grid."""
    fine = place.fine
    near = _around(place, radius + DEPTH_NM + 2 * CLEFT_NM)
    labels, apart = fine.labels[near], fine.apart[near]
    free = (apart < CLEFT_NM / 2) | (labels == 0)
    corner = fine.origin_nm + [s.start for s in near] * fine.voxel_nm
    site = ((place.site_nm - corner) / fine.voxel_nm).astype(np.int64)
    path = _paths(free, site, fine.voxel_nm, radius)
    own = labels == place.pre_id
    _, (i, j, k) = ndimage.distance_transform_edt(
        ~(own & (apart < fine.voxel_nm.min())), sampling=fine.voxel_nm, return_indices=True
    )
    density = np.zeros(fine.labels.shape, bool)
    depth = apart - CLEFT_NM / 2
    density[near] = own & (depth >= 0) & (depth <= DEPTH_NM) & (path[i, j, k] <= radius)
    return density


@functools.lru_cache(maxsize=64)
def _slab(place: Place, radius: float) -> npt.NDArray[np.bool_]:
    """All of the presynaptic cell behind a disk of a radius, in one piece, on the fine grid."""
    fine = place.fine
    near = _around(place, radius + DEPTH_NM)
    axes = [
        o + (np.arange(s.start, s.stop) + 0.5) * h
        for o, s, h in zip(fine.origin_nm, near, fine.voxel_nm, strict=True)
    ]
    offset = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - place.site_nm
    depth = -(offset @ place.normal)
    aside = np.sqrt(np.maximum((offset**2).sum(axis=-1) - depth**2, 0))
    own = (fine.labels[near] == place.pre_id) & (fine.apart[near] >= CLEFT_NM / 2)
    own &= (aside <= radius) & (np.abs(depth) <= DEPTH_NM)
    density = np.zeros(fine.labels.shape, bool)
    if own.any():
        pieces, _ = ndimage.label(own, structure=np.ones((3, 3, 3)))
        nearest = np.argmin(np.where(own, (offset**2).sum(axis=-1), np.inf))
        density[near] = pieces == pieces.ravel()[nearest]
    return density


def _around(place: Place, reach_nm: float) -> tuple[slice, ...]:
    """Voxels of the fine grid within reach of the site, as a box."""
    site = (place.site_nm - place.fine.origin_nm) / place.fine.voxel_nm
    reach = reach_nm / place.fine.voxel_nm
    low, high = np.maximum(np.floor(site - reach), 0), np.ceil(site + reach) + 1
    return tuple(
        slice(int(a), int(b)) for a, b in np.minimum((low, high), place.fine.labels.shape).T
    )
