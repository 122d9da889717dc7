"""The random walk against what can be known without walking."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from cnapse.errors import ConfigError
from cnapse.partners import montecarlo
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.labels import Tissue, labels_of
from cnapse.partners.montecarlo import Walk, fibonacci_sphere, walk

Array = npt.NDArray[Any]
Resolution = tuple[float, float, float]
PRE = 1


def tissue(cells: Array, resolution: Resolution = (4.0, 4.0, 4.0)) -> Tissue:
    density = np.zeros((1, 1, 1), bool)
    return Tissue(cells, density, (0, 0, 0), PRE, False, resolution)


def released(
    cells: Array,
    emitters: Any,
    how: Walk,
    *,
    resolution: Resolution = (4.0, 4.0, 4.0),
    seed: int = 0,
) -> Arrivals:
    return walk(tissue(cells, resolution), np.array(emitters, np.int32), how, (seed, 12345))


def share_of(arrivals: Arrivals, cell: int) -> float:
    found = arrivals.raw_share[arrivals.post_ids == cell]
    return float(found[0]) if len(found) else 0.0


def tube(length: int) -> Array:
    """Free space walled in by the presynaptic cell, with cell 2 at one end and 3 at the other."""
    cells = np.full((length + 2, 7, 5), PRE, np.uint64)
    cells[1:-1, 1:-1, 1:-1] = 0
    cells[0], cells[-1] = 2, 3
    return cells


def test_numbers_are_splitmix64() -> None:
    """First outputs for seed 1234567, as published with the reference implementation."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    gamma = int(montecarlo._GAMMA)
    states = [(1234567 + n * gamma) % 2**64 for n in range(1, 6)]
    assert [montecarlo._mixed(state) for state in states] == expected
    assert [int(montecarlo._mix(np.uint64(state))) for state in states] == expected


def test_directions_are_even_unit_vectors() -> None:
    vectors = fibonacci_sphere(10_000)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-7)
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(vectors.T @ vectors / len(vectors), np.eye(3) / 3, atol=1e-4)
    assert (vectors * 2**24 == np.rint(vectors * 2**24)).all()
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 0


def test_one_step_lands_where_the_directions_say() -> None:
    """A goodness-of-fit test of the random numbers: 27 cells round one emitter."""
    cells = np.arange(2, 29, dtype=np.uint64).reshape(3, 3, 3)
    cells[1, 1, 1] = 0
    how = Walk(particles=200_000, max_steps=1)
    arrivals = released(cells, [[1, 1, 1]], how)
    ends = np.floor(fibonacci_sphere(10_000) + 1.5).astype(int)
    expected = Counter(cells[tuple(ends.T)].tolist())
    assert arrivals.post_ids.tolist() == sorted(expected)
    wanted = np.array([expected[cell] for cell in arrivals.post_ids.tolist()]) / 10_000
    test = chisquare(arrivals.raw_share * how.particles, wanted * how.particles)
    assert test.pvalue > 1e-3


def test_emitters_are_drawn_evenly() -> None:
    """From each of many closed rooms the particles reach the one cell in it."""
    rooms = 40
    cells = np.full((4 * rooms, 5, 5), PRE, np.uint64)
    emitters = []
    for room in range(rooms):
        cells[4 * room + 1, 1:4, 1:4] = 0
        cells[4 * room + 2, 1:4, 1:4] = room + 2
        emitters.append([4 * room + 1, 2, 2])
    arrivals = released(cells, emitters, Walk(particles=40_000))
    assert len(arrivals.post_ids) == rooms
    assert arrivals.lost == 0
    assert chisquare(arrivals.raw_share * 40_000).pvalue > 1e-3


@pytest.mark.parametrize("resolution", [(4.0, 4.0, 4.0), (4.0, 4.0, 50.0), (6.3, 4.6, 30.0)])
def test_parallel_plates(resolution: Resolution) -> None:
    """Between two plates the share of one is the distance to the other, as for any fair walk.

    Each plate acts as if it stood 0.298 steps further away: the walk overshoots.
    """
    length, start, particles = 12, 4, 40_000
    arrivals = released(
        tube(length), [[start, 3, 2]], Walk(particles=particles), resolution=resolution
    )
    h, beyond = resolution[0], 0.298 * 4
    expected = ((length - start + 0.5) * h + beyond) / (length * h + 2 * beyond)
    sigma = np.sqrt(expected * (1 - expected) / particles)
    assert arrivals.lost == 0
    assert abs(share_of(arrivals, 2) - expected) < 4 * sigma


def test_symmetric_wedge_is_halved() -> None:
    particles = 100_000
    cells = np.zeros((20, 40, 5), np.uint64)
    cells[:6] = PRE
    cells[10:, :20], cells[10:, 20:] = 2, 3
    emitters = [[x, y, 2] for y in range(12, 28) for x in (6, 7)]
    arrivals = released(cells, emitters, Walk(particles=particles), resolution=(4.0, 4.0, 50.0))
    two, three = share_of(arrivals, 2), share_of(arrivals, 3)
    assert two + three + arrivals.lost == pytest.approx(1)
    assert abs(two - three) < 4 * np.sqrt((two + three) / particles)


def test_a_thicker_section_is_crossed_less_often() -> None:
    """Steps are nm, not voxels: where z is 50 nm, a cell one section away gets little."""
    cells = np.full((9, 9, 3), 2, np.uint64)
    cells[2:7, 2:7, 1] = 0
    cells[:, :, 2] = 3
    shares = [
        share_of(released(cells, [[4, 4, 1]], Walk(), resolution=(4.0, 4.0, z)), 3)
        for z in (4.0, 50.0)
    ]
    assert shares[0] > 0.3
    assert shares[1] < 0.1


def test_a_closed_room_loses_everything_after_the_last_step() -> None:
    cells = np.full((5, 5, 5), PRE, np.uint64)
    cells[2, 2, 2] = 0
    arrivals = released(cells, [[2, 2, 2]], Walk(particles=50, max_steps=300))
    assert arrivals.lost == 1
    assert len(arrivals.post_ids) == len(arrivals.voxels) == 0


def test_no_other_cell_loses_everything_at_the_box() -> None:
    cells = np.zeros((30, 8, 8), np.uint64)
    cells[:3] = PRE
    arrivals = released(cells, [[3, 4, 4]], Walk(particles=200))
    assert arrivals.lost == 1


def test_a_particle_that_starts_in_another_cell_may_leave_it() -> None:
    """The test comes after the step: half the directions lead out of a slab one voxel thick."""
    cells = np.zeros((9, 9, 9), np.uint64)
    cells[4] = 2
    arrivals = released(cells, [[4, 4, 4]], Walk(particles=40_000, max_steps=1))
    assert abs(share_of(arrivals, 2) - 0.5) < 4 * np.sqrt(0.25 / 40_000)
    assert share_of(arrivals, 2) + arrivals.lost == 1


def test_halves_are_rounded_up() -> None:
    """Half a voxel up from the centre is the next voxel; half a voxel down is still the same."""
    steps = np.array([[0.5, 0, 0], [-0.5, 0, 0]])
    cells = np.array([2, 0, 3], np.uint64).reshape(3, 1, 1)
    ends, places = np.zeros(2000, np.uint64), np.empty((2000, 3))
    labels = labels_of(cells, np.zeros((1, 1, 1), bool), (0, 0, 0), PRE, paints=False)
    emitters = np.array([[1, 0, 0]], np.int32)
    montecarlo._walk(labels, emitters, steps, np.uint64(5), 1, 0, ends, places)
    assert set(ends.tolist()) == {0, 3}
    assert set(places[:, 0].tolist()) == {1.0, 2.0}


def test_place_is_the_absorbing_voxel_nearest_to_the_mean_in_nm() -> None:
    """The mean lies where none was absorbed: one section off is further than five voxels in it."""
    labels = np.array([7, 7, 7, 7, 0, 9], np.uint64)
    places = np.array(
        [[5.5, 2.5, 0.5], [5.5, 2.5, 2.5], [10.5, 2.5, 1.5], [0.4, 2.4, 1.5], [0, 0, 0], [3, 4, 5]]
    )
    arrivals = montecarlo._tally(labels, places, np.array([4.0, 4.0, 50.0]))
    assert arrivals.post_ids.tolist() == [7, 9]
    assert arrivals.raw_share.tolist() == [4 / 6, 1 / 6]
    assert arrivals.lost == 1 / 6
    assert arrivals.voxels.tolist() == [[0, 2, 1], [3, 4, 5]]


def test_places_at_equal_distance_go_by_raster_order() -> None:
    labels = np.full(4, 7, np.uint64)
    places = np.array([[5.5, 2.5, 0.5], [1.5, 2.5, 0.5], [3.5, 0.5, 0.5], [3.5, 4.5, 0.5]])
    arrivals = montecarlo._tally(labels, places, np.ones(3))
    assert arrivals.voxels.tolist() == [[3, 0, 0]]


def test_a_step_longer_than_the_smallest_voxel_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        released(tube(5), [[2, 3, 2]], Walk(step_nm=4.0), resolution=(8.0, 3.5, 50.0))
    assert str(caught.value) == (
        "step_nm = 4 is longer than the smallest voxel of 8 x 3.5 x 50 nm and would jump over "
        "membranes: set step_nm to at most 3.5"
    )
    released(tube(5), [[2, 3, 2]], Walk(step_nm=4.0), resolution=(3.9999999, 4.0, 50.0))


def same(a: Arrivals, b: Arrivals) -> bool:
    return (
        a.post_ids.tobytes() == b.post_ids.tobytes()
        and a.raw_share.tobytes() == b.raw_share.tobytes()
        and a.voxels.tobytes() == b.voxels.tobytes()
        and a.lost == b.lost
    )


def test_seeded_by_run_and_synapse_alone() -> None:
    cells, emitters = tube(9), np.array([[4, 3, 2], [5, 3, 2]], np.int32)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    first = walk(tissue(cells), emitters, Walk(), (3, 10))
    np.random.seed(2)  # noqa: NPY002
    assert same(first, walk(tissue(cells), emitters, Walk(), (3, 10)))
    assert not same(first, walk(tissue(cells), emitters, Walk(), (4, 10)))
    assert not same(first, walk(tissue(cells), emitters, Walk(), (3, 11)))
    assert not same(first, walk(tissue(cells), emitters, Walk(), (10, 3)))


def test_memory_order_and_dtype_do_not_matter() -> None:
    cells = tube(9)
    first = released(cells, [[4, 3, 2]], Walk())
    assert same(first, released(np.asfortranarray(cells), [[4, 3, 2]], Walk()))
    assert same(first, released(cells.astype(np.uint16), [[4, 3, 2]], Walk()))
    large = np.zeros((40, 30, 20), np.uint64, order="F")
    large[5:16, 6:13, 7:12] = cells
    assert same(first, released(large[5:16, 6:13, 7:12], [[4, 3, 2]], Walk()))


def test_the_bytes_are_pinned() -> None:
    """Made on another day and another machine, a table must be the same."""
    emitters = np.array([[4, 3, 2], [3, 2, 1]], np.int32)
    arrivals = walk(tissue(tube(9), (4.6, 4.6, 50.0)), emitters, Walk(), (7, 2**40))
    assert arrivals.post_ids.tolist() == [2, 3]
    assert arrivals.raw_share.tolist() == [0.663, 0.337]
    assert arrivals.voxels.tolist() == [[0, 3, 1], [10, 3, 2]]


@given(seed=st.integers(0, 2**63), voxel=st.integers(0, 2**40), gap=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_nothing_gets_lost_in_the_books(seed: int, voxel: int, gap: int) -> None:
    cells = np.zeros((12, 16, 6), np.uint64)
    cells[:3] = PRE
    cells[3 + gap :, :9], cells[3 + gap :, 9:] = 2**63 + 5, 4
    emitters = np.array([[3, y, z] for y in range(16) for z in range(6)], np.int32)
    arrivals = walk(tissue(cells, (4.0, 4.0, 30.0)), emitters, Walk(particles=777), (seed, voxel))
    assert arrivals.raw_share.sum() + arrivals.lost == pytest.approx(1, abs=1e-12)
    assert arrivals.post_ids.tolist() == [4, 2**63 + 5]
    assert cells[tuple(arrivals.voxels.T)].tolist() == arrivals.post_ids.tolist()
