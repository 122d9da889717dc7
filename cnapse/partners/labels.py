"""Labels around a synapse, and the form of them that compiled kernels read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import FormatError
from cnapse.geometry import Resolution, Triple

__all__ = ["Labels", "Tissue", "check_arrays", "inside", "label_at", "labels_of"]


@dataclass(frozen=True, slots=True)
class Tissue:
    """What surrounds one synapse.

    Parameters
    ----------
    cells : ndarray of unsigned int, shape (x, y, z)
        Labels of the cutout, 0 for free space.
    density : ndarray of bool, shape (x, y, z)
        The synapse's voxels.
    density_start : (x, y, z)
        Where `density` starts in the cutout.
    pre_id
        Presynaptic cell.
    paints
        Whether the density counts as the presynaptic cell.
    resolution : (x, y, z)
        Voxel size, nm.
    """

    cells: npt.NDArray[np.unsignedinteger[Any]]
    density: npt.NDArray[np.bool_]
    density_start: Triple
    pre_id: int
    paints: bool
    resolution: Resolution


class Labels(NamedTuple):
    """A cutout's cell labels, and the density of one synapse in it.

    ``cells`` [x, y, z] are of any unsigned dtype and memory order. ``density`` is flat, in raster
    order over a box of ``shape`` that begins at ``start`` in the cutout (and may reach out of it).
    Where the density ``paints``, it counts as the presynaptic cell ``pre``.
    """

    cells: npt.NDArray[np.unsignedinteger[Any]]
    density: npt.NDArray[np.bool_]
    start: Triple
    shape: Triple
    pre: np.uint64
    paints: bool


def check_arrays(cells: npt.NDArray[Any], density: npt.NDArray[Any]) -> None:
    """Refuse `cells` that are not unsigned, a `density` that is not bool, or other than [x, y, z].

    Raises
    ------
    FormatError
        For arrays that the kernels would misread.
    """
    if cells.ndim != 3 or cells.dtype.kind != "u":
        raise FormatError(
            f"cells have {cells.ndim} axes of {cells.dtype}: expected unsigned integers [x, y, z]"
        )
    if density.ndim != 3 or density.dtype != np.bool_:
        raise FormatError(
            f"density has {density.ndim} axes of {density.dtype}: expected bool [x, y, z]"
        )


def labels_of(
    cells: npt.NDArray[Any],
    density: npt.NDArray[Any],
    density_start: Triple,
    pre_id: int,
    *,
    paints: bool,
) -> Labels:
    """The kernels' form of a cutout; the cells are not copied.

    Parameters
    ----------
    cells : ndarray of unsigned int, shape (x, y, z)
        Cell labels of the cutout, 0 for free space.
    density : ndarray of bool, shape (x, y, z)
        Voxels of the synapse, over its own bounding box or a larger one.
    density_start : (x, y, z)
        Where `density` starts in the cutout; may lie outside of it.
    pre_id
        Presynaptic cell.
    paints
        Whether the density counts as the presynaptic cell.

    Raises
    ------
    FormatError
        For arrays that the kernels would misread.
    """
    check_arrays(cells, density)
    # Flat and always a copy: one compiled version, whatever memory order the mask came in.
    flat = density.flatten(order="F")
    return Labels(cells, flat, density_start, density.shape, np.uint64(pre_id), paints)


@njit(nogil=True, cache=True, inline="always")
def inside(shape: Triple, x: int, y: int, z: int) -> bool:
    """Whether a voxel lies in an array of this shape."""
    return 0 <= x < shape[0] and 0 <= y < shape[1] and 0 <= z < shape[2]


@njit(nogil=True, cache=True, inline="always")
def label_at(labels: Labels, x: int, y: int, z: int) -> Any:
    """The cell (uint64) at a voxel of the cutout."""
    if labels.paints:
        shape, start = labels.shape, labels.start
        i, j, k = x - start[0], y - start[1], z - start[2]
        if inside(shape, i, j, k) and labels.density[i + shape[0] * (j + shape[1] * k)]:
            return labels.pre
    return np.uint64(labels.cells[x, y, z])
