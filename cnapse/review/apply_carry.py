"""Decisions about objects of an earlier run, carried over to those that there are now.

A decision names an object by its id and, mostly, a place in it. When the pipeline was run again
with other parameters, an object may have another id:

1. The object of the same id, if the place lies at it (ids are raster indices of first voxels, so
   the same id nearly always means the same object; imported ids may have been given anew).
2. Else the object that has the voxel at the place.
3. Else the only object with a voxel within `NEAR_NM` of the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.geometry import Box, triple
from cnapse.review.decisions import Point
from cnapse.synapses.position import Read

__all__ = ["NEAR_NM", "Carrier", "Match", "voxel_at"]

NEAR_NM = 100.0
"""How far from the place of a decision an object is looked for."""

How = Literal["id", "place", "near"]


@dataclass(frozen=True, slots=True)
class Match:
    """The object that a decision is about.

    Attributes
    ----------
    syn_id : int
        Its id now; 0 if none was found.
    how : {"id", "place", "near"}
    why : str
        Where none was found: why.
    kind : {"", "gone", "ambiguous"}
    """

    syn_id: int = 0
    how: How = "id"
    why: str = ""
    kind: Literal["", "gone", "ambiguous"] = ""


class Carrier:
    """Finds objects of a run by id and place.

    Parameters
    ----------
    table : DataFrame
        The run's ``synapses``: ids and bounding boxes.
    frame : Box
        Full bounds of its layer.
    read : callable
        Gives the layer's labels over a box.
    """

    def __init__(self, table: pd.DataFrame, frame: Box, read: Read) -> None:
        ids = table["syn_id"].to_numpy(np.uint64)
        self._order = np.argsort(ids, kind="stable")
        self._ids: npt.NDArray[np.uint64] = ids[self._order]
        self._start, self._stop = (
            table[[f"{end}_{axis}" for axis in "xyz"]].to_numpy(np.int64)[self._order]
            for end in ("start", "stop")
        )
        self._frame = frame
        self._read = read

    def extent_of(self, syn_id: int) -> Box | None:
        """Bounding box of an object; None for an id that the table does not have."""
        row = int(np.searchsorted(self._ids, np.uint64(syn_id)))
        if row >= len(self._ids) or int(self._ids[row]) != syn_id:
            return None
        start, stop = triple(self._start[row].tolist()), triple(self._stop[row].tolist())
        return Box(start, stop, self._frame.resolution)

    def match(self, syn_id: int, places_nm: Sequence[Point]) -> Match:
        """The object that a decision about `syn_id`, made at these places (nm), is about now."""
        extent = self.extent_of(syn_id)
        if extent is not None and (not places_nm or self._lies_at(extent, places_nm)):
            return Match(syn_id)
        found = [match for place in places_nm if (match := self._at(place)).syn_id]
        if found:
            return found[0]
        if places_nm:
            return self._at(places_nm[0])
        return Match(0, "id", f"no synapse {syn_id} in the table, and no place is known", "gone")

    def _lies_at(self, extent: Box, places_nm: Sequence[Point]) -> bool:
        low = np.asarray(extent.start_nm) - NEAR_NM
        high = np.asarray(extent.stop_nm) + NEAR_NM
        places = np.asarray(places_nm)
        return bool(((places >= low) & (places <= high)).all(axis=1).any())

    def _at(self, place_nm: Point) -> Match:
        h = np.asarray(self._frame.resolution)
        voxel = voxel_at(place_nm, self._frame)
        reach = triple(np.ceil(NEAR_NM / h).astype(int).tolist())
        box = Box.from_shape((1, 1, 1), self._frame.resolution, voxel).grown(reach)
        labels = self._read(box)
        here = int(labels[reach])
        if here:
            return Match(here, "place")
        offsets = np.argwhere(labels)
        distance = np.linalg.norm((offsets - np.asarray(reach)) * h, axis=1)
        near = offsets[distance <= NEAR_NM]
        ids = np.unique(labels[tuple(near.T)]).tolist()
        where = " ".join(f"{v:.0f}" for v in place_nm)
        if not ids:
            return Match(0, "near", f"no synapse within {NEAR_NM:g} nm of {where}", "gone")
        if len(ids) > 1:
            several = ", ".join(str(i) for i in ids)
            why = f"several synapses within {NEAR_NM:g} nm of {where}: {several}"
            return Match(0, "near", why, "ambiguous")
        return Match(int(ids[0]), "near")


def voxel_at(place_nm: Point, frame: Box) -> tuple[int, int, int]:
    """The voxel that holds a place."""
    return triple([int(np.floor(p / h)) for p, h in zip(place_nm, frame.resolution, strict=True)])
