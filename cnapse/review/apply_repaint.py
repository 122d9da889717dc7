"""Boxes that were drawn anew in an editor: what of them differs, kept by its digest.

A repaint is the voxels of a box whose object is another than before; all others stay what other
decisions make of them. Drawn labels are either objects that were there, or new ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnapse.checksums import packed
from cnapse.errors import ReviewError
from cnapse.geometry import Box
from cnapse.review.decisions import Repainting
from cnapse.store import Store
from cnapse.synapses.position import Int64s

__all__ = ["Repaint", "read_repaint", "repaint_of", "write_repaint"]

Point = tuple[float, float, float]

_FILE = "voxels.st"


@dataclass(frozen=True, slots=True)
class Repaint:
    """Voxels that were drawn anew.

    Attributes
    ----------
    voxels : ndarray of int64, shape (n, 3)
        In raster order of the box.
    labels : ndarray of int64, shape (n,)
        What they were drawn with; 0 for erased.
    known : mapping of int to (id, place in nm)
        Of labels that are objects which were there; all others are new.
    """

    voxels: Int64s
    labels: npt.NDArray[np.int64]
    known: Mapping[int, tuple[int, Point]]

    def by_object(self) -> Iterator[tuple[int | None, Point | None, Int64s]]:
        """Id (0 for erased, None for new), a place in the object, and the voxels, by label."""
        for label in np.unique(self.labels).tolist():
            voxels = self.voxels[self.labels == label]
            if label == 0:
                yield 0, None, voxels
            elif label in self.known:
                yield *self.known[label], voxels
            else:
                yield None, None, voxels


def repaint_of(
    before: npt.NDArray[np.int64],
    drawn: npt.NDArray[np.int64],
    box: Box,
    known: Mapping[int, tuple[int, Point]],
) -> Repaint:
    """What differs between two arrays of labels over a box, shape (x, y, z).

    Parameters
    ----------
    before, drawn : ndarray of int64
    box : Box
    known : mapping of int to (id, place in nm)
        What labels stand for.
    """
    voxels = np.argwhere(before != drawn)
    order = np.argsort(np.ravel_multi_index(tuple(voxels.T), box.shape, order="F"), kind="stable")
    voxels = voxels[order]
    labels = drawn[tuple(voxels.T)]
    used = set(np.unique(labels).tolist())
    return Repaint(
        voxels + np.asarray(box.start), labels, {k: v for k, v in known.items() if k in used}
    )


def write_repaint(store: Store, repaint: Repaint, box: Box) -> str:
    """Keep a repaint below its digest, which is returned; the same one is kept once."""
    known = sorted(repaint.known.items())
    content = packed(
        {
            "voxels": repaint.voxels.astype(np.int64),
            "labels": repaint.labels.astype(np.int64),
            "known": np.array([label for label, _ in known], np.int64),
            "ids": np.array([syn_id for _, (syn_id, _) in known], np.uint64),
            "places": np.array([place for _, (_, place) in known], np.float64).reshape(-1, 3),
            "box": np.array([box.start, box.stop], np.int64),
        }
    )
    digest = hashlib.sha256(content).hexdigest()
    store.put(f"{digest}/{_FILE}", content)
    return digest


def read_repaint(store: Store, decision: Repainting, frame: Box) -> Repaint:
    """The repaint that a decision tells of.

    Raises
    ------
    ReviewError
        If it is not there, or lies outside of the layer.
    DamagedFileError
        If it is not as it was written.
    """
    arrays = store.get_arrays(f"{decision.digest}/{_FILE}")
    if arrays is None:
        raise ReviewError(
            f"the voxels drawn are not in {store.path}/{decision.digest}: keep the folder "
            "`repaints` beside the log"
        )
    start, stop = arrays["box"].tolist()
    box = Box(start, stop, frame.resolution)
    if not frame.contains(box):
        raise ReviewError(f"the box {box} does not lie in the layer, {frame}")
    places = [(float(x), float(y), float(z)) for x, y, z in arrays["places"].tolist()]
    objects = zip(arrays["ids"].tolist(), places, strict=True)
    known = dict(zip(arrays["known"].tolist(), objects, strict=True))
    return Repaint(arrays["voxels"], arrays["labels"], known)
