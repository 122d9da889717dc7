"""Emitter voxels against plain morphology by other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import morphology

from cnapse.errors import ConfigError, FormatError
from cnapse.partners.emitters import EmitterRule, ball_offsets, find_emitters, footprint_rows

Array = npt.NDArray[Any]
NEAR = EmitterRule.published("near")
EXTRACELLULAR = EmitterRule.published("extracellular")


def flat(footprint: Array) -> Array:
    """A footprint in the plane as a volume's."""
    return footprint[:, :, None]


def near_by_skimage(cells: Array, density: Array, pre_id: int) -> Array:
    pre = cells == pre_id
    around_pre = morphology.dilation(pre.astype(np.uint8), morphology.ball(2)) > 0
    around_density = morphology.dilation(density.astype(np.uint8), flat(np.ones((10, 10)))) > 0
    return around_pre & around_density & ~pre


def extracellular_by_scipy(cells: Array, density: Array, pre_id: int) -> Array:
    painted = np.where(density, pre_id, cells)
    around_pre = ndimage.binary_dilation(painted == pre_id, morphology.ball(1))
    disk = flat(morphology.disk(6))
    return around_pre & ndimage.binary_dilation(density, disk) & (painted == 0)


def raster(mask: Array) -> Array:
    """Voxels of a mask, x fastest."""
    return np.argwhere(mask.transpose(2, 1, 0))[:, ::-1]


def found(cells: Array, density: Array, pre_id: int, rule: EmitterRule) -> Array:
    return find_emitters(cells, density, (0, 0, 0), pre_id, rule)


def test_box_reaches_from_minus_5_to_plus_4() -> None:
    """scikit-image puts the even 10 x 10 footprint one voxel further down than up."""
    one = np.zeros((31, 31, 3), np.uint8)
    one[15, 15, 1] = 1
    theirs = np.argwhere(morphology.dilation(one, flat(np.ones((10, 10))))) - (15, 15, 1)
    assert (theirs.min(axis=0).tolist(), theirs.max(axis=0).tolist()) == ([-5, -5, 0], [4, 4, 0])
    rows = footprint_rows(NEAR)
    ours = [(dx, dy, 0) for dy, first, last in rows for dx in range(first, last + 1)]
    assert set(ours) == {tuple(offset) for offset in theirs.tolist()}


@pytest.mark.parametrize(("rule", "radius"), [(NEAR, 2), (EXTRACELLULAR, 1)])
def test_ball_is_that_of_skimage(rule: EmitterRule, radius: int) -> None:
    theirs = np.argwhere(morphology.ball(radius)) - radius
    assert {tuple(o) for o in ball_offsets(rule).tolist()} == {tuple(o) for o in theirs.tolist()}


def test_disk_is_that_of_skimage() -> None:
    theirs = np.argwhere(morphology.disk(6)) - 6
    rows = footprint_rows(EXTRACELLULAR)
    ours = [[dx, dy] for dy, first, last in rows for dx in range(first, last + 1)]
    assert sorted(ours) == sorted(theirs.tolist())


@pytest.mark.parametrize("seed", range(12))
def test_same_voxels_as_whole_box_dilations(tissue: Callable[..., Any], seed: int) -> None:
    t = tissue(seed)
    near = found(t.cells, t.density, t.pre_id, NEAR)
    assert len(near)
    np.testing.assert_array_equal(near, raster(near_by_skimage(t.cells, t.density, t.pre_id)))
    free = found(t.cells, t.density, t.pre_id, EXTRACELLULAR)
    np.testing.assert_array_equal(
        free, raster(extracellular_by_scipy(t.cells, t.density, t.pre_id))
    )


@given(
    shape=st.tuples(*(st.integers(1, n) for n in (14, 13, 5))),
    seed=st.integers(0, 2**32),
    density=st.sampled_from([0.01, 0.1, 0.9]),
    order=st.sampled_from("CF"),
    dtype=st.sampled_from([np.uint16, np.uint64]),
)
@settings(max_examples=30, deadline=None)
def test_any_labels_any_edges(
    shape: tuple[int, int, int], seed: int, density: float, order: Any, dtype: Any
) -> None:
    rng = np.random.default_rng(seed)
    cells = np.asarray(rng.integers(0, 4, shape).astype(dtype), order=order)
    mask = rng.random(shape) < density
    for rule, oracle in ((NEAR, near_by_skimage), (EXTRACELLULAR, extracellular_by_scipy)):
        np.testing.assert_array_equal(found(cells, mask, 2, rule), raster(oracle(cells, mask, 2)))


def test_the_density_may_be_given_on_a_box_of_its_own(tissue: Callable[..., Any]) -> None:
    """Also where that box reaches out of the cutout."""
    t = tissue(3)
    whole = found(t.cells, t.density, t.pre_id, NEAR)
    start = np.argwhere(t.density).min(axis=0)
    stop = np.argwhere(t.density).max(axis=0) + 1
    part = t.density[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    at = tuple(int(v) for v in start)
    np.testing.assert_array_equal(find_emitters(t.cells, part, at, t.pre_id, NEAR), whole)
    middle = int(start[0] + 3)
    cut = find_emitters(t.cells[middle:], part, (-3, at[1], at[2]), t.pre_id, NEAR)
    around_density = morphology.dilation(t.density.astype(np.uint8), flat(np.ones((10, 10)))) > 0
    pre = t.cells[middle:] == t.pre_id
    around_pre = morphology.dilation(pre.astype(np.uint8), morphology.ball(2)) > 0
    np.testing.assert_array_equal(cut, raster(around_pre & ~pre & around_density[middle:]))


def test_emitters_may_lie_in_other_cells_only_by_the_rule_near() -> None:
    cells = np.full((24, 24, 3), 5, np.uint64)
    cells[12:] = 9
    density = np.zeros(cells.shape, bool)
    density[9:12, 10:14, 1] = True
    near = found(cells, density, 5, NEAR)
    assert {9} == set(cells[tuple(near.T)].tolist())
    assert len(found(cells, density, 5, EXTRACELLULAR)) == 0


def test_density_is_painted_into_the_presynaptic_cell() -> None:
    """Free space beside a density that lies outside of its cell emits, the density does not."""
    cells = np.zeros((20, 20, 1), np.uint64)
    cells[:5] = 7
    density = np.zeros(cells.shape, bool)
    density[10, 10, 0] = True
    free = found(cells, density, 7, EXTRACELLULAR)
    assert sorted(map(tuple, free[free[:, 0] > 6].tolist())) == [
        (9, 10, 0),
        (10, 9, 0),
        (10, 11, 0),
        (11, 10, 0),
    ]
    assert (5, 10, 0) in set(map(tuple, free.tolist()))


def test_reaches_in_nm_are_rounded_per_axis_and_at_least_one_voxel() -> None:
    rule = NEAR.in_nm((4.6, 8.0, 50.0), pre_reach_nm=9, density_reach_nm=20)
    assert rule.pre_reach == (2, 1, 1)
    assert (rule.lower, rule.upper) == ((4, 3), (4, 3))
    assert NEAR.in_nm((4.0, 4.0, 50.0)) == NEAR
    ellipsoid = {tuple(offset) for offset in ball_offsets(rule).tolist()}
    assert {(2, 0, 0), (-2, 0, 0), (0, 1, 0), (0, 0, -1)} < ellipsoid
    assert (1, 1, 0) not in ellipsoid


def test_footprints_stay_in_the_plane() -> None:
    """Sections above and below a density release nothing, however thin they are."""
    cells = np.zeros((30, 30, 5), np.uint64)
    cells[:15] = 4
    density = np.zeros(cells.shape, bool)
    density[12:15, 15, 2] = True
    for rule in (NEAR, EXTRACELLULAR):
        assert set(found(cells, density, 4, rule.in_nm((4, 4, 4), density_reach_nm=24))[:, 2]) == {
            2
        }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EmitterRule.published("far"), "'far' is unknown: give near or extracellular"),
        (
            lambda: EmitterRule.published("extracellular", density_reach_vx=(5, 4)),
            "has a disk around the density",
        ),
        (lambda: EmitterRule.published("near", pre_reach_vx=(0, 2, 2)), "must be at least 1 voxel"),
    ],
)
def test_rules_that_cannot_be(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_arrays_of_the_wrong_kind_are_refused() -> None:
    cells, density = np.zeros((4, 4, 4), np.int32), np.zeros((4, 4, 4), bool)
    with pytest.raises(FormatError, match="3 axes of int32: expected unsigned integers"):
        find_emitters(cells, density, (0, 0, 0), 1, NEAR)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="2 axes of bool: expected bool"):
        find_emitters(cells.astype(np.uint8), density[0], (0, 0, 0), 1, NEAR)
