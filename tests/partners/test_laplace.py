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
from cnapse.partners.labels import Labels, labels_of
from cnapse.partners.laplace import (
    CELL,
    CLOSED,
    FREE,
    OPEN,
    OUTSIDE,
    REFLECTS,
    System,
    Unknowns,
    absorbed,
    conjugate_gradients,
    flooded,
    kinds_of,
    number_of,
    numbered,
    parts_of,
    source_of,
    system_of,
    taken_up,
)

Array = npt.NDArray[Any]
PRE = 1
SPLITS: list[Triple] = [(1, 1, 1), (1, 1, 3), (3, 1, 1), (1, 5, 3), (3, 3, 3)]
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
    """A system, and where its unknowns are: parts of the volume, x, y, z."""

    kinds: Array
    emitters: Array
    faces: int
    split: Triple
    parts: Any
    unknowns: Unknowns
    places: Array
    wall: Array
    system: System


def made(cells: Array, split: Triple) -> Made:
    """All free voxels emit."""
    kinds = kinds_of(labels(cells))
    emitters = np.argwhere(cells == 0).astype(np.int32).reshape(-1, 3)
    count, faces = flooded(kinds, emitters)
    parts = parts_of(split)
    unknowns = numbered(kinds, count, emitters, parts)
    free, wall = np.array([3.0, 0.7, 1.9]), np.array([1.1, 5.0, 0.6])
    places = np.full((count * np.prod(split), 3), -1)
    inside = list(itertools.product(*(range(n) for n in split[::-1])))
    for voxel, part in itertools.product(range(count), range(len(inside))):
        parity = int(unknowns.voxels[voxel].sum()) & 1
        number = number_of(unknowns.first, voxel, parity, parts.odd[part], parts.rank[part])
        places[number] = (unknowns.voxels[voxel] - 1) * split + inside[part][::-1]
    system = system_of(kinds, unknowns, parts, free, wall)
    return Made(kinds, emitters, faces, split, parts, unknowns, places, wall, system)


def dense(problem: Made, cells: Array) -> Array:
    """The matrix, by looking at every pair of parts."""
    split, places = np.array(problem.split), problem.places
    free = problem.system.conductance
    matrix = np.zeros((len(places),) * 2)
    at = {tuple(place): n for n, place in enumerate(places.tolist())}
    for n, place in enumerate(places):
        for direction, step in enumerate(STEPS):
            axis = direction // 2
            there = place + step
            voxel = there // split
            other = at.get(tuple(there.tolist()))
            if other is not None:
                matrix[n, n] += free[axis]
                matrix[n, other] -= free[axis]
            elif ((voxel < 0) | (voxel >= cells.shape)).any() or cells[tuple(voxel)] != PRE:
                matrix[n, n] += problem.wall[axis]
    return matrix


@pytest.mark.parametrize("split", SPLITS)
def test_parts_lead_to_their_neighbours(split: Triple) -> None:
    parts = parts_of(split)
    inside = [p[::-1] for p in itertools.product(*(range(n) for n in split[::-1]))]
    assert len(parts.odd) == len(inside)
    np.testing.assert_allclose(parts.place, (np.array(inside) + 0.5) / split)
    for part, direction in itertools.product(range(len(inside)), range(6)):
        moved = np.array(inside[part]) + STEPS[direction]
        leaves = bool(((moved < 0) | (moved >= split)).any())
        assert parts.leaves[part, direction] == leaves
        assert inside[parts.to[part, direction]] == tuple((moved % split).tolist())
    assert inside[len(inside) // 2] == tuple(n // 2 for n in split)
    for odd in (0, 1):
        ranks = parts.rank[parts.odd == odd]
        assert ranks.tolist() == list(range(len(ranks)))


def test_kinds_and_the_painted_density() -> None:
    cells = np.array([[0, PRE, 7], [0, 0, 2**63 + 1]], np.uint64)[:, :, None]
    plain = kinds_of(labels(cells))
    assert plain.shape == (3, 5, 4)
    assert plain[1, 1:-1, 1:-1].T.tolist() == [[FREE, REFLECTS, CELL], [FREE, FREE, CELL]]
    rim = np.ones(plain.shape, bool)
    rim[1:-1, 1:-1, 1:-1] = False
    assert (plain[rim] == OUTSIDE).all()
    # The density's box reaches out of the cutout on both sides.
    density = np.zeros((4, 3, 3), bool)
    density[1, 1, 1] = density[0, 0, 0] = density[3, 2, 2] = density[2, 2, 1] = True
    painted = kinds_of(labels(cells, density, (-1, 0, -1)))
    assert painted[1, 1:-1, 1:-1].T.tolist() == [
        [FREE, REFLECTS, CELL],
        [FREE, FREE, REFLECTS],
    ]
    assert (painted[rim] == OUTSIDE).all()


@given(cells=tissues(), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_flooding_finds_the_pockets_of_the_emitters(cells: Array, seed: int) -> None:
    kinds = kinds_of(labels(cells))
    rng = np.random.default_rng(seed)
    places = np.argwhere(cells != PRE)
    if not len(places):
        return
    emitters = rng.permutation(places)[:3].astype(np.int32)
    count, faces = flooded(kinds, emitters)
    padded = np.pad(cells.astype(int), 1, constant_values=9)
    pockets, _ = ndimage.label(padded == 0)
    wanted = np.where(padded == 0, FREE, np.where(padded == PRE, REFLECTS, CELL))
    wanted[padded == 9] = OUTSIDE
    all_faces = 0
    for pocket in {int(pockets[tuple(e + 1)]) for e in emitters} - {0}:
        own = np.argwhere(pockets == pocket)
        beside = padded[tuple((own[:, None] + STEPS).reshape(-1, 3).T)]
        absorbing = int(((beside != 0) & (beside != PRE)).sum())
        wanted[pockets == pocket] = OPEN if absorbing else CLOSED
        all_faces += absorbing
    np.testing.assert_array_equal(kinds, wanted.transpose(2, 1, 0))
    assert count == (wanted == OPEN).sum()
    assert faces == all_faces


@given(cells=tissues(), split=st.sampled_from(SPLITS))
@settings(max_examples=30, deadline=None)
def test_every_part_has_a_number_and_neighbours_differ_in_colour(
    cells: Array, split: Triple
) -> None:
    problem = made(cells, split)
    places, even = problem.places, problem.system.even
    assert len({tuple(place) for place in places.tolist()}) == len(places)
    # The padding puts the first voxel at 1, 1, 1: an odd sum.
    colour = (places.sum(axis=1) + 1) % 2
    assert not colour[:even].any()
    assert colour[even:].all()
    assert problem.unknowns.even == even
    assert problem.unknowns.ends.tolist() in ([[even, len(places)]], [])


@given(cells=tissues(), split=st.sampled_from(SPLITS), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_generations_are_steps_from_the_emitters(cells: Array, split: Triple, seed: int) -> None:
    free = np.argwhere(cells == 0).astype(np.int32)
    if not len(free):
        return
    emitters = free[np.random.default_rng(seed).random(len(free)) < 0.1]
    kinds = kinds_of(labels(cells))
    count, _ = flooded(kinds, emitters)
    parts = parts_of(split)
    unknowns = numbered(kinds, count, emitters, parts)
    is_open = kinds[1:-1, 1:-1, 1:-1].T == OPEN
    reached = np.zeros(cells.shape, bool)
    reached[tuple(emitters.T)] = True
    reached &= is_open
    ends, size = [], int(np.prod(split))
    while count:
        ends.append(int(reached.sum()) * size)
        wider = ndimage.binary_dilation(reached, mask=is_open)
        if (wider == reached).all():
            break
        reached = wider
    within = unknowns.ends - (0, unknowns.even)
    assert within.sum(axis=1).tolist() == ends
    assert ends[-1:] in ([], [count * size])


@given(cells=tissues(), split=st.sampled_from(SPLITS))
@settings(max_examples=30, deadline=None)
def test_the_equations(cells: Array, split: Triple) -> None:
    problem = made(cells, split)
    system, total = problem.system, len(problem.places)
    matrix = np.zeros((total, total + 1))
    for direction, n in itertools.product(range(6), range(total)):
        matrix[n, system.neighbours[direction, n]] -= system.conductance[direction // 2]
    matrix = matrix[:, :total] + np.diag(1 / system.inverse)
    np.testing.assert_allclose(matrix, dense(problem, cells), atol=1e-12)


@given(cells=tissues(), split=st.sampled_from(SPLITS), tolerance=st.sampled_from([1e-2, 1e-9]))
@settings(max_examples=30, deadline=None)
def test_conjugate_gradients_solve_them(cells: Array, split: Triple, tolerance: float) -> None:
    problem = made(cells, split)
    matrix = dense(problem, cells)
    source = source_of(problem.kinds, problem.unknowns, problem.parts, problem.emitters)
    u, iterations, residual = conjugate_gradients(problem.system, source, tolerance, 10_000)
    assert u[-1] == 0
    if not len(problem.places):
        assert (iterations, residual) == (0, 0)
        return
    assert residual <= tolerance
    apart = np.abs(source - matrix @ u[:-1])
    assert apart.sum() == pytest.approx(residual, rel=1e-6, abs=1e-12)
    np.testing.assert_allclose(apart[: problem.system.even], 0, atol=1e-13)
    if tolerance < 1e-6:
        exact = np.linalg.solve(matrix, source)
        np.testing.assert_allclose(u[:-1], exact, atol=1e-8 * exact.max())


def test_conjugate_gradients_stop_at_the_most() -> None:
    cells = np.zeros((6, 5, 4), np.uint16)
    problem = made(cells, (1, 1, 3))
    source = np.zeros(len(problem.places))
    source[3] = 1.0
    found = [conjugate_gradients(problem.system, source, 1e-12, most) for most in (1, 3, 5)]
    assert [iterations for _, iterations, _ in found] == [1, 3, 5]
    errors = [residual for _, _, residual in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 1e-12


@given(cells=tissues(), split=st.sampled_from(SPLITS))
@settings(max_examples=30, deadline=None)
def test_what_is_released_is_taken_up_lost_or_trapped(cells: Array, split: Triple) -> None:
    problem = made(cells, split)
    if not len(problem.emitters):
        return
    source = source_of(problem.kinds, problem.unknowns, problem.parts, problem.emitters)
    open_emitters = [e for e in problem.emitters if problem.kinds[tuple(e[::-1] + 1)] == OPEN]
    assert source.sum() == pytest.approx(len(open_emitters) / len(problem.emitters))
    middles = problem.places[source > 0]
    assert (middles % split == np.array(split) // 2).all()
    u, _, _ = conjugate_gradients(problem.system, source, 1e-11, 10_000)
    voxels, flux, places, out, trapped = absorbed(
        problem.kinds, problem.unknowns, problem.parts, u, problem.wall, problem.faces,
        problem.emitters,
    )  # fmt: skip
    assert trapped == pytest.approx(1 - source.sum())
    assert flux.sum() + out.sum() + trapped == pytest.approx(1)
    assert (flux >= 0).all()
    assert np.isin(cells[tuple(voxels.T)], [2, 3]).all()
    # Each place lies on a face of the voxel.
    apart = np.abs(places - voxels - 0.5)
    np.testing.assert_allclose(apart.max(axis=1, initial=0.5), 0.5, atol=1e-12)
    for axis, end in itertools.product(range(3), (0, 1)):
        edge = problem.places[:, axis] == (cells.shape[axis] * split[axis] - 1) * end
        assert out[axis, end] == pytest.approx(problem.wall[axis] * u[:-1][edge].sum())


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
