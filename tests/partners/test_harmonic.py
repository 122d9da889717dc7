"""The exact solution against a direct solver, closed forms, and random walks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from scipy.stats import chi2

from cnapse.errors import ConfigError, ConvergenceError
from cnapse.geometry import Resolution, Triple
from cnapse.partners import harmonic, montecarlo
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.emitters import EmitterRule, find_emitters
from cnapse.partners.harmonic import EXTRAPOLATION, FRONTIER, Laplace, potential, solve, splits
from cnapse.partners.labels import Tissue
from cnapse.partners.montecarlo import Walk, walk, walk_ends

Array = npt.NDArray[Any]

PRE = 1
OUT = -1
TIGHT = 1e-9
RESOLUTIONS: list[Resolution] = [
    (4.0, 4.0, 50.0),
    (10.0, 10.0, 10.0),
    (8.0, 8.0, 40.0),
    (6.3, 4.6, 30.0),
    (33.0, 4.0, 4.0),
    (4.0, 45.0, 9.0),
]


def tissue_of(cells: Array, resolution: Resolution = (4.0, 4.0, 4.0)) -> Tissue:
    return Tissue(cells, np.zeros((1, 1, 1), bool), (0, 0, 0), PRE, False, resolution)


def solved(
    cells: Array, emitters: Any, resolution: Resolution = (4.0, 4.0, 4.0), step_nm: float = 0.0
) -> Arrivals:
    how = Laplace(step_nm, TIGHT)
    return solve(tissue_of(cells, resolution), np.array(emitters, np.int32).reshape(-1, 3), how)


def share_of(arrivals: Arrivals, cell: int) -> float:
    return float(arrivals.raw_share[arrivals.post_ids == cell].sum())


# An independent solution: the whole matrix, by elimination.


@dataclass(frozen=True)
class Direct:
    shares: dict[int, float]
    lost: float
    trapped: float
    potential: Array
    places: dict[int, Array]


def labels_seen(tissue: Tissue) -> Array:
    """Labels with the density painted in, where it lies within the cutout; OUT around them."""
    labels = np.pad(tissue.cells.astype(object), 1, constant_values=OUT)
    if tissue.paints:
        for at in np.argwhere(tissue.density) + tissue.density_start:
            if ((at >= 0) & (at < tissue.cells.shape)).all():
                labels[tuple(at + 1)] = tissue.pre_id
    return labels


def direct(tissue: Tissue, emitters: Array, step_nm: float) -> Direct:
    """As the design states the problem, with every part of every voxel, and scipy's LU."""
    split = np.array(splits(tissue.resolution))
    h = np.array(tissue.resolution) / split
    coarse = labels_seen(tissue)
    labels = coarse[1:-1, 1:-1, 1:-1]
    for axis in range(3):
        labels = np.repeat(labels, split[axis], axis)
    labels = np.pad(labels, 1, constant_values=OUT)
    free = labels == 0
    absorbs = ~free & (labels != tissue.pre_id)
    pockets, count = ndimage.label(free)
    touching = ndimage.binary_dilation(absorbs)
    open_pockets = {int(p) for p in range(1, count + 1) if (touching & (pockets == p)).any()}
    is_open = np.isin(pockets, list(open_pockets)) & free
    number = np.full(labels.shape, -1)
    number[is_open] = np.arange(is_open.sum())
    matrix = sparse.lil_matrix((is_open.sum(),) * 2)
    source = np.zeros(is_open.sum())
    taken: list[tuple[int, Array, float]] = []
    trapped = 0.0
    for emitter in emitters:
        label = coarse[tuple(emitter + 1)]
        middle = tuple(emitter * split + split // 2 + 1)
        if label != 0:
            taken.append((int(label), emitter + 0.5, 1 / len(emitters)))
        elif is_open[middle]:
            source[number[middle]] += 1 / len(emitters)
        else:
            trapped += 1 / len(emitters)
    walls: list[tuple[int, int, Array, float]] = []
    for at in np.argwhere(is_open):
        n = number[tuple(at)]
        for axis, side in itertools.product(range(3), (-1, 1)):
            beside = at.copy()
            beside[axis] += side
            there = tuple(beside)
            if is_open[there]:
                matrix[n, n] += 1 / h[axis] ** 2
                matrix[n, number[there]] -= 1 / h[axis] ** 2
            elif absorbs[there]:
                conductance = 1 / (h[axis] * (h[axis] / 2 + 0.2979521902 * step_nm))
                matrix[n, n] += conductance
                face = (at - 0.5 + 0.5 * side * (np.arange(3) == axis)) / split
                walls.append((n, int(labels[there]), face, conductance))
    u = spsolve(matrix.tocsc(), source) if len(source) else source
    taken += [(label, face, conductance * u[n]) for n, label, face, conductance in walls]
    shares: dict[int, float] = {}
    moments: dict[int, Array] = {}
    for label, place, flux in taken:
        shares[label] = shares.get(label, 0.0) + flux
        moments[label] = moments.get(label, np.zeros(3)) + flux * place
    lost = shares.pop(OUT, 0.0) + trapped
    fine = np.zeros(labels.shape)
    fine[is_open] = u
    inner = fine[1:-1, 1:-1, 1:-1]
    grouped = inner.reshape(np.stack([tissue.cells.shape, split], 1).ravel())
    places = {cell: moments[cell] / share for cell, share in shares.items() if share > 1e-6}
    return Direct(shares, lost, trapped, grouped.mean(axis=(1, 3, 5)), places)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tissue, Array]:
    """Ragged cells of few voxels, free space with pockets, emitters anywhere but in the pre."""
    shape = tuple(draw(st.sampled_from([n, n - 1, n - 2, 1])) for n in (8, 7, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    names = np.array([0, 0, 0, PRE, 5, 7, 2**63 + 9, 2**40], np.uint64)
    seeds = rng.integers(len(names), size=[-(-n // 2) for n in shape])
    picked = np.kron(seeds, np.ones((2, 2, 2), int))[: shape[0], : shape[1], : shape[2]]
    ragged = rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    cells = names[np.where(ragged, rng.integers(len(names), size=shape), picked)]
    cells[rng.random(shape) < draw(st.sampled_from([0.0, 0.15, 0.5]))] = 0
    if draw(st.booleans()):
        # Closed pockets, among others.
        cells[(cells > 0) & (rng.random(shape) < draw(st.sampled_from([0.8, 0.97])))] = PRE
        for axis in range(3):
            np.moveaxis(cells, axis, 0)[[0, -1]] = PRE
    density = rng.random([draw(st.integers(1, 4)) for _ in range(3)]) < 0.4
    start = (draw(st.integers(-3, 6)), draw(st.integers(-3, 5)), draw(st.integers(-3, 4)))
    resolution = draw(st.sampled_from(RESOLUTIONS))
    tissue = Tissue(cells, density, start, PRE, draw(st.booleans()), resolution)
    may = np.argwhere(labels_seen(tissue)[1:-1, 1:-1, 1:-1] != PRE)
    count = min(len(may), draw(st.integers(1, 12)))
    return tissue, rng.permutation(may)[:count].astype(np.int32)


@given(problem=problems(), step_nm=st.sampled_from([0.0, 4.0]))
@settings(max_examples=40, deadline=None)
def test_like_a_direct_solver(problem: tuple[Tissue, Array], step_nm: float) -> None:
    tissue, emitters = problem
    if not len(emitters):
        return
    wanted = direct(tissue, emitters, step_nm)
    found = solve(tissue, emitters, Laplace(step_nm, TIGHT))
    shares = dict(zip(found.post_ids.tolist(), found.raw_share.tolist(), strict=True))
    assert found.post_ids.tolist() == sorted(shares)
    for cell in shares.keys() | wanted.shares.keys():
        assert shares.get(cell, 0) == pytest.approx(wanted.shares.get(cell, 0), abs=10 * TIGHT)
    assert found.lost == pytest.approx(wanted.lost, abs=10 * TIGHT)
    assert found.trapped == pytest.approx(wanted.trapped, abs=10 * TIGHT)
    assert found.raw_share.sum() + found.lost == pytest.approx(1, abs=1e-12)
    assert found.particles == 0
    u = potential(tissue, emitters, Laplace(step_nm, TIGHT))
    np.testing.assert_allclose(u, wanted.potential, atol=1e-6 * wanted.potential.max())
    coarse = solve(tissue, emitters, Laplace(step_nm, 1e-2))
    assert abs(coarse.lost - wanted.lost) <= 1e-2
    for cell, share in zip(coarse.post_ids.tolist(), coarse.raw_share, strict=True):
        assert abs(share - wanted.shares[cell]) <= 1e-2


@given(problem=problems())
@settings(max_examples=20, deadline=None)
def test_a_place_is_the_absorbing_voxel_nearest_to_the_mean(
    problem: tuple[Tissue, Array],
) -> None:
    tissue, emitters = problem
    if not len(emitters):
        return
    wanted = direct(tissue, emitters, 4.0)
    found = solve(tissue, emitters, Laplace(4.0, TIGHT))
    labels = labels_seen(tissue)[1:-1, 1:-1, 1:-1]
    # Of a voxel that takes up next to nothing, nobody can tell whether it does.
    wet = ndimage.binary_dilation(wanted.potential > 1e-6 * wanted.potential.max())
    wet[tuple(emitters.T)] = True
    for cell, voxel in zip(found.post_ids.tolist(), found.voxels, strict=True):
        if cell not in wanted.places:
            continue
        assert labels[tuple(voxel)] == cell
        candidates = np.argwhere((labels == cell) & wet)
        apart = (np.vstack([candidates, voxel]) + 0.5 - wanted.places[cell]) * tissue.resolution
        distances = np.linalg.norm(apart, axis=1)
        assert distances[-1] <= distances[:-1].min() + 1e-3


def test_axes_are_split_by_odd_factors() -> None:
    for resolution in (*RESOLUTIONS, (4.0, 4.0, 30.0), (4.6, 4.6, 45.0)):
        split = splits(resolution)
        assert all(factor % 2 == 1 for factor in split)
        assert max(np.array(resolution) / split) <= 5.001 * min(resolution)
    assert splits((4.0, 4.0, 50.0)) == (1, 1, 3)
    assert splits((8.0, 8.0, 40.0)) == (1, 1, 3)
    assert splits((10.0, 10.0, 10.0)) == (1, 1, 1)
    assert splits((8.0, 8.0, 8.0000001)) == (1, 1, 1)


# What counts as what.


def tube(length: int, axis: int = 0) -> Array:
    """Free space walled in by the presynaptic cell, with cell 2 at one end and 3 at the other."""
    cells = np.full((length + 2, 4, 3), PRE, np.uint64)
    cells[1:-1, 1:-1, 1:-1] = 0
    cells[0], cells[-1] = 2, 3
    return np.moveaxis(cells, 0, axis)


def test_no_emitters_reach_nothing() -> None:
    found = solved(tube(5), [])
    assert len(found.post_ids) == len(found.raw_share) == len(found.voxels) == 0
    assert (found.lost, found.trapped, found.particles) == (0, 0, 0)


def test_a_closed_pocket_traps_its_source() -> None:
    cells = tube(9)
    cells[3], cells[6] = PRE, PRE
    found = solved(cells, [[1, 1, 1], [4, 1, 1], [5, 2, 1], [8, 1, 1]])
    assert found.post_ids.tolist() == [2, 3]
    np.testing.assert_allclose(found.raw_share, 0.25, atol=1e-8)
    assert found.lost == pytest.approx(0.5)
    assert found.trapped == pytest.approx(0.5)
    alone = solved(cells, [[4, 1, 1]])
    assert (len(alone.post_ids), alone.lost, alone.trapped) == (0, 1, 1)


def test_a_pocket_that_touches_only_by_an_edge_is_closed() -> None:
    cells = np.full((4, 4, 3), PRE, np.uint64)
    cells[1, 1, 1] = 0
    cells[2, 2, 1] = 2
    assert solved(cells, [[1, 1, 1]]).trapped == 1
    cells[2, 1, 1] = 0
    assert solved(cells, [[1, 1, 1]]).raw_share.tolist() == [1]


def test_faces_of_a_cutout_that_the_edge_of_the_volume_cuts_absorb() -> None:
    whole = solved(tube(9), [[4, 1, 1]])
    cut = solved(tube(9)[:-1], [[4, 1, 1]])
    assert cut.post_ids.tolist() == [2]
    assert share_of(cut, 2) == pytest.approx(share_of(whole, 2), abs=1e-8)
    assert cut.lost == pytest.approx(share_of(whole, 3), abs=1e-8)
    assert cut.trapped == 0
    assert solved(np.zeros((1, 1, 1), np.uint64), [[0, 0, 0]]).lost == 1


def test_an_emitter_inside_another_cell_counts_for_it() -> None:
    cells = tube(9)
    cells[1, 1, 1] = 7
    cells[0, 0, 0] = 8
    found = solved(cells, [[1, 1, 1], [0, 0, 0], [5, 1, 1], [5, 2, 1]])
    rest = solved(cells, [[5, 1, 1], [5, 2, 1]])
    assert share_of(found, 8) == pytest.approx(0.25)
    for cell in (2, 3, 7):
        own = 0.25 if cell == 7 else 0
        assert share_of(found, cell) == pytest.approx(own + share_of(rest, cell) / 2, abs=1e-8)


def test_every_piece_of_the_presynaptic_cell_reflects() -> None:
    """A piece of it that stands alone in a tube takes nothing up; a larger one shuts the tube."""
    cells = np.pad(tube(9), ((0, 0), (1, 1), (1, 1)), constant_values=PRE)
    cells[5, 2, 2] = PRE
    found = solved(cells, [[3, 2, 2]])
    assert found.post_ids.tolist() == [2, 3]
    assert found.raw_share.sum() == pytest.approx(1, abs=1e-8)
    assert 0.1 < share_of(found, 3) < share_of(solved(tube(9), [[3, 1, 1]]), 3)
    cells[5, 3, 2] = PRE
    assert solved(cells, [[3, 2, 2]]).post_ids.tolist() == [2]


def test_a_painted_density_reflects_and_another_one_does_not() -> None:
    cells = tube(9)
    density = np.ones((2, 2, 1), bool)
    emitters = np.array([[2, 1, 1]], np.int32)
    painted = Tissue(cells, density, (5, 1, 1), PRE, True, (4.0, 4.0, 50.0))
    assert solve(painted, emitters).post_ids.tolist() == [2]
    assert solve(replace(painted, paints=False), emitters).post_ids.tolist() == [2, 3]
    assert solve(replace(painted, density_start=(11, 1, 1)), emitters).post_ids.tolist() == [2, 3]
    over = replace(painted, density=np.ones((40, 40, 40), bool), density_start=(5, -20, -20))
    assert solve(over, emitters).post_ids.tolist() == [2]


def test_many_cells_are_kept_apart() -> None:
    """More than any table of the kernels starts with, and one of them in two pieces."""
    cells = np.zeros((60, 3, 3), np.uint64)
    cells[:, 0] = np.arange(100, 160)[:, None]
    cells[:, 2] = np.arange(200, 260)[:, None]
    cells[59, 2] = 100
    cells[:, :, [0, 2]] = PRE
    emitters = [[x, 1, 1] for x in range(60)]
    found = solved(cells, emitters)
    assert len(found.post_ids) == 119
    shares = dict(zip(found.post_ids.tolist(), found.raw_share.tolist(), strict=True))
    assert shares[100] == pytest.approx(shares[200] + shares[159], abs=1e-7)
    assert 0 < found.lost < 0.1
    assert found.raw_share.sum() + found.lost == pytest.approx(1, abs=1e-12)


@dataclass(frozen=True)
class Scene:
    tissue: Tissue
    emitters: Array


def scene(make: Callable[..., Any], seed: int, resolution: Resolution, **how: Any) -> Scene:
    """A piece of tissue with curved cells, and its emitters."""
    made = make(seed, **how)
    rule = EmitterRule.published("near")
    emitters = find_emitters(made.cells, made.density, (0, 0, 0), made.pre_id, rule)
    whole = Tissue(made.cells, made.density, (0, 0, 0), made.pre_id, False, resolution)
    return Scene(whole, emitters)


@pytest.mark.parametrize("seed", [1, 2])
def test_mirrored_and_turned_tissue_gives_the_same_shares(
    tissue: Callable[..., Any], seed: int
) -> None:
    first = scene(tissue, seed, (4.0, 4.0, 4.0), gap=5)
    how = Laplace(tolerance=1e-8)
    wanted = solve(first.tissue, first.emitters, how)
    size = np.array(first.tissue.cells.shape)
    for flipped in itertools.product((False, True), repeat=3):
        axes = tuple(axis for axis in range(3) if flipped[axis])
        emitters = np.where(flipped, size - 1 - first.emitters, first.emitters)
        cells = np.flip(first.tissue.cells, axes)
        for order in ((0, 1, 2), (2, 0, 1)):
            turned = replace(first.tissue, cells=cells.transpose(order))
            found = solve(turned, emitters[:, order].astype(np.int32), how)
            assert found.post_ids.tolist() == wanted.post_ids.tolist()
            np.testing.assert_allclose(found.raw_share, wanted.raw_share, atol=1e-7)
            assert found.lost == pytest.approx(wanted.lost, abs=1e-7)


def same(a: Arrivals, b: Arrivals) -> bool:
    return (
        a.post_ids.tobytes() == b.post_ids.tobytes()
        and a.raw_share.tobytes() == b.raw_share.tobytes()
        and a.voxels.tobytes() == b.voxels.tobytes()
        and (a.lost, a.trapped, a.particles) == (b.lost, b.trapped, b.particles)
    )


def test_memory_order_and_dtype_do_not_matter(tissue: Callable[..., Any]) -> None:
    made = scene(tissue, 3, (4.0, 4.0, 50.0), gap=5)
    cells = made.tissue.cells
    wanted = solve(made.tissue, made.emitters)
    assert len(wanted.post_ids) > 1
    large = np.zeros([n + 9 for n in cells.shape], np.uint32, order="F")
    view = large[3 : 3 + cells.shape[0], 5 : 5 + cells.shape[1], 1 : 1 + cells.shape[2]]
    view[:] = cells
    for other in (np.asfortranarray(cells), cells.astype(np.uint8), view):
        assert same(solve(replace(made.tissue, cells=other), made.emitters), wanted)
    strided = np.asfortranarray(made.emitters)
    assert same(solve(made.tissue, strided), wanted)


@pytest.mark.parametrize("tolerance", [0.05, 1e-3, 1e-5])
def test_no_share_is_off_by_more_than_the_tolerance(
    tissue: Callable[..., Any], tolerance: float
) -> None:
    for seed in range(4, 8):
        made = scene(tissue, seed, (4.0, 4.0, 50.0), gap=7)
        exact = solve(made.tissue, made.emitters, Laplace(tolerance=1e-10))
        found = solve(made.tissue, made.emitters, Laplace(tolerance=tolerance))
        assert found.distance(exact) <= tolerance


def test_iterations_that_do_not_suffice_are_an_error() -> None:
    how = Laplace(tolerance=1e-6, max_iterations=2)
    with pytest.raises(ConvergenceError) as caught:
        solve(tissue_of(tube(40)), np.array([[3, 1, 1], [3, 2, 1]], np.int32), how)
    message = str(caught.value)
    assert message.startswith("diffusion: 0.67 of the transmitter is not placed after 2 iter")
    assert message.endswith(
        " of the transmitter is not placed after 2 iterations, more than the tolerance of 1e-06: "
        "raise max_iterations"
    )


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong in ({"step_nm": -1.0}, {"tolerance": 0.0}, {"tolerance": 1.0}, {"max_iterations": 0}):
        with pytest.raises(ConfigError, match="the step must be at least 0"):
            Laplace(**wrong)


@pytest.mark.parametrize("resolution", [(10.0, 10.0, 10.0), (8.0, 8.0, 40.0)])
def test_of_a_large_cutout_a_part_is_enough(
    monkeypatch: pytest.MonkeyPatch, resolution: Resolution
) -> None:
    """Leaks reach far along free sheets between cells: the part has to grow, but not to the end."""
    shape = [round(n / h) for n, h in zip((1300, 1200, 620), resolution, strict=True)]
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    at = (np.stack(grid, axis=-1) + 0.5) * resolution
    column = (at // (300, 300, 450)).astype(int)
    apart = np.minimum(at % (300, 300, 450), (300, 300, 450) - at % (300, 300, 450))[..., :2]
    cells = np.where(apart.min(axis=-1) > 45, 1 + column @ (1, 20, 400), 0).astype(np.uint32)
    middle = np.array([600, 600, 315]) // resolution
    emitters = np.array([middle + np.array([0, d, 0]) for d in range(-3, 4)], np.int32)
    # A lid on one side, which must be where it is in each part.
    density = np.ones((1, 20, 9), bool)
    x, y, z = (middle + np.array([2, -10, -4])).tolist()
    tissue = Tissue(cells, density, (x, y, z), 10**6, True, resolution)
    parts: list[tuple[Triple, Triple]] = []
    part = harmonic._part

    def spied(*args: Any) -> tuple[Triple, Triple]:
        parts.append(part(*args))
        return parts[-1]

    monkeypatch.setattr(harmonic, "_part", spied)
    how = Laplace(tolerance=1e-6)
    found = solve(tissue, emitters, how)
    monkeypatch.setattr(harmonic, "_FIRST_REACH_NM", 1e9)
    whole = solve(tissue, emitters, how)
    assert parts[-1] == ((0, 0, 0), tuple(shape))
    sizes = [np.prod(np.subtract(high, low)) for low, high in parts]
    assert sizes[0] < sizes[-2] < 0.7 * sizes[-1]
    assert found.distance(whole) <= FRONTIER + 2e-6
    places = dict(zip(whole.post_ids.tolist(), whole.voxels.tolist(), strict=True))
    for cell, share, voxel in zip(found.post_ids, found.raw_share, found.voxels, strict=True):
        if share > 0.01:
            assert cells[tuple(voxel)] == cell
            apart_nm = np.subtract(voxel, places[int(cell)]) * resolution
            assert np.linalg.norm(apart_nm) <= max(resolution)


# Closed forms.


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step_nm", [0.0, 4.0])
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_parallel_plates(axis: int, step_nm: float, resolution: Resolution) -> None:
    """The share of a plate is the distance to the other; each seems further away by the walk's."""
    length, start = 7, 2
    emitter = [1, 1, 1]
    emitter[axis] = start
    found = solved(tube(length, axis), [emitter], resolution, step_nm)
    h, beyond = resolution[axis], EXTRAPOLATION * step_nm
    expected = ((length - start + 0.5) * h + beyond) / (length * h + 2 * beyond)
    assert share_of(found, 2) == pytest.approx(expected, abs=1e-7)
    assert share_of(found, 3) == pytest.approx(1 - expected, abs=1e-7)
    assert found.lost == pytest.approx(0, abs=1e-12)


def plane(cells: Array) -> Array:
    """A problem in x and y: one section between two of the presynaptic cell."""
    volume = np.full((*cells.shape, 3), PRE, np.uint64)
    volume[..., 1] = cells
    return volume


def order_of(errors: list[float]) -> float:
    """Power of the voxel size with which errors fall, of sizes that are halved each time."""
    return -float(np.polyfit(np.arange(len(errors)) * math.log(2), np.log(errors), 1)[0])


def cleft_error(n: int, at_nm: float) -> float:
    """A cleft of 20 nm in n voxels over the presynaptic cell, cells 2 and 3 meeting at x = 0.

    From a place on the cell, at distance x: arctan(exp(pi x / 2 L)) * 2 / pi arrives at x > 0 (the
    image in the reflecting wall makes it a strip, which maps to a half plane). Off the wall by y,
    the real part of what that is for complex x.
    """
    h = 20 / n
    half = 8 * n
    cells = np.zeros((2 * half, n + 2))
    cells[:, 0] = PRE
    cells[:half, -1], cells[half:, -1] = 2, 3
    x = half + math.floor(at_nm / h)
    found = solved(plane(cells), [[x, 1, 1]], (h, h, 50.0))
    place = complex((x - half + 0.5) * h, 0.5 * h)
    wave = np.exp(np.pi * place / 40)
    expected = float((np.log((1 + 1j * wave) / (1 - 1j * wave)) / (1j * np.pi)).real)
    assert found.lost < 1e-3
    return abs(share_of(found, 3) - expected)


def test_two_cells_that_meet_across_a_cleft() -> None:
    """Source on the axis between them, and off it."""
    for at_nm in (0.0, 6.0, -14.0):
        errors = [cleft_error(n, at_nm) for n in (5, 10, 20)]
        assert errors[0] < 0.01
        assert max(errors[-1], 1e-6) < errors[0]
    means = [np.mean([cleft_error(n, 4 * k + 0.1) for k in range(1, 5)]) for n in (5, 10, 20)]
    assert order_of([float(m) for m in means]) >= 0.9


def leak_error(n: int) -> float:
    """How much leaves a cleft of 20 nm with an open end 30 nm on each side: a cosine series."""
    h = 20 / n
    cells = np.zeros((3 * n, n + 2))
    cells[:, 0], cells[:, -1] = PRE, 2
    found = solved(plane(cells), [[n, 1, 1]], (h, h, 50.0))
    x, y = (n + 0.5) * h - 30, 0.5 * h
    odd = 2 * np.arange(60) + 1
    wave = odd * np.pi / 40
    terms = np.cos(wave * y) * np.cosh(wave * x) / np.cosh(wave * 30)
    expected = float(np.sum(4 / (np.pi * odd) * (-1) ** np.arange(60) * terms))
    return abs(found.lost - expected)


def test_what_leaves_at_the_ends_of_a_cleft() -> None:
    errors = [leak_error(n) for n in (5, 10, 20)]
    assert errors[0] < 0.01
    assert order_of(errors) >= 0.9


def shells(inner: float, outer: float, h: float, centre: Array) -> tuple[Array, Array]:
    """Cells [x, ...] inside the inner radius (2) and outside of the outer (3); distances."""
    n = math.ceil(2 * (outer + 2 * h) / h)
    grid = np.meshgrid(*[np.arange(n)] * len(centre), indexing="ij")
    radius = np.linalg.norm((np.stack(grid, axis=-1) + 0.5) * h - n * h / 2 - centre, axis=-1)
    return np.where(radius < inner, 2, np.where(radius > outer, 3, 0)), radius


def cylinder_error(h: float, centre: Array, step_nm: float = 0.0) -> float:
    cells, radius = shells(30.0, 90.0, h, centre)
    source = np.argwhere(np.abs(radius - 55) < h)
    emitters = np.pad(source, ((0, 0), (0, 1)), constant_values=1)
    found = solved(plane(cells), emitters, (h, h, 50.0), step_nm)
    inner, outer = 30 - EXTRAPOLATION * step_nm, 90 + EXTRAPOLATION * step_nm
    at = float(np.log(radius[tuple(source.T)] / inner).mean())
    return abs(share_of(found, 3) - at / math.log(outer / inner))


@pytest.mark.parametrize("step_nm", [0.0, 4.0])
def test_concentric_cylinders(step_nm: float) -> None:
    """The source between two axons, one round the other: a logarithm of the radius."""
    for seed in range(4):
        centre = np.random.default_rng(seed).uniform(-2, 2, 2)
        assert cylinder_error(4.0, centre, step_nm) < 0.01


def test_concentric_cylinders_in_smaller_voxels() -> None:
    errors = []
    for h in (8.0, 4.0, 2.0):
        places = [np.random.default_rng(seed).uniform(0, h, 2) for seed in range(8)]
        errors.append(float(np.mean([cylinder_error(h, centre) for centre in places])))
    assert order_of(errors) >= 0.9


def sphere_errors(h: float, centre: Array) -> list[float]:
    """For sources at several radii: walls err to one side, which must not cancel unseen."""
    cells, radius = shells(40.0, 120.0, h, centre)
    errors = []
    for r in (60, 75, 95):
        source = np.argwhere(np.abs(radius - r) < h / 2)
        found = solved(cells.astype(np.uint64), source, (h, h, h))
        at = (1 / 40 - 1 / radius[tuple(source.T)]).mean()
        errors.append(share_of(found, 3) - at / (1 / 40 - 1 / 120))
    return errors


def test_concentric_spheres() -> None:
    """The inverse of the radius."""
    sizes = []
    for h, count in ((20.0, 12), (10.0, 6), (5.0, 2)):
        places = [np.random.default_rng(seed).uniform(0, h, 3) for seed in range(count)]
        errors = np.array([sphere_errors(h, centre) for centre in places])
        sizes.append(float(np.sqrt(np.mean(errors**2))))
    assert sizes[-1] < 0.01
    assert order_of(sizes) >= 0.9


def wedge_errors(h: float, angle: float, turned: float) -> list[float]:
    """Between two cells that meet at an angle the share is the angle to the other, of the whole.

    The presynaptic cell fills the tip, and closes the wedge far out: pieces that reflect, along
    circles, which change nothing.
    """
    n = round(2 * 200 / h)
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), axis=-1)
    # Off the grid, so that a diagonal does not run through centres of voxels.
    tip = np.array([200.9, 199.7])
    x, y = np.moveaxis((grid + 0.5) * h - tip, -1, 0)
    radius, at = np.hypot(x, y), np.mod(np.arctan2(y, x) - turned, 2 * np.pi)
    cells = np.where(at < angle, 0, np.where(at < angle / 2 + np.pi, 3, 2))
    cells[(cells == 0) & ((radius > 190) | (radius < 60))] = PRE
    errors = []
    for r, part in ((70, 0.5), (80, 0.35), (140, 0.8), (100, 0.2)):
        wanted = turned + part * angle
        place = np.floor((np.array([np.cos(wanted), np.sin(wanted)]) * r + tip) / h).astype(int)
        found = solved(plane(cells), [[*place, 1]], (h, h, 50.0))
        errors.append(abs(share_of(found, 3) - at[tuple(place)] / angle))
        assert found.lost == pytest.approx(0, abs=1e-9)
    return errors


@pytest.mark.parametrize(
    ("angle", "turned"), [(90, 0), (180, 90), (90, 45), (60, 20), (120, 10), (300, 30)]
)
def test_a_wedge_between_two_cells(angle: float, turned: float) -> None:
    assert max(wedge_errors(4.0, np.radians(angle), np.radians(turned))) < 0.01


def test_a_wedge_in_smaller_voxels() -> None:
    turns = np.radians([3, 17, 29, 41, 68])
    errors = [
        float(np.ravel([wedge_errors(h, np.radians(75), turned) for turned in turns]).mean())
        for h in (8.0, 4.0, 2.0)
    ]
    assert order_of(errors) >= 0.9


# Random walks.


def test_like_walks_of_many_particles(tissue: Callable[..., Any]) -> None:
    """The wall seems further away to walks by the extrapolation length: both agree with it."""
    apart = []
    for seed, resolution in enumerate(RESOLUTIONS[:2] * 3):
        made = scene(tissue, seed + 20, resolution, gap=3 + seed // 2)
        exact = solve(made.tissue, made.emitters)
        walked = walk(made.tissue, made.emitters, Walk(particles=100_000), (seed, 1), threads=2)
        ids = np.union1d(exact.post_ids, walked.post_ids).tolist()
        shares = [(share_of(exact, cell), share_of(walked, cell)) for cell in ids]
        apart += [a - b for a, b in shares if max(a, b) > 0.01] + [exact.lost - walked.lost]
    assert len(apart) > 12
    assert 100 * np.sqrt(np.mean(np.square(apart))) < 0.5


def test_the_error_of_walks_falls_with_the_root_of_their_number() -> None:
    runs = 40
    emitters = np.array([[4, 2, 1]], np.int32)
    for particles in (40, 400, 4000):
        how = Walk(particles=particles)
        found = [walk(tissue_of(tube(9)), emitters, how, (run, 5)) for run in range(runs)]
        shares = np.array([share_of(arrivals, 2) for arrivals in found])
        p = float(shares.mean())
        statistic = ((shares - p) ** 2).sum() * particles / (p * (1 - p))
        low, high = (float(chi2.ppf(q, runs - 1)) for q in (5e-4, 1 - 5e-4))
        assert low < statistic < high


def test_threads_do_not_change_a_byte(tissue: Callable[..., Any]) -> None:
    made = scene(tissue, 9, (4.0, 4.0, 50.0), gap=5)
    for particles in (1, 5, 1003):
        how = Walk(particles=particles)
        first = walk(made.tissue, made.emitters, how, (3, 4), threads=1)
        for threads in (2, 3):
            assert same(walk(made.tissue, made.emitters, how, (3, 4), threads=threads), first)


def test_walks_can_be_continued(tissue: Callable[..., Any]) -> None:
    made = scene(tissue, 9, (4.0, 4.0, 50.0), gap=5)
    whole = walk_ends(made.tissue, made.emitters, Walk(particles=1000), (3, 4))
    for cut in (1, 617):
        a = walk_ends(made.tissue, made.emitters, Walk(particles=cut), (3, 4))
        b = walk_ends(made.tissue, made.emitters, Walk(particles=1000 - cut), (3, 4), first=cut)
        for together, one, two in zip(whole, a, b, strict=True):
            assert np.concatenate([one, two]).tobytes() == together.tobytes()
    assert len(np.unique(whole[1], axis=0)) == 1000


@example(standard_error=0.005, particles=1000)
@given(standard_error=st.floats(0.004, 0.05), particles=st.sampled_from([10, 300, 4000]))
@settings(max_examples=15, deadline=None)
def test_as_many_particles_as_a_standard_error_needs(standard_error: float, particles: int) -> None:
    emitters = np.array([[4, 2, 1], [2, 1, 1]], np.int32)
    how = Walk(particles=particles, standard_error=standard_error)
    found = walk(tissue_of(tube(9)), emitters, how, (0, 8))
    shares = np.append(found.raw_share, found.lost)
    assert found.particles >= particles
    error = np.sqrt(shares * (1 - shares) / found.particles).max()
    assert error <= standard_error
    # The share is about a half, which needs the most; nothing is released in vain.
    assert found.particles <= max(particles, 1.1 * 0.25 / standard_error**2 + 1)
    assert same(found, walk(tissue_of(tube(9)), emitters, Walk(particles=found.particles), (0, 8)))


def test_particles_that_all_go_one_way_are_not_trusted_at_once() -> None:
    """Ten of ten have no error to see; what the next one might do is allowed for."""
    emitters = np.array([[1, 1, 1]], np.int32)
    cells = tube(60)
    found = walk(tissue_of(cells), emitters, Walk(particles=10, standard_error=0.01), (1, 8))
    assert found.particles >= 100


def test_there_is_a_limit_to_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(montecarlo, "MOST_PARTICLES", 5000)
    emitters = np.array([[4, 2, 1]], np.int32)
    found = walk(tissue_of(tube(9)), emitters, Walk(particles=100, standard_error=1e-6), (0, 8))
    assert found.particles == 5000
