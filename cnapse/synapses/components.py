"""Connected components of one block, and what the other blocks must know of them.

A block labels its write box and one more voxel on the upper sides (the *shell*), cut off at the
frame, which is the full bounds of the layer::

    |wwwwwwwwwwwwwwwww|s|             the shell s is the first plane of the upper neighbour,
                      |wwwwwwwwww|    which is that block's lower face

Two voxels that touch lie in the read box of the block with the lesser index in each axis, for all
three connectivities, so nothing but shells and lower faces has to be compared to find out which
labels are one object (:mod:`cnapse.synapses.stitching`).

Numbers of labels are local to a block and never leave it but together with its
:class:`BlockComponents`. They are given by the first voxel in raster order, so that labelling the
same block twice gives the same numbers, whatever cc3d's own are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import cc3d
import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import BoundsError, ConfigError, FormatError
from cnapse.geometry import Block, Box
from cnapse.synapses.records import ArrayRecord

__all__ = ["BlockComponents", "Connectivity", "block_components", "label_box", "threshold_mask"]

Connectivity = Literal[6, 18, 26]

Int64s = npt.NDArray[np.int64]
Labels = npt.NDArray[np.unsignedinteger[Any]]

_LARGEST_STORED = 255


def threshold_mask(
    values: npt.NDArray[Any], threshold: float | None = None, *, binary: bool = False
) -> npt.NDArray[np.bool_]:
    """Voxels that belong to a density.

    Parameters
    ----------
    values : ndarray, any shape
        Probability: uint8 that stores ``rint(255 p)``, or a float array in 0..1 taken as it is.
        With `binary` any dtype.
    threshold
        A voxel counts if its probability is at least this, in (0, 1]. For uint8 the comparison is
        exact with the number as written: 0.2 is 51 / 255, whatever its nearest float is.
    binary
        Count every voxel that is not 0 (a hand-drawn mask); `threshold` is not used.

    Returns
    -------
    ndarray of bool, the shape of `values`

    Raises
    ------
    ConfigError
        For a threshold outside of (0, 1], or none.
    FormatError
        For a dtype that holds no probability.
    """
    if binary or values.dtype == np.bool_:
        return np.asarray(values != 0)
    if threshold is None or not 0 < threshold <= 1:
        raise ConfigError(f"a probability threshold must be above 0 and at most 1, not {threshold}")
    if values.dtype == np.uint8:
        least = math.ceil(_LARGEST_STORED * Fraction(repr(float(threshold))))
        return np.asarray(values >= np.uint8(least))
    if values.dtype.kind == "f":
        return np.asarray(values >= threshold)
    raise FormatError(
        f"a probability must be uint8 (255 p) or float, not {values.dtype}: "
        "say binary = true if every voxel that is not 0 counts"
    )


def label_box(mask: npt.NDArray[np.bool_], connectivity: Connectivity = 26) -> tuple[Labels, int]:
    """Connected components, numbered 1..n by their first voxel in raster order.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        In either memory order; Fortran order saves a copy.
    connectivity
        Voxels touch by faces (6), also by edges (18), also by corners (26).

    Returns
    -------
    labels : ndarray of uint32 (uint64 from 2^32 voxels on), shape (x, y, z), Fortran order
    n : int
        Number of components.

    Raises
    ------
    ConfigError
        For another connectivity.
    """
    if connectivity not in (6, 18, 26):
        raise ConfigError(f"connectivity must be 6, 18 or 26, not {connectivity}")
    dtype = np.uint32 if mask.size < 2**32 else np.uint64
    if mask.size == 0:
        return np.zeros(mask.shape, dtype, order="F"), 0
    labels, n = cc3d.connected_components(
        _padded(mask), connectivity=connectivity, out_dtype=dtype, return_N=True, binary_image=True
    )
    x, y, z = mask.shape
    labels = np.asfortranarray(labels[:x, :y, :z])
    _number_by_first_voxel(_flat(labels), np.zeros(n + 1, dtype))
    return labels, int(n)


@dataclass(frozen=True, slots=True)
class BlockComponents(ArrayRecord):
    """The components of one block, as the stitching needs them.

    Labels run from 1 to n; entry ``label - 1`` of the first two arrays is theirs. Voxels are
    raster indices (x fastest, then y, z) in the frame; both lists are sorted by voxel.

    Attributes
    ----------
    first_voxel : ndarray of int64, shape (n,)
        First voxel inside the write box; -1 for a label that lives in the shell only.
    voxels : ndarray of int64, shape (n,)
        Number of voxels inside the write box.
    face_voxels, face_labels : ndarray of int64 and uint32 (or uint64), shape (f,)
        Labelled voxels of the write box's lower faces, where a lower neighbour can be.
    shell_voxels, shell_labels : ndarray of int64 and uint32 (or uint64), shape (s,)
        Labelled voxels of the read box that are not in the write box.
    """

    first_voxel: Int64s
    voxels: Int64s
    face_voxels: Int64s
    face_labels: Labels
    shell_voxels: Int64s
    shell_labels: Labels

    @property
    def n(self) -> int:
        """Number of labels, those that live in the shell only among them."""
        return len(self.voxels)

    @property
    def touching(self) -> npt.NDArray[np.int64]:
        """Labels that may go on in other blocks, sorted."""
        touches = np.zeros(self.n + 1, np.bool_)
        touches[self.face_labels] = True
        touches[self.shell_labels] = True
        return np.flatnonzero(touches)


def block_components(labels: Labels, n: int, block: Block, frame: Box) -> BlockComponents:
    """What the other blocks must know of the components of one block.

    Parameters
    ----------
    labels : ndarray, shape (x, y, z)
        Labels 1..n over ``block.read``, as :func:`label_box` gives them.
    n
        Number of labels.
    block
        Its read box is the write box grown by one voxel on its upper sides, cut off at `frame`.
    frame
        Full bounds of the layer: raster indices count in it.

    Raises
    ------
    BoundsError
        If the boxes are not as described.
    FormatError
        If `labels` has not the shape of the read box.
    """
    _check(labels, block, frame)
    first = np.full(n, -1, np.int64)
    voxels = np.zeros(n, np.int64)
    if n:
        inner = np.asfortranarray(labels)[block.write.slices(block.read)]
        _count(inner, first, voxels)
        inside = first >= 0
        first[inside] = frame.raster_index(block.write.from_raster_index(first[inside]))
    face_voxels, face_labels = _voxels_in(_lower_faces(block, frame), labels, block, frame)
    shell_voxels, shell_labels = _voxels_in(_shell(block), labels, block, frame)
    return BlockComponents(first, voxels, face_voxels, face_labels, shell_voxels, shell_labels)


def _check(labels: Labels, block: Block, frame: Box) -> None:
    if not frame.contains(block.read):
        raise BoundsError(f"block {block.index} {block.read} is not inside the layer {frame}")
    if block.read != block.write.grown(0, 1).clamped(frame):
        raise BoundsError(
            f"block {block.index} reads {block.read}: to label {block.write} it must read one "
            "voxel more on the upper sides: make the grid with halo_upper=(1, 1, 1)"
        )
    if labels.shape != block.read.shape:
        raise FormatError(f"labels of shape {labels.shape} do not fill {block.read}")


def _lower_faces(block: Block, frame: Box) -> Iterator[Box]:
    """Boxes without overlap: the first plane of each axis that can have a lower neighbour."""
    rest = block.write
    for axis in range(3):
        if block.write.start[axis] > frame.start[axis]:
            face, rest = _split(rest, axis, block.write.start[axis] + 1)
            yield face


def _shell(block: Block) -> Iterator[Box]:
    """Boxes without overlap that are the read box without the write box."""
    rest = block.read
    for axis in range(3):
        rest, slab = _split(rest, axis, block.write.stop[axis])
        yield slab


def _split(box: Box, axis: int, at: int) -> tuple[Box, Box]:
    """The parts of a box below and from `at` on."""
    stop, start = list(box.stop), list(box.start)
    stop[axis] = start[axis] = at
    x, y, z = stop
    u, v, w = start
    return Box(box.start, (x, y, z), box.resolution), Box((u, v, w), box.stop, box.resolution)


def _voxels_in(
    boxes: Iterator[Box], labels: Labels, block: Block, frame: Box
) -> tuple[Int64s, Labels]:
    """Labelled voxels of some boxes: raster index in the frame and label, sorted."""
    index, found = [np.zeros(0, np.int64)], [np.zeros(0, labels.dtype)]
    for box in boxes:
        part = labels[box.slices(block.read)]
        places = np.nonzero(part)
        absolute = np.stack(places, axis=-1) + np.asarray(box.start, np.int64)
        index.append(frame.raster_index(absolute))
        found.append(part[places])
    voxels = np.concatenate(index)
    order = np.argsort(voxels, kind="stable")
    return voxels[order], np.concatenate(found)[order]


def _padded(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """In Fortran order, at least two voxels thick.

    cc3d 4.1.1 reserves too few labels for a box that is one voxel thick in any axis, and fails
    ("maximum length exception") if its voxels are scattered and connectivity is 26.
    """
    thin = [(0, int(n == 1)) for n in mask.shape]
    return np.asfortranarray(np.pad(mask, thin) if 1 in mask.shape else mask, dtype=np.bool_)


def _flat(array: Labels) -> Labels:
    """A Fortran-ordered array in raster order, without a copy."""
    return array.reshape(-1, order="F")


@njit(nogil=True, cache=True)
def _number_by_first_voxel(labels: Labels, number: Labels) -> None:
    """Renumber in place, by order of appearance; `number` holds a 0 for each old label."""
    last = 0
    for i in range(labels.size):
        old = labels[i]
        if old != 0:
            if number[old] == 0:
                last += 1
                number[old] = last
            labels[i] = number[old]


@njit(nogil=True, cache=True)
def _count(labels: Labels, first: Int64s, voxels: Int64s) -> None:
    """First voxel (raster index in this array) and number of voxels of each label."""
    nx, ny, nz = labels.shape
    for z in range(nz):
        for y in range(ny):
            row = nx * (y + ny * z)
            for x in range(nx):
                label = labels[x, y, z]
                if label != 0:
                    if first[label - 1] < 0:
                        first[label - 1] = row + x
                    voxels[label - 1] += 1
