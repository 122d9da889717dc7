"""A synapse and what surrounds it, cut out of a run's layers: what a picture is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import pandas as pd

from cnapse.errors import BoundsError, FormatError
from cnapse.geometry import Box, Resolution, triple
from cnapse.tables import flag_names
from cnapse.viewing.page import elided
from cnapse.viewing.palette import cell_colours
from cnapse.viewing.panels import Screen

if TYPE_CHECKING:
    from cnapse.runs import RunData

__all__ = ["CellNote", "SynapseView", "check_place", "cut_out", "cut_out_at"]

_POSITION = ("x_pos", "y_pos", "z_pos")

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CellNote:
    """A cell of a synapse: its id, its name, and what is known of a partner."""

    id: int
    name: str = ""
    share: float | None = None
    """A postsynaptic cell's share."""
    position_nm: Resolution | None = None
    """Where a postsynaptic cell is hit."""

    @property
    def called(self) -> str:
        """The name, or the id where there is none."""
        return elided(self.name or str(self.id))


@dataclass(frozen=True, slots=True)
class SynapseView:
    """A synapse and what surrounds it: what a picture is made of.

    Parameters
    ----------
    syn_id : int
        0 for the surroundings of a point that was not asked for as a synapse.
    box : Box
        Where the arrays lie.
    image, cells, synapses : ndarray, shape ``box.shape``
        EM of any real dtype; labels, 0 for background.
    probability : ndarray, shape ``box.shape``, or None
        Whole numbers for 255 p, or p itself as floats.
    position_nm : (x, y, z)
        The synapse's position; its section is the middle one.
    pre : CellNote or None
    partners : tuple of CellNote
        Postsynaptic cells, in the order of their colours.
    note : str
        What else to say in the title.

    Raises
    ------
    FormatError
        If an array does not have the box's shape.
    """

    syn_id: int
    box: Box
    image: Array
    cells: Array
    synapses: Array
    probability: Array | None
    position_nm: Resolution
    pre: CellNote | None = None
    partners: tuple[CellNote, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("image", "cells", "synapses", "probability"):
            array = getattr(self, name)
            if array is not None and array.shape != self.box.shape:
                raise FormatError(
                    f"synapse {self.syn_id}: {name} has shape {array.shape}, its box {self.box} "
                    f"has {self.box.shape}: cut all layers out of one box"
                )
        if self.box.empty:
            raise FormatError(f"synapse {self.syn_id}: its box {self.box} is empty")

    @property
    def title(self) -> str:
        """What it shows."""
        return f"Synapse {self.syn_id}" if self.syn_id else "Cutout"

    def draw(self, path: str | Path) -> None:
        """Draw its sections as a PNG, plain above and explained below."""
        from cnapse.viewing.picture import draw_overview

        draw_overview(self, path, sections=self.box.shape[2])

    @property
    def colours(self) -> dict[int, str]:
        """The colour of each of its cells."""
        return cell_colours(self.pre.id if self.pre else 0, [p.id for p in self.partners])

    @property
    def middle(self) -> int:
        """The section of its position, counted from the box's first."""
        return self.section_of(self.position_nm)

    def section_of(self, position_nm: Sequence[float]) -> int:
        """The section of a place, the nearest one if it lies outside."""
        section = math.floor(position_nm[2] / self.box.resolution[2]) - self.box.start[2]
        return min(max(section, 0), self.box.shape[2] - 1)

    def screen(self, width_px: int) -> Screen:
        """How its sections become pixels."""
        return Screen.fitted(self.box.shape[:2], self.box.resolution[:2], width_px)

    def pixel(self, position_nm: Sequence[float], screen: Screen) -> tuple[float, float]:
        """Column and row of a place.

        Parameters
        ----------
        position_nm : sequence of float
            x, y, z in nm; z does not count.
        screen : Screen
            As `screen` gives it.

        Returns
        -------
        tuple of float
            Pixels from the upper left corner of the panel.
        """
        corner, voxel = self.box.start_nm, self.box.resolution
        return screen.pixel([(position_nm[axis] - corner[axis]) / voxel[axis] for axis in (0, 1)])


def cut_out(
    run: RunData,
    syn_id: int,
    *,
    width_nm: float = 1400.0,
    sections: int = 3,
) -> SynapseView:
    """Cut a synapse out of a run's layers, with its cells as the tables tell them.

    Parameters
    ----------
    run : RunData
        With image, cells and tables.
    syn_id : int
    width_nm : float
        Width and height; more if the synapse needs more.
    sections : int
        How many, around the synapse's position.

    Raises
    ------
    TableError
        If the synapse is not in the table.
    """
    row = run.connections.synapse(syn_id)
    place, bounds = _place(row, *_POSITION), run.layer("synapses").bounds
    box = _box_around(place, bounds, max(width_nm, 1.3 * _extent(row, bounds)), sections)
    arrays = run.read_cutout(box)
    return SynapseView(
        syn_id=syn_id,
        box=box,
        image=arrays["image"],
        cells=arrays["cells"],
        synapses=arrays["synapses"],
        probability=arrays.get("probability"),
        position_nm=place,
        pre=CellNote(int(row["pre_id"]), str(row["pre"])) if row["pre_id"] else None,
        partners=tuple(
            CellNote(
                int(partner["post_id"]),
                str(partner["post"]),
                float(partner["share"]),
                _place(partner, "post_x", "post_y", "post_z"),
            )
            for _, partner in run.connections.partners_of(syn_id).iterrows()
        ),
        note=_note(row),
    )


def cut_out_at(
    run: RunData,
    position_nm: Sequence[float],
    *,
    width_nm: float = 1400.0,
    sections: int = 3,
) -> SynapseView:
    """Cut the surroundings of a point out of a run's layers; whatever synapses there are.

    Parameters
    ----------
    run : RunData
        With image and cells.
    position_nm : (x, y, z)
    width_nm : float
    sections : int

    Raises
    ------
    BoundsError
        If the point is outside of the synapses' layer.
    """
    x, y, z = (float(value) for value in position_nm)
    bounds = run.layer("synapses").bounds
    check_place((x, y, z), bounds, run.layer_path("synapses"))
    box = _box_around((x, y, z), bounds, width_nm, sections)
    arrays = run.read_cutout(box)
    return SynapseView(
        syn_id=0,
        box=box,
        image=arrays["image"],
        cells=arrays["cells"],
        synapses=arrays["synapses"],
        probability=arrays.get("probability"),
        position_nm=(x, y, z),
    )


def check_place(position_nm: Resolution, bounds: Box, path: str) -> None:
    """Refuse a place that is not in a layer.

    Parameters
    ----------
    position_nm : (x, y, z)
    bounds : Box
        Of the layer.
    path : str
        For the error.

    Raises
    ------
    BoundsError
    """
    if not bounds.holds_nm(position_nm):
        raise BoundsError(
            f"position {_nm(position_nm)} nm is outside of {path}, which "
            f"covers {_nm(bounds.start_nm)} to {_nm(bounds.stop_nm)} nm: give x, y, z in nm"
        )


def _nm(corner: Resolution) -> str:
    return ", ".join(f"{value:g}" for value in corner)


def _note(row: pd.Series[Any]) -> str:
    count = int(row["sections"])
    parts = [f"{row['size']:,.0f} nm³", f"{count} section{'s' if count != 1 else ''}"]
    flags = flag_names(int(row["flags"])).replace("_", " ").replace("|", ", ")
    return "   ".join([*parts, *([flags] if flags else [])])


def _place(row: pd.Series[Any], *columns: str) -> Resolution:
    x, y, z = (float(row[column]) for column in columns)
    return x, y, z


def _extent(row: pd.Series[Any], bounds: Box) -> float:
    """The longer side of a synapse in the plane, nm."""
    h = bounds.resolution
    return max(float(row[f"stop_{a}"] - row[f"start_{a}"]) * h[i] for i, a in enumerate("xy"))


def _box_around(place: Resolution, bounds: Box, width_nm: float, sections: int) -> Box:
    """A square of `width_nm` around a place, moved into the bounds, cut off if it is larger."""
    h = bounds.resolution
    wanted = [math.ceil(width_nm / h[0]), math.ceil(width_nm / h[1]), sections]
    middle = [math.floor(v / size) for v, size in zip(place, h, strict=True)]
    start, stop = [], []
    for axis in range(3):
        low, high = bounds.start[axis], bounds.stop[axis]
        first = max(low, min(middle[axis] - wanted[axis] // 2, high - wanted[axis]))
        start.append(first)
        stop.append(min(high, first + wanted[axis]))
    return Box(triple(start), triple(stop), h)
