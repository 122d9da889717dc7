"""Rows of corrected synapses: measured and assigned by the run's own code, one synapse at a time.

Nothing of a row depends on other synapses, so a row made here is the one that a whole run over the
corrected layer makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.geometry import Box, triple
from cnapse.partners.assign import (
    Assignment,
    AssignParameters,
    Evidence,
    Site,
    assign_many,
    assign_synapse,
)
from cnapse.partners.assignment import partner_rows, synapse_rows
from cnapse.partners.polarity import presynaptic_part
from cnapse.review.apply_objects import Objects
from cnapse.synapses.measure import combine, measure_block, synapse_table
from cnapse.tables import PARTNERS, SYNAPSES, Column, Schema, SynapseFlag, empty_table, filled
from cnapse_tasks.assign import covers_cleft, parameters
from cnapse_tasks.gather import complete
from cnapse_tasks.measure import has_probability
from cnapse_tasks.run import Run

__all__ = ["COMPUTED", "Rows", "Work", "compute_rows"]

_DIGEST = Column("digest", "str", "", "of what the row was made of")
_PLACES = Schema(
    "places",
    (
        Column("syn_id", "uint64", "", "synapse"),
        Column("post_id", "uint64", "", "cell that a reviewer chose"),
        Column("raw_share", "float64", "", "share of all the transmitter"),
        Column("post_x", "float64", "nm", "where it is hit; empty for a cell that is not near"),
        Column("post_y", "float64", "nm", "the same, y"),
        Column("post_z", "float64", "nm", "the same, z"),
    ),
)
COMPUTED = {
    schema.name: Schema(schema.name, (*schema.columns, _DIGEST))
    for schema in (SYNAPSES, PARTNERS, _PLACES)
}
"""Rows as they are kept for the next time."""


@dataclass(frozen=True, slots=True)
class Work:
    """One synapse to be measured and assigned.

    Attributes
    ----------
    syn_id : int
    pre_id : int or None
        The presynaptic cell that a reviewer chose; None to find it.
    posts : tuple of int
        Cells of which it is asked where they are hit.
    digest : str
        Of all that the rows depend on, the run's parameters aside.
    """

    syn_id: int
    pre_id: int | None
    posts: tuple[int, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of some synapses: columns of `COMPUTED`, sorted by synapse and cell."""

    synapses: pd.DataFrame
    partners: pd.DataFrame
    places: pd.DataFrame

    @classmethod
    def none(cls) -> Rows:
        """Of no synapse."""
        return cls(*(empty_table(schema) for schema in COMPUTED.values()))

    def joined(self, other: Rows) -> Rows:
        """Rows of both."""
        pairs = zip(self.tables(), other.tables(), strict=True)
        return Rows(*(_sorted(pd.concat(pair, ignore_index=True)) for pair in pairs))

    def of(self, digests: set[str]) -> Rows:
        """Only the rows with these digests."""
        return Rows(*(table[table["digest"].isin(digests)] for table in self.tables()))

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """The three tables, in the order of `COMPUTED`."""
        return self.synapses, self.partners, self.places


def compute_rows(run: Run, objects: Objects, work: Sequence[Work]) -> Rows:
    """Measure and assign synapses.

    Parameters
    ----------
    run : Run
    objects : Objects
        After all edits.
    work : sequence of Work
        Each synapse once.
    """
    if not work:
        return Rows.none()
    how = parameters(run)
    measured = [_measured(run, objects, one) for one in work]
    found = [
        _assigned(run, objects, row, one, how) for row, one in zip(measured, work, strict=True)
    ]
    table = _sorted(pd.concat(measured, ignore_index=True))
    # What measuring says of a chosen cell is kept apart from the table's own columns.
    fractions = table.pop("chosen_fraction")
    assigned = _sorted(pd.concat([rows for _, rows, _ in found], ignore_index=True))
    known = assigned["pre_fraction"]
    assigned["pre_fraction"] = known.where(known.notna(), fractions.to_numpy())
    partners = _sorted(pd.concat([rows for rows, _, _ in found], ignore_index=True))
    places = _sorted(pd.concat([rows for _, _, rows in found], ignore_index=True))
    synapses, rows = complete(run, filled(table, SYNAPSES), assigned, partners)
    digests = {one.syn_id: one.digest for one in work}
    return Rows(
        *(
            part.assign(digest=[digests[i] for i in part["syn_id"].tolist()])
            for part in (synapses, rows, places)
        )
    )


def _measured(run: Run, objects: Objects, work: Work) -> pd.DataFrame:
    """The row of one object, and the share of it that lies on the cell that was chosen."""
    frame = objects.frame
    measures = combine(
        measure_block(mask, run.read_cells(box), _probability(run, box), box, frame)
        for box in objects.pieces(work.syn_id)
        if (mask := _only(objects, work.syn_id, box)).any()
    )
    row = synapse_table(
        measures,
        frame,
        read=lambda box: _only(objects, work.syn_id, box),
        weak_presynaptic=run.config.measure.weak_presynaptic,
    )
    fraction = np.nan
    if work.pre_id is not None:
        covered = int(measures.cell_voxels[measures.cell_id > 0].sum())
        own = int(measures.cell_voxels[measures.cell_id == np.uint64(work.pre_id)].sum())
        fraction = own / covered if covered and work.pre_id else np.nan
        if not covers_cleft(run):
            # A person answered what these flags ask.
            asked = SynapseFlag.WEAK_PRESYNAPTIC | SynapseFlag.NO_PRESYNAPTIC_CELL
            row["flags"] = row["flags"].to_numpy(np.uint32) & ~np.uint32(asked)
            row["pre_id"] = np.array([work.pre_id], np.uint64)
    return row.assign(chosen_fraction=fraction)


def _only(objects: Objects, syn_id: int, box: Box) -> npt.NDArray[np.uint64]:
    labels = objects.read(box)
    return np.where(labels == np.uint64(syn_id), labels, np.uint64(0))


def _probability(run: Run, box: Box) -> npt.NDArray[np.uint8] | None:
    return run.layer("probability").read(box) if has_probability(run) else None


def _assigned(
    run: Run, objects: Objects, row: pd.DataFrame, work: Work, how: AssignParameters
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Partner rows, the row of the synapse, and where the cells that were asked for are hit."""
    extent = _extent(row, objects.frame)
    bounds = run.layer("cells").bounds
    cutout = how.cutout(extent, bounds)
    if cutout.empty or how.too_large(cutout):
        # Refused before a voxel is looked at.
        tiny = Box.from_shape((1, 1, 1), extent.resolution, extent.start)
        nothing = np.zeros((1, 1, 1), np.uint64)
        partners, synapse = assign_many(nothing, nothing, tiny, row, how, bounds=bounds)
        return partners, synapse, empty_table(_PLACES)
    cells = run.read_cells(cutout)
    density = objects.read(extent) == np.uint64(work.syn_id)
    site = Site(work.syn_id, int(row["pre_id"].iloc[0]), extent, int(row["first_voxel"].iloc[0]))
    if work.pre_id is not None and covers_cleft(run):
        found = _from_chosen(cells, density, cutout, replace(site, pre_id=work.pre_id), how)
    else:
        evidence = Evidence(run.read_vesicles(cutout), run.read_direction(extent))
        found = assign_synapse(cells, density, cutout, site, how, evidence)
    places = _places(work, found, cells, cutout, row)
    return partner_rows(row, [found]), synapse_rows(row, [found]), places


def _from_chosen(
    cells: npt.NDArray[np.uint64],
    density: npt.NDArray[np.bool_],
    cutout: Box,
    site: Site,
    how: AssignParameters,
) -> Assignment:
    """Partners of a density over the cleft whose presynaptic cell a reviewer chose."""
    whole = site.extent.grown(how.padding_vx(cutout.resolution))
    flags = SynapseFlag(0) if cutout == whole else SynapseFlag.BORDER
    if not site.pre_id:
        return Assignment.none(0, flags | SynapseFlag.NO_PRESYNAPTIC_CELL)
    start = triple([a - b for a, b in zip(site.extent.start, cutout.start, strict=True)])
    part, first = presynaptic_part(cells, density, start, cutout.resolution, site.pre_id)
    if not part.any():
        return Assignment.none(site.pre_id, flags | SynapseFlag.NO_EMITTERS)
    at = [a + b for a, b in zip(first, cutout.start, strict=True)]
    extent = Box.from_shape(part.shape, cutout.resolution, at)
    plain = how.changed(density="presynaptic")
    found = assign_synapse(cells, part, cutout, replace(site, extent=extent), plain)
    return replace(found, flags=(found.flags & ~SynapseFlag.BORDER) | flags)


def _places(
    work: Work,
    found: Assignment,
    cells: npt.NDArray[np.uint64],
    cutout: Box,
    row: pd.DataFrame,
) -> pd.DataFrame:
    """Where chosen cells are hit; of those that no transmitter reached, the nearest voxel."""
    h, start = np.asarray(cutout.resolution), np.asarray(cutout.start)
    centre = row[["x_pos", "y_pos", "z_pos"]].to_numpy(np.float64)[0]
    hit = {int(cell): n for n, cell in enumerate(found.arrivals.post_ids)}
    rows = []
    for cell in work.posts:
        share, place = 0.0, np.full(3, np.nan)
        if cell in hit:
            share = float(found.arrivals.raw_share[hit[cell]])
            place = (found.arrivals.voxels[hit[cell]] + start + 0.5) * h
        else:
            centres = (np.argwhere(cells == np.uint64(cell)) + start + 0.5) * h
            if len(centres):
                place = centres[np.argmin(np.round(np.linalg.norm(centres - centre, axis=1), 6))]
        rows.append((work.syn_id, cell, share, *place.tolist()))
    table = pd.DataFrame(rows, columns=_PLACES.names)
    return table.astype({column.name: column.dtype for column in _PLACES.columns})


def _extent(row: pd.DataFrame, frame: Box) -> Box:
    corners = row[[f"{end}_{axis}" for end in ("start", "stop") for axis in "xyz"]].to_numpy()[0]
    return Box(triple(corners[:3].tolist()), triple(corners[3:].tolist()), frame.resolution)


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    keys = ["syn_id", "post_id"] if "post_id" in table else ["syn_id"]
    return table.sort_values(keys, ignore_index=True)
