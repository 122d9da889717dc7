"""The presynaptic side of densities that lie over the cleft, against plain distance transforms."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cnapse.errors import ConfigError, FormatError
from cnapse.geometry import Triple
from cnapse.partners.emitters import EmitterRule, find_emitters
from cnapse.partners.polarity import Side, presynaptic_part, presynaptic_side

Array = npt.NDArray[Any]
H = (4.0, 4.0, 50.0)
SHAPE = (70, 64, 11)
RULES = [EmitterRule.published("near"), EmitterRule.published("extracellular")]


def meeting(axis: int = 0, ids: Triple = (7, 9, 11), gap: float = 4.0) -> tuple[Array, Array]:
    """One cell below a flat cleft and two above it, and a density over all three, [x, y, z]."""
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    nm = (at - (np.array(SHAPE) - 1) / 2) * np.array(H) / 4
    across = nm[..., axis]
    beside = nm[..., (axis + 1) % 3]
    # Along z one section is a cleft already.
    half = 0.0 if axis == 2 else gap / 2
    cells = np.where(across < -half, ids[0], np.where(beside < 0, ids[1], ids[2]))
    cells = np.where(np.abs(across) <= half, 0, cells).astype(np.uint64)
    sizes = np.array([22.0, 22.0, 22.0])
    sizes[axis] = 30.0 if axis == 2 else 8.0
    density = ((nm / sizes) ** 2).sum(axis=-1) <= 1
    return cells, density


def cropped(density: Array) -> tuple[Array, Triple]:
    """A density over its own bounding box, and where that starts."""
    x, y, z = ndimage.find_objects(density.astype(np.int8))[0]
    return density[x, y, z], (x.start, y.start, z.start)


def arrow(density: Array, vector: tuple[float, float, float]) -> Array:
    """The same vector everywhere."""
    return np.broadcast_to(np.array(vector, np.float32), (*density.shape, 3))


def within(density: Array, reach_nm: float) -> Array:
    return ndimage.distance_transform_edt(~density, sampling=H) <= reach_nm * (1 + 1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2),
    st.permutations([7, 9, 1 << 40]),
    st.sampled_from(["bool", "uint8", "uint16", "uint64", "float32", "float64"]),
    st.sampled_from("FC"),
    st.sampled_from("FC"),
    st.booleans(),
)
def test_vesicles_tell_the_side(axis, ids, dtype, order, other_order, above) -> None:
    cells, density = meeting(axis, tuple(ids))
    pre = ids[1] if above else ids[0]
    rng = np.random.default_rng(3)
    spots = (cells == pre) & (rng.random(SHAPE) < 0.05)
    vesicles = np.where(spots, rng.integers(1, 200, SHAPE), 0)
    box, start = cropped(density)
    side = presynaptic_side(
        np.asarray(cells, order=order),
        np.asarray(box, order=other_order),
        start,
        H,
        vesicles=np.asarray(vesicles.astype(dtype), order=other_order),
    )
    assert side == Side(pre, 1.0, 1.0, decided=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["uint8", "uint16", "float64"]), st.floats(0, 160))
def test_vesicles_are_counted_as_plain_morphology_does(seed, dtype, reach) -> None:
    rng = np.random.default_rng(seed)
    cells, density = meeting(int(rng.integers(3)))
    cells[rng.random(SHAPE) < 0.2] = 0
    density &= rng.random(SHAPE) < 0.5
    vesicles = (rng.random(SHAPE) * 90 * (rng.random(SHAPE) < rng.random(4)[cells % 4])).astype(
        dtype
    )
    contact = within(density, 20) & (cells > 0)
    ids, voxels = np.unique(cells[contact], return_counts=True)
    ids = ids[voxels >= 0.05 * voxels.sum()]
    near = within(density, reach)
    weight = (vesicles > 0) if dtype == "uint16" else vesicles
    mass = np.array([weight[near & (cells == i)].astype(float).sum() for i in ids])
    share = np.sort(mass / mass.sum())
    box, start = cropped(density)
    side = presynaptic_side(cells, box, start, H, vesicles=vesicles, reach_nm=reach)
    assert side.pre_id == ids[np.argmax(mass)]
    assert side.score == pytest.approx(share[-1])
    assert side.margin == pytest.approx(share[-1] - share[-2])
    assert side.decided == (share[-1] - share[-2] >= 0.2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_a_mirrored_volume_has_the_same_side(seed, use_vesicles, use_direction) -> None:
    rng = np.random.default_rng(seed)
    cells, density = meeting(int(rng.integers(3)))
    cells[ndimage.gaussian_filter(rng.random(SHAPE), 2) > 0.53] = 13
    density &= rng.random(SHAPE) < 0.7
    box, start = cropped(density)
    vesicles = (rng.random(SHAPE) * (rng.random(14)[cells])).astype(np.float32)
    direction = rng.normal(rng.normal(size=3), 1, (*box.shape, 3))

    def side(axes: tuple[int, ...]) -> Side:
        # A view: negative strides are allowed, too.
        sign = np.where(np.isin(range(3), axes), -1.0, 1.0)
        first = [SHAPE[a] - start[a] - box.shape[a] if a in axes else start[a] for a in range(3)]
        return presynaptic_side(
            np.flip(cells, axes),
            np.flip(box, axes),
            tuple(first),
            H,
            vesicles=np.flip(vesicles, axes) if use_vesicles else None,
            direction=np.flip(direction, axes) * sign if use_direction else None,
        )

    straight = side(())
    for axes in [(0,), (1,), (2,), (0, 2), (0, 1, 2)]:
        other = side(axes)
        assert (other.pre_id, other.decided) == (straight.pre_id, straight.decided)
        assert (other.score, other.margin) == pytest.approx((straight.score, straight.margin))


def test_what_surrounds_the_density_does_not_matter() -> None:
    """A larger box of the density, and a density that reaches out of the cutout."""
    cells, density = meeting()
    rng = np.random.default_rng(0)
    vesicles = (rng.random(SHAPE) * np.where(cells == 7, 200, 60)).astype(np.uint8)
    direction = rng.normal((-1, 0, 0), 1, (*SHAPE, 3))
    box, start = cropped(density)
    x, y, z = (slice(a, a + n) for a, n in zip(start, box.shape, strict=True))
    own = presynaptic_side(
        cells, box, start, H, vesicles=vesicles, direction=direction[x, y, z], reach_nm=60
    )
    whole = presynaptic_side(
        cells, density, (0, 0, 0), H, vesicles=vesicles, direction=direction, reach_nm=60
    )
    assert whole == own
    assert own.decided
    # Cut through the density: the same as if there were no cells beyond.
    cut = slice(20, 44), slice(25, 64), slice(4, 7)
    emptied = np.zeros_like(cells)
    emptied[cut] = cells[cut]
    outside = presynaptic_side(
        cells[cut], density, (-20, -25, -4), H, vesicles=vesicles[cut], reach_nm=60
    )
    inside = presynaptic_side(emptied, density, (0, 0, 0), H, vesicles=vesicles, reach_nm=60)
    assert outside == inside
    far = presynaptic_side(cells, box, (500, 0, 0), H, vesicles=vesicles)
    assert far == Side(0, 0.0, 0.0, decided=False)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1, 1])
def test_direction_points_from_post_to_pre(axis, sign) -> None:
    """Synful's convention: the vector, added to a postsynaptic place, gives the presynaptic one."""
    cells, density = meeting(axis)
    box, start = cropped(density)
    vector = np.zeros(3)
    vector[axis] = -30.0
    vector[(axis + 1) % 3] = 10.0 * sign
    side = presynaptic_side(cells, box, start, H, direction=arrow(box, tuple(vector)))
    assert (side.pre_id, side.decided) == (7, True)
    # The length does not matter, and vectors beside the density do not, either.
    beside = np.where(box[..., None], 1e-3 * arrow(box, tuple(vector)), 1e9)
    other = presynaptic_side(cells, box, start, H, direction=beside)
    assert (other.pre_id, other.decided) == (7, True)
    assert (other.score, other.margin) == pytest.approx((side.score, side.margin))


def test_direction_is_in_nm() -> None:
    """A cleft that runs obliquely through x and z: steps in voxels would point elsewhere."""
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    nm = (at - (np.array(SHAPE) - 1) / 2) * np.array(H)
    across = nm @ np.array([0.8, 0.0, 0.6])
    cells = np.where(across > 8, 5, np.where(across < -8, 6, 0)).astype(np.uint64)
    density = (np.abs(across) < 40) & (np.abs(nm) < (80, 80, 130)).all(axis=-1)
    side = presynaptic_side(cells, density, (0, 0, 0), H, direction=arrow(density, (0.8, 0.0, 0.6)))
    assert side.pre_id == 5
    assert side.margin == pytest.approx(1)
    turned = presynaptic_side(
        cells, density, (0, 0, 0), H, direction=arrow(density, (-0.8, 0.0, -0.6))
    )
    assert turned.pre_id == 6


def test_vectors_that_point_anywhere_decide_nothing() -> None:
    cells, density = meeting()
    box, start = cropped(density)
    clear = arrow(box, (-1, 0, 0)).copy()
    noise = np.random.default_rng(0).normal(0, 20, clear.shape)
    side = presynaptic_side(cells, box, start, H, direction=clear + noise)
    assert not side.decided
    assert side.margin < 0.2
    up = np.zeros(box.shape, bool)
    up[box] = np.arange(box.sum()) % 2 == 1
    cancelling = np.where(up[..., None], clear, -clear)
    assert not presynaptic_side(cells, box, start, H, direction=cancelling).decided


@pytest.mark.parametrize("ids", [(7, 9, 9), (9, 7, 7)])
def test_a_tie_is_not_decided_and_goes_to_the_smaller_id(ids) -> None:
    cells, density = meeting(ids=ids)
    box, start = cropped(density)
    same = np.full(SHAPE, 90, np.uint8)
    for evidence in (
        {},
        {"vesicles": same},
        {"vesicles": np.zeros_like(same)},
        {"direction": arrow(box, (0, 0, 0))},
    ):
        side = presynaptic_side(cells, box, start, H, **evidence)
        assert (side.pre_id, side.decided) == (7, False)
        assert side.margin == pytest.approx(0, abs=1e-9)


def test_the_least_margin() -> None:
    """A fifth more for one of two: 0.6 against 0.4."""
    cells, density = meeting(ids=(7, 9, 9))
    box, start = cropped(density)
    vesicles = np.where(cells == 7, 60, 40).astype(np.uint8)
    side = presynaptic_side(cells, box, start, H, vesicles=vesicles)
    assert (side.pre_id, side.decided) == (7, True)
    assert (side.score, side.margin) == pytest.approx((0.6, 0.2))
    assert not presynaptic_side(cells, box, start, H, vesicles=vesicles, min_margin=0.21).decided


def test_evidence_that_contradicts_decides_nothing() -> None:
    cells, density = meeting()
    box, start = cropped(density)
    vesicles = np.where(cells == 7, 200, 0).astype(np.uint8)
    agrees, against = arrow(box, (-1, 0, 0)), arrow(box, (1, 0, 0))
    both = presynaptic_side(cells, box, start, H, vesicles=vesicles, direction=agrees)
    assert (both.pre_id, both.decided) == (7, True)
    assert not presynaptic_side(
        cells, box, start, H, vesicles=vesicles, direction=against, min_margin=0.01
    ).decided
    # What is not decided itself does not contradict.
    for weak in ({"vesicles": 0 * vesicles, "direction": agrees},
                 {"vesicles": vesicles, "direction": 0 * against}):  # fmt: skip
        side = presynaptic_side(cells, box, start, H, **weak)
        assert (side.pre_id, side.decided) == (7, True)


def test_a_cell_that_hardly_touches_is_no_candidate() -> None:
    """An axon full of vesicles that meets the density's edge alone."""
    cells, density = meeting()
    box, start = cropped(density)
    cells[34:36, 56:, :] = 99
    assert 99 in cells[within(density, 20)]
    vesicles = np.where(cells == 99, 255, np.where(cells == 7, 3, 0)).astype(np.uint8)
    side = presynaptic_side(cells, box, start, H, vesicles=vesicles, reach_nm=400)
    assert side == Side(7, 1.0, 1.0, decided=True)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("axis", [0, 1])
def test_emitters_of_the_presynaptic_part(axis, rule) -> None:
    """As of a density that was drawn on the presynaptic side; the whole one gives others."""
    cells, density = meeting(axis)
    box, start = cropped(density)
    part, first = presynaptic_part(cells, box, start, H, 7)
    drawn = density & (cells == 7)
    expected = find_emitters(cells, drawn, (0, 0, 0), 7, rule)
    found = find_emitters(cells, part, first, 7, rule)
    np.testing.assert_array_equal(found, expected)
    assert len(found) > 50
    whole = {tuple(v) for v in find_emitters(cells, box, start, 7, rule).tolist()}
    true = {tuple(v) for v in expected.tolist()}
    if rule.paints:
        # It would stand for the presynaptic cell all through the cleft and into the partners.
        assert len(whole & true) < 0.5 * len(whole | true)
    else:
        assert true <= whole


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4), st.sampled_from("FC"))
def test_the_part_of_a_density_in_the_cleft_alone(seed, apart, order) -> None:
    """The nearest voxels of the cell and those one voxel farther; the same as by distances."""
    rng = np.random.default_rng(seed)
    cells, density = meeting(int(rng.integers(2)), gap=6.0)
    cells[ndimage.binary_dilation(density & (cells == 7), iterations=apart or 1)] = 0
    density &= cells == 0
    cells = np.asarray(cells, order=order)
    box, start = cropped(density)
    part, first = presynaptic_part(cells, box, start, H, 7)
    distance = ndimage.distance_transform_edt(~density, sampling=H)
    nearest = distance[cells == 7].min()
    reach = min(20.0, 4 * np.ceil(nearest / 4 - 1e-9) + 4)
    whole = np.zeros(SHAPE, bool)
    whole[tuple(slice(a, a + n) for a, n in zip(first, part.shape, strict=True))] = part
    np.testing.assert_array_equal(whole, (cells == 7) & (distance <= reach * (1 + 1e-9)))
    assert part.any() == (nearest <= 20)


def test_arrays_that_do_not_fit() -> None:
    cells, density = meeting()
    box, start = cropped(density)

    def fails(line: str, error: type = FormatError, **changes: Any) -> None:
        given: dict[str, Any] = {"cells": cells, "density": box, **changes}
        options = {k: v for k, v in given.items() if k not in ("cells", "density")}
        with pytest.raises(error) as found:
            presynaptic_side(given["cells"], given["density"], start, H, **options)
        assert str(found.value) == line

    fails(
        "cells have 3 axes of int64: expected unsigned integers [x, y, z]",
        cells=cells.astype(np.int64),
    )
    fails("density has 2 axes of bool: expected bool [x, y, z]", density=box[0])
    fails(
        "vesicles have shape (70, 64, 5), cells (70, 64, 11): give the same voxels",
        vesicles=np.zeros((70, 64, 5)),
    )
    fails(
        "the map of vesicles holds NaN or values below 0: give 0 for no vesicle",
        vesicles=np.full(SHAPE, np.nan),
    )
    fails(
        f"direction has shape (70, 64, 11, 3), expected {(*box.shape, 3)}: x, y, z for each voxel "
        "of the density's box",
        direction=np.zeros((*SHAPE, 3)),
    )
    fails(
        "the direction layer holds NaN: give 0, 0, 0 where nothing is known",
        direction=arrow(box, (np.nan, 0, 0)),
    )
    for reach, margin in itertools.product((-1, 5), (0.0, 0.3)):
        if reach < 0 or not margin:
            fails(
                f"reach_nm = {reach} must not be negative, min_margin = {margin} above 0",
                ConfigError,
                reach_nm=reach,
                min_margin=margin,
            )
