"""Postsynaptic partners of synapses: cutout, emitters, diffusion, shares.

1. The cutout is the synapse's bounding box grown by the padding and clipped to the cells' bounds.
2. Emitters are found (:mod:`cnapse.partners.emitters`) and transmitter diffuses
   (:mod:`cnapse.partners.montecarlo`).
3. Cells with at most `min_share` of all the transmitter are dropped; the rest adds up to 1.

What is read of the arrays is the cutouts of the synapses in the table, nothing else: the volume is
never scanned. Whatever is doubtful is flagged, never silent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.errors import BoundsError, FormatError, TableError
from cnapse.geometry import Box, triple
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.emitters import find_emitters
from cnapse.partners.montecarlo import Tissue, walk
from cnapse.partners.parameters import AssignParameters, parameters_of
from cnapse.tables import PARTNERS, SYNAPSES, SynapseFlag

__all__ = [
    "ASSIGNED",
    "PARTNER_ROWS",
    "AssignParameters",
    "Assignment",
    "Site",
    "assign_many",
    "assign_synapse",
    "cutout_box",
    "parameters_of",
]

Array = npt.NDArray[Any]

PARTNER_ROWS = (
    "syn_id",
    "pre_id",
    "post_id",
    "size",
    "share",
    "raw_share",
    "lost",
    "post_x",
    "post_y",
    "post_z",
    "n_partners",
    "flags",
)
"""Columns of a partner row that assignment fills."""

ASSIGNED = ("syn_id", "emitters", "lost", "n_partners", "flags")
"""Columns of a synapse row that assignment fills."""

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
class Site:
    """One synapse, as far as assignment needs to know it.

    Parameters
    ----------
    syn_id, pre_id
        The synapse and its presynaptic cell; 0 for none.
    extent : Box
        Voxels that the synapse's bounding box covers.
    first_voxel
        Raster index of the synapse's first voxel in the full bounds: chooses its random numbers.
    """

    syn_id: int
    pre_id: int
    extent: Box
    first_voxel: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """Partners of one synapse.

    Parameters
    ----------
    post_ids : ndarray of uint64, shape (n,)
        Partners, ascending.
    share : ndarray of float64, shape (n,)
        Share among the partners; adds up to 1.
    raw_share : ndarray of float64, shape (n,)
        Share of all the transmitter. Dropped cells and `lost` make up the rest.
    post_nm : ndarray of float64, shape (n, 3)
        Centre of the absorbing voxel nearest to the mean place of absorption, nm.
    emitters
        Number of emitter voxels.
    lost
        Share of the transmitter that reached no cell.
    flags : SynapseFlag
    arrivals : Arrivals
        All the cells that were reached, before small ones are dropped.
    """

    post_ids: npt.NDArray[np.uint64]
    share: npt.NDArray[np.float64]
    raw_share: npt.NDArray[np.float64]
    post_nm: npt.NDArray[np.float64]
    emitters: int
    lost: float
    flags: SynapseFlag
    arrivals: Arrivals


class _Cutouts(NamedTuple):
    """Arrays of synapses and cells, what they cover, and where the cells end."""

    synapses: Array
    cells: Array
    box: Box
    bounds: Box


def cutout_box(extent: Box, bounds: Box, parameters: AssignParameters) -> Box:
    """The box that is looked at around a synapse.

    Parameters
    ----------
    extent
        Bounding box of the synapse.
    bounds
        Full bounds of the cells at the same resolution.
    parameters
        For the padding.
    """
    return parameters.cutout(extent, bounds)


def assign_synapse(
    cells: Array, density: Array, cutout: Box, site: Site, parameters: AssignParameters
) -> Assignment:
    """Partners of one synapse, from its cutout.

    Parameters
    ----------
    cells : ndarray of unsigned int, shape (x, y, z)
        Cell labels over `cutout`, 0 for free space.
    density : ndarray of bool, shape (x, y, z)
        The synapse's voxels over ``site.extent``.
    cutout : Box
        What `cells` covers: :func:`cutout_box`.
    site : Site
        The synapse.
    parameters : AssignParameters

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
        return _unassigned(flags | refused)
    rule = parameters.emitter_rule(cutout.resolution)
    start = triple([a - b for a, b in zip(site.extent.start, cutout.start, strict=True)])
    emitters = find_emitters(cells, density, start, site.pre_id, rule)
    if not len(emitters):
        return _unassigned(flags | SynapseFlag.NO_EMITTERS)
    tissue = Tissue(cells, density, start, site.pre_id, rule.paints, cutout.resolution)
    arrivals = walk(tissue, emitters, parameters.walk, (parameters.seed, site.first_voxel))
    return _assignment(arrivals, len(emitters), cutout, flags, parameters)


def assign_many(
    synapses: Array,
    cells: Array,
    box: Box,
    table: pd.DataFrame,
    parameters: AssignParameters,
    *,
    bounds: Box | None = None,
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
    data = _Cutouts(synapses, cells, box, box if bounds is None else bounds)
    found = [_assign_row(data, site, parameters) for site in _sites(table, box)]
    return _partner_rows(table, found), _synapse_rows(table, found)


def _assign_row(data: _Cutouts, site: Site, parameters: AssignParameters) -> Assignment:
    """Cut the synapse out of the arrays, unless there is nothing to do or too much."""
    cutout = parameters.cutout(site.extent, data.bounds)
    flags, refused = _before(site, cutout, parameters)
    if refused:
        return _unassigned(flags | refused)
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
    return assign_synapse(data.cells[cutout.slices(data.box)], density, cutout, site, parameters)


def _before(
    site: Site, cutout: Box, parameters: AssignParameters
) -> tuple[SynapseFlag, SynapseFlag]:
    """Flags that need no array; and the reason, if any, to look no further."""
    whole = site.extent.grown(parameters.padding_vx(cutout.resolution))
    flags = SynapseFlag(0) if cutout == whole else SynapseFlag.BORDER
    if site.pre_id == 0 or cutout.empty:
        return flags, SynapseFlag.NO_PRESYNAPTIC_CELL
    if parameters.too_large(cutout):
        return flags, SynapseFlag.TOO_LARGE
    return flags, SynapseFlag(0)


def _assignment(
    arrivals: Arrivals, emitters: int, cutout: Box, flags: SynapseFlag, how: AssignParameters
) -> Assignment:
    """Drop small shares, make the rest add up to 1, and flag what is doubtful."""
    raw = arrivals.raw_share
    kept = raw > how.min_share
    if not kept.any():
        flags |= SynapseFlag.NOTHING_HIT
    if arrivals.lost > how.lost_limit:
        flags |= SynapseFlag.MANY_LOST
    error = math.sqrt(how.min_share * (1 - how.min_share) / how.particles)
    if (np.abs(raw - how.min_share) <= how.near_cut_sigmas * error).any():
        flags |= SynapseFlag.NEAR_CUT
    centres = arrivals.voxels[kept] + np.asarray(cutout.start) + 0.5
    return Assignment(
        post_ids=arrivals.post_ids[kept],
        share=raw[kept] / raw[kept].sum(),
        raw_share=raw[kept],
        post_nm=centres * np.asarray(cutout.resolution),
        emitters=emitters,
        lost=arrivals.lost,
        flags=flags,
        arrivals=arrivals,
    )


def _unassigned(flags: SynapseFlag) -> Assignment:
    """No transmitter was released, so none is lost either."""
    none = Arrivals.none()
    return Assignment(
        none.post_ids, none.raw_share, none.raw_share, np.empty((0, 3)), 0, 0.0, flags, none
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


def _partner_rows(table: pd.DataFrame, found: Sequence[Assignment]) -> pd.DataFrame:
    """One row a partner."""
    counts = np.array([len(a.post_ids) for a in found], dtype=np.int64)
    places = _joined([a.post_nm for a in found], np.empty((0, 3)))
    share = _joined([a.share for a in found], np.empty(0))
    size = np.repeat(table["size"].to_numpy(np.float64), counts)
    columns: dict[str, Any] = {
        "syn_id": np.repeat(table["syn_id"].to_numpy(), counts),
        "pre_id": np.repeat(table["pre_id"].to_numpy(), counts),
        "post_id": _joined([a.post_ids for a in found], np.empty(0, np.uint64)),
        "size": share * size,
        "share": share,
        "raw_share": _joined([a.raw_share for a in found], np.empty(0)),
        "lost": np.repeat([a.lost for a in found], counts),
        **{f"post_{axis}": places[:, i] for i, axis in enumerate(_AXES)},
        "n_partners": np.repeat(counts, counts),
        "flags": np.repeat([int(a.flags) for a in found], counts),
    }
    return _typed(columns, PARTNER_ROWS, PARTNERS.columns)


def _synapse_rows(table: pd.DataFrame, found: Sequence[Assignment]) -> pd.DataFrame:
    """One row a synapse."""
    columns: dict[str, Any] = {
        "syn_id": table["syn_id"].to_numpy(),
        "emitters": [a.emitters for a in found],
        "lost": [a.lost for a in found],
        "n_partners": [len(a.post_ids) for a in found],
        "flags": [int(a.flags) for a in found],
    }
    return _typed(columns, ASSIGNED, SYNAPSES.columns)


def _typed(columns: dict[str, Any], names: Sequence[str], schema: Sequence[Any]) -> pd.DataFrame:
    """The columns in order, each of the dtype that the schema says."""
    dtypes = {column.name: column.dtype for column in schema}
    return pd.DataFrame({name: np.asarray(columns[name]).astype(dtypes[name]) for name in names})


def _joined(parts: Sequence[Array], empty: Array) -> Array:
    return np.concatenate(parts) if parts else empty


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
