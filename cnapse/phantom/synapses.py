"""Where the synapses are, and who their partners are: true by construction.

A candidate is a place on a neurite's membrane. Its density is what lies inside the neurite, near
the membrane and near that place. It is made only if there is no doubt who its partners are: every
cell that the membrane faces, within the density's reach and a good margin of that, must face a fair
share of the density itself. The partners are those cells, and their contact is the area of the
presynaptic membrane that faces them under the density. No diffusion is simulated here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cnapse.geometry import Box, Grid, triple
from cnapse.phantom.hashing import uniform
from cnapse.phantom.spec import PhantomSpec
from cnapse.phantom.tissue import Plane, cell_id_of, jitter, plane, site_at

__all__ = ["Synapse", "Synapses"]

_SLOT_NM = 300.0
_TILE = (2048, 2048)
_TRIES = 6
_DEPTH_NM = (22.0, 33.0)
_RADIUS_NM = (45.0, 120.0)
# Some are wide, so that there are synapses with three and four partners.
_WIDE = (1.8, 2.5)
_WIDE_SHARE = (0.25, 0.15)
_HALF_HEIGHT_NM = (60.0, 130.0)
_MARGIN_NM = 65.0
_EXPOSED_NM = 40.0
_LEAST_SHARE = 0.07
_VOLUME_NM3 = (0.6e5, 1.9e6)
_APART_NM = 60.0
_BORDER_NM = 160.0
# C. elegans: one partner 10-18 %, two 55-65 %, three 17-26 %; there are too many flat contacts.
_KEPT_WITH_ONE_PARTNER = 0.35


@dataclass(frozen=True, slots=True)
class _Place:
    """A candidate: a place on the membrane of a neurite."""

    key: tuple[int, int, int]
    section: int
    x: int
    y: int
    pre: int
    radius: float
    half_height: float
    depth: float
    priority: float


@dataclass(frozen=True, slots=True)
class Synapse:
    """A synapse of the phantom.

    Attributes
    ----------
    syn_id : int
        1 + raster index of the first voxel in the phantom's bounds.
    pre_id : int
    box : Box
        Bounding box of the density.
    mask : ndarray of bool, shape of the box
    contact_nm2 : dict
        Area of the presynaptic membrane under the density that faces each partner.
    place : (x, y, z)
        Voxel on the membrane, in its middle.
    """

    syn_id: int
    pre_id: int
    box: Box
    mask: npt.NDArray[np.bool_]
    contact_nm2: dict[int, float]
    place: tuple[int, int, int]


class Synapses:
    """The synapses of a phantom, found where they are asked for."""

    def __init__(self, spec: PhantomSpec) -> None:
        self._spec = spec
        self._made = functools.lru_cache(maxsize=20_000)(self._make)
        self._candidate = functools.lru_cache(maxsize=50_000)(self._find)

    def near(self, box: Box, reach_nm: float = 0.0) -> list[Synapse]:
        """The synapses whose density comes within a distance of a box, by id."""
        grown = box.grown(self._voxels(reach_nm))
        wide = grown.grown(self._voxels(_WIDE[-1] * _RADIUS_NM[1] + 2 * self._spec.neurite_nm))
        found = (self._accepted(key) for key in self._keys(wide))
        near = [s for s in found if s is not None and not s.box.intersection(grown).empty]
        return sorted(near, key=lambda s: s.syn_id)

    def all(self) -> list[Synapse]:
        """Every synapse of the phantom, by id; tile by tile, so that candidates stay in memory."""
        tiles = Grid(self._spec.bounds, (*_TILE, self._spec.shape[2]))
        found = {s.syn_id: s for tile in tiles for s in self.near(tile.write)}
        return [found[syn_id] for syn_id in sorted(found)]

    def _voxels(self, nm: float) -> tuple[int, int, int]:
        return triple([math.ceil(nm / h) for h in self._spec.resolution])

    def _keys(self, box: Box) -> Iterator[tuple[int, int, int]]:
        """Lattice point and slot of z of the neurites that may pass through a box."""
        spacing = (self._spec.neurite_nm, self._spec.neurite_nm, _SLOT_NM)
        low = [math.floor(a / s) for a, s in zip(box.start_nm, spacing, strict=True)]
        high = [math.floor(b / s) for b, s in zip(box.stop_nm, spacing, strict=True)]
        for k in range(low[2], high[2] + 1):
            for j in range(low[1], high[1] + 1):
                for i in range(low[0], high[0] + 1):
                    yield (i, j, k)

    def _accepted(self, key: tuple[int, int, int]) -> Synapse | None:
        """The synapse of a key, unless one of more weight is too near."""
        mine = self._candidate(key)
        if mine is None:
            return None
        i, j, k = key
        for c in range(k - 2, k + 3):
            for b in range(j - 3, j + 4):
                for a in range(i - 3, i + 4):
                    other = self._candidate((a, b, c))
                    if other is not None and other.key != key and self._yields(mine, other):
                        return None
        return self._made(mine)

    def _yields(self, mine: _Place, other: _Place) -> bool:
        """Whether two densities are too near each other, and this one is the lesser."""
        hx, hy, hz = self._spec.resolution
        apart = math.hypot((mine.x - other.x) * hx, (mine.y - other.y) * hy)
        deep = abs(mine.section - other.section) * hz
        too_near = apart < mine.radius + other.radius + _APART_NM and (
            deep < mine.half_height + other.half_height + 2 * hz
        )
        return too_near and (other.priority, other.key) > (mine.priority, mine.key)

    def _find(self, key: tuple[int, int, int]) -> _Place | None:
        """The first candidate of a key about which there is no doubt."""
        i, j, k = key
        spec = self._spec
        if uniform(spec.seed, i, j, 1000 + k) >= spec.synapse_density:
            return None
        hz = spec.resolution[2]
        z = (k + uniform(spec.seed, i, j, 2000 + k)) * _SLOT_NM
        section = math.floor(z / hz)
        if not self._inside(section, 2):
            return None
        window = self._window(i, j, section)
        if window.intersection(spec.bounds).empty:
            return None
        middle = plane(spec, window, section)
        pre = cell_id_of(i, j)
        h = spec.resolution[0]
        rim = (middle.cell == pre) & (middle.distance >= spec.gap_nm / 2)
        rim &= middle.distance < spec.gap_nm / 2 + h
        places = np.argwhere(rim)
        if len(places) == 0:
            return None
        for attempt in range(_TRIES):
            place = self._place(key, attempt, places, window, section)
            if self._plausible(place, middle, window) and self._made(place) is not None:
                return place
        return None

    def _window(self, i: int, j: int, section: int) -> Box:
        """A box of one section round a neurite."""
        spec = self._spec
        hx, hy, hz = spec.resolution
        x, y, _ = site_at(spec.seed, i, j, (section + 0.5) * hz, spec.neurite_nm)
        dx, dy = jitter(spec.seed, section, spec.jitter_nm)
        reach = 1.15 * spec.neurite_nm
        start = (math.floor((x - dx - reach) / hx), math.floor((y - dy - reach) / hy), section)
        n, m = math.ceil(2 * reach / hx), math.ceil(2 * reach / hy)
        return Box.from_shape((n, m, 1), spec.resolution, start)

    def _place(
        self,
        key: tuple[int, int, int],
        attempt: int,
        places: npt.NDArray[np.int64],
        window: Box,
        section: int,
    ) -> _Place:
        i, j, k = key

        def between(low: float, high: float, number: int) -> float:
            part = uniform(self._spec.seed, i, j, 100 * (attempt + 1) + number + 10_000 * k)
            return low + (high - low) * part

        x, y = places[min(int(between(0, len(places), 1)), len(places) - 1)]
        return _Place(
            key=key,
            section=section,
            x=int(x) + window.start[0],
            y=int(y) + window.start[1],
            pre=cell_id_of(i, j),
            radius=between(*_RADIUS_NM, 2) * _widened(between(0, 1, 6)),
            half_height=between(*_HALF_HEIGHT_NM, 3),
            depth=between(*_DEPTH_NM, 4),
            priority=between(0, 1, 5),
        )

    def _inside(self, section: int, margin: int) -> bool:
        bounds = self._spec.bounds
        return bounds.start[2] + margin <= section < bounds.stop[2] - margin

    def _plausible(self, place: _Place, middle: Plane, window: Box) -> bool:
        """A quick look at the middle section, before the others are made."""
        ok, _, _ = self._faced(place, middle, window, place.section)
        return ok

    def _faced(
        self, place: _Place, tissue: Plane, window: Box, section: int
    ) -> tuple[bool, npt.NDArray[np.bool_], dict[int, int]]:
        """One section: whether there is no doubt, the density, contact voxels by cell."""
        spec = self._spec
        hx, hy, hz = spec.resolution
        x = (np.arange(window.start[0], window.stop[0]) - place.x) * hx
        y = (np.arange(window.start[1], window.stop[1]) - place.y) * hy
        away = np.hypot(x[:, None], y[None, :])
        deep = (section - place.section) * hz / place.half_height
        membrane = tissue.distance - spec.gap_nm / 2
        inside = (tissue.cell == place.pre) & (membrane >= 0)
        within = away <= place.radius * math.sqrt(max(0.0, 1 - deep * deep))
        density = inside & (membrane < place.depth) & within & (abs(deep) < 1)
        rim = inside & (membrane < hx)
        contact = _counted(tissue.other[rim & density])
        nearby = set(np.unique(tissue.other[rim & (away < place.radius + _MARGIN_NM)]).tolist())
        total = sum(contact.values())
        fair = {c for c, n in contact.items() if n >= _LEAST_SHARE * total}
        return bool(total) and nearby <= fair, density, contact

    def _make(self, place: _Place) -> Synapse | None:
        """The synapse at a place, or None if its partners would be in doubt."""
        spec = self._spec
        hx, hy, hz = spec.resolution
        sections = math.ceil(place.half_height / hz) + 1
        n = math.ceil((place.radius + _MARGIN_NM) / hx) + 2
        m = math.ceil((place.radius + _MARGIN_NM) / hy) + 2
        box = Box(
            (place.x - n, place.y - m, place.section - sections),
            (place.x + n + 1, place.y + m + 1, place.section + sections + 1),
            spec.resolution,
        )
        if not spec.bounds.contains(box.grown(self._voxels(_BORDER_NM - _MARGIN_NM))):
            return None
        density = np.zeros(box.shape, np.bool_, order="F")
        cells = np.zeros(box.shape, np.int64, order="F")
        contact: dict[int, int] = {}
        nearby: set[int] = set()
        for index in range(box.shape[2]):
            tissue = plane(spec, box, box.start[2] + index)
            _, density[:, :, index], faced = self._faced(place, tissue, box, box.start[2] + index)
            cells[:, :, index] = np.where(tissue.distance < spec.gap_nm / 2, 0, tissue.cell)
            nearby |= self._nearby(place, tissue, box)
            for cell, count in faced.items():
                contact[cell] = contact.get(cell, 0) + count
        return self._checked(place, box, density, cells, contact, nearby)

    def _nearby(self, place: _Place, tissue: Plane, box: Box) -> set[int]:
        """The cells that the membrane faces, within the density's reach and the margin."""
        hx, hy, _ = self._spec.resolution
        x = (np.arange(box.start[0], box.stop[0]) - place.x) * hx
        y = (np.arange(box.start[1], box.stop[1]) - place.y) * hy
        membrane = tissue.distance - self._spec.gap_nm / 2
        rim = (tissue.cell == place.pre) & (membrane >= 0) & (membrane < hx)
        near = np.hypot(x[:, None], y[None, :]) < place.radius + _MARGIN_NM
        return set(np.unique(tissue.other[rim & near]).tolist())

    def _checked(
        self,
        place: _Place,
        box: Box,
        density: npt.NDArray[np.bool_],
        cells: npt.NDArray[np.int64],
        contact: dict[int, int],
        nearby: set[int],
    ) -> Synapse | None:
        spec = self._spec
        hx, _, hz = spec.resolution
        volume = float(density.sum()) * box.voxel_volume_nm3
        if not _VOLUME_NM3[0] <= volume <= _VOLUME_NM3[1]:
            return None
        padded = np.pad(density, 1)
        if cc3d.connected_components(padded, connectivity=26, return_N=True)[1] != 1:
            return None
        reach = (*self._voxels(_EXPOSED_NM)[:2], 1)
        exposed = ndimage.maximum_filter(density, size=[2 * r + 1 for r in reach])
        nearby = nearby | set(np.unique(cells[exposed]).tolist()) - {0, place.pre}
        total = sum(contact.values())
        partners = {c: n for c, n in contact.items() if n >= _LEAST_SHARE * total}
        if not partners or not nearby <= set(partners):
            return None
        i, j, k = place.key
        rare = uniform(spec.seed, i, j, 3000 + k) >= _KEPT_WITH_ONE_PARTNER
        if len(partners) == 1 and rare:
            return None
        where = np.argwhere(density)
        low, high = where.min(axis=0), where.max(axis=0) + 1
        extent = Box(
            triple((low + box.start).tolist()), triple((high + box.start).tolist()), spec.resolution
        )
        voxels = where + np.asarray(box.start)
        return Synapse(
            syn_id=int(spec.bounds.raster_index(voxels).min()) + 1,
            pre_id=place.pre,
            box=extent,
            mask=density[extent.slices(box)],
            contact_nm2={c: n * hx * hz for c, n in sorted(partners.items())},
            place=(place.x, place.y, place.section),
        )


def _counted(values: npt.NDArray[np.int64]) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _widened(draw: float) -> float:
    """Factor by which a density is wider than usual, for a number in [0, 1)."""
    for factor, share in zip(_WIDE, _WIDE_SHARE, strict=True):
        if draw < share:
            return factor
        draw -= share
    return 1.0
