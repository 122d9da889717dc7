"""Colours that most people with colour-blindness tell apart, the same in pictures and the viewer.

Blue is always the presynaptic cell, warm colours are the network's and the synapse's own, so
postsynaptic cells take what is left of Okabe and Ito's set and of Tol's "bright" and "muted" ones.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["POSTSYNAPTIC", "PRESYNAPTIC", "SYNAPSE", "cell_colours", "rgb"]

PRESYNAPTIC = "#0072b2"
SYNAPSE = "#ffd400"
POSTSYNAPTIC = (
    "#009e73",  # bluish green
    "#cc79a7",  # reddish purple
    "#999933",  # olive
    "#882255",  # wine
    "#56b4e9",  # sky blue
    "#117733",  # green
    "#aa4499",  # purple
    "#88ccee",  # cyan
)


def cell_colours(pre_id: int, post_ids: Sequence[int]) -> dict[int, str]:
    """A colour for each cell of a synapse, by its id.

    Partners take colours in the order in which they are given; past the eighth they repeat. A cell
    that is its own partner keeps the presynaptic colour. Id 0 is no cell.
    """
    colours = {pre_id: PRESYNAPTIC} if pre_id else {}
    others = [cell for cell in dict.fromkeys(post_ids) if cell and cell not in colours]
    for number, cell in enumerate(others):
        colours[cell] = POSTSYNAPTIC[number % len(POSTSYNAPTIC)]
    return colours


def rgb(colour: str) -> tuple[int, int, int]:
    """``"#ff8000"`` as ``(255, 128, 0)``."""
    value = int(colour.removeprefix("#"), 16)
    return value >> 16, value >> 8 & 255, value & 255
