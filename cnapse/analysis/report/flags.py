"""What the flags of a synapse say, in words for readers; as in ``docs/tables.md``."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FLAG_MEANINGS"]

FLAG_MEANINGS: Mapping[str, str] = {
    "no_presynaptic_cell": "No voxel of the object lies on a cell.",
    "no_emitters": "No voxel from which transmitter could be released: no partner can be found.",
    "nothing_hit": "Not enough transmitter reached any one cell to call it a partner.",
    "many_lost": "Much of the transmitter reached no cell.",
    "weak_presynaptic": "The presynaptic cell covers little more of the object than others do.",
    "border": "The object, or the box around it, is cut by the edge of the volume.",
    "near_cut": (
        "The share of some cell is so near the least share that it might be a partner or not."
    ),
    "too_large": "Too large to be one synapse; no partners were looked for.",
    "undecided_side": (
        "The density covers the cleft, and nothing tells which of its cells is presynaptic."
    ),
}
