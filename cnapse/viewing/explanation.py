"""How the partners of one synapse were found: what a picture that explains it is made of.

Everything is what a run does, done again: the same cutout, emitters, particles and potential, from
the same parameters and cells, so that the shares are those of the run's table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.geometry import Box, Resolution, triple
from cnapse.names import load_names
from cnapse.partners.assignment import Site
from cnapse.partners.parameters import AssignParameters
from cnapse.runs import LayerName, RunData
from cnapse.viewing.cutout import CellNote, SynapseView
from cnapse.viewing.diffusion import SOLVERS, Diffusion, Solver, diffuse

__all__ = [
    "Explanation",
    "Slab",
    "chosen_slabs",
    "explain",
    "refusal",
]

_AXES = ("x", "y", "z")
# A picture shows about so much around the synapse, and never less or more than this.
_AROUND_NM = 70.0
_SMALLEST_NM, _LARGEST_NM = 360.0, 4000.0
# Thin sections are shown together up to this thickness.
_SLAB_NM = 50.0
# What two tables of the same run may differ by.
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Slab:
    """Sections that a panel shows: cells and EM of the middle one, marks of all.

    Parameters
    ----------
    middle, half : int
        Section of the volume, and how many more on either side.
    """

    middle: int
    half: int = 0

    def holds(self, sections: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which of some sections (or of places along z, in voxels) are in it."""
        within: npt.NDArray[np.bool_] = np.abs(np.floor(sections) - self.middle) <= self.half
        return within


@dataclass(frozen=True, slots=True)
class Explanation:
    """A synapse, how its partners were found, and what is shown of it.

    Parameters
    ----------
    row : Series
        Of the table ``synapses``.
    view : SynapseView
        What surrounds the synapse; its partners are those of the table, then those that only one
        method finds.
    slabs : sequence of Slab
        Sections to show, ascending.
    how : AssignParameters
    preset : str
        Which published parameters `how` began as.
    diffusion : Diffusion or None
        None where nothing was released.
    dropped : sequence of CellNote
        Cells that were reached but are no partners, the largest share first.
    reason : str
        Why there is no partner; empty where there is one.
    differs : bool
        The shares are not those of the table: parameters or layers changed since.
    """

    row: pd.Series[Any]
    view: SynapseView
    slabs: Sequence[Slab]
    how: AssignParameters
    preset: str
    diffusion: Diffusion | None = None
    dropped: Sequence[CellNote] = ()
    reason: str = ""
    differs: bool = False

    @property
    def cut(self) -> float:
        """The least share, by the first of the methods shown."""
        return self.how.changed(method=self.methods[0]).cut if self.methods else self.how.cut

    @property
    def methods(self) -> list[Solver]:
        """What there is to show, the exact one first."""
        found = self.diffusion.found if self.diffusion else {}
        return [method for method in SOLVERS if method in found]


def explain(
    run: RunData,
    syn_id: int,
    how: AssignParameters,
    *,
    methods: Sequence[Solver] = SOLVERS,
    sections: int = 3,
) -> Explanation:
    """Find the partners of one synapse again, and keep all that shows how.

    Parameters
    ----------
    run : RunData
        With cells, synapses and tables; without an image the cells are shown alone.
    syn_id : int
    how : AssignParameters
        Those of the run; its ``method`` is not looked at.
    methods : sequence of {"harmonic", "montecarlo"}
    sections : int
        How many to show at most.

    Raises
    ------
    TableError
        If the synapse is not in the table, or has no voxel in the layer.
    RunStateError
        If the run has no tables yet.
    ConfigError
        If the configuration has no cells.
    """
    row = run.connections.synapse(syn_id)
    site = _site(row, run.config.resolution)
    cutout = how.cutout(site.extent, run.layer("cells").bounds)
    reason = refusal(site, cutout, how)
    diffusion = None if reason else diffuse(run, site, cutout, how, methods)
    if diffusion is not None and not len(diffusion.emitters):
        diffusion, reason = None, _NO_EMITTERS
    if diffusion and not any(len(found.post_ids) for found in diffusion.found.values()):
        cut = how.changed(method=methods[0]).cut
        reason = f"Nothing hit: no cell took up more than {100 * cut:g} % of the transmitter."
    slabs = _slabs(row, site, diffusion, sections)
    partners, dropped = _cells(run, syn_id, diffusion)
    return Explanation(
        row=row,
        view=_view(run, row, site, slabs, partners),
        slabs=slabs,
        how=how,
        preset=run.config.assign.preset,
        diffusion=diffusion,
        dropped=dropped,
        reason=reason,
        differs=diffusion is not None and _differs(run, syn_id, diffusion),
    )


_NO_EMITTERS = (
    "No emitters: beside the density there is no voxel outside of the presynaptic cell, and near "
    "to it, that could release transmitter."
)


def refusal(site: Site, cutout: Box, how: AssignParameters) -> str:
    """Why no partners are looked for; empty where they are."""
    if site.pre_id == 0:
        return (
            "No presynaptic cell: no voxel of the object lies on a cell (layers.cells.grow_nm "
            "grows cells over wide membranes)."
        )
    if cutout.empty:
        return "No presynaptic cell: the object lies outside of the layer of cells."
    if how.too_large(cutout):
        return (
            f"Too large to be one synapse: the box around it has {cutout.voxels:,} voxels, more "
            f"than assign.max_box_voxels = {how.max_box_voxels:,}."
        )
    return ""


def _site(row: pd.Series[Any], resolution: Resolution) -> Site:
    """What assignment knows of a synapse."""
    start, stop = (triple([int(row[f"{e}_{a}"]) for a in _AXES]) for e in ("start", "stop"))
    extent = Box(start, stop, resolution)
    return Site(int(row["syn_id"]), int(row["pre_id"]), extent, int(row["first_voxel"]))


# --- what is shown ------------------------------------------------------------------------------


def chosen_slabs(counts: Mapping[int, int], half: int, most: int) -> list[Slab]:
    """The sections that hold the most, and their neighbours as far as these hold anything.

    Parameters
    ----------
    counts : mapping of section to number of emitters
        At least one.
    half : int
        How many sections beside the middle one a slab has.
    most : int
        How many slabs.
    """

    def held(middle: int) -> int:
        return sum(counts.get(z, 0) for z in range(middle - half, middle + half + 1))

    step = 2 * half + 1
    chosen = [max(counts, key=lambda z: (held(z), -z))]
    while len(chosen) < most:
        best = max(chosen[0] - step, chosen[-1] + step, key=held)
        if not held(best):
            break
        chosen = sorted([*chosen, best])
    return [Slab(middle, half) for middle in chosen]


def _slabs(row: pd.Series[Any], site: Site, diffusion: Diffusion | None, most: int) -> list[Slab]:
    """Where most emitters are; without any, around the synapse's position."""
    thickness = site.extent.resolution[2]
    half = int(_SLAB_NM / 2 // thickness)
    if diffusion is not None:
        sections, counts = np.unique(diffusion.emitters[:, 2], return_counts=True)
        return chosen_slabs(dict(zip(sections.tolist(), counts.tolist(), strict=True)), half, most)
    middle = math.floor(float(row["z_pos"]) / thickness)
    near = range(site.extent.start[2], site.extent.stop[2])
    held = {z: 1 for z in near if abs(z - middle) < most * (half + 1)}
    return chosen_slabs({**held, middle: 2}, half, most)


def _view(
    run: RunData,
    row: pd.Series[Any],
    site: Site,
    slabs: Sequence[Slab],
    partners: Sequence[CellNote],
) -> SynapseView:
    """Cut the window out of the layers."""
    place = (float(row["x_pos"]), float(row["y_pos"]), float(row["z_pos"]))
    box = _window(site.extent, place, run.layer("synapses").bounds, slabs)
    layers: dict[LayerName, Any] = {
        "cells": run.read_cells(box),
        "synapses": run.layer("synapses").read(box),
    }
    # Where there is no image, its place is plain grey.
    image = run.layer("image").read(box) if run.given("image") else np.ones(box.shape, np.uint8)
    return SynapseView(
        syn_id=site.syn_id,
        box=box,
        image=image,
        cells=layers["cells"],
        synapses=layers["synapses"],
        probability=None,
        position_nm=place,
        pre=CellNote(site.pre_id, str(row["pre"])) if site.pre_id else None,
        partners=tuple(partners),
    )


def _window(extent: Box, place: Resolution, bounds: Box, slabs: Sequence[Slab]) -> Box:
    """A square around the synapse, moved into the bounds; around its position if it is huge."""
    h = extent.resolution
    side = max((b - a) * size for a, b, size in zip(extent.start, extent.stop, h[:2], strict=False))
    side += 2 * _AROUND_NM
    middle = [(a + b) / 2 for a, b in zip(extent.start, extent.stop, strict=True)]
    if side > _LARGEST_NM:
        middle = [v / size for v, size in zip(place, h, strict=True)]
    side = min(max(side, _SMALLEST_NM), _LARGEST_NM)
    start, stop = [], []
    for axis in (0, 1):
        low, high = bounds.start[axis], bounds.stop[axis]
        wanted = math.ceil(side / h[axis])
        first = max(low, min(math.floor(middle[axis] - wanted / 2), high - wanted))
        start.append(first)
        stop.append(min(high, first + wanted))
    return Box(
        triple([*start, slabs[0].middle]),
        triple([*stop, slabs[-1].middle + 1]),
        h,
    )


def _cells(
    run: RunData, syn_id: int, diffusion: Diffusion | None
) -> tuple[list[CellNote], list[CellNote]]:
    """Partners, first those of the table; and cells that are none. The largest share first."""
    rows = run.connections.partners_of(syn_id)
    partners = [
        CellNote(int(cell), str(name), float(share))
        for cell, name, share in zip(rows["post_id"], rows["post"], rows["share"], strict=True)
    ]
    if diffusion is None:
        return partners, []
    most: dict[int, float] = {}
    kept: set[int] = set()
    for method in diffusion.found:
        for cell, portion in diffusion.portions(method).items():
            most[cell] = max(most.get(cell, 0.0), portion.raw)
            kept |= {cell} if portion.kept else set()
    listed = {partner.id for partner in partners}
    others = sorted((cell for cell in most if cell not in listed), key=lambda c: (-most[c], c))
    names = dict(zip(others, load_names(run.config.names).of(others), strict=True))
    extra = [CellNote(cell, names[cell]) for cell in others if cell in kept]
    return [*partners, *extra], [CellNote(c, names[c]) for c in others if c not in kept]


def _differs(run: RunData, syn_id: int, diffusion: Diffusion) -> bool:
    """Whether the table has other shares than its method finds now."""
    method: Solver = "montecarlo" if run.config.assign.method == "montecarlo" else "harmonic"
    if method not in diffusion.found:
        return False
    found = diffusion.found[method]
    rows = run.connections.partners_of(syn_id).sort_values("post_id")
    return rows["post_id"].tolist() != found.post_ids.tolist() or not np.allclose(
        rows["share"].to_numpy(np.float64), found.share, rtol=0, atol=_SAME
    )
