"""Cells that reviewers chose, put on the rows that the pipeline made; and where each row is from.

A decision tells all cells of a synapse. If it tells what the pipeline found, the rows stay as they
are; else the partners are those decided, whatever their share of the transmitter is, and the size
of each is its share x the volume of the synapse. What was measured stays: ``raw_share``, ``lost``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from cnapse.review.decisions import PartnersDecision
from cnapse.tables import SynapseFlag

__all__ = [
    "Corrected",
    "Provenance",
    "Reached",
    "confirms",
    "decided_shares",
    "with_decisions",
]

Provenance = Literal["predicted", "confirmed", "corrected", "added"]
Row = dict[str, Any]

SAME_SHARE = 1e-3
"""Shares that differ by less are the same: a page shows them rounded."""

_ANSWERED = (
    SynapseFlag.NEAR_CUT
    | SynapseFlag.WEAK_PRESYNAPTIC
    | SynapseFlag.UNDECIDED_SIDE
    | SynapseFlag.NO_PRESYNAPTIC_CELL
)
_HAS_PARTNERS = SynapseFlag.NO_EMITTERS | SynapseFlag.NOTHING_HIT | SynapseFlag.TOO_LARGE


@dataclass(frozen=True, slots=True)
class Reached:
    """What diffusion says of a cell that a reviewer chose.

    Attributes
    ----------
    raw_share : float
        Of all the transmitter; 0 if none reached it.
    position_nm : (x, y, z)
        Where it is hit, or its voxel nearest to the synapse.
    near : bool
        Whether it has a voxel around the synapse at all.
    """

    raw_share: float
    position_nm: tuple[float, float, float]
    near: bool = True


@dataclass(slots=True)
class Corrected:
    """Both tables after decisions, and of each decided synapse and partner what was done.

    Attributes
    ----------
    synapses, partners : DataFrame
        Only the decided synapses and their partners; ``partners`` with a column ``provenance``.
    synapse_provenance : dict of synapse id to provenance
        ``confirmed`` or ``corrected``.
    far : list of (synapse id, cell)
        Partners that have no voxel around their synapse.
    """

    synapses: pd.DataFrame
    partners: pd.DataFrame
    synapse_provenance: dict[int, Provenance] = field(default_factory=dict)
    far: list[tuple[int, int]] = field(default_factory=list)


def with_decisions(
    synapses: pd.DataFrame,
    partners: pd.DataFrame,
    decisions: Mapping[int, PartnersDecision],
    reached: Mapping[tuple[int, int], Reached],
) -> Corrected:
    """Put decisions about cells on the rows of their synapses.

    Parameters
    ----------
    synapses, partners : DataFrame
        Rows of the decided synapses as the pipeline gives them.
    decisions : mapping of synapse id to decision
        One for each row of `synapses`.
    reached : mapping of (synapse id, cell) to Reached
        Of cells that have no row in `partners`.

    Returns
    -------
    Corrected
        Names, links and doubt of its rows are to be made anew.
    """
    found: dict[int, list[Row]] = {}
    for partner in _records(partners):
        found.setdefault(int(partner["syn_id"]), []).append(partner)
    made = Corrected(synapses, partners)
    new_synapses: list[Row] = []
    new_partners: list[Row] = []
    for row in _records(synapses):
        syn_id = int(row["syn_id"])
        before = found.get(syn_id, [])
        decision = decisions[syn_id]
        shares = {int(partner["post_id"]): float(partner["share"]) for partner in before}
        if confirms(decision, int(row["pre_id"]), shares):
            made.synapse_provenance[syn_id] = "confirmed"
            new_synapses.append(row)
            new_partners += [{**partner, "provenance": "confirmed"} for partner in before]
            continue
        made.synapse_provenance[syn_id] = "corrected"
        decided = _decided_synapse(row, decision)
        new_synapses.append(decided)
        rows, far = _decided_partners(decided, before, decision, reached)
        new_partners += rows
        made.far += [(syn_id, cell) for cell in far]
    made.synapses = _frame(new_synapses, synapses)
    made.partners = _frame(new_partners, partners.assign(provenance=""))
    return made


def decided_shares(decision: PartnersDecision) -> dict[int, float]:
    """Shares of the decided partners by cell, which add up to 1.

    Partners without a share divide evenly what the others leave; where these leave nothing, each
    has what it would have of an even division.
    """
    listed = decision.new.partners
    if not listed:
        return {}
    given = [p.share for p in listed if p.share is not None]
    free = len(listed) - len(given)
    left = 1 - math.fsum(given)
    if free and left <= SAME_SHARE:
        left = free / len(listed)
    even = left / free if free else 0.0
    of_given = (1 - free * even) / math.fsum(given) if given else 0.0
    return {p.post_id: even if p.share is None else p.share * of_given for p in listed}


def confirms(decision: PartnersDecision, pre_id: int, shares: Mapping[int, float]) -> bool:
    """Whether a decision leaves a synapse as the table has it: its cells, and all told shares."""
    listed = {partner.post_id: partner.share for partner in decision.new.partners}
    if decision.new.pre_id != pre_id or listed.keys() != shares.keys():
        return False
    told = {cell: share for cell, share in listed.items() if share is not None}
    if not told:
        return True
    wanted = decided_shares(decision)
    return all(abs(wanted[cell] - share) <= SAME_SHARE for cell, share in shares.items())


def _decided_synapse(row: Row, decision: PartnersDecision) -> Row:
    """The synapse with the cells decided; what only a prediction can have is taken off."""
    count = len(decision.new.partners)
    flags = int(row["flags"]) & ~int(_ANSWERED | (_HAS_PARTNERS if count else 0))
    if decision.new.pre_id == 0:
        flags |= int(SynapseFlag.NO_PRESYNAPTIC_CELL)
    return {
        **row,
        "pre_id": decision.new.pre_id,
        "near_cut": 0.0,
        "n_partners": count,
        "flags": flags,
    }


def _decided_partners(
    synapse: Row,
    before: Sequence[Row],
    decision: PartnersDecision,
    reached: Mapping[tuple[int, int], Reached],
) -> tuple[list[Row], list[int]]:
    """The partner rows, by cell, and the cells among them that are not near the synapse."""
    taken = ("syn_id", "pre_id", "x_pos", "y_pos", "z_pos", "lost", "n_partners", "flags")
    common = {name: synapse[name] for name in taken}
    own = {int(row["post_id"]): row for row in before}
    rows, far = [], []
    for cell, share in sorted(decided_shares(decision).items()):
        provenance: Provenance = "added"
        if cell in own:
            was = own[cell]
            same = abs(share - was["share"]) <= SAME_SHARE and was["pre_id"] == synapse["pre_id"]
            provenance = "confirmed" if same else "corrected"
            error = was["share_error"] if same else math.nan
            place = (was["post_x"], was["post_y"], was["post_z"])
            raw = was["raw_share"]
        else:
            at = (synapse["x_pos"], synapse["y_pos"], synapse["z_pos"])
            known = reached.get((int(synapse["syn_id"]), cell), Reached(0.0, at, near=False))
            raw, place, error = known.raw_share, known.position_nm, math.nan
            if not known.near:
                far.append(cell)
        rows.append(
            {
                **common,
                "pre": "",
                "post": "",
                "post_id": cell,
                "size": share * synapse["size"],
                "share": share,
                "share_error": error,
                "raw_share": raw,
                **dict(zip(("post_x", "post_y", "post_z"), place, strict=True)),
                "link": "",
                "provenance": provenance,
            }
        )
    return rows, far


def _frame(rows: Sequence[Row], like: pd.DataFrame) -> pd.DataFrame:
    """Rows as a table with the columns and dtypes of another."""
    columns = [str(name) for name in like]
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=like[name].dtype) for name in columns}
    )


def _records(table: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
