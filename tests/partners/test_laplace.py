"""The kernels of the exact solution, each against what it should be by other means."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cnapse.geometry import Triple
from cnapse.partners.domain import (
    CELL,
    CLOSED,
    FREE,
    OUTSIDE,
    REFLECTS,
    kinds_of,
    taken_up,
)
from cnapse.partners.labels import Labels, labels_of
from cnapse.partners.laplace import (
    Blocks,
    Unknowns,
    absorbed,
    blocks_of,
    conjugate_gradients,
    numbered,
    source_of,
)

Array = npt.NDArray[Any]
PRE = 1
PARTS = [1, 3, 5]
CONDUCTANCE, WALL = (3.0, 0.7, 1.9), (1.1, 5.0, 0.6)
STEPS = np.array([(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)])


def labels(cells: Array, density: Array | None = None, start: Triple = (0, 0, 0)) -> Labels:
    paints = density is not None
    density = np.zeros((1, 1, 1), bool) if density is None else density
    return labels_of(cells, density, start, PRE, paints=paints)


@st.composite
def tissues(draw: st.DrawFn) -> Array:
    """Free space in pieces, the presynaptic cell and two others; voxels [x, y, z]."""
    shape = tuple(draw(st.integers(1, n)) for n in (6, 5, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    free = draw(st.sampled_from([0.3, 0.6, 0.9]))
    others = rng.choice([PRE, PRE, 2, 3], size=shape)
    return np.where(rng.random(shape) < free, 0, others).astype(np.uint16)


@dataclass(frozen=True)
class Made:
    """A system, and where its unknowns are: parts of the volume, x, y, z, by colour."""

    kinds: Array
    emitters: Array
    parts: int
    unknowns: Unknowns
    blocks: Blocks
    places: list[Array]

    @property
    def split(self) -> Triple:
        return 1, 1, self.parts

    def flat(self, vectors: Array) -> Array:
        """A vector of all unknowns, from those of both colours."""
        inside = [vectors[c, self.parts :][: len(self.places[c])] for c in (0, 1)]
        return np.concatenate(inside)


def made(cells: Array, parts: int, emitters: Array | None = None) -> Made:
    """All free voxels emit, unless others are given."""
    kinds, free = kinds_of(labels(cells))
    if emitters is None:
        emitters = np.argwhere(cells == 0).astype(np.int32).reshape(-1, 3)
    unknowns = numbered(kinds, free, emitters, parts)
    places = []
    for colour in (0, 1):
        last = unknowns.ends[-1, colour] if len(unknowns.ends) else 0
        voxels = np.array(np.unravel_index(unknowns.at[colour, 1 : last + 1], kinds.shape))[::-1]
        first = np.repeat((voxels.T - 1) * (1, 1, parts), parts, axis=0)
        first[:, 2] += np.tile(np.arange(parts), last)
        places.append(first)
    blocks = blocks_of(CONDUCTANCE, WALL, parts)
    return Made(kinds, emitters, parts, unknowns, blocks, places)


def dense(problem: Made, cells: Array) -> Array:
    """The matrix, by looking at every pair of parts."""
    split, places = np.array(problem.split), np.concatenate(problem.places)
    matrix = np.zeros((len(places),) * 2)
    at = {tuple(place): n for n, place in enumerate(places.tolist())}
    for n, place in enumerate(places):
        for direction, step in enumerate(STEPS):
            axis = direction // 2
            there = place + step
            voxel = there // split
            other = at.get(tuple(there.tolist()))
            if other is not None:
                matrix[n, n] += CONDUCTANCE[axis]
                matrix[n, other] -= CONDUCTANCE[axis]
            elif ((voxel < 0) | (voxel >= cells.shape)).any() or cells[tuple(voxel)] != PRE:
                matrix[n, n] += WALL[axis]
    return matrix


def test_kinds_and_the_painted_density() -> None:
    cells = np.array([[0, PRE, 7], [0, 0, 2**63 + 1]], np.uint64)[:, :, None]
    plain, free = kinds_of(labels(cells))
    assert free == 3
    assert plain.shape == (3, 5, 4)
    assert plain[1, 1:-1, 1:-1].T.tolist() == [[FREE, REFLECTS, CELL], [FREE, FREE, CELL]]
    rim = np.ones(plain.shape, bool)
    rim[1:-1, 1:-1, 1:-1] = False
    assert (plain[rim] == OUTSIDE).all()
    # The density's box reaches out of the cutout on both sides.
    density = np.zeros((4, 3, 3), bool)
    density[1, 1, 1] = density[0, 0, 0] = density[3, 2, 2] = density[2, 2, 1] = True
    painted, _ = kinds_of(labels(cells, density, (-1, 0, -1)))
    assert painted[1, 1:-1, 1:-1].T.tolist() == [
        [FREE, REFLECTS, CELL],
        [FREE, FREE, REFLECTS],
    ]
    assert (painted[rim] == OUTSIDE).all()


@given(
    cells=tissues(),
    start=st.tuples(*[st.integers(-5, 5)] * 3),
    shape=st.tuples(*[st.integers(1, 8)] * 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_a_density_paints_its_voxels_in_the_cutout_and_no_other(
    cells: Array, start: Triple, shape: Triple, seed: int
) -> None:
    density = np.random.default_rng(seed).random(shape) < 0.5
    expected, _ = kinds_of(labels(cells))
    for voxel in np.argwhere(density) + start:
        if (voxel >= 0).all() and (voxel < cells.shape).all():
            expected[tuple(voxel[::-1] + 1)] = REFLECTS
    painted, _ = kinds_of(labels(cells, density, start))
    np.testing.assert_array_equal(painted, expected)


@given(cells=tissues(), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_pockets_of_the_emitters_are_open_or_closed(cells: Array, seed: int) -> None:
    kinds, free = kinds_of(labels(cells))
    rng = np.random.default_rng(seed)
    places = np.argwhere(cells != PRE)
    if not len(places):
        return
    emitters = rng.permutation(places)[:3].astype(np.int32)
    unknowns = numbered(kinds, free, emitters, 1)
    padded = np.pad(cells.astype(int), 1, constant_values=9)
    pockets, _ = ndimage.label(padded == 0)
    wanted = np.where(padded == 0, FREE, np.where(padded == PRE, REFLECTS, CELL))
    wanted[padded == 9] = OUTSIDE
    reached = np.zeros(padded.shape, bool)
    faces = set()
    for pocket in {int(pockets[tuple(e + 1)]) for e in emitters} - {0}:
        own = np.argwhere(pockets == pocket)
        beside = padded[tuple((own[:, None] + STEPS).reshape(-1, 3).T)].reshape(-1, 6)
        absorbing = np.argwhere((beside != 0) & (beside != PRE))
        if not len(absorbing):
            wanted[pockets == pocket] = CLOSED
            continue
        reached[pockets == pocket] = True
        faces |= {(*own[n].tolist(), int(d)) for n, d in absorbing}
    np.testing.assert_array_equal(kinds, wanted.transpose(2, 1, 0))
    np.testing.assert_array_equal(unknowns.ids.reshape(kinds.shape) > 0, reached.transpose(2, 1, 0))
    z, y, x = np.unravel_index(unknowns.faces >> 3, kinds.shape)
    found = np.stack([x, y, z, unknowns.faces & 7], axis=1)
    assert len(found) == len(faces)
    assert {tuple(face) for face in found.tolist()} == faces


@given(cells=tissues(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_generations_are_steps_from_the_emitters(cells: Array, seed: int) -> None:
    free = np.argwhere(cells == 0).astype(np.int32)
    if not len(free):
        return
    emitters = free[np.random.default_rng(seed).random(len(free)) < 0.1]
    problem = made(cells, 1, emitters)
    is_open = (problem.kinds[1:-1, 1:-1, 1:-1].T == FREE) & (cells == 0)
    reached = np.zeros(cells.shape, bool)
    reached[tuple(emitters.T)] = True
    reached &= is_open
    ends = []
    while reached.any():
        # The padding puts the first voxel at 1, 1, 1: an odd sum.
        parity = (np.argwhere(reached).sum(axis=1) + 1) % 2
        ends.append([int((parity == 0).sum()), int((parity == 1).sum())])
        wider = ndimage.binary_dilation(reached, mask=is_open)
        if (wider == reached).all():
            break
        reached = wider
    assert problem.unknowns.ends.tolist() == ends
    for colour, places in enumerate(problem.places):
        assert ((places.sum(axis=1) + 1) % 2 == colour).all()
        assert len({tuple(place) for place in places.tolist()}) == len(places)


@given(cells=tissues(), parts=st.sampled_from(PARTS))
@settings(max_examples=30, deadline=None)
def test_the_equations(cells: Array, parts: int) -> None:
    problem = made(cells, parts)
    total = sum(len(places) for places in problem.places)
    offsets = (-parts, len(problem.places[0]) - parts)
    matrix = np.zeros((total, total))
    near, top = problem.unknowns.near, parts - 1
    for colour, places in enumerate(problem.places):
        for n in range(1, len(places) // parts + 1):
            mine = offsets[colour] + n * parts
            around = problem.unknowns.around[colour, n]
            matrix[mine : mine + parts, mine : mine + parts] = problem.blocks.matrix[around]
            for direction in range(6):
                if not near[colour, n, direction]:
                    continue
                other = offsets[1 - colour] + int(near[colour, n, direction])
                pairs = [(0, top)] if direction == 4 else [(top, 0)]
                if direction < 4:
                    pairs = [(part, part) for part in range(parts)]
                for part, theirs in pairs:
                    matrix[mine + part, other + theirs] -= CONDUCTANCE[direction // 2]
    np.testing.assert_allclose(matrix, dense(problem, cells), atol=1e-12)
    both = problem.blocks.matrix @ problem.blocks.inverse
    np.testing.assert_allclose(both, np.broadcast_to(np.eye(parts), both.shape), atol=1e-9)


@given(cells=tissues(), parts=st.sampled_from(PARTS), tolerance=st.sampled_from([1e-2, 1e-9]))
@settings(max_examples=30, deadline=None)
def test_conjugate_gradients_solve_them(cells: Array, parts: int, tolerance: float) -> None:
    problem = made(cells, parts)
    matrix = dense(problem, cells)
    released = source_of(problem.kinds, problem.unknowns, parts, problem.emitters)
    found, iterations, residual = conjugate_gradients(
        problem.unknowns, problem.blocks, released, tolerance, 10_000
    )
    source, u = problem.flat(released), problem.flat(found)
    assert not found[:, :parts].any()
    if not len(u):
        assert (iterations, residual) == (0, 0)
        return
    assert residual <= tolerance
    apart = np.abs(source - matrix @ u)
    assert apart.sum() == pytest.approx(residual, rel=1e-6, abs=1e-12)
    np.testing.assert_allclose(apart[: len(problem.places[0])], 0, atol=1e-12)
    if tolerance < 1e-6:
        exact = np.linalg.solve(matrix, source)
        np.testing.assert_allclose(u, exact, atol=1e-8 * exact.max())


def test_conjugate_gradients_stop_at_the_most() -> None:
    problem = made(np.zeros((6, 5, 4), np.uint16), 3)
    source = source_of(problem.kinds, problem.unknowns, 3, problem.emitters[3:4])
    found = [
        conjugate_gradients(problem.unknowns, problem.blocks, source, 1e-12, most)
        for most in (1, 3, 5)
    ]
    assert [iterations for _, iterations, _ in found] == [1, 3, 5]
    errors = [residual for _, _, residual in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 1e-12


@given(cells=tissues(), parts=st.sampled_from(PARTS))
@settings(max_examples=30, deadline=None)
def test_what_is_released_is_taken_up_lost_or_trapped(cells: Array, parts: int) -> None:
    problem = made(cells, parts)
    if not len(problem.emitters):
        return
    released = source_of(problem.kinds, problem.unknowns, parts, problem.emitters)
    source, every = problem.flat(released), np.concatenate(problem.places)
    open_emitters = [e for e in problem.emitters if problem.kinds[tuple(e[::-1] + 1)] == FREE]
    assert source.sum() == pytest.approx(len(open_emitters) / len(problem.emitters))
    assert (every[source > 0] % problem.split == np.array(problem.split) // 2).all()
    found, _, _ = conjugate_gradients(problem.unknowns, problem.blocks, released, 1e-11, 10_000)
    voxels, flux, places, out, trapped = absorbed(
        problem.kinds, problem.unknowns, problem.blocks, found, problem.emitters
    )
    assert trapped == pytest.approx(1 - source.sum())
    assert flux.sum() + out.sum() + trapped == pytest.approx(1)
    assert (flux >= 0).all()
    assert np.isin(cells[tuple(voxels.T)], [2, 3]).all()
    # Each place lies on a face of the voxel.
    apart = np.abs(places - voxels - 0.5)
    np.testing.assert_allclose(apart.max(axis=1, initial=0.5), 0.5, atol=1e-12)
    u = problem.flat(found)
    for axis, end in itertools.product(range(3), (0, 1)):
        edge = every[:, axis] == (cells.shape[axis] * problem.split[axis] - 1) * end
        assert out[axis, end] == pytest.approx(WALL[axis] * u[edge].sum())


def test_sums_of_more_cells_than_the_tables_begin_with() -> None:
    """Forty cells met in turn, three times over: the sums are those of a dictionary."""
    rng = np.random.default_rng(4)
    cells = np.arange(100, 140, dtype=np.uint64).reshape(40, 1, 1)
    voxels = np.tile(np.stack([rng.permutation(40), *np.zeros((2, 40), int)], 1), (3, 1))
    flux = rng.random(120)
    places = voxels + rng.random((120, 3))
    ids, share, nearest = taken_up(
        labels(cells), voxels.astype(np.int32), places, flux, np.array([4.0, 4.0, 50.0])
    )
    assert ids.tolist() == (100 + voxels[:40, 0]).tolist()
    np.testing.assert_allclose(share, flux.reshape(3, 40).sum(axis=0))
    assert nearest[:, 0].tolist() == voxels[:40, 0].tolist()


def test_the_nearest_voxel_is_measured_in_nm_and_ties_go_by_raster_order() -> None:
    cells = np.full((6, 4, 3), 7, np.uint64)
    voxels = np.array([[5, 0, 1], [1, 3, 1], [3, 2, 0], [3, 2, 2]], np.int32)
    middle = np.tile([3.5, 2.5, 1.5], (4, 1))
    even = np.ones(4)
    _, _, thick = taken_up(labels(cells), voxels, middle, even, np.array([4.0, 4.0, 50.0]))
    assert thick.tolist() == [[1, 3, 1]]
    for order in itertools.permutations(range(4)):
        _, _, near = taken_up(
            labels(cells), voxels[list(order)], middle, even, np.array([4.0, 4.0, 4.0])
        )
        assert near.tolist() == [[3, 2, 0]]
