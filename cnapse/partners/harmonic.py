"""Diffusion of transmitter solved exactly: the flux of a discrete Laplace problem.

What the random walks of :mod:`cnapse.partners.montecarlo` sample has an exact answer: the share of
a cell is the steady flux into it of the potential u, ``-laplace u = source``, on the free voxels::

    emitter voxels          uniform source, 1 in all; one inside another cell counts for that cell
    presynaptic cell        reflects, whichever of its pieces it is
    another cell            absorbs
    outside of the cutout   absorbs: lost
    closed pocket           free voxels (6-connected) without any absorber: their source is trapped

Between free voxels the conductance is ``1 / h^2``. From a free voxel to an absorber it is
``1 / (h (h/2 + 0.298 step))``: the wall is at the voxel's face, and a walk with steps of one length
sees it 0.298 steps further away (the extrapolation length of such steps), so that the answer is
that of the walk and not of infinitely short steps. Thick voxels are split by an odd factor along
their longest axis, sources in the middle part.

1. Flood the free voxels from the emitters; components without an absorber are trapped.
2. Number the voxels of the rest by colour (a checkerboard: neighbours are of the other one).
3. Eliminate one colour exactly, and solve for the other with conjugate gradients preconditioned by
   the blocks of each voxel's parts (Reid 1972): half the iterations on half the unknowns.
4. Add up the flux through the walls of each cell.

The residual is source that is not yet placed: no share is off by more than the sum of its absolute
values, which is what the tolerance limits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, ConvergenceError
from cnapse.geometry import Resolution, Triple, triple
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.domain import kinds_of, taken_up
from cnapse.partners.labels import Labels, Tissue, labels_of
from cnapse.partners.laplace import (
    Blocks,
    blocks_of,
    conjugate_gradients,
    flux_of,
    numbered,
    source_of,
)

__all__ = ["EXTRAPOLATION", "FRONTIER", "Laplace", "potential", "solve", "splits"]

EXTRAPOLATION = 0.2979521902
"""How far behind an absorbing plane the potential of a walk vanishes, in steps of one length."""

FRONTIER = 1e-4
"""So much of the transmitter may leave the part of a large cutout that is looked at."""

_FIRST_REACH_NM = 200.0
# A part is at most so many times as long as the shortest edge of a voxel.
_LONGEST = 4.5


@dataclass(frozen=True, slots=True)
class Laplace:
    """How the problem is set and solved.

    Parameters
    ----------
    step_nm
        Step of the walk whose answer is wanted; 0 for that of infinitely short steps.
    tolerance
        No share is off by more than this.
    max_iterations
        Of the conjugate gradients; some 20 are used.

    Raises
    ------
    ConfigError
        For a value that cannot be.
    """

    step_nm: float = 4.0
    tolerance: float = 5e-4
    max_iterations: int = 10_000

    def __post_init__(self) -> None:
        if not (self.step_nm >= 0 and 0 < self.tolerance < 1 and self.max_iterations >= 1):
            raise ConfigError(
                f"step_nm = {self.step_nm}, tolerance = {self.tolerance}, max_iterations = "
                f"{self.max_iterations}: the step must be at least 0, the tolerance between 0 and "
                "1, the iterations at least 1"
            )


def splits(resolution: Sequence[float]) -> Triple:
    """Into how many parts each axis of a voxel is split: 1, 1, 3 at 4 x 4 x 50 nm.

    One axis at most, the longest (the last of several), by an odd factor.
    """
    axis = _thick_axis(resolution)
    split = [1, 1, 1]
    excess = resolution[axis] / (_LONGEST * min(resolution)) - 1
    split[axis] += 2 * max(math.ceil((excess - 1e-9) / 2), 0)
    return triple(split)


def _thick_axis(resolution: Sequence[float]) -> int:
    return max(range(3), key=lambda axis: (resolution[axis], axis))


def solve(tissue: Tissue, emitters: npt.NDArray[np.int32], how: Laplace | None = None) -> Arrivals:
    """Where the transmitter of one synapse goes, exactly.

    A cutout that is much larger than the synapse is not solved whole: a part around the emitters
    is, and a larger one as long as more than `FRONTIER` leaves it within the cutout.

    Parameters
    ----------
    tissue : Tissue
        What surrounds the synapse.
    emitters : ndarray of int32, shape (n, 3)
        Voxels of the cutout that release transmitter; none of the presynaptic cell.
    how : Laplace, optional

    Returns
    -------
    Arrivals
        ``lost`` is what left the cutout, and what is ``trapped``; ``voxels`` are the absorbing
        voxels nearest to the flux-weighted mean place on the walls.

    Raises
    ------
    ConvergenceError
        If the tolerance is not reached.
    """
    how = how or Laplace()
    if not len(emitters):
        return Arrivals.none()
    shape = triple(tissue.cells.shape)
    reach_nm = _FIRST_REACH_NM
    while True:
        low, high = _part(emitters, shape, reach_nm, tissue.resolution)
        arrivals, out = _diffused(_cut(tissue, low, high), emitters - np.array(low, np.int32), how)
        within = np.array([[a > 0, b < n] for a, b, n in zip(low, high, shape, strict=True)])
        if out[within].sum() <= FRONTIER:
            return replace(arrivals, voxels=arrivals.voxels + np.asarray(low))
        reach_nm *= 2


def potential(
    tissue: Tissue, emitters: npt.NDArray[np.int32], how: Laplace | None = None
) -> npt.NDArray[np.float64]:
    """The potential that `solve` takes the flux of, for pictures.

    Parameters
    ----------
    tissue, emitters, how
        As for `solve`; the cutout is always solved whole.

    Returns
    -------
    ndarray of float64, shape ``tissue.cells.shape``
        Mean over each voxel's parts, nm2 (it is in proportion to the time that transmitter spends
        there); 0 where there is none.

    Raises
    ------
    ConvergenceError
        If the tolerance is not reached.
    """
    how = how or Laplace()
    turned, emitters, order = _turned(tissue, emitters)
    blocks = _blocks(turned.resolution, how)
    kinds, free = kinds_of(_labels(turned))
    parts = len(blocks.zeros)
    unknowns = numbered(kinds, free, emitters, parts)
    source = source_of(kinds, unknowns, parts, emitters)
    u, *met = conjugate_gradients(unknowns, blocks, source, how.tolerance, how.max_iterations)
    _check(how, *met)
    mean = np.zeros(kinds.shape)
    for colour, last in enumerate(unknowns.ends[-1:].sum(axis=0).tolist()):
        of_voxels = u[colour, parts : (last + 1) * parts].reshape(-1, parts)
        mean.ravel()[unknowns.at[colour, 1 : last + 1]] = of_voxels.mean(axis=1)
    inner = mean[1:-1, 1:-1, 1:-1].T
    return np.asfortranarray(inner.transpose(np.argsort(order)))


def _part(
    emitters: npt.NDArray[np.int32], shape: Triple, reach_nm: float, resolution: Resolution
) -> tuple[Triple, Triple]:
    """The cutout's voxels within reach of the emitters: first, and one past the last."""
    reach = [math.ceil(reach_nm / h) for h in resolution]
    first, last = emitters.min(axis=0).tolist(), emitters.max(axis=0).tolist()
    low = triple([max(a - r, 0) for a, r in zip(first, reach, strict=True)])
    high = triple([min(b + r + 1, n) for b, r, n in zip(last, reach, shape, strict=True)])
    return low, high


def _cut(tissue: Tissue, low: Triple, high: Triple) -> Tissue:
    """A part of a cutout."""
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    start = triple([a - b for a, b in zip(tissue.density_start, low, strict=True)])
    return replace(tissue, cells=tissue.cells[part], density_start=start)


def _labels(tissue: Tissue) -> Labels:
    return labels_of(
        tissue.cells, tissue.density, tissue.density_start, tissue.pre_id, paints=tissue.paints
    )


def _turned(
    tissue: Tissue, emitters: npt.NDArray[np.int32]
) -> tuple[Tissue, npt.NDArray[np.int32], list[int]]:
    """The same with the axis that is split as the last one, and which axes these are now."""
    thick = _thick_axis(tissue.resolution)
    if thick == 2:
        return tissue, np.ascontiguousarray(emitters), [0, 1, 2]
    x, y, z = order = [*(axis for axis in range(3) if axis != thick), thick]
    turned = replace(
        tissue,
        cells=tissue.cells.transpose(order),
        density=tissue.density.transpose(order),
        density_start=triple([tissue.density_start[axis] for axis in order]),
        resolution=(tissue.resolution[x], tissue.resolution[y], tissue.resolution[z]),
    )
    return turned, np.ascontiguousarray(emitters[:, order]), order


@functools.lru_cache(maxsize=16)
def _blocks(resolution: Resolution, how: Laplace) -> Blocks:
    """The equations of a voxel whose last axis is the longest."""
    split = splits(resolution)
    h = np.asarray(resolution) / split
    wall = 1 / (h * (h / 2 + EXTRAPOLATION * how.step_nm))
    return blocks_of((1 / h**2).tolist(), wall.tolist(), split[2])


def _diffused(
    tissue: Tissue, emitters: npt.NDArray[np.int32], how: Laplace
) -> tuple[Arrivals, npt.NDArray[np.float64]]:
    """Cells, shares and places; and what leaves through each face of the cutout [axis, end]."""
    turned, emitters, axes = _turned(tissue, emitters)
    labels, blocks = _labels(turned), _blocks(turned.resolution, how)
    # In few calls: what passes between Python and a kernel takes time as well.
    kinds, free = kinds_of(labels)
    limits = (how.tolerance, how.max_iterations)
    taken, iterations, residual = flux_of(kinds, free, emitters, blocks, limits)
    voxels, flux, places, out, trapped = taken
    voxel_nm = np.asarray(turned.resolution)
    ids, share, nearest = taken_up(labels, voxels, places, flux, voxel_nm)
    back = np.argsort(axes)
    nearest, out = nearest[:, back], out[back]
    _check(how, iterations, residual)
    order = np.argsort(ids)
    order = order[share[order] > 0]
    lost = trapped + float(out.sum())
    # What the tolerance leaves open.
    placed = lost + float(share.sum())
    found = Arrivals(
        post_ids=ids[order],
        raw_share=share[order] / placed,
        lost=lost / placed,
        voxels=nearest[order],
        trapped=trapped / placed,
    )
    return found, out


def _check(how: Laplace, iterations: int, residual: float) -> None:
    if residual > how.tolerance:
        raise ConvergenceError(
            f"diffusion: {residual:.2g} of the transmitter is not placed after {iterations} "
            f"iterations, more than the tolerance of {how.tolerance:g}: raise max_iterations"
        )
