"""What becomes of the transmitter of one synapse, with all that assignment forgets.

The same cutout, emitters, particles and potential as in a run, so that the shares are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cnapse.errors import TableError
from cnapse.geometry import Box, triple
from cnapse.partners.assign import assign_synapse
from cnapse.partners.assignment import Assignment, Site
from cnapse.partners.emitters import find_emitters
from cnapse.partners.harmonic import potential
from cnapse.partners.labels import Tissue
from cnapse.partners.montecarlo import Walk, walk_ends
from cnapse.partners.parameters import AssignParameters
from cnapse.runs import RunData

__all__ = ["SOLVERS", "Diffusion", "Portion", "Solver", "diffuse"]

Floats = npt.NDArray[np.float64]
Solver = Literal["harmonic", "montecarlo"]

SOLVERS: tuple[Solver, ...] = ("harmonic", "montecarlo")

# Farther from the emitters than this nothing of the potential is left to see.
_POTENTIAL_NM = 400.0
_PATHS = 40
_LONGEST_PATH = 1000


class Portion(NamedTuple):
    """What one cell takes of the transmitter, by one method.

    Parameters
    ----------
    raw
        Share of all the transmitter.
    raw_error
        Its standard error by sampling; 0 where it is exact.
    share
        Share among the partners, as in the table; nan for a cell that is no partner.
    share_error
        Its standard error by sampling.
    """

    raw: float
    raw_error: float = 0.0
    share: float = math.nan
    share_error: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether the cell is a partner."""
        return not math.isnan(self.share)


@dataclass(frozen=True, slots=True)
class Diffusion:
    """What became of the transmitter of one synapse. Places are in voxels of the volume.

    Parameters
    ----------
    cutout : Box
        What was looked at.
    emitters : ndarray of int64, shape (n, 3)
        Voxels that release transmitter.
    found : mapping of method to Assignment
        Cells and shares.
    ends : ndarray of uint64, shape (particles,)
        Cell that took each particle up, 0 for lost; empty without walks.
    places : ndarray of float64, shape (particles, 3)
        Where.
    paths : sequence of ndarray of float64, shape (steps + 1, 3)
        Of the first particles.
    potential : ndarray of float64 or None
        Over `potential_box`; 0 where there is no transmitter.
    potential_box : Box or None
    """

    cutout: Box
    emitters: npt.NDArray[np.int64]
    found: Mapping[Solver, Assignment] = field(default_factory=dict)
    ends: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    places: Floats = field(default_factory=lambda: np.empty((0, 3)))
    paths: Sequence[Floats] = ()
    potential: Floats | None = None
    potential_box: Box | None = None

    def portions(self, method: Solver) -> dict[int, Portion]:
        """What each cell takes, by its id; dropped cells included."""
        assignment = self.found[method]
        arrivals = assignment.arrivals
        kept = {
            cell: (share, error)
            for cell, share, error in zip(
                assignment.post_ids.tolist(),
                assignment.share.tolist(),
                assignment.share_error.tolist(),
                strict=True,
            )
        }
        return {
            cell: Portion(raw, _error(raw, arrivals.particles), *kept.get(cell, (math.nan, 0.0)))
            for cell, raw in zip(
                arrivals.post_ids.tolist(), arrivals.raw_share.tolist(), strict=True
            )
        }

    def contacts(self, method: Solver) -> dict[int, Floats]:
        """Where each partner is hit: centre of the absorbing voxel nearest to the mean place."""
        arrivals = self.found[method].arrivals
        kept = set(self.found[method].post_ids.tolist())
        places = arrivals.voxels + np.asarray(self.cutout.start) + 0.5
        return {
            cell: place
            for cell, place in zip(arrivals.post_ids.tolist(), places, strict=True)
            if cell in kept
        }


def diffuse(
    run: RunData, site: Site, cutout: Box, how: AssignParameters, methods: Sequence[Solver]
) -> Diffusion:
    """Assign a synapse as its run does, and keep what assignment forgets.

    Parameters
    ----------
    run : RunData
        With cells and synapses.
    site : Site
    cutout : Box
        ``how.cutout`` of the site's extent.
    how : AssignParameters
    methods : sequence of {"harmonic", "montecarlo"}

    Returns
    -------
    Diffusion
        Without anything found if there is no emitter.

    Raises
    ------
    TableError
        If the synapse has no voxel in the layer.
    """
    cells = run.read_cells(cutout)
    density = run.layer("synapses").read(site.extent) == site.syn_id
    if not density.any():
        raise TableError(
            f"synapse {site.syn_id} has no voxel in its bounding box {site.extent} of "
            f"{run.layer_path('synapses')}: the layer was made anew since; run `cnapse run` again"
        )
    rule = how.emitter_rule(cutout.resolution)
    start = triple([a - b for a, b in zip(site.extent.start, cutout.start, strict=True)])
    emitters = find_emitters(cells, density, start, site.pre_id, rule)
    corner = np.asarray(cutout.start)
    if not len(emitters):
        return Diffusion(cutout, emitters + corner)
    found = {
        method: assign_synapse(cells, density, cutout, site, how.changed(method=method))
        for method in methods
    }
    tissue = Tissue(cells, density, start, site.pre_id, rule.paints, cutout.resolution)
    extra: dict[str, Any] = {}
    if "montecarlo" in found:
        stream = (how.seed, site.first_voxel)
        walk = replace(how.walk, particles=found["montecarlo"].arrivals.particles)
        ends, places = walk_ends(tissue, emitters, walk, stream)
        paths = _paths(tissue, emitters, walk, stream, places[:_PATHS])
        extra.update(ends=ends, places=places + corner, paths=[p + corner for p in paths])
    if "harmonic" in found:
        values, box = _potential(tissue, emitters, cutout, how)
        extra.update(potential=values, potential_box=box)
    return Diffusion(cutout, emitters + corner, found, **extra)


def _paths(
    tissue: Tissue,
    emitters: npt.NDArray[np.int32],
    how: Walk,
    stream: tuple[int, int],
    ends: Floats,
) -> list[Floats]:
    """Each of the first particles' places after 0, 1, 2, ... steps, up to its end.

    A walk that is cut short is the beginning of the same walk, so nothing has to walk but the walk.
    """
    first = replace(how, particles=len(ends))
    walked = []
    for steps in range(min(_LONGEST_PATH, how.max_steps) + 1):
        walked.append(walk_ends(tissue, emitters, replace(first, max_steps=steps), stream)[1])
        if (walked[-1] == ends).all():
            break
    paths = []
    for path in np.stack(walked, axis=1):
        moved = np.nonzero((path[1:] != path[:-1]).any(axis=1))[0]
        paths.append(path[: moved[-1] + 2 if len(moved) else 1])
    return paths


def _potential(
    tissue: Tissue, emitters: npt.NDArray[np.int32], cutout: Box, how: AssignParameters
) -> tuple[Floats, Box]:
    """The potential near the emitters: a huge cutout is empty but for these."""
    first, last = (triple(end.tolist()) for end in (emitters.min(axis=0), emitters.max(axis=0) + 1))
    near = Box(first, last, cutout.resolution).translated(cutout.start)
    reach = [math.ceil(_POTENTIAL_NM / h) for h in cutout.resolution]
    box = near.grown(reach).clamped(cutout)
    moved = [a - b for a, b in zip(box.start, cutout.start, strict=True)]
    part = replace(
        tissue,
        cells=tissue.cells[box.slices(cutout)],
        density_start=triple([a - b for a, b in zip(tissue.density_start, moved, strict=True)]),
    )
    return potential(part, emitters - np.asarray(moved, np.int32), how.laplace), box


def _error(share: float, particles: int) -> float:
    return math.sqrt(share * (1 - share) / particles) if particles else 0.0
