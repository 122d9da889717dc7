"""Share of apposed membrane: plates, slabs, wedges and tilted walls with areas in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import ConfigError, FormatError
from cnapse.partners.contact import contact_areas, contact_shares

Array = npt.NDArray[Any]
VOXEL = (4.0, 4.0, 50.0)


def plates(gap: int, left: int = 20, shape: tuple[int, int, int] = (40, 40, 9)) -> Array:
    """Cell 1 below y = 15, and beyond the gap cell 7 (x < left) and cell 3."""
    cells = np.zeros(shape, np.uint64, order="F")
    cells[:, :15] = 1
    cells[:left, 15 + gap :] = 7
    cells[left:, 15 + gap :] = 3
    return cells


def block(low: tuple[int, int, int], high: tuple[int, int, int], shape: Any) -> Array:
    density = np.zeros(shape, bool)
    density[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return density


# --- closed form ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0, 1, 2, 5, 10])
@pytest.mark.parametrize("left", [12, 17, 20])
def test_parallel_plates(gap: int, left: int) -> None:
    cells = plates(gap, left)
    density = block((10, 11, 3), (24, 15, 6), cells.shape)
    found = contact_areas(cells, density, (0, 0, 0), 1, VOXEL, reach_nm=0)
    assert found.post_ids.tolist() == [3, 7]
    # 14 voxels of 4 nm along x, 3 sections of 50 nm.
    np.testing.assert_allclose(found.area_nm2, [(24 - left) * 600, (left - 10) * 600])
    assert found.bare_nm2 == 0
    assert (found.voxels[:, 1] == 15 + gap).all()
    assert (cells[tuple(found.voxels.T)] == found.post_ids).all()
    assert found.voxels[0, 0] in {(24 + left) // 2 - 1, (24 + left) // 2}
    assert (found.voxels[:, 2] == 4).all()


@pytest.mark.parametrize(
    ("gap_nm", "apposed"), [(39.9, False), (40.0, True), (0.0, False), (100.0, True)]
)
def test_a_cell_further_than_the_gap_is_no_contact(gap_nm: float, apposed: bool) -> None:
    cells = plates(10)
    density = block((10, 11, 3), (24, 15, 6), cells.shape)
    found = contact_areas(cells, density, (0, 0, 0), 1, VOXEL, reach_nm=0, gap_nm=gap_nm)
    whole = 14 * 600
    assert (found.area_nm2.sum(), found.bare_nm2) == ((whole, 0) if apposed else (0, whole))


@pytest.mark.parametrize(("reach_nm", "faces"), [(0, 14), (1.9, 14), (3.9, 16), (6, 18), (20, 24)])
def test_reach_is_measured_from_the_density_to_the_centre_of_a_face(
    reach_nm: float, faces: int
) -> None:
    cells = plates(2)
    density = block((10, 14, 4), (24, 15, 5), cells.shape)
    found = contact_areas(cells, density, (0, 0, 0), 1, VOXEL, reach_nm=reach_nm)
    # The nth face beside the density has its centre (n - 1/2) voxels from it, the next section 25.
    assert found.area_nm2.sum() == pytest.approx(faces * 200)


def test_three_slabs_share_by_the_area_of_both_sides() -> None:
    cells = np.zeros((30, 40, 30), np.uint32)
    cells[:, :15], cells[:, 17:21], cells[:, 24:] = 5, 1, 9
    density = block((5, 17, 5), (25, 21, 15), cells.shape)
    found = contact_shares(cells, density, (0, 0, 0), 1, (4, 4, 4), reach_nm=0)
    assert found.post_ids.tolist() == [5, 9]
    np.testing.assert_allclose(found.raw_share, 0.5)
    assert found.lost == 0
    # The density reaches the upper side alone: that side alone is near.
    density[:, 17:19] = False
    near = contact_shares(cells, density, (0, 0, 0), 1, (4, 4, 4), reach_nm=0)
    assert near.post_ids.tolist() == [9]


def test_a_wedge_is_cut_where_both_walls_are_equally_near() -> None:
    """One wall 6 voxels away, the other 12 and beside it: the border lies at 6 sqrt 3."""
    cells = np.zeros((100, 40, 6), np.uint64)
    cells[:, :10] = 1
    cells[:50, 16:] = 2
    cells[50:, 22:] = 3
    density = block((30, 5, 2), (80, 10, 4), cells.shape)
    found = contact_areas(cells, density, (0, 0, 0), 1, VOXEL, reach_nm=0)
    border = 50 + 6 * math.sqrt(3)
    # Walls end at faces, so that the border is a face more or less.
    np.testing.assert_allclose(
        found.area_nm2, [(border - 30) * 400, (80 - border) * 400], atol=1.01 * 400
    )


def test_what_is_equally_near_is_shared() -> None:
    cells = np.zeros((41, 20, 5), np.uint64)
    cells[:, :5] = 1
    cells[:20, 9:], cells[21:, 9:] = 2, 3
    density = block((15, 2, 2), (26, 5, 3), cells.shape)
    found = contact_areas(cells, density, (0, 0, 0), 1, VOXEL, reach_nm=0)
    np.testing.assert_allclose(found.area_nm2, [5.5 * 200, 5.5 * 200])


@pytest.mark.parametrize(("rise", "run"), [(1, 1), (1, 2), (2, 1), (1, 3)])
def test_a_tilted_wall_has_the_area_of_its_plane(rise: int, run: int) -> None:
    x, y, _ = np.indices((90, 90, 7))
    height = run * (y - 45) - rise * (x - 45)
    cells = np.where(height < 0, 1, np.where(height < 6 * run, 0, 2)).astype(np.uint64)
    density = (height < 0) & (abs(x - 45 + 0.5) < 15)
    density &= np.isin(np.indices(cells.shape)[2], (3, 4))
    found = contact_areas(cells, density, (0, 0, 0), 1, VOXEL, reach_nm=0)
    expected = 30 * 4 * math.hypot(1, rise / run) * 100
    assert found.area_nm2.sum() == pytest.approx(expected, rel=0.06)


def test_a_wall_across_sections_has_the_area_of_its_plane() -> None:
    """Five voxels of 4 nm a section of 20: 45 degrees."""
    x, _, z = np.indices((160, 12, 13))
    cells = np.where(x < 40 + 5 * z, 1, np.where(x < 46 + 5 * z, 0, 2)).astype(np.uint64)
    density = (cells == 1) & (x > 20) & (z >= 3) & (z < 9)
    found = contact_areas(cells, density, (0, 0, 0), 1, (4, 4, 20), reach_nm=0, gap_nm=60)
    # Six sections of 20 nm; the step onto the first one counts, that onto the next does not.
    assert found.area_nm2.sum() == pytest.approx(6 * 20 * math.sqrt(2) * 12 * 4, rel=1e-6)


def test_voxel_size_does_not_matter_to_a_flat_wall() -> None:
    """The same plates, drawn at 4 and at 8 nm, touching and with a gap."""
    areas = []
    for n, gap in ((1, 0), (2, 0), (1, 2), (2, 2)):
        cells = plates(gap).repeat(n, 0).repeat(n, 1)
        density = block((10 * n, 11 * n, 3), (24 * n, 15 * n, 6), cells.shape)
        h = (8.0 / n, 8.0 / n, 50.0)
        areas.append(contact_areas(cells, density, (0, 0, 0), 1, h, reach_nm=0).area_nm2)
    for area in areas[1:]:
        np.testing.assert_allclose(area, areas[0])


# --- what stands in the way -----------------------------------------------------------------------


def test_nothing_is_seen_through_the_presynaptic_cell() -> None:
    """The cell's own finger stands between the wall and the only other cell."""
    cells = np.zeros((30, 30, 5), np.uint64)
    cells[:, :10] = 1
    cells[:, 12:14] = 1
    cells[:, 16:] = 2
    density = block((10, 6, 2), (20, 10, 3), cells.shape)
    found = contact_areas(cells, density, (0, 0, 0), 1, VOXEL, reach_nm=0)
    assert found.post_ids.tolist() == []
    assert found.bare_nm2 == pytest.approx(2000)
    cells[14, 12:14] = 0
    # A slit: who looks straight through it sees the cell.
    assert contact_areas(cells, density, (0, 0, 0), 1, VOXEL, reach_nm=0).post_ids.tolist() == [2]


def test_what_lies_outside_of_the_cutout_is_no_membrane() -> None:
    cells = np.full((10, 10, 4), 1, np.uint64)
    density = np.ones(cells.shape, bool)
    found = contact_shares(cells, density, (0, 0, 0), 1, VOXEL)
    assert (len(found.post_ids), found.lost) == (0, 0.0)


def test_no_presynaptic_voxel_gives_nothing() -> None:
    cells = plates(2)
    density = block((10, 11, 3), (24, 15, 6), cells.shape)
    found = contact_shares(cells, density, (0, 0, 0), 99, VOXEL)
    assert (len(found.post_ids), found.lost, found.voxels.shape) == (0, 0.0, (0, 3))


# --- properties -----------------------------------------------------------------------------------


def slow_areas(
    cells: Array, density: Array, pre: int, h: Array, reach: float, gap: float
) -> dict[int, float]:
    """Face by face without a stencil, without the correction for tilt, label 0 for bare."""
    at = np.argwhere(np.ones(cells.shape, bool))
    dense = np.argwhere(density)
    areas: dict[int, float] = {}
    for p in np.argwhere(cells == pre):
        for axis in range(3):
            for sign in (-1, 1):
                step = sign * np.eye(3, dtype=int)[axis]
                q = p + step
                if (q < 0).any() or (q >= cells.shape).any() or cells[tuple(q)] == pre:
                    continue
                face = p + step / 2
                beyond = np.maximum(np.abs(dense - face) - 0.5, 0) * h
                if not len(dense) or np.sqrt((beyond**2).sum(1)).min() > reach + 1e-6:
                    continue
                distance = np.sqrt(((np.maximum(np.abs(at - face) - 0.5, 0) * h) ** 2).sum(1))
                ahead = (at - q) @ step >= 0
                other = (cells.ravel() != 0) & (cells.ravel() != pre)
                able = ahead & other & (distance <= gap + 1e-6)
                able &= np.array(
                    [ok and clear(cells, q, t) for ok, t in zip(able, at, strict=True)]
                )
                whole = float(np.prod(h) / h[axis])
                if not able.any():
                    areas[0] = areas.get(0, 0.0) + whole
                    continue
                nearest = able & (distance < distance[able].min() + 1e-6)
                for t in at[nearest]:
                    label = int(cells[tuple(t)])
                    areas[label] = areas.get(label, 0.0) + whole / nearest.sum()
    return areas


def clear(cells: Array, q: Array, t: Array) -> bool:
    """Free voxels all the way from q up to t; halves go up."""
    count = int(np.abs(t - q).max())
    for n in range(count):
        v = np.floor(q + n * (t - q) / count + 0.5 + 1e-12).astype(int)
        if cells[tuple(v)] != 0:
            return False
    return True


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(4.0, 4.0, 50.0), (10.0, 10.0, 10.0)]))
def test_like_the_slow_one_without_tilt(seed: int, resolution: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.choice(np.array([0, 0, 1, 1, 2, 3], np.uint16), (6, 5, 4))
    density = rng.random((4, 3, 2)) < 0.4
    whole = np.zeros(cells.shape, bool)
    whole[1:5, 1:4, 1:3] = density
    h = np.array(resolution)
    expected = slow_areas(cells, whole, 1, h, 12.0, 30.0)
    found = contact_areas(cells, density, (1, 1, 1), 1, resolution, reach_nm=12, gap_nm=30)
    assert found.post_ids.tolist() == sorted(k for k in expected if k)
    # Tilt only takes away, and no more than the staircase of a cube's corner has.
    for label, area in zip(found.post_ids.tolist(), found.area_nm2, strict=True):
        assert 0 < area <= expected[label] * (1 + 1e-9)
    assert found.bare_nm2 <= expected.get(0, 0.0) * (1 + 1e-9)
    assert (found.bare_nm2 > 0) == (0 in expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.permutations([0, 1]), st.booleans(), st.booleans())
def test_turning_the_tissue_does_not_matter(
    seed: int,
    order: list[int],
    flip: bool,
    fortran: bool,
) -> None:
    rng = np.random.default_rng(seed)
    sites = rng.uniform(0, 24, (5, 2))
    plane = np.stack(np.mgrid[:24, :24], axis=-1)
    away = np.sort(np.linalg.norm(plane[:, :, None] - sites, axis=-1), axis=2)
    nearest = np.linalg.norm(plane[:, :, None] - sites, axis=-1).argmin(axis=2) + 1
    cells = np.where(away[..., 1] - away[..., 0] > 3, nearest, 0).astype(np.uint64)
    cells = np.repeat(cells[:, :, None], 5, axis=2)
    density = (cells == 1) & (rng.random(cells.shape) < 0.1)
    plain = contact_shares(cells, density, (0, 0, 0), 1, VOXEL)
    axes = [*order, 2]
    turned, moved = cells.transpose(axes), density.transpose(axes)
    if flip:
        turned, moved = turned[::-1, :, ::-1], moved[::-1, :, ::-1]
    turned = np.asfortranarray(turned) if fortran else np.ascontiguousarray(turned)
    found = contact_shares(turned, moved, (0, 0, 0), 1, VOXEL)
    assert found.post_ids.tolist() == plain.post_ids.tolist()
    np.testing.assert_allclose(found.raw_share.sum() + found.lost, 1 if density.any() else 0)
    # Lines of sight round halves up, so that a mirrored one may pass on the other side.
    np.testing.assert_allclose(found.raw_share, plain.raw_share, atol=0.05)
    if not flip:
        np.testing.assert_allclose(found.lost, plain.lost, atol=1e-9)


def test_a_cut_out_piece_gives_the_same() -> None:
    cells = plates(3)
    density = block((10, 11, 3), (24, 15, 6), cells.shape)
    whole = contact_shares(cells, density, (0, 0, 0), 1, VOXEL)
    piece = contact_shares(cells[4:32, 3:30, 1:8], density[10:24, 11:15, 3:6], (6, 8, 2), 1, VOXEL)
    assert piece.post_ids.tolist() == whole.post_ids.tolist()
    np.testing.assert_array_equal(piece.raw_share, whole.raw_share)
    np.testing.assert_array_equal(piece.voxels + np.array([4, 3, 1]), whole.voxels)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reach_nm", "gap_nm"])
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_lengths_that_cannot_be(name: str, value: float) -> None:
    cells = plates(2)
    with pytest.raises(ConfigError, match=f"^{name} = {value}: must be a length of at least 0"):
        contact_shares(cells, cells > 0, (0, 0, 0), 1, VOXEL, **{name: value})


def test_arrays_of_the_wrong_kind() -> None:
    with pytest.raises(FormatError, match=r"^cells have 3 axes of int64: expected unsigned"):
        contact_shares(
            np.zeros((3, 3, 3), np.int64), np.zeros((3, 3, 3), bool), (0, 0, 0), 1, VOXEL
        )
