"""The kernels of :mod:`cnapse.partners.harmonic`: the Laplace problem on a cutout's free voxels.

Arrays of voxels are [z, y, x] here, one voxel wider on every side than the cutout, so that no
neighbour needs a bounds check. Directions are numbered -x, +x, -y, +y, -z, +z. A voxel is split
into parts, numbered in raster order; every part of an open voxel is an unknown.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.partners.labels import Labels, label_at

__all__ = [
    "CELL",
    "CLOSED",
    "FREE",
    "OPEN",
    "OUTSIDE",
    "REFLECTS",
    "Parts",
    "System",
    "Unknowns",
    "absorbed",
    "conjugate_gradients",
    "diffused",
    "flooded",
    "kinds_of",
    "number_of",
    "numbered",
    "parts_of",
    "solved",
    "source_of",
    "system_of",
    "taken_up",
]

FREE, OPEN, CLOSED, REFLECTS, CELL, OUTSIDE = range(6)
"""What a voxel is: free; of an open or a closed component, once flooded; presynaptic; another cell;
outside of the cutout. The last two absorb."""


# Of the tolerance, so that rounding does not make the residual itself just larger.
_SAFELY = 0.99


class Parts(NamedTuple):
    """How every voxel is split.

    Parameters
    ----------
    to : ndarray of int64, shape (parts, 6)
        Part on the other side of each face.
    leaves : ndarray of bool, shape (parts, 6)
        Whether it is one of the next voxel.
    odd : ndarray of int64, shape (parts,)
        1 where the sum of the coordinates within the voxel is odd.
    rank : ndarray of int64, shape (parts,)
        Position among the parts that are even, or odd.
    place : ndarray of float64, shape (parts, 3)
        Centre, x, y, z, in voxels from the voxel's corner.
    """

    to: npt.NDArray[np.int64]
    leaves: npt.NDArray[np.bool_]
    odd: npt.NDArray[np.int64]
    rank: npt.NDArray[np.int64]
    place: npt.NDArray[np.float64]


class Unknowns(NamedTuple):
    """The open voxels and the numbers of their parts, those of even colour first.

    Voxels are numbered by generation: emitters, their neighbours, the neighbours of those, and so
    on. What starts at the emitters and goes one step at a time is then in a leading part of each
    colour.

    Parameters
    ----------
    voxels : ndarray of int32, shape (n, 3)
        x, y, z of the padded cutout.
    ids : ndarray of int32
        Index into `voxels` at each open voxel [z, y, x].
    first : ndarray of int64, shape (n, 2)
        Number of a voxel's first even unknown, and of its first odd one.
    even : int
        How many unknowns are even.
    ends : ndarray of int64, shape (generations, 2)
        One past the last even unknown, and the last odd one, of each generation.
    """

    voxels: npt.NDArray[np.int32]
    ids: npt.NDArray[np.int32]
    first: npt.NDArray[np.int64]
    even: int
    ends: npt.NDArray[np.int64]


class System(NamedTuple):
    """The equations.

    Parameters
    ----------
    neighbours : ndarray of uint32, shape (6, n)
        Unknown in each direction; n (where vectors hold 0) for none.
    inverse : ndarray of float64, shape (n,)
        1 / diagonal.
    conductance : (x, y, z)
        Between two unknowns.
    even : int
        How many unknowns are even: they come first, and have odd neighbours only.
    ends : ndarray of int64, shape (generations, 2)
        As in `Unknowns`.
    """

    neighbours: npt.NDArray[np.uint32]
    inverse: npt.NDArray[np.float64]
    conductance: tuple[float, float, float]
    even: int
    ends: npt.NDArray[np.int64]


def parts_of(split: Sequence[int]) -> Parts:
    """Tables of the parts of a voxel that is split by odd factors along x, y, z."""
    fx, fy, fz = split
    inside = [(x, y, z) for z, y, x in itertools.product(range(fz), range(fy), range(fx))]
    steps = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)]
    to = np.empty((math.prod(split), 6), np.int64)
    leaves = np.empty(to.shape, np.bool_)
    for part, at in enumerate(inside):
        for direction, step in enumerate(steps):
            moved = [a + b for a, b in zip(at, step, strict=True)]
            x, y, z = (a % f for a, f in zip(moved, split, strict=True))
            to[part, direction] = x + fx * (y + fy * z)
            leaves[part, direction] = moved != [x, y, z]
    odd = np.array([sum(at) % 2 for at in inside])
    rank = np.where(odd == 1, np.cumsum(odd), np.cumsum(1 - odd)) - 1
    place = (np.array(inside) + 0.5) / np.array(split)
    return Parts(to, leaves, odd, rank, place)


@njit(nogil=True, cache=True)
def kinds_of(labels: Labels) -> Any:
    """What each voxel is: uint8 [z, y, x], padded."""
    nx, ny, nz = labels.cells.shape
    kinds = np.full((nz + 2, ny + 2, nx + 2), OUTSIDE, dtype=np.uint8)
    cells, pre = labels.cells, labels.pre
    for z in range(nz):
        for y in range(ny):
            row, line = kinds[z + 1, y + 1], cells[:, y, z]
            for x in range(nx):
                label = line[x]
                row[x + 1] = FREE if label == 0 else REFLECTS if np.uint64(label) == pre else CELL
    if labels.paints:
        sx, sy, sz = labels.shape
        x0, y0, z0 = labels.start
        for z in range(max(0, -z0), min(sz, nz - z0)):
            for y in range(max(0, -y0), min(sy, ny - y0)):
                for x in range(max(0, -x0), min(sx, nx - x0)):
                    if labels.density[x + sx * (y + sy * z)]:
                        kinds[z0 + z + 1, y0 + y + 1, x0 + x + 1] = REFLECTS
    return kinds


@njit(nogil=True, cache=True)
def flooded(kinds: Any, emitters: Any) -> Any:
    """Mark the components of free voxels that hold an emitter as open or closed.

    Returns the number of open voxels, and of their faces that absorb.
    """
    flat = kinds.ravel()
    row, plane = kinds.shape[2], kinds.shape[1] * kinds.shape[2]
    offsets = np.array([-1, 1, -row, row, -plane, plane])
    queue = np.empty(flat.size, dtype=np.int64)
    count, faces = 0, 0
    for e in range(emitters.shape[0]):
        start = (emitters[e, 2] + 1) * plane + (emitters[e, 1] + 1) * row + emitters[e, 0] + 1
        if flat[start] != FREE:
            continue
        first, head = count, count
        queue[count] = start
        flat[start] = OPEN
        count += 1
        own = 0
        while head < count:
            for d in range(6):
                neighbour = queue[head] + offsets[d]
                kind = flat[neighbour]
                if kind == FREE:
                    flat[neighbour] = OPEN
                    queue[count] = neighbour
                    count += 1
                elif kind >= CELL:
                    own += 1
            head += 1
        if own == 0:
            for q in range(first, count):
                flat[queue[q]] = CLOSED
            count = first
        faces += own
    return count, faces


@njit(nogil=True, cache=True)
def numbered(kinds: Any, count: int, emitters: Any, parts: Parts) -> Any:
    """The unknowns: of each open voxel its even parts and its odd ones.

    The colour of a part is the parity of the sum of its coordinates. Splits are odd, so that this
    is the voxel's own parity plus that within the voxel.
    """
    voxels = np.empty((count, 3), dtype=np.int32)
    ids = np.full(kinds.shape, -1, dtype=np.int32)
    first = np.empty((count, 2), dtype=np.int64)
    ends = np.empty((count + 1, 2), dtype=np.int64)
    odd_parts = parts.odd.sum()
    of_colour = (parts.odd.size - odd_parts, odd_parts)
    n = 0
    for e in range(len(emitters)):
        x, y, z = emitters[e, 0] + 1, emitters[e, 1] + 1, emitters[e, 2] + 1
        if kinds[z, y, x] == OPEN and ids[z, y, x] < 0:
            voxels[n, 0], voxels[n, 1], voxels[n, 2] = x, y, z
            ids[z, y, x] = n
            n += 1
    head = even = odd = generations = 0
    while head < n:
        stop = n
        while head < stop:
            x, y, z = voxels[head]
            parity = (x + y + z) & 1
            first[head, 0], first[head, 1] = even, odd
            even += of_colour[parity]
            odd += of_colour[1 - parity]
            for d in range(6):
                side = 2 * (d % 2) - 1
                i = x + side if d < 2 else x
                j = y + side if d // 2 == 1 else y
                k = z + side if d > 3 else z
                if kinds[k, j, i] == OPEN and ids[k, j, i] < 0:
                    voxels[n, 0], voxels[n, 1], voxels[n, 2] = i, j, k
                    ids[k, j, i] = n
                    n += 1
            head += 1
        ends[generations, 0], ends[generations, 1] = even, odd
        generations += 1
    first[:, 1] += even
    ends[:generations, 1] += even
    return Unknowns(voxels, ids, first, even, ends[:generations].copy())


@njit(nogil=True, cache=True, inline="always")
def number_of(first: Any, voxel: int, parity: int, odd: int, rank: int) -> Any:
    """Number of a part of an open voxel; both have a parity."""
    return first[voxel, parity ^ odd] + rank


@njit(nogil=True, cache=True)
def system_of(kinds: Any, unknowns: Unknowns, parts: Parts, free: Any, wall: Any) -> Any:
    """The equations, with the conductance (x, y, z) between two parts and through a wall."""
    # Out of their records, whose fields are counted references each time they are asked for.
    voxels, ids, first = unknowns.voxels, unknowns.ids.ravel(), unknowns.first
    leaves, towards, odd, rank = parts.leaves, parts.to, parts.odd, parts.rank
    count, split = len(voxels), odd.size
    total = count * split
    neighbours = np.empty((6, total), dtype=np.uint32)
    row, plane = kinds.shape[2], kinds.shape[1] * kinds.shape[2]
    offsets = np.array([-1, 1, -row, row, -plane, plane])
    inverse = np.empty(total)
    flat = kinds.ravel()
    mine, diagonal = np.empty(split, dtype=np.int64), np.empty(split)
    for n in range(count):
        x, y, z = voxels[n, 0], voxels[n, 1], voxels[n, 2]
        here = x + row * y + plane * z
        parity = (x + y + z) & 1
        for part in range(split):
            mine[part] = number_of(first, n, parity, odd[part], rank[part])
            diagonal[part] = 0.0
        for d in range(6):
            there = here + offsets[d]
            kind = flat[there]
            across = ids[there] if kind == OPEN else -1
            through = free[d // 2] if kind == OPEN else wall[d // 2] if kind >= CELL else 0.0
            for part in range(split):
                to = towards[part, d]
                other = total
                if not leaves[part, d]:
                    diagonal[part] += free[d // 2]
                    other = mine[to]
                else:
                    diagonal[part] += through
                    if across >= 0:
                        other = number_of(first, across, 1 - parity, odd[to], rank[to])
                neighbours[d, mine[part]] = other
        for part in range(split):
            inverse[mine[part]] = 1 / diagonal[part]
    conductance = (free[0], free[1], free[2])
    return System(neighbours, inverse, conductance, unknowns.even, unknowns.ends)


@njit(nogil=True, cache=True, inline="always")
def _from_neighbours(system: System, vector: Any, n: int) -> Any:
    """What flows into an unknown from its neighbours, which are all of the other colour."""
    gx, gy, gz = system.conductance
    near = system.neighbours
    return (
        gx * (vector[near[0, n]] + vector[near[1, n]])
        + gy * (vector[near[2, n]] + vector[near[3, n]])
        + gz * (vector[near[4, n]] + vector[near[5, n]])
    )


@njit(nogil=True, cache=True)
def conjugate_gradients(system: System, source: Any, tolerance: float, most: int) -> Any:
    """The potential, the iterations, and the residual's sum of absolute values.

    Even unknowns are eliminated: theirs are exact given the odd ones. Each iteration looks only as
    many generations far as something can be by then. The residual that is returned is computed
    from the potential, not the running one of the iteration.
    """
    total, even, ends = system.inverse.size, system.even, system.ends
    inverse, diagonal = system.inverse, 1 / system.inverse
    u, along = np.zeros(total + 1), np.zeros(total + 1)
    residual, image = np.zeros(total), np.zeros(total)
    iterations = reach = 0
    while True:
        reach = min(reach + 2, len(ends) - 1)
        for n in range(ends[reach, 0] if total else 0):
            u[n] = inverse[n] * (source[n] + _from_neighbours(system, u, n))
        left, rho = 0.0, 0.0
        for n in range(even, ends[reach, 1] if total else 0):
            residual[n] = source[n] + _from_neighbours(system, u, n) - u[n] * diagonal[n]
            along[n] = inverse[n] * residual[n]
            left += abs(residual[n])
            rho += residual[n] * along[n]
        if left <= tolerance or iterations >= most:
            return u, iterations, left
        while left > _SAFELY * tolerance and iterations < most:
            iterations += 1
            reach = min(reach + 2, len(ends) - 1)
            last_even, last = ends[reach]
            for n in range(last_even):
                along[n] = inverse[n] * _from_neighbours(system, along, n)
            product = 0.0
            for n in range(even, last):
                image[n] = along[n] * diagonal[n] - _from_neighbours(system, along, n)
                product += along[n] * image[n]
            length = rho / product
            left, new = 0.0, 0.0
            for n in range(even, last):
                u[n] += length * along[n]
                residual[n] -= length * image[n]
                left += abs(residual[n])
                new += residual[n] * residual[n] * inverse[n]
            for n in range(even, last):
                along[n] = inverse[n] * residual[n] + (new / rho) * along[n]
            rho = new


@njit(nogil=True, cache=True)
def source_of(kinds: Any, unknowns: Unknowns, parts: Parts, emitters: Any) -> Any:
    """What each unknown releases: the emitters' shares, each in the middle of its voxel."""
    ids, first = unknowns.ids, unknowns.first
    source = np.zeros(len(first) * parts.odd.size)
    middle = parts.odd.size // 2
    odd, rank = parts.odd[middle], parts.rank[middle]
    for e in range(len(emitters)):
        x, y, z = emitters[e, 0] + 1, emitters[e, 1] + 1, emitters[e, 2] + 1
        if kinds[z, y, x] == OPEN:
            parity = (x + y + z) & 1
            source[number_of(first, ids[z, y, x], parity, odd, rank)] += 1 / len(emitters)
    return source


@njit(nogil=True, cache=True)
def absorbed(
    kinds: Any, unknowns: Unknowns, parts: Parts, u: Any, wall: Any, faces: int, emitters: Any
) -> Any:
    """What goes into cells, and what is lost.

    Returns the voxels [n, 3] of cells that absorb, the flux into each, its place [n, 3] (mean over
    the face, in voxels from the cutout's corner); what leaves through each face of the cutout
    [axis, end]; and what is trapped. Emitters inside cells come first.
    """
    most = faces + len(emitters)
    voxels, flux, places = np.empty((most, 3), np.int32), np.empty(most), np.empty((most, 3))
    out = np.zeros((3, 2))
    trapped = 0.0
    m = 0
    for e in range(len(emitters)):
        kind = kinds[emitters[e, 2] + 1, emitters[e, 1] + 1, emitters[e, 0] + 1]
        if kind in (CLOSED, REFLECTS):
            trapped += 1 / len(emitters)
        elif kind == CELL:
            for a in range(3):
                voxels[m, a], places[m, a] = emitters[e, a], emitters[e, a] + 0.5
            flux[m] = 1 / len(emitters)
            m += 1
    open_voxels, first = unknowns.voxels, unknowns.first
    leaves, odd, rank, inside = parts.leaves, parts.odd, parts.rank, parts.place
    flat, row, plane = kinds.ravel(), kinds.shape[2], kinds.shape[1] * kinds.shape[2]
    offsets = (-1, 1, -row, row, -plane, plane)
    mean, at = np.empty(3), np.empty(3, np.int64)
    for n in range(len(open_voxels)):
        for a in range(3):
            at[a] = open_voxels[n, a]
        here = at[0] + row * at[1] + plane * at[2]
        parity = (at[0] + at[1] + at[2]) & 1
        for d in range(6):
            kind = flat[here + offsets[d]]
            if kind < CELL:
                continue
            axis, end = d // 2, d % 2
            through = 0.0
            mean[:] = 0
            for part in range(odd.size):
                if leaves[part, d]:
                    # Far away, what the tolerance leaves open may be below 0.
                    me = number_of(first, n, parity, odd[part], rank[part])
                    own = max(wall[axis] * u[me], 0.0)
                    through += own
                    for a in range(3):
                        mean[a] += own * inside[part, a]
            if kind == OUTSIDE:
                out[axis, end] += through
            else:
                # Listed without any flux, too: it may be the voxel nearest to the mean place.
                scale = 1 / through if through > 0 else 0.0
                for a in range(3):
                    voxels[m, a] = at[a] - 1
                    places[m, a] = at[a] - 1 + mean[a] * scale
                voxels[m, axis] += 2 * end - 1
                places[m, axis] = at[axis] - 1 + end
                flux[m] = through
                m += 1
    return voxels[:m], flux[:m], places[:m], out, trapped


@njit(nogil=True, cache=True)
def taken_up(labels: Labels, voxels: Any, places: Any, flux: Any, voxel_nm: Any) -> Any:
    """Cells (in the order in which they are met), their share, and a voxel of each.

    `voxels` [n, 3] absorb `flux` at `places` (voxels from the corner); a cell's voxel is that with
    its centre nearest to the mean place, nm, the first in raster order of several.
    """
    count = voxels.shape[0]
    owner = np.empty(count, dtype=np.int64)
    ids, sums = np.empty(16, dtype=np.uint64), np.zeros((16, 4))
    known, cell = 0, 0
    for i in range(count):
        label = label_at(labels, voxels[i, 0], voxels[i, 1], voxels[i, 2])
        if known == 0 or ids[cell] != label:
            cell = 0
            while cell < known and ids[cell] != label:
                cell += 1
            if cell == ids.size:
                more = np.empty(cell, dtype=np.uint64)
                ids = np.concatenate((ids, more))
                sums = np.concatenate((sums, np.zeros((cell, 4))))
            if cell == known:
                ids[cell] = label
                known += 1
        owner[i] = cell
        for axis in range(3):
            sums[cell, axis] += flux[i] * places[i, axis]
        sums[cell, 3] += flux[i]
    best, nearest = np.full(known, np.inf), np.zeros((known, 3), dtype=np.int64)
    for i in range(count):
        cell = owner[i]
        if sums[cell, 3] == 0:
            continue
        distance = 0.0
        for axis in range(3):
            apart = voxels[i, axis] + 0.5 - sums[cell, axis] / sums[cell, 3]
            distance += (apart * voxel_nm[axis]) ** 2
        if distance < best[cell] or (distance == best[cell] and _before(voxels[i], nearest[cell])):
            best[cell] = distance
            nearest[cell] = voxels[i]
    return ids[:known], sums[:known, 3].copy(), nearest


@njit(nogil=True, cache=True)
def _before(a: Any, b: Any) -> bool:
    """Whether a voxel comes before another in raster order."""
    for axis in range(2, -1, -1):
        if a[axis] != b[axis]:
            return bool(a[axis] < b[axis])
    return False


@njit(nogil=True, cache=True)
def solved(
    labels: Labels, emitters: Any, parts: Parts, conductance: Any, limits: tuple[float, int]
) -> Any:
    """What each voxel is, absorbing faces, unknowns, their potential, iterations and residual.

    `conductance` [2, 3] is that between two parts and through a wall, `limits` the tolerance and
    the most iterations.
    """
    kinds = kinds_of(labels)
    count, faces = flooded(kinds, emitters)
    unknowns = numbered(kinds, count, emitters, parts)
    system = system_of(kinds, unknowns, parts, conductance[0], conductance[1])
    source = source_of(kinds, unknowns, parts, emitters)
    u, iterations, residual = conjugate_gradients(system, source, limits[0], limits[1])
    return kinds, faces, unknowns, u, iterations, residual


@njit(nogil=True, cache=True)
def diffused(
    labels: Labels,
    emitters: Any,
    parts: Parts,
    conductance: Any,
    limits: tuple[float, int],
    voxel_nm: Any,
) -> Any:
    """All of it in one call: what passes between Python and a kernel takes longer than some of it.

    `conductance` and `limits` are those of `solved`. Returns cells, shares and voxels as `taken_up`
    does; what leaves through each face of the cutout [axis, end]; what is trapped; the iterations
    and the residual.
    """
    kinds, faces, unknowns, u, iterations, residual = solved(
        labels, emitters, parts, conductance, limits
    )
    voxels, flux, places, out, trapped = absorbed(
        kinds, unknowns, parts, u, conductance[1], faces, emitters
    )
    ids, share, nearest = taken_up(labels, voxels, places, flux, voxel_nm)
    return ids, share, nearest, out, trapped, iterations, residual
