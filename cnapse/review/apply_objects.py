"""Objects of a synapse layer as corrections leave them; the layer itself is only read.

What is kept is small: for each object of the layer that is gone or part of another, its new id;
for each voxel that was drawn, split off or added, its new object, by storage chunk (the *overlay*).
So the label of a voxel is::

    the overlay's object         if the voxel is in the overlay, 0 if it was erased
    the new id of the label      if the layer's label there has one
    the layer's label            else

An object that is corrected keeps its id while it has a voxel, whichever its first one is; no other
object is renumbered. New objects are numbered as objects are, 1 + the raster index of their first
voxel; where an object has that id, the next voxel of theirs that is free tells it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastremap
import numpy as np
import numpy.typing as npt

from cnapse.errors import ReviewError
from cnapse.geometry import Box, Grid, Triple, triple
from cnapse.store import canonical_json
from cnapse.synapses.merging import merged
from cnapse.synapses.position import Int64s, Read

__all__ = ["Extent", "Labels", "Objects"]

Labels = npt.NDArray[np.uint64]
Extent = Callable[[int], Box | None]
"""Gives the bounding box of an object of the layer, in voxels; None for an id that is none."""

# Voxels of an object that are looked at at once.
_PIECE: Triple = (512, 512, 64)


@dataclass(slots=True)
class _Parts:
    """What an object is made of: labels of the layer, numbers in the overlay; and where."""

    sources: set[int] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    boxes: list[Box] = field(default_factory=list)


class Objects:
    """Objects that are edited one after the other.

    Parameters
    ----------
    frame : Box
        Full bounds of the layer.
    chunk : (x, y, z)
        Its storage chunks.
    read : callable
        Gives the labels of the layer over a box, shape (x, y, z).
    extent_of : callable
        Bounding boxes of its objects.
    """

    def __init__(self, frame: Box, chunk: Triple, read: Read, extent_of: Extent) -> None:
        self.frame = frame
        self.grid = Grid(frame, chunk)
        self._source = read
        self._extent_of = extent_of
        self._parts: dict[int, _Parts] = {}
        self._moved: dict[int, int] = {}
        self._owners: list[int] = [0]
        self._overlay: dict[int, tuple[Int64s, Int64s]] = {}
        self._successor: dict[int, int] = {}
        self.changed: set[int] = set()
        """Objects that are not made of just the voxels that the layer gives them."""

    # --- asking -----------------------------------------------------------------------------------

    def resolve(self, syn_id: int) -> int | None:
        """The object that an id stands for by now: of merged ones the merged one; None if gone."""
        while syn_id in self._successor:
            syn_id = self._successor[syn_id]
        return syn_id if self._exists(syn_id) else None

    def _exists(self, syn_id: int) -> bool:
        if syn_id in self._parts:
            return True
        return self._moved.get(syn_id, syn_id) == syn_id and self._extent_of(syn_id) is not None

    def gone(self) -> set[int]:
        """Ids of objects of the layer that no object has any more."""
        return {old for old, new in self._moved.items() if old != new and not self._exists(old)}

    def boxes(self, syn_id: int) -> list[Box]:
        """Boxes outside of which an object has no voxel; they may overlap."""
        return list(self._parts_of(syn_id).boxes)

    def hull(self, syn_id: int) -> Box:
        """A box around an object; it may be larger than needed."""
        first, *others = self._parts_of(syn_id).boxes
        for box in others:
            first = first.hull(box)
        return first

    def pieces(self, syn_id: int) -> Iterator[Box]:
        """Boxes of bounded size, apart from each other, that hold all of an object."""
        boxes = self._parts_of(syn_id).boxes
        for block in Grid(self.hull(syn_id), _PIECE):
            if any(not block.write.intersection(box).empty for box in boxes):
                yield block.write

    def voxels_of(self, syn_id: int) -> Int64s:
        """The voxels of an object in raster order, shape (n, 3)."""
        found = [
            np.argwhere(self.read(box) == np.uint64(syn_id)) + np.asarray(box.start)
            for box in self.pieces(syn_id)
        ]
        return self._in_order(np.concatenate(found))

    def digest(self, syn_id: int) -> str:
        """A digest of an object's voxels."""
        found = hashlib.sha256()
        for box in self.pieces(syn_id):
            mask = self.read(box) == np.uint64(syn_id)
            found.update(canonical_json([box.start, box.stop]))
            found.update(np.packbits(mask.ravel(order="F")).tobytes())
        return found.hexdigest()

    def read(self, box: Box) -> Labels:
        """Labels over a box as they are now, shape (x, y, z), Fortran order."""
        return self.applied(np.asarray(self._source(box)), box)

    def applied(self, labels: npt.NDArray[Any], box: Box) -> Labels:
        """The same from the layer's labels over the box, which stay as they are."""
        present = fastremap.unique(labels).tolist() if self._moved else []
        moved = {old: self._moved[old] for old in present if old in self._moved}
        now = np.asfortranarray(merged(labels.astype(np.uint64), moved))
        for index in self._overlaid(box):
            places, numbers = self._overlay[index]
            voxels = self.grid[index].write.from_raster_index(places) - np.asarray(box.start)
            inside = ((voxels >= 0) & (voxels < box.shape)).all(axis=1)
            owners = np.array([self._owners[n] for n in numbers[inside].tolist()], np.uint64)
            now[tuple(voxels[inside].T)] = owners
        return now

    def edits(self) -> dict[int, str]:
        """For each storage chunk that may differ from the layer's, a digest of what is done to it.

        Chunks are counted as those of a grid over the frame; what is not listed is as in the layer.
        """
        moved: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for old, new in sorted(self._moved.items()):
            extent = self._extent_of(old)
            if old != new and extent is not None:
                for index in self._indices(extent):
                    moved[index].append((old, new))
        found = {}
        for index in sorted({*moved, *self._overlay}):
            state = hashlib.sha256(canonical_json(moved.get(index, [])))
            if index in self._overlay:
                places, numbers = self._overlay[index]
                state.update(places.astype("<i8").tobytes())
                owners = [self._owners[n] for n in numbers.tolist()]
                state.update(np.array(owners, "<u8").tobytes())
            found[index] = state.hexdigest()
        return found

    # --- editing ----------------------------------------------------------------------------------

    def remove(self, syn_id: int) -> None:
        """Make all voxels of an object background."""
        parts = self._parts_of(syn_id)
        self._give(parts, 0)
        del self._parts[syn_id]
        self.changed.discard(syn_id)

    def merge(self, syn_ids: Sequence[int]) -> int:
        """Make several objects one; it has the smallest of their ids."""
        kept = min(syn_ids)
        whole = self._parts_of(kept)
        for syn_id in sorted(set(syn_ids) - {kept}):
            parts = self._parts_of(syn_id)
            self._give(parts, kept)
            whole.sources |= parts.sources
            whole.numbers |= parts.numbers
            whole.boxes += parts.boxes
            del self._parts[syn_id]
            self._successor[syn_id] = kept
            self.changed.discard(syn_id)
        self.changed.add(kept)
        return kept

    def split(self, syn_id: int, pieces: Sequence[Int64s]) -> list[int]:
        """Make new objects of parts of one; the rest keeps its id.

        Parameters
        ----------
        syn_id : int
            The old object.
        pieces : sequence of ndarray of int, shape (n, 3)
            Voxels of each new object, all of them the old object's; not all that it has.

        Returns
        -------
        list of int
            The new ids.
        """
        self.changed.add(syn_id)
        return [self._new(piece) for piece in pieces]

    def add(self, voxels: Int64s) -> int:
        """Make a new object of voxels that belong to none; its id."""
        return self._new(voxels)

    def paint(self, voxels: Int64s, syn_id: int | None) -> int:
        """Give voxels to an object, to a new one (None) or to none (0); its id.

        Parameters
        ----------
        voxels : ndarray of int, shape (n, 3), n > 0
            Whatever they belonged to loses them.
        syn_id : int, optional
            Who gets them.
        """
        box = _around(voxels, self.frame)
        before = self.read(box)[tuple((voxels - np.asarray(box.start)).T)]
        self.changed |= {i for i in np.unique(before).tolist() if i}
        for owner in np.unique(before).tolist():
            if owner:
                self._parts_of(owner)
        if syn_id is None:
            return self._new(voxels)
        if syn_id == 0:
            self._put(voxels, 0)
            return 0
        parts = self._parts_of(syn_id)
        self._owners.append(syn_id)
        parts.numbers.add(len(self._owners) - 1)
        parts.boxes.append(box)
        self._put(voxels, len(self._owners) - 1)
        self.changed.add(syn_id)
        return syn_id

    def _new(self, voxels: Int64s) -> int:
        ordered = self._in_order(voxels)
        syn_id = self._free_id(ordered)
        self._owners.append(syn_id)
        number = len(self._owners) - 1
        self._put(ordered, number)
        self._parts[syn_id] = _Parts(set(), {number}, [_around(ordered, self.frame)])
        self._successor.pop(syn_id, None)
        self.changed.add(syn_id)
        return syn_id

    def _free_id(self, ordered: Int64s) -> int:
        for index in self.frame.raster_index(ordered).tolist():
            if not self._exists(index + 1):
                return int(index) + 1
        raise ReviewError("none of its voxels gives an id that is free: every one is in use")

    def _give(self, parts: _Parts, syn_id: int) -> None:
        self._moved.update(dict.fromkeys(parts.sources, syn_id))
        for number in parts.numbers:
            self._owners[number] = syn_id

    def _parts_of(self, syn_id: int) -> _Parts:
        if syn_id not in self._parts:
            extent = self._extent_of(syn_id)
            if extent is None or self._moved.get(syn_id, syn_id) != syn_id:
                raise ReviewError(f"synapse {syn_id} is not there")
            self._parts[syn_id] = _Parts({syn_id}, set(), [extent])
        return self._parts[syn_id]

    def _put(self, voxels: Int64s, number: int) -> None:
        """Write voxels into the overlay, over what it has there."""
        index = self.grid.index_of(voxels)
        for chunk in np.unique(index).tolist():
            places = self.grid[chunk].write.raster_index(voxels[index == chunk])
            numbers = np.full(len(places), number, np.int64)
            if chunk in self._overlay:
                old, had = self._overlay[chunk]
                rest = ~np.isin(old, places)
                places = np.concatenate([old[rest], places])
                numbers = np.concatenate([had[rest], numbers])
            order = np.argsort(places, kind="stable")
            self._overlay[chunk] = (places[order], numbers[order])

    def _in_order(self, voxels: Int64s) -> Int64s:
        return voxels[np.argsort(self.frame.raster_index(voxels), kind="stable")]

    def _overlaid(self, box: Box) -> list[int]:
        if not self._overlay:
            return []
        return [index for index in self._indices(box) if index in self._overlay]

    def _indices(self, box: Box) -> Iterable[int]:
        """The chunks of the frame that a box touches."""
        inside = box.clamped(self.frame)
        if inside.empty:
            return []
        axes = zip(inside.start, inside.stop, self.frame.start, self.grid.block_shape, strict=True)
        x, y, z = (np.arange((a - o) // c, -((o - b) // c)) for a, b, o, c in axes)
        nx, ny, _ = self.grid.shape
        return [int(i) for i in np.ravel(x + nx * (y[:, None] + ny * z[:, None, None]))]


def _around(voxels: Int64s, frame: Box) -> Box:
    """The bounding box of voxels."""
    start, stop = voxels.min(axis=0), voxels.max(axis=0) + 1
    return Box(triple(start.tolist()), triple(stop.tolist()), frame.resolution)
