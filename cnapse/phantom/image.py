"""What an electron microscope would make of the tissue: one section at a time.

A section is 50 nm thick and seen in projection, so each is the mean of three planes: membranes that
run obliquely come out blurred, as they do in serial-section TEM. Grey values are those of uint8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.geometry import Box
from cnapse.phantom.hashing import noise, smooth_noise, uniform
from cnapse.phantom.spec import PhantomSpec
from cnapse.phantom.synapses import Synapse
from cnapse.phantom.tissue import Plane, plane

__all__ = ["MARGIN_NM", "section_image"]

Floats = npt.NDArray[np.float32]

MARGIN_NM = 40.0
"""How far beyond a box its tissue has to be known: a vesicle's width."""

_DEPTHS = (-0.3, 0.0, 0.3)
_BLURRED_DEPTHS = (-0.8, 0.0, 0.8)
_BLURRED_SECTIONS = 0.05
_CLOUD_NM = 270.0


@dataclass(frozen=True, slots=True)
class _Look:
    """Contrast, brightness and sharpness of a section."""

    contrast: float
    brightness: float
    tilt_x: float
    tilt_y: float
    depths: tuple[float, ...]


def section_image(
    spec: PhantomSpec, box: Box, section: int, middle: Plane, synapses: list[Synapse]
) -> npt.NDArray[np.uint8]:
    """The image of one section.

    Parameters
    ----------
    spec : PhantomSpec
    box : Box
        Its x and y are used: the box wanted, grown by :data:`MARGIN_NM`.
    section : int
        Absolute z.
    middle : Plane
        The tissue of the box in the middle of the section.
    synapses : list of Synapse
        All whose vesicles or densities may be seen.

    Returns
    -------
    ndarray of uint8, shape (x, y)
        Right but for the margin.
    """
    look = _look(spec, section)
    planes = [plane(spec, box, section, depth) if depth else middle for depth in look.depths]
    membrane, gap = np.zeros(middle.cell.shape, np.float32), np.zeros(middle.cell.shape, np.float32)
    for tissue in planes:
        _add_membranes(tissue.distance, spec.gap_nm / 2, 1 / len(planes), membrane, gap)
    density = _density(box, section, synapses)
    vesicles = np.zeros(middle.cell.shape, np.float32)
    h = np.asarray(spec.resolution)
    origin = np.asarray(box.start, np.float64)
    zones = _zones(spec, section, synapses)
    organelle = _organelles(spec, section, middle)
    _add_vesicles(
        spec.seed, section, origin, h, middle.cell, middle.distance, organelle, density, zones,
        spec.gap_nm / 2, vesicles,
    )  # fmt: skip
    grey = np.empty(middle.cell.shape, np.uint8)
    _compose(
        spec.seed, section, origin, h, middle.cell, membrane, gap, organelle, vesicles, density,
        (look.contrast, look.brightness, look.tilt_x, look.tilt_y, spec.noise, spec.gap_nm), grey,
    )  # fmt: skip
    return grey


def _look(spec: PhantomSpec, section: int) -> _Look:
    """What the microscope did to a section."""
    change = spec.contrast_change
    blurred = uniform(spec.seed, section, 5, 61) < _BLURRED_SECTIONS * change
    return _Look(
        contrast=max(0.4, 1 + 0.10 * change * noise(spec.seed, section, 1, 60) - 0.2 * blurred),
        brightness=7.0 * change * noise(spec.seed, section, 2, 60),
        tilt_x=5.0 * change * noise(spec.seed, section, 3, 60),
        tilt_y=5.0 * change * noise(spec.seed, section, 4, 60),
        depths=_BLURRED_DEPTHS if blurred else _DEPTHS,
    )


def _density(box: Box, section: int, synapses: list[Synapse]) -> Floats:
    """Presynaptic densities of a section with soft rims."""
    mask = np.zeros(box.shape[:2], np.float32)
    for synapse in synapses:
        own = synapse.box
        if own.start[2] <= section < own.stop[2]:
            plane_of = Box((*box.start[:2], section), (*box.stop[:2], section + 1), box.resolution)
            common = own.intersection(plane_of)
            if not common.empty:
                part = synapse.mask[common.slices(own)]
                mask[common.slices(plane_of)[:2]] += part[:, :, 0]
    soft = np.zeros_like(mask)
    _soften(mask, soft)
    return soft


def _zones(spec: PhantomSpec, section: int, synapses: list[Synapse]) -> npt.NDArray[np.float64]:
    """Where vesicles crowd: x, y (nm), presynaptic cell, radius; for the synapses of a section."""
    hz = spec.resolution[2]
    rows = []
    for synapse in synapses:
        deep = (section - synapse.place[2]) * hz / _CLOUD_NM
        if abs(deep) < 1:
            x, y = ((synapse.place[a] + 0.5) * spec.resolution[a] for a in (0, 1))
            rows.append((x, y, float(synapse.pre_id), _CLOUD_NM * math.sqrt(1 - deep * deep)))
    return np.array(rows, np.float64).reshape(-1, 4)


def _organelles(spec: PhantomSpec, section: int, middle: Plane) -> Floats:
    """Mitochondria (0 to 1 from rim to middle) and dark bodies (2)."""
    out = np.zeros(middle.cell.shape, np.float32)
    z = (section + 0.5) * spec.resolution[2]
    _fill_organelles(
        spec.seed, z, spec.neurite_nm, spec.gap_nm / 2,
        (middle.site_i, middle.site_j, middle.from_x, middle.from_y, middle.distance), out,
    )  # fmt: skip
    return out


@njit(nogil=True, cache=True)
def _add_membranes(
    distance: Floats, half_gap: float, part: float, membrane: Floats, gap: Floats
) -> None:
    for y in range(distance.shape[1]):
        for x in range(distance.shape[0]):
            e = distance[x, y] - half_gap
            membrane[x, y] += part * np.exp(-(((e - 4.5) / 5.5) ** 2))
            if e < 0:
                gap[x, y] += part * min(1.0, -e / 5.0)


@njit(nogil=True, cache=True)
def _soften(mask: Floats, soft: Floats) -> None:
    for y in range(1, mask.shape[1] - 1):
        for x in range(1, mask.shape[0] - 1):
            total = 0.0
            for b in range(-1, 2):
                for a in range(-1, 2):
                    total += mask[x + a, y + b] * (1.0 if a == 0 or b == 0 else 0.5)
            soft[x, y] = total / 7.0


@njit(nogil=True, cache=True)
def _fill_organelles(
    seed: int, z: float, spacing: float, half_gap: float, tissue: tuple[Any, ...], out: Floats
) -> None:
    site_i, site_j, from_x, from_y, distance = tissue
    slot = int(np.floor(z / 900.0))
    for y in range(out.shape[1]):
        for x in range(out.shape[0]):
            e = distance[x, y] - half_gap
            if e < 18.0:
                continue
            i, j = site_i[x, y], site_j[x, y]
            for k in range(slot - 1, slot + 2):
                kind = uniform(seed, i, j, 500 + k)
                if kind > 0.5:
                    continue
                zc = (k + uniform(seed, i, j, 600 + k)) * 900.0
                length = 220.0 + 330.0 * uniform(seed, i, j, 700 + k)
                radius = 0.2 * spacing + 0.2 * spacing * uniform(seed, i, j, 800 + k)
                dark = kind > 0.44
                if dark:
                    length, radius = 0.4 * length, 0.5 * radius
                ox = 0.25 * spacing * (uniform(seed, i, j, 900 + k) - 0.5)
                oy = 0.25 * spacing * (uniform(seed, i, j, 950 + k) - 0.5)
                stretch = 0.7 + 0.6 * uniform(seed, i, j, 980 + k)
                u, v = (from_x[x, y] - ox) * stretch, (from_y[x, y] - oy) / stretch
                q = (u * u + v * v) / (radius * radius) + ((z - zc) / length) ** 2
                # Squeezed in where the cell is narrow.
                near = max(q, 1.0 - (e - 18.0) / 60.0) if q < 1.0 else q
                if near < 1.0:
                    out[x, y] = 2.0 if dark else max(out[x, y], 1.0 - near)


@njit(nogil=True, cache=True)
def _add_vesicles(
    seed: int,
    section: int,
    origin: npt.NDArray[np.float64],
    h: npt.NDArray[np.float64],
    cell: npt.NDArray[np.int64],
    distance: Floats,
    organelle: Floats,
    density: Floats,
    zones: npt.NDArray[np.float64],
    half_gap: float,
    out: Floats,
) -> None:
    """Stamp vesicles: rim 1, lumen -0.6; dense cores 1.6."""
    nx, ny = cell.shape
    size = 44.0
    for b in range(int(origin[1] * h[1] / size) - 2, int((origin[1] + ny) * h[1] / size) + 3):
        for a in range(int(origin[0] * h[0] / size) - 2, int((origin[0] + nx) * h[0] / size) + 3):
            cx = (a + 0.5 + 0.7 * (uniform(seed, a, b, 4 * section) - 0.5)) * size
            cy = (b + 0.5 + 0.7 * (uniform(seed, a, b, 4 * section + 1) - 0.5)) * size
            px, py = int(np.floor(cx / h[0] - origin[0])), int(np.floor(cy / h[1] - origin[1]))
            if px < 0 or py < 0 or px >= nx or py >= ny:
                continue
            if distance[px, py] - half_gap < 24.0 or organelle[px, py] > 0 or density[px, py] > 0:
                continue
            chance = 0.015
            if smooth_noise(seed + 1, cx / 500.0, cy / 500.0, section // 6) > 0.62:
                chance = 0.22
            for n in range(zones.shape[0]):
                if cell[px, py] == np.int64(zones[n, 2]):
                    away = np.hypot(cx - zones[n, 0], cy - zones[n, 1]) / max(zones[n, 3], 1.0)
                    if away < 1.0:
                        chance = max(chance, 0.92 - 0.55 * away * away)
            draw = uniform(seed, a, b, 4 * section + 2)
            if draw >= chance:
                continue
            radius = 16.0 + 5.0 * uniform(seed, a, b, 4 * section + 3)
            core = draw < 0.06 * chance
            if core:
                radius *= 1.5
            reach_x, reach_y = int(radius / h[0]) + 3, int(radius / h[1]) + 3
            for y in range(max(0, py - reach_y), min(ny, py + reach_y + 1)):
                for x in range(max(0, px - reach_x), min(nx, px + reach_x + 1)):
                    r = np.hypot(
                        (x + origin[0] + 0.5) * h[0] - cx, (y + origin[1] + 0.5) * h[1] - cy
                    )
                    if core:
                        value = 1.5 * np.exp(-((r / (0.65 * radius)) ** 4))
                    else:
                        value = np.exp(-(((r - radius) / 5.0) ** 2))
                        value -= 0.55 * np.exp(-((r / (0.7 * radius)) ** 4))
                    if abs(value) > abs(out[x, y]):
                        out[x, y] = value


@njit(nogil=True, cache=True)
def _compose(
    seed: int,
    section: int,
    origin: npt.NDArray[np.float64],
    h: npt.NDArray[np.float64],
    cell: npt.NDArray[np.int64],
    membrane: Floats,
    gap: Floats,
    organelle: Floats,
    vesicles: Floats,
    density: Floats,
    look: tuple[float, ...],
    out: npt.NDArray[np.uint8],
) -> None:
    contrast, brightness, tilt_x, tilt_y, strength, gap_nm = look
    for y in range(out.shape[1]):
        vy = int(y + origin[1])
        ny = (vy + 0.5) * h[1]
        for x in range(out.shape[0]):
            vx = int(x + origin[0])
            nx = (vx + 0.5) * h[0]
            kind = uniform(seed, cell[x, y], 1, 70)
            grey = 158.0 + 26.0 * uniform(seed, cell[x, y], 2, 70)
            if kind < 0.1:
                grey -= 26.0
            grey += 13.0 * smooth_noise(seed + 2, nx / 21.0, ny / 21.0, section)
            grey += 9.0 * smooth_noise(seed + 3, nx / 55.0, ny / 55.0, section)
            grain = smooth_noise(seed + 4, nx / 13.0, ny / 13.0, section)
            if grain > 0.45:
                grey -= 95.0 * (grain - 0.45) * (0.5 + kind)
            inside = organelle[x, y]
            if inside >= 2.0:
                grey = 78.0 + 10.0 * grain
            elif inside > 0.0:
                turn = 6.28 * uniform(seed, cell[x, y], 3, 70)
                along = nx * np.cos(turn) + ny * np.sin(turn)
                bend = 22.0 * smooth_noise(seed + 5, nx / 90.0, ny / 90.0, section // 3)
                crista = np.sin(6.2831853 * (along + bend) / 38.0)
                grey = 122.0 + 8.0 * grain
                if crista > 0.35:
                    grey -= 40.0 * (crista - 0.35)
                if inside < 0.2:
                    edge = inside / 0.2
                    grey -= 55.0 * np.exp(-(((edge - 0.15) / 0.2) ** 2))
                    grey += 22.0 * np.exp(-(((edge - 0.55) / 0.2) ** 2))
                    grey -= 28.0 * np.exp(-(((edge - 0.95) / 0.2) ** 2))
            stamped = vesicles[x, y]
            if stamped > 0:
                grey -= 72.0 * stamped
            else:
                grey -= 40.0 * stamped
            if gap_nm > 0:
                grey += gap[x, y] * (188.0 - grey) * 0.6
            grey -= 116.0 * membrane[x, y]
            if density[x, y] > 0:
                dark = 44.0 + 12.0 * smooth_noise(seed + 6, nx / 17.0, ny / 17.0, section)
                grey += density[x, y] * 0.88 * (min(dark, grey) - grey)
            grey += tilt_x * np.sin(nx / 9000.0) + tilt_y * np.cos(ny / 9000.0)
            grey = 128.0 + (grey - 128.0) * contrast + brightness
            white = noise(seed + 7, vx, vy, section)
            coarse = smooth_noise(seed + 8, vx / 1.7, vy / 1.7, section)
            grey += strength * (8.5 * white + 9.0 * coarse)
            out[x, y] = np.uint8(min(255.0, max(0.0, np.rint(grey))))
