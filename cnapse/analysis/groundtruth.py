"""Annotated boxes cut into overlapping patches, for `cnapse train`.

A row of patches begins at the box's first voxel and steps by the patch less the overlap; the last
patch ends where the box ends, overlapping more, so that no rim is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.analysis.annotators import Merge, disputed, merge
from cnapse.errors import BoundsError, ConfigError, FormatError
from cnapse.geometry import Box
from cnapse.synapses.components import label_box

__all__ = [
    "Annotated",
    "Tiling",
    "annotated",
    "in_sections",
    "parse_box",
    "parse_sections",
    "patch_boxes",
    "section_runs",
    "windows",
]

Array = npt.NDArray[Any]

_NUMBERS = 6


@dataclass(frozen=True, slots=True)
class Tiling:
    """How boxes are cut.

    Parameters
    ----------
    patch : int
        Side in pixels; a smaller box gives a smaller patch.
    overlap : int
        Of neighbouring patches, in pixels; the last of a row overlaps more.
    depth : int, optional
        Sections of a patch; all that follow one another if not given.
    """

    patch: int = 320
    overlap: int = 32
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class Annotated:
    """What is known of a box.

    Attributes
    ----------
    box : Box
    image : ndarray of uint8, shape (x, y, z)
    label : ndarray of uint32, shape (x, y, z)
        Densities by object, 0 = none.
    ignore : ndarray of uint8, shape (x, y, z), or None
        1 where nothing counts.
    """

    box: Box
    image: Array
    label: Array
    ignore: Array | None

    def part(self, box: Box) -> Annotated:
        """A box of it."""
        where = box.slices(self.box)
        ignore = None if self.ignore is None else self.ignore[where]
        return Annotated(box, self.image[where], self.label[where], ignore)

    @property
    def arrays(self) -> dict[str, Array]:
        """By the names of the datasets."""
        found = {"image": self.image, "label": self.label}
        return found if self.ignore is None else {**found, "ignore": self.ignore}


def windows(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """First and last (excluded) of the windows that cover a length.

    Raises
    ------
    ConfigError
        If the size is not positive, or the overlap not below it.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ConfigError(f"patches of {size} that overlap by {overlap}: take 0 <= overlap < patch")
    if length <= size:
        return [(0, length)] if length else []
    starts = [*range(0, length - size, size - overlap), length - size]
    return [(start, start + size) for start in starts]


def section_runs(box: Box, sections: Sequence[range] | None) -> list[tuple[int, int]]:
    """Chosen sections of a box as runs without a gap: first and last (excluded).

    Parameters
    ----------
    box : Box
    sections : sequence of range, optional
        z in voxels, ranges of step 1 that may overlap and reach out of the box; all of the box if
        not given.
    """
    low, high = box.start[2], box.stop[2]
    if sections is None:
        return [(low, high)]
    clipped = [(max(low, chosen.start), min(high, chosen.stop)) for chosen in sections]
    runs: list[tuple[int, int]] = []
    for start, stop in sorted(run for run in clipped if run[0] < run[1]):
        if runs and start <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(stop, runs[-1][1]))
        else:
            runs.append((start, stop))
    return runs


def patch_boxes(box: Box, tiling: Tiling, sections: Sequence[range] | None = None) -> Iterator[Box]:
    """The patches of a box: x fastest, then y, z.

    Together they cover every voxel of the chosen sections.
    """
    columns = windows(box.shape[0], tiling.patch, tiling.overlap)
    rows = windows(box.shape[1], tiling.patch, tiling.overlap)
    for first, last in section_runs(box, sections):
        for low, high in windows(last - first, tiling.depth or last - first, 0):
            for y in rows:
                for x in columns:
                    start = (box.start[0] + x[0], box.start[1] + y[0], first + low)
                    stop = (box.start[0] + x[1], box.start[1] + y[1], first + high)
                    yield Box(start, stop, box.resolution)


def parse_box(text: str, resolution: Sequence[float]) -> Box:
    """``"0,0,0,512,512,20"``: start x, y, z and stop x, y, z in voxels.

    Raises
    ------
    ConfigError
        If it is not six whole numbers.
    BoundsError
        If the box is empty.
    """
    words = [word for word in re.split(r"[\s,]+", text.strip()) if word]
    try:
        v = [int(word) for word in words]
    except ValueError:
        v = []
    if len(v) != _NUMBERS:
        raise ConfigError(
            f"--box {text}: give start and stop as six whole numbers of voxels, X,Y,Z,X,Y,Z"
        )
    whole = Box((0, 0, 0), (0, 0, 0), (resolution[0], resolution[1], resolution[2]))
    box = Box((v[0], v[1], v[2]), (v[3], v[4], v[5]), whole.resolution)
    if box.empty:
        raise BoundsError(f"--box {text} is empty: each stop must be above its start")
    return box


def parse_sections(text: str) -> list[range]:
    """``"3,7,10-14"``: sections by z, ranges with both ends.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of range
        One a word, of step 1: never longer than the text, however many sections it names.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    found: list[range] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?:\s*-\s*(\d+))?\s*", word)
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise ConfigError(f"--sections {text}: give numbers and ranges, as in 3,7,10-14")
        found.append(range(int(match[1]), int(match[2] or match[1]) + 1))
    return found


def annotated(
    box: Box,
    image: Array,
    drawings: Sequence[Array],
    how: Merge,
    *,
    ignore: npt.NDArray[np.bool_] | None = None,
    ignore_disputed: bool = False,
) -> Annotated:
    """Merge the drawings of a box.

    Parameters
    ----------
    box : Box
    image : ndarray of uint8, shape ``box.shape``
    drawings : sequence of ndarray of unsigned int, shape ``box.shape``
        Objects of each annotator. One annotator's stay as they are; of several, the connected
        components (26) of the merged mask are the objects.
    how : {"union", "intersection", "majority"}
    ignore : ndarray of bool, optional
    ignore_disputed
        Whether voxels that some drew and others did not are ignored, too.

    Raises
    ------
    FormatError
        If the image is not uint8, or shapes differ.
    """
    if image.dtype != np.uint8 or image.shape != box.shape:
        raise FormatError(
            f"the image is {image.dtype} of shape {image.shape}: uint8 of {box.shape} is needed; "
            "bring it in with `cnapse ingest`"
        )
    merged = merge(drawings, how)
    label: Array
    if len(drawings) == 1:
        found, numbers = np.unique(drawings[0], return_inverse=True)
        numbers = numbers + (0 if found[0] == 0 else 1)
        label = numbers.reshape(box.shape).astype(np.uint32)
    else:
        label = label_box(merged)[0].astype(np.uint32)
    hidden = ignore
    if ignore_disputed:
        doubt = disputed(drawings)
        hidden = doubt if hidden is None else hidden | doubt
    return Annotated(box, image, label, None if hidden is None else hidden.astype(np.uint8))


def in_sections(objects: Array, box: Box, sections: Sequence[range] | None) -> Array:
    """Objects [x, y, z] of a box in the chosen sections (see `section_runs`); 0 in all others."""
    if sections is None:
        return objects
    chosen = np.zeros(box.shape[2], dtype=np.bool_)
    for start, stop in section_runs(box, sections):
        chosen[start - box.start[2] : stop - box.start[2]] = True
    kept: Array = np.where(chosen, objects, 0).astype(objects.dtype)
    return kept
