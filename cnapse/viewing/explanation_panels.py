"""The panels of an explanation as pixels: EM, random walks, potential. One section each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cnapse.viewing import panels
from cnapse.viewing.diffusion import Diffusion
from cnapse.viewing.explanation import Explanation, Slab
from cnapse.viewing.marks import disc, line, thick
from cnapse.viewing.palette import SYNAPSE, rgb
from cnapse.viewing.panels import Pixels, Screen

__all__ = [
    "DECADES",
    "EMITTER",
    "MOST_PLACES",
    "OTHER",
    "cell_shape",
    "em_panel",
    "lay_potential",
    "potential_panel",
    "walk_panel",
]

EMITTER = "#e69f00"
OTHER = "#8c8c8c"
"""Cells that are no partners, and what is lost."""

MOST_PLACES = 3000
"""So many particles are shown, the first ones."""

DECADES = 2
"""The potential is shown from its highest value down to 10^-2 of it."""

_INK = "#1a1a1a"
_COLOURS = "YlOrRd"
_TRANSPARENT = np.float32(0.15)
_TINT = 0.26
_PALE_TINT = 0.3
_STRONGER = 1.7
_FADED = 0.55
# Of the longer side of a panel.
_RADIUS = 0.0085
_CONTACT = 0.016
# Of a voxel: contours are smoothed so far, that zoomed labels show no steps.
_SMOOTH = 0.55


def em_panel(shown: Explanation, slab: Slab, screen: Screen) -> Pixels:
    """The section with its cells tinted and the density outlined.

    Returns
    -------
    ndarray of float32, shape (rows, columns, 3)
        RGB, 0 to 1.
    """
    picture = _grey(shown, slab, screen)
    _cells(shown, slab, screen, picture, _TINT)
    density = _density(shown, slab, screen)
    panels.blend(picture, thick(panels.outline(density)), SYNAPSE, 1.0)
    return picture


def walk_panel(shown: Explanation, diffusion: Diffusion, slab: Slab, screen: Screen) -> Pixels:
    """Emitters, some paths, and the places where particles were taken up in these sections."""
    picture = _faded(shown, slab, screen)
    colours, corner = shown.view.colours, shown.view.box.start
    size = max(screen.shape)
    _emitters(diffusion.emitters, shown, slab, screen, picture)
    for path, end in zip(diffusion.paths, diffusion.ends.tolist(), strict=False):
        for piece in _pieces(path, slab):
            pixels = [_pixel(place, corner, screen) for place in piece]
            line(picture, pixels, 1.3, _darker(colours.get(end, OTHER)), alpha=0.8)
    ends, ended = diffusion.ends[:MOST_PLACES], diffusion.places[:MOST_PLACES]
    within = slab.holds(ended[:, 2])
    # The largest groups first, so that few dots are not hidden under many.
    ids, counts = np.unique(ends[within], return_counts=True)
    for cell in ids[np.argsort(-counts, kind="stable")].tolist():
        places = ended[within & (ends == cell)]
        pixels = [_pixel(place, corner, screen) for place in places]
        disc(picture, pixels, _RADIUS * size, colours.get(cell, OTHER), edge="#ffffff")
    return picture


def potential_panel(shown: Explanation, diffusion: Diffusion, slab: Slab, screen: Screen) -> Pixels:
    """The potential in the free space on a logarithmic scale, and where partners are hit."""
    picture = _faded(shown, slab, screen)
    values = _section(shown, diffusion, slab)
    free = values > 0
    if free.any() and diffusion.potential is not None:
        weight = _smoothed(panels.resampled(free, screen), screen)
        total = _smoothed(panels.resampled(values, screen), screen)
        mean = total / np.maximum(weight, np.float32(1e-6))
        relative = np.maximum(mean / float(diffusion.potential.max()), 1e-12)
        height = np.clip(1 + np.log10(relative) / DECADES, 0, 1).astype(np.float32)
        lay_potential(picture, height, weight > 0.5)
    for label, colour in shown.view.colours.items():
        contour = thick(panels.outline(cell_shape(shown, slab, screen, label)))
        panels.blend(picture, contour, colour, 1.0)
    _emitters(_inside_cells(shown, diffusion, slab), shown, slab, screen, picture)
    size = max(screen.shape)
    for cell, place in diffusion.contacts("harmonic").items():
        if slab.holds(place[2:])[0]:
            pixel = _pixel(place, shown.view.box.start, screen)
            colour = shown.view.colours.get(cell, OTHER)
            disc(picture, [pixel], _CONTACT * size + 1.5, _INK)
            disc(picture, [pixel], _CONTACT * size, colour, edge="#ffffff", edge_px=1.5)
    return picture


def _darker(colour: str) -> str:
    """A colour that is seen as a thin line."""
    return "#" + "".join(f"{round(0.62 * value):02x}" for value in rgb(colour))


def lay_potential(picture: Pixels, height: Pixels, where: panels.Mask | None = None) -> None:
    """Lay the colours of values from 0 to 1 over a picture, in place; the lowest are transparent.

    The colours are ordered by lightness, so that eyes that see no red order them too.
    """
    from matplotlib import colormaps

    colours = np.asarray(colormaps[_COLOURS](height)[..., :3], dtype=np.float32)
    weight = np.clip(height / _TRANSPARENT, 0, 1) * (1 if where is None else where)
    picture += weight[..., None] * (colours - picture)


def _emitters(
    emitters: npt.NDArray[np.int64],
    shown: Explanation,
    slab: Slab,
    screen: Screen,
    picture: Pixels,
) -> None:
    """A small dot for each emitter voxel of these sections, in place."""
    voxel = min(screen.voxel_nm) / screen.nm_per_pixel
    within = emitters[slab.holds(emitters[:, 2])]
    places = np.unique(within[:, :2] + 0.5, axis=0)
    pixels = [_pixel(place, shown.view.box.start, screen) for place in places]
    disc(picture, pixels, 0.28 * voxel, EMITTER)


def _inside_cells(shown: Explanation, diffusion: Diffusion, slab: Slab) -> npt.NDArray[np.int64]:
    """Emitters of the middle section that lie in a cell, as far as they are in the picture."""
    view = shown.view
    near = diffusion.emitters[diffusion.emitters[:, 2] == slab.middle]
    inside = near - np.asarray(view.box.start)
    fits = ((inside >= 0) & (inside < view.box.shape)).all(axis=1)
    x, y, z = inside[fits].T
    inside_cells: npt.NDArray[np.int64] = near[fits][view.cells[x, y, z] != 0]
    return inside_cells


def _grey(shown: Explanation, slab: Slab, screen: Screen) -> Pixels:
    view = shown.view
    section = view.image[:, :, slab.middle - view.box.start[2]]
    return panels.grey(section, screen, panels.black_and_white(view.image))


def _faded(shown: Explanation, slab: Slab, screen: Screen) -> Pixels:
    """The section, pale, so that marks are seen on it."""
    picture = _grey(shown, slab, screen)
    picture += np.float32(_FADED) * (1 - picture)
    _cells(shown, slab, screen, picture, _PALE_TINT)
    panels.blend(picture, panels.outline(_density(shown, slab, screen)), _INK, 0.75)
    return picture


def _cells(shown: Explanation, slab: Slab, screen: Screen, picture: Pixels, alpha: float) -> None:
    """Tint the cells and draw their contours, in place."""
    for label, colour in shown.view.colours.items():
        shape = cell_shape(shown, slab, screen, label)
        # Sky-blue partners are told from the presynaptic cell by how strong it is.
        own = shown.view.pre is not None and label == shown.view.pre.id
        panels.blend(picture, shape, colour, alpha * (_STRONGER if own else 1))
        panels.blend(picture, thick(panels.outline(shape)), colour, 1.0)


def cell_shape(shown: Explanation, slab: Slab, screen: Screen, label: int) -> panels.Mask:
    """The pixels of a cell."""
    section = shown.view.cells[:, :, slab.middle - shown.view.box.start[2]]
    return _shape(section == np.uint64(label), screen)


def _density(shown: Explanation, slab: Slab, screen: Screen) -> panels.Mask:
    view = shown.view
    own = view.synapses[:, :, slab.middle - view.box.start[2]] == np.uint64(view.syn_id)
    return _shape(own, screen)


def _shape(mask: panels.Mask, screen: Screen) -> panels.Mask:
    """A mask [x, y] as pixels, its contour smoothed by less than a voxel."""
    return _smoothed(panels.resampled(mask, screen), screen) > 0.5


def _smoothed(pixels: Pixels, screen: Screen) -> Pixels:
    from scipy.ndimage import gaussian_filter

    sigma = [_SMOOTH * h / screen.nm_per_pixel for h in reversed(screen.voxel_nm)]
    smooth: Pixels = gaussian_filter(pixels, sigma, mode="nearest")
    return smooth


def _section(shown: Explanation, diffusion: Diffusion, slab: Slab) -> npt.NDArray[np.float64]:
    """The potential over the section of the view; 0 where it was not asked for."""
    window, box, values = shown.view.box, diffusion.potential_box, diffusion.potential
    section = np.zeros(window.shape[:2])
    if values is None or box is None or not box.start[2] <= slab.middle < box.stop[2]:
        return section
    common = window.intersection(box)
    x, y, _ = common.slices(window)
    to_x, to_y, _ = common.slices(box)
    section[x, y] = values[to_x, to_y, slab.middle - box.start[2]]
    return section


def _pieces(path: npt.NDArray[np.float64], slab: Slab) -> list[npt.NDArray[np.float64]]:
    """The parts of a path that lie in some sections, each of two places or more."""
    within = slab.holds(path[:, 2])
    cuts = np.nonzero(within[1:] != within[:-1])[0] + 1
    parts = np.split(path, cuts)
    return [part for part in parts if len(part) > 1 and slab.holds(part[:1, 2])[0]]


def _pixel(
    place: Sequence[float] | npt.NDArray[np.float64], corner: Sequence[int], screen: Screen
) -> tuple[float, float]:
    """Column and row of a place of the volume, in voxels."""
    return screen.pixel([float(place[axis]) - corner[axis] for axis in (0, 1)])
