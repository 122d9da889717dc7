"""Postsynaptic partners of synapses: cutout, emitters, diffusion, shares.

1. The cutout is the synapse's bounding box grown by the padding and clipped to the cells' bounds.
2. Emitters are found (:mod:`cnapse.partners.emitters`) and transmitter diffuses, solved exactly
   (:mod:`cnapse.partners.harmonic`) or walked (:mod:`cnapse.partners.montecarlo`).
3. Cells with at most `min_share` of all the transmitter are dropped; the rest adds up to 1.

What is read of the arrays is the cutouts of the synapses in the table, nothing else: the volume is
never scanned. Whatever is doubtful is flagged, never silent.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.errors import BoundsError, FormatError, TableError
from cnapse.geometry import Box, Triple, triple
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.assignment import (
    ASSIGNED,
    PARTNER_ROWS,
    Assignment,
    Site,
    partner_rows,
    synapse_rows,
)
from cnapse.partners.contact import contact_shares
from cnapse.partners.emitters import find_emitters
from cnapse.partners.harmonic import solve
from cnapse.partners.labels import Tissue
from cnapse.partners.montecarlo import walk
from cnapse.partners.parameters import AssignParameters, parameters_of
from cnapse.partners.polarity import Side, presynaptic_part, presynaptic_side
from cnapse.tables import SynapseFlag

__all__ = [
    "ASSIGNED",
    "PARTNER_ROWS",
    "AssignParameters",
    "Assignment",
    "Evidence",
    "Site",
    "assign_many",
    "assign_synapse",
    "parameters_of",
]

Array = npt.NDArray[Any]

_AXES = ("x", "y", "z")
_NEEDED = (
    "syn_id",
    "pre_id",
    "size",
    *(f"start_{a}" for a in _AXES),
    *(f"stop_{a}" for a in _AXES),
    "first_voxel",
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What tells the presynaptic side of a density that covers the cleft.

    Parameters
    ----------
    vesicles : ndarray, shape (x, y, z), optional
        Map of vesicles over the cells' cutout, as for `cnapse.partners.polarity.presynaptic_side`.
    direction : ndarray, shape (x, y, z, 3), optional
        Vectors from post to pre; for one synapse over its bounding box.
    """

    vesicles: Array | None = None
    direction: Array | None = None

    def check(self, box: Box) -> None:
        """Refuse arrays that are not over the box.

        Raises
        ------
        FormatError
        """
        for name, shape in (("vesicles", box.shape), ("direction", (*box.shape, 3))):
            array = getattr(self, name)
            if array is not None and tuple(array.shape) != shape:
                raise FormatError(
                    f"{name} have shape {tuple(array.shape)}, expected {shape} over {box}: give "
                    "arrays over exactly that box"
                )

    def cut(self, cutout: tuple[slice, ...], extent: tuple[slice, ...]) -> Evidence:
        """What concerns one synapse."""
        return Evidence(
            None if self.vesicles is None else self.vesicles[cutout],
            None if self.direction is None else self.direction[extent],
        )


class _Cutouts(NamedTuple):
    """Arrays of synapses and cells, what they cover, and where the cells end."""

    synapses: Array
    cells: Array
    box: Box
    bounds: Box
    evidence: Evidence


def assign_synapse(
    cells: Array,
    density: Array,
    cutout: Box,
    site: Site,
    parameters: AssignParameters,
    evidence: Evidence | None = None,
) -> Assignment:
    """Partners of one synapse, from its cutout.

    Parameters
    ----------
    cells : ndarray of unsigned int, shape (x, y, z)
        Cell labels over `cutout`, 0 for free space.
    density : ndarray of bool, shape (x, y, z)
        The synapse's voxels over ``site.extent``.
    cutout : Box
        What `cells` covers: ``parameters.cutout(site.extent, bounds)``.
    site : Site
        The synapse.
    parameters : AssignParameters
    evidence : Evidence, optional
        What tells the presynaptic side of a density that covers the cleft.

    Returns
    -------
    Assignment
        Flagged ``BORDER`` where the cutout is smaller than the padding asks for: it was clipped at
        the edge of the cells, and transmitter may be lost there.

    Raises
    ------
    FormatError
        If an array does not fit its box or is of the wrong kind.
    ConfigError
        If the step is longer than the smallest voxel.
    """
    _check_shapes(cells, density, cutout, site)
    flags, refused = _before(site, cutout, parameters)
    if refused:
        return Assignment.none(site.pre_id, flags | refused)
    start = triple([a - b for a, b in zip(site.extent.start, cutout.start, strict=True)])
    if parameters.density == "presynaptic":
        return _assigned(cells, density, start, cutout, site, flags, parameters)
    side = _side(cells, density, start, cutout, evidence or Evidence(), parameters)
    if not side.decided:
        flags |= SynapseFlag.UNDECIDED_SIDE
    if not side.pre_id:
        return Assignment.none(0, flags | SynapseFlag.NO_PRESYNAPTIC_CELL)
    inside = site.extent.intersection(cutout)
    under = cells[inside.slices(cutout)][density[inside.slices(site.extent)]]
    fraction = _fraction(under, side.pre_id)
    density, start = presynaptic_part(cells, density, start, cutout.resolution, side.pre_id)
    site = replace(site, pre_id=side.pre_id)
    found = _assigned(cells, density, start, cutout, site, flags, parameters)
    return replace(found, pre_fraction=fraction)


def _assigned(
    cells: Array,
    density: Array,
    start: Triple,
    cutout: Box,
    site: Site,
    flags: SynapseFlag,
    how: AssignParameters,
) -> Assignment:
    """Partners of a density in or at the presynaptic cell; it begins at `start` in the cutout."""
    if how.method == "contact":
        apposed = contact_shares(cells, density, start, site.pre_id, cutout.resolution)
        return _assignment(site, (apposed, math.nan), 0, cutout, flags, how)
    rule = how.emitter_rule(cutout.resolution)
    emitters = find_emitters(cells, density, start, site.pre_id, rule)
    if not len(emitters):
        return Assignment.none(site.pre_id, flags | SynapseFlag.NO_EMITTERS)
    tissue = Tissue(cells, density, start, site.pre_id, rule.paints, cutout.resolution)
    found = _diffused(tissue, emitters, site, how)
    return _assignment(site, found, len(emitters), cutout, flags, how)


def _fraction(under: Array, pre_id: int) -> float:
    """A cell's share of those voxels that lie on cells."""
    covered = int(np.count_nonzero(under))
    return float(np.count_nonzero(under == pre_id) / covered) if covered else 0.0


def _side(
    cells: Array,
    density: Array,
    start: Triple,
    cutout: Box,
    evidence: Evidence,
    how: AssignParameters,
) -> Side:
    return presynaptic_side(
        cells,
        density,
        start,
        cutout.resolution,
        vesicles=evidence.vesicles,
        direction=evidence.direction,
        reach_nm=how.vesicle_reach_nm,
        min_margin=how.min_margin,
    )


def _diffused(
    tissue: Tissue, emitters: npt.NDArray[np.int32], site: Site, how: AssignParameters
) -> tuple[Arrivals, float]:
    """Where the transmitter goes, and how far the methods disagree (nan unless both ran)."""
    stream = (how.seed, site.first_voxel)
    if how.method == "montecarlo":
        return walk(tissue, emitters, how.walk, stream), math.nan
    arrivals = solve(tissue, emitters, how.laplace)
    if how.method == "harmonic":
        return arrivals, math.nan
    return arrivals, arrivals.distance(walk(tissue, emitters, how.walk, stream))


def assign_many(
    synapses: Array,
    cells: Array,
    box: Box,
    table: pd.DataFrame,
    parameters: AssignParameters,
    *,
    bounds: Box | None = None,
    evidence: Evidence | None = None,
    threads: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Partners of the synapses in a table.

    Parameters
    ----------
    synapses, cells : array of unsigned int, shape (x, y, z)
        Labels over `box`. Only slices of them are taken, so a memory map will do.
    box : Box
        What both arrays cover; it must contain the bounding boxes and the cutouts of the synapses.
    table : DataFrame
        Columns syn_id, pre_id, size (nm3), start_x .. stop_z (voxels), first_voxel, as in the
        ``synapses`` table.
    parameters : AssignParameters
    bounds : Box, optional
        Full bounds of the cells, where cutouts are clipped; default: `box`. A part of a volume
        gives the same rows as the whole if it says the bounds of the whole.
    evidence : Evidence, optional
        What tells the presynaptic side of densities that cover the cleft, over `box`.
    threads
        How many synapses are worked on at once. The rows do not depend on it.

    Returns
    -------
    partners : DataFrame
        Columns :data:`PARTNER_ROWS`, in the order of the table, then by post_id. Size is the share
        of the synapse's volume, nm3.
    synapses : DataFrame
        Columns :data:`ASSIGNED`, one row per row of the table.

    Raises
    ------
    BoundsError
        If `box` does not contain what is needed.
    ConfigError
        If the step is longer than the smallest voxel.
    FormatError
        If an array does not fit the box or is of the wrong kind.
    TableError
        If a column is missing, or a synapse has no voxel in its bounding box.
    """
    _check_many(synapses, cells, box, table)
    parameters.check(box.resolution)
    data = _Cutouts(synapses, cells, box, box if bounds is None else bounds, evidence or Evidence())
    if evidence is not None:
        evidence.check(box)
    sites = _sites(table, box)
    if threads == 1:
        found = [_assign_row(data, site, parameters) for site in sites]
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda site: _assign_row(data, site, parameters), sites))
    return partner_rows(table, found), synapse_rows(table, found)


def _assign_row(data: _Cutouts, site: Site, parameters: AssignParameters) -> Assignment:
    """Cut the synapse out of the arrays, unless there is nothing to do or too much."""
    cutout = parameters.cutout(site.extent, data.bounds)
    flags, refused = _before(site, cutout, parameters)
    if refused:
        return Assignment.none(site.pre_id, flags | refused)
    for needed in (cutout, site.extent):
        if not data.box.contains(needed):
            raise BoundsError(
                f"synapse {site.syn_id} needs {needed}, the arrays cover {data.box}: "
                "give arrays that contain every synapse grown by the padding"
            )
    density = data.synapses[site.extent.slices(data.box)] == site.syn_id
    if not density.any():
        raise TableError(
            f"synapse {site.syn_id} has no voxel in its bounding box {site.extent}: "
            "give the table and the segmentation of the same run"
        )
    evidence = data.evidence.cut(cutout.slices(data.box), site.extent.slices(data.box))
    cells = data.cells[cutout.slices(data.box)]
    return assign_synapse(cells, density, cutout, site, parameters, evidence)


def _before(
    site: Site, cutout: Box, parameters: AssignParameters
) -> tuple[SynapseFlag, SynapseFlag]:
    """Flags that need no array; and the reason, if any, to look no further."""
    whole = site.extent.grown(parameters.padding_vx(cutout.resolution))
    flags = SynapseFlag(0) if cutout == whole else SynapseFlag.BORDER
    if cutout.empty or (site.pre_id == 0 and parameters.density != "cleft"):
        return flags, SynapseFlag.NO_PRESYNAPTIC_CELL
    if parameters.too_large(cutout):
        return flags, SynapseFlag.TOO_LARGE
    return flags, SynapseFlag(0)


def _assignment(
    site: Site,
    found: tuple[Arrivals, float],
    emitters: int,
    cutout: Box,
    flags: SynapseFlag,
    how: AssignParameters,
) -> Assignment:
    """Drop small shares, make the rest add up to 1, and flag what is doubtful."""
    arrivals, disagreement = found
    raw = arrivals.raw_share
    kept = raw > how.cut
    if how.only is not None:
        kept &= np.array([int(cell) in how.only for cell in arrivals.post_ids], dtype=np.bool_)
    if not kept.any():
        flags |= SynapseFlag.NOTHING_HIT
    if arrivals.lost > how.lost_limit:
        flags |= SynapseFlag.MANY_LOST
    sigmas = how.sigmas_from_cut(raw)
    if sigmas <= how.near_cut_sigmas:
        flags |= SynapseFlag.NEAR_CUT
    total = raw[kept].sum()
    share = raw[kept] / total
    sampled = arrivals.particles * total
    error = np.sqrt(share * (1 - share) / sampled) if sampled else np.zeros(len(share))
    centres = arrivals.voxels[kept] + np.asarray(cutout.start) + 0.5
    return Assignment(
        pre_id=site.pre_id,
        pre_fraction=math.nan,
        post_ids=arrivals.post_ids[kept],
        share=share,
        share_error=error,
        raw_share=raw[kept],
        post_nm=centres * np.asarray(cutout.resolution),
        emitters=emitters,
        lost=arrivals.lost,
        trapped=arrivals.trapped,
        near_cut=math.erfc(sigmas / math.sqrt(2)),
        disagreement=disagreement,
        flags=flags,
        arrivals=arrivals,
    )


def _sites(table: pd.DataFrame, box: Box) -> list[Site]:
    """The rows of the table as records."""
    starts = table[[f"start_{a}" for a in _AXES]].to_numpy().tolist()
    stops = table[[f"stop_{a}" for a in _AXES]].to_numpy().tolist()
    columns = (table[name].tolist() for name in ("syn_id", "pre_id", "first_voxel"))
    return [
        Site(syn_id, pre_id, Box(triple(start), triple(stop), box.resolution), first_voxel)
        for syn_id, pre_id, first_voxel, start, stop in zip(*columns, starts, stops, strict=True)
    ]


def _check_shapes(cells: Array, density: Array, cutout: Box, site: Site) -> None:
    for name, array, box in (("cells", cells, cutout), ("density", density, site.extent)):
        if tuple(array.shape) != box.shape:
            raise FormatError(
                f"synapse {site.syn_id}: {name} have shape {tuple(array.shape)}, their box {box} "
                f"has {box.shape}: give arrays [x, y, z] over exactly that box"
            )


def _check_many(synapses: Array, cells: Array, box: Box, table: pd.DataFrame) -> None:
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise TableError(
            f"table of synapses: missing columns {', '.join(missing)}; give that of cnapse measure"
        )
    for name, array in (("synapses", synapses), ("cells", cells)):
        if tuple(array.shape) != box.shape or np.dtype(array.dtype).kind != "u":
            raise FormatError(
                f"{name} are {np.dtype(array.dtype)} of shape {tuple(array.shape)}: expected "
                f"unsigned integers of shape {box.shape}, [x, y, z]"
            )
