"""The kernels of :mod:`cnapse.partners.harmonic`: the Laplace problem on a cutout's free voxels.

No kernel here reads labels: :mod:`cnapse.partners.domain` has made kinds of voxels of them, arrays
[z, y, x] that are one voxel wider on every side than the cutout. Directions are numbered -x, +x,
-y, +y, -z, +z. Voxels have two colours, like a checkerboard: that of x + y + z, counted in the
padded array, even (0) and odd (1). Each is split along z into parts, which are solved for together,
as one block. The parts of voxel n of a colour are unknowns n * parts .. n * parts + parts - 1 of
that colour; voxel 0 of each colour is none, where vectors hold 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit
from numba.cpython.unsafe.tuple import tuple_setitem

from cnapse.partners.domain import CELL, CLOSED, FREE, OUTSIDE, REFLECTS

__all__ = [
    "Blocks",
    "Unknowns",
    "absorbed",
    "blocks_of",
    "conjugate_gradients",
    "flux_of",
    "numbered",
    "source_of",
]

# Of the tolerance, so that rounding does not make the residual itself just larger.
_SAFELY = 0.99


class Blocks(NamedTuple):
    """The equations of one voxel, for every kind of surroundings.

    Surroundings are a number of six digits to the base 3, that of -x first and least: 0 for a free
    neighbour, 1 for one that absorbs, 2 for one that reflects.

    Parameters
    ----------
    matrix, inverse : ndarray of float64, shape (729, parts, parts)
        What couples the parts of the voxel, and what leaves it; and its inverse.
    free, wall : (x, y, z)
        Conductance between two parts, and from a part to an absorber.
    zeros : tuple of float
        One zero a part. Its length is known when the kernels are compiled.
    """

    matrix: npt.NDArray[np.float64]
    inverse: npt.NDArray[np.float64]
    free: tuple[float, float, float]
    wall: tuple[float, float, float]
    zeros: tuple[float, ...]


class Unknowns(NamedTuple):
    """The voxels that transmitter can reach, by colour and number.

    They are numbered by generation: emitters, their neighbours, the neighbours of those, and so on.
    What starts at the emitters and goes one step at a time is then in a leading part of a colour.

    Parameters
    ----------
    ids : ndarray of int32
        2 * number + colour at each such voxel of the raveled cutout; 0 elsewhere.
    at : ndarray of int32, shape (2, most)
        The reverse: place in the raveled cutout.
    near : ndarray of uint32, shape (2, most, 6)
        First unknown of the neighbour in each direction; 0 for none.
    around : ndarray of uint16, shape (2, most)
        The surroundings, as in `Blocks`.
    ends : ndarray of int64, shape (generations, 2)
        Last number of each colour in each generation.
    faces : ndarray of int64
        Those that absorb: 8 * place of the voxel + direction.
    """

    ids: npt.NDArray[np.int32]
    at: npt.NDArray[np.int32]
    near: npt.NDArray[np.uint32]
    around: npt.NDArray[np.uint16]
    ends: npt.NDArray[np.int64]
    faces: npt.NDArray[np.int64]


def blocks_of(free: Sequence[float], wall: Sequence[float], parts: int) -> Blocks:
    """Tables for the conductance between two parts, and through a wall."""
    digits = np.arange(3**6)[:, None] // 3 ** np.arange(6) % 3
    choices = np.array([[free[d // 2], wall[d // 2], 0.0] for d in range(6)])
    through = choices[np.arange(6), digits]
    diagonal = np.repeat(through[:, :4].sum(axis=1)[:, None], parts, axis=1)
    diagonal[:, 0] += through[:, 4]
    diagonal[:, -1] += through[:, 5]
    diagonal[:, 1:] += free[2]
    diagonal[:, :-1] += free[2]
    matrix = np.zeros((3**6, parts, parts))
    part = np.arange(parts)
    matrix[:, part, part] = diagonal
    matrix[:, part[1:], part[:-1]] = matrix[:, part[:-1], part[1:]] = -free[2]
    # Nothing ever leaves a voxel among reflecting ones: it is no unknown.
    matrix[-1] = np.eye(parts)
    x, y, z = (float(g) for g in free)
    u, v, w = (float(g) for g in wall)
    inverse = np.linalg.inv(matrix).astype(np.float64)
    return Blocks(matrix, inverse, (x, y, z), (u, v, w), (0.0,) * parts)


@njit(nogil=True, cache=True)
def numbered(kinds: Any, free: int, emitters: Any, parts: int) -> Any:
    """`Unknowns`: the free voxels that the emitters reach; other pockets are marked as closed.

    `free` is the number of free voxels, or more.
    """
    while True:
        unknowns, closed = _spread(kinds, free, emitters, parts)
        if not closed:
            return unknowns


@njit(nogil=True, cache=True)
def _spread(  # noqa: PLR0915 - one pass over the voxels
    kinds: Any, free: int, emitters: Any, parts: int
) -> Any:
    """Number what is reached in one pass; whether pockets were found to be closed."""
    flat = kinds.ravel()
    row, plane = kinds.shape[2], kinds.shape[1] * kinds.shape[2]
    offsets, digits = (-1, 1, -row, row, -plane, plane), (1, 3, 9, 27, 81, 243)
    ids, at = np.zeros(flat.size, np.int32), np.empty((2, free + 1), np.int32)
    near, around = np.empty((2, free + 1, 6), np.uint32), np.empty((2, free + 1), np.uint16)
    ends, faces = np.empty((free, 2), np.int64), np.empty(6 * free, np.int64)
    # Which emitter a voxel was reached from, and which emitters were found to be connected.
    queue, source = np.empty(free, np.int32), np.empty(flat.size, np.int32)
    parent = np.arange(len(emitters))
    last = np.zeros(2, np.int64)
    head = tail = generations = met = groups = 0
    for e in range(len(emitters)):
        x, y, z = emitters[e, 0] + 1, emitters[e, 1] + 1, emitters[e, 2] + 1
        here = x + row * y + plane * z
        if flat[here] == FREE and ids[here] == 0:
            colour = (x + y + z) & 1
            last[colour] += 1
            ids[here], at[colour, last[colour]] = 2 * last[colour] + colour, here
            queue[tail], source[here] = here, e
            tail += 1
            groups += 1
    even, odd = last[0], last[1]
    while head < tail:
        ends[generations, 0], ends[generations, 1] = even, odd
        generations += 1
        stop = tail
        while head < stop:
            here = queue[head]
            head += 1
            me = ids[here]
            colour, n = me & 1, me >> 1
            line = near[colour, n]
            code = 0
            for d in range(6):
                there = here + offsets[d]
                kind = flat[there]
                to = 0
                if kind == FREE:
                    to = ids[there]
                    if to == 0:
                        if colour == 1:
                            even += 1
                            to = 2 * even
                            at[0, even] = there
                        else:
                            odd += 1
                            to = 2 * odd + 1
                            at[1, odd] = there
                        ids[there], queue[tail], source[there] = to, there, source[here]
                        tail += 1
                    elif groups > 1:
                        a, b = _root(parent, source[here]), _root(parent, source[there])
                        if a != b:
                            parent[a] = b
                            groups -= 1
                elif kind >= CELL:
                    code += digits[d]
                    faces[met] = 8 * here + d
                    met += 1
                else:
                    code += 2 * digits[d]
                line[d] = parts * (to >> 1)
            around[colour, n] = code
    closed = _close(flat, queue[:tail], source, parent, faces[:met])
    found = Unknowns(ids, at, near, around, ends[:generations].copy(), faces[:met])
    return found, closed


@njit(nogil=True, cache=True)
def _root(parent: Any, group: int) -> int:
    while parent[group] != group:
        parent[group] = parent[parent[group]]
        group = parent[group]
    return group


@njit(nogil=True, cache=True)
def _close(flat: Any, queue: Any, source: Any, parent: Any, faces: Any) -> bool:
    """Mark the voxels of pockets that have no face which absorbs; whether there are any."""
    leads_out = np.zeros(len(parent), np.bool_)
    for f in range(len(faces)):
        leads_out[_root(parent, source[faces[f] >> 3])] = True
    closed = False
    for q in range(len(queue)):
        if not leads_out[_root(parent, source[queue[q]])]:
            flat[queue[q]] = CLOSED
            closed = True
    return closed


@njit(nogil=True, cache=True)
def source_of(kinds: Any, unknowns: Unknowns, parts: int, emitters: Any) -> Any:
    """What each unknown [colour, n] releases: the emitters' shares, in the middle of the voxel."""
    flat = kinds.ravel()
    row, plane = kinds.shape[2], kinds.shape[1] * kinds.shape[2]
    most = unknowns.ends[-1].max() if len(unknowns.ends) else 0
    source = np.zeros((2, (most + 1) * parts))
    for e in range(len(emitters)):
        here = (emitters[e, 2] + 1) * plane + (emitters[e, 1] + 1) * row + emitters[e, 0] + 1
        if flat[here] == FREE:
            me = unknowns.ids[here]
            source[me & 1, (me >> 1) * parts + parts // 2] += 1 / len(emitters)
    return source


@njit(nogil=True, cache=True, inline="always")
def _with(values: Any, index: int, value: float) -> Any:
    """A tuple with one value replaced: blocks as tuples stay in registers."""
    return tuple_setitem(values, index, value)  # type: ignore[call-arg]


@njit(nogil=True, cache=True, inline="always")
def _from_neighbours(near: Any, vector: Any, blocks: Blocks) -> Any:
    """What flows into the parts of a voxel from its neighbours, all of the other colour."""
    gx, gy, gz = blocks.free
    flow, top = blocks.zeros, len(blocks.zeros) - 1
    left, right, front, back = near[0], near[1], near[2], near[3]
    for part in range(len(flow)):
        own = gx * (vector[left + part] + vector[right + part])
        own += gy * (vector[front + part] + vector[back + part])
        if part == 0:
            own += gz * vector[near[4] + top]
        if part == top:
            own += gz * vector[near[5]]
        flow = _with(flow, part, own)
    return flow


@njit(nogil=True, cache=True, inline="always")
def _times(matrix: Any, vector: Any) -> Any:
    product = vector
    for part in range(len(vector)):
        own = 0.0
        for other in range(len(vector)):
            own += matrix[part, other] * vector[other]
        product = _with(product, part, own)
    return product


@njit(nogil=True, cache=True)
def conjugate_gradients(  # noqa: PLR0915 - the text-book's loop, by colour
    unknowns: Unknowns, blocks: Blocks, source: Any, tolerance: float, most: int
) -> Any:
    """The potential [colour, n], the iterations, and the residual's sum of absolute values.

    Even voxels are eliminated: theirs is exact given that of the odd ones, which are preconditioned
    by their blocks. Each iteration looks only as many generations far as something can be by then.
    The residual that is returned is computed from the potential, not the running one of the
    iteration.
    """
    parts, zeros = len(blocks.zeros), blocks.zeros
    matrix, inverse, ends = blocks.matrix, blocks.inverse, unknowns.ends
    near_even, near_odd = unknowns.near[0], unknowns.near[1]
    around_even, around_odd = unknowns.around[0], unknowns.around[1]
    u = np.zeros(source.shape)
    even, odd = u[0], u[1]
    # `image` is what the odd voxels' own blocks make of `along`.
    along, image, along_even = np.zeros(odd.size), np.zeros(odd.size), np.zeros(odd.size)
    residual, change, ahead = np.zeros(odd.size), np.zeros(odd.size), np.zeros(odd.size)
    iterations = reach = 0
    while len(ends):
        reach = min(reach + 2, len(ends) - 1)
        for n in range(1, ends[reach, 0] + 1):
            flow = _from_neighbours(near_even[n], odd, blocks)
            for part in range(parts):
                flow = _with(flow, part, flow[part] + source[0, n * parts + part])
            flow = _times(inverse[around_even[n]], flow)
            for part in range(parts):
                even[n * parts + part] = flow[part]
        left = rho = 0.0
        for n in range(1, ends[reach, 1] + 1):
            flow, own = _from_neighbours(near_odd[n], even, blocks), zeros
            for part in range(parts):
                own = _with(own, part, odd[n * parts + part])
            own = _times(matrix[around_odd[n]], own)
            for part in range(parts):
                open_ = source[1, n * parts + part] + flow[part] - own[part]
                flow = _with(flow, part, open_)
            own = _times(inverse[around_odd[n]], flow)
            for part in range(parts):
                i = n * parts + part
                residual[i] = image[i] = flow[part]
                along[i] = own[part]
                left += abs(flow[part])
                rho += flow[part] * own[part]
        if left <= tolerance or iterations >= most:
            return u, iterations, left
        while left > _SAFELY * tolerance and iterations < most:
            iterations += 1
            reach = min(reach + 2, len(ends) - 1)
            last_even, last_odd = ends[reach]
            for n in range(1, last_even + 1):
                flow = _from_neighbours(near_even[n], along, blocks)
                flow = _times(inverse[around_even[n]], flow)
                for part in range(parts):
                    along_even[n * parts + part] = flow[part]
            product = 0.0
            for n in range(1, last_odd + 1):
                flow = _from_neighbours(near_odd[n], along_even, blocks)
                for part in range(parts):
                    i = n * parts + part
                    change[i] = image[i] - flow[part]
                    product += along[i] * change[i]
            length = rho / product
            left = new = 0.0
            for n in range(1, last_odd + 1):
                own = zeros
                for part in range(parts):
                    i = n * parts + part
                    odd[i] += length * along[i]
                    residual[i] -= length * change[i]
                    left += abs(residual[i])
                    own = _with(own, part, residual[i])
                own = _times(inverse[around_odd[n]], own)
                for part in range(parts):
                    ahead[n * parts + part] = own[part]
                    new += residual[n * parts + part] * own[part]
            turn = new / rho
            for i in range(parts, (last_odd + 1) * parts):
                along[i] = ahead[i] + turn * along[i]
                image[i] = residual[i] + turn * image[i]
            rho = new
    return u, 0, 0.0


@njit(nogil=True, cache=True)
def absorbed(kinds: Any, unknowns: Unknowns, blocks: Blocks, u: Any, emitters: Any) -> Any:
    """What goes into cells, and what is lost.

    Returns the voxels [n, 3] of cells that absorb, the flux into each, its place [n, 3] (mean over
    the face, in voxels from the cutout's corner); what leaves through each face of the cutout
    [axis, end]; and what is trapped. Emitters inside cells come first.
    """
    faces, parts, wall = unknowns.faces, len(blocks.zeros), blocks.wall
    most = len(faces) + len(emitters)
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
    flat, row, plane = kinds.ravel(), kinds.shape[2], kinds.shape[1] * kinds.shape[2]
    offsets = (-1, 1, -row, row, -plane, plane)
    for f in range(len(faces)):
        here, d = faces[f] >> 3, faces[f] & 7
        me = unknowns.ids[here]
        first, axis, end = (me >> 1) * parts, d >> 1, d & 1
        # Across z it is the lowest part, or the highest, that meets the wall.
        low = parts - 1 if d == 5 else 0
        high = 1 if d == 4 else parts
        through = height = 0.0
        for part in range(low, high):
            # Far away, what the tolerance leaves open may be below 0.
            own = max(wall[axis] * u[me & 1, first + part], 0.0)
            through += own
            height += own * (part + 0.5)
        if flat[here + offsets[d]] == OUTSIDE:
            out[axis, end] += through
            continue
        # Listed without any flux, too: it may be the voxel nearest to the mean place.
        z, rest = here // plane, here % plane
        y, x = rest // row, rest % row
        voxels[m, 0], voxels[m, 1], voxels[m, 2] = x - 1, y - 1, z - 1
        places[m, 0], places[m, 1] = x - 0.5, y - 0.5
        places[m, 2] = z - 1 + (height / (parts * through) if through > 0 else 0.5)
        places[m, axis] = voxels[m, axis] + end
        voxels[m, axis] += 2 * end - 1
        flux[m] = through
        m += 1
    return voxels[:m], flux[:m], places[:m], out, trapped


@njit(nogil=True, cache=True)
def flux_of(kinds: Any, free: int, emitters: Any, blocks: Blocks, limits: tuple[float, int]) -> Any:
    """From kinds of voxels to the flux into those that absorb, in one call.

    `limits` are the tolerance and the most iterations. Returns what `absorbed` does, the
    iterations and the residual.
    """
    parts = len(blocks.zeros)
    unknowns = numbered(kinds, free, emitters, parts)
    source = source_of(kinds, unknowns, parts, emitters)
    u, iterations, residual = conjugate_gradients(unknowns, blocks, source, limits[0], limits[1])
    return absorbed(kinds, unknowns, blocks, u, emitters), iterations, residual
