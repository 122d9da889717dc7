"""Measures against plain loops; many blocks against one; presynaptic cells and positions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import BoundsError, FormatError, RunStateError
from cnapse.geometry import Box, Grid, Triple
from cnapse.synapses.measure import (
    MEASURED,
    Measures,
    combine,
    measure,
    measure_block,
    synapse_table,
)
from cnapse.synapses.position import position_of
from cnapse.synapses.sums import MOST_RUNS
from cnapse.tables import SYNAPSES, SynapseFlag, empty_table

Array = npt.NDArray[Any]
RESOLUTION = (4.6, 4.6, 50.0)


def tissue(seed: int, shape: Triple, density: float = 0.4) -> tuple[Array, Array, Array]:
    """Synapses (scattered labels that may be huge), cells and probability."""
    rng = np.random.default_rng(seed)
    known = np.array([0, 3, 7, 2**40, 2**64 - 1], np.uint64)
    synapses = known[rng.integers(1, 5, shape)] * (rng.random(shape) < density)
    cells = rng.integers(0, 5, shape).astype(np.uint32)
    return synapses, cells, rng.integers(0, 256, shape).astype(np.uint8)


def by_blocks(
    synapses: Array,
    cells: Array,
    probability: Array | None,
    grid: Grid,
    rng: np.random.Generator,
    most_runs: int = MOST_RUNS,
) -> pd.DataFrame:
    """What the measure and tabulate stages do, in any order and grouping."""
    frame, parts = grid.bounds, []
    for block in grid:
        cut = block.write.slices(frame)
        p = None if probability is None else probability[cut]
        part = measure_block(synapses[cut], cells[cut], p, block.write, frame, most_runs=most_runs)
        parts.append(Measures.from_arrays(part.to_arrays()))
    parts = [parts[i] for i in rng.permutation(len(parts))]
    middle = len(parts) // 2
    whole = combine([combine(parts[:middle]), combine(parts[middle:])])
    return synapse_table(whole, frame, lambda box: synapses[box.slices(frame)])


def exact_nearest(voxels: Array, resolution: tuple[float, ...]) -> Array:
    """The voxel nearest to the centroid, in rational numbers; ties by raster order."""
    h = [Fraction(str(v)) for v in resolution]
    n = len(voxels)
    sums = [int(s) for s in voxels.sum(axis=0)]

    def key(voxel: Array) -> tuple[Any, ...]:
        square = sum((h[a] * (n * int(voxel[a]) - sums[a])) ** 2 for a in range(3))
        return square, *(int(v) for v in voxel[::-1])

    return min(voxels, key=key)


@st.composite
def places(draw: st.DrawFn) -> tuple[Triple, Triple, Triple, int, float]:
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    start = draw(st.tuples(*[st.integers(-500, 500)] * 3))
    block = draw(st.tuples(*[st.integers(1, 10)] * 3))
    density = draw(st.sampled_from([0.0, 0.05, 0.4, 1.0]))
    return shape, start, block, draw(st.integers(0, 2**32)), density


@settings(max_examples=40, deadline=None)
@given(
    places(),
    st.booleans(),
    st.sampled_from([(4.6, 4.6, 50.0), (8.0, 8.0, 8.0)]),
    st.sampled_from([0, 3, 40, MOST_RUNS]),
)
def test_many_blocks_equal_one_block(
    place: tuple[Triple, Triple, Triple, int, float],
    with_probability: bool,
    resolution: tuple[float, float, float],
    most_runs: int,
) -> None:
    shape, start, block, seed, density = place
    synapses, cells, p = tissue(seed, shape, density)
    probability = p if with_probability else None
    frame = Box.from_shape(shape, resolution, start)
    one = measure(synapses, cells, frame, probability)
    rng = np.random.default_rng(seed)
    many = by_blocks(synapses, cells, probability, Grid(frame, block), rng, most_runs)
    pd.testing.assert_frame_equal(one, many, check_exact=True)
    for name in one:
        assert one[name].to_numpy().tobytes() == many[name].to_numpy().tobytes(), name


@settings(max_examples=25, deadline=None)
@given(places())
def test_measures_against_plain_loops(
    place: tuple[Triple, Triple, Triple, int, float],
) -> None:
    shape, start, _, seed, density = place
    synapses, cells, probability = tissue(seed, shape, density)
    frame = Box.from_shape(shape, RESOLUTION, start)
    table = measure(synapses, cells, frame, probability).set_index("syn_id")
    present = sorted({int(v) for v in synapses.ravel()} - {0})
    assert table.index.tolist() == present
    h = np.array(RESOLUTION)
    for syn_id in present:
        row = table.loc[syn_id]
        where = np.argwhere(synapses == np.uint64(syn_id))
        where = where[np.lexsort(where.T)]  # raster order: by z, then y, then x
        voxels = where + np.array(start)
        under = [int(c) for c in cells[tuple(where.T)]]
        p = probability[tuple(where.T)]
        counts = {c: under.count(c) for c in set(under) - {0}}
        best = min(counts, key=lambda c: (-counts[c], c), default=0)
        assert row["voxels"] == len(where)
        assert row["size"] == len(where) * frame.voxel_volume_nm3
        assert row["sections"] == len(set(where[:, 2]))
        assert row["pre_id"] == best
        if counts:
            assert row["pre_fraction"] == counts[best] / sum(counts.values())
        else:
            assert np.isnan(row["pre_fraction"])
        assert row["first_voxel"] == np.ravel_multi_index(where[0], shape, order="F")
        assert row["mean_probability"] == pytest.approx(float(p.mean()) / 255, rel=1e-12)
        assert row["max_probability"] == p.max() / 255
        position = (exact_nearest(voxels, RESOLUTION) + 0.5) * h
        for a, axis in enumerate("xyz"):
            assert row[f"{axis}_pos"] == position[a]
            centroid = (voxels[:, a].mean() + 0.5) * h[a]
            assert row[f"centroid_{axis}"] == pytest.approx(centroid, rel=1e-9, abs=1e-9)
            assert row[f"start_{axis}"] == voxels[:, a].min()
            assert row[f"stop_{axis}"] == voxels[:, a].max() + 1
        flags = int(row["flags"])
        touches = (where == 0).any() or (where == np.array(shape) - 1).any()
        assert bool(flags & SynapseFlag.BORDER) == touches
        assert bool(flags & SynapseFlag.NO_PRESYNAPTIC_CELL) == (not counts)
        weak = bool(counts) and counts[best] / sum(counts.values()) < 0.6
        assert bool(flags & SynapseFlag.WEAK_PRESYNAPTIC) == weak


def row_of_voxels(cells: list[int], **options: Any) -> pd.Series:
    """One synapse, a row along x over these cells, away from the border."""
    synapses = np.zeros((len(cells) + 2, 3, 3), np.uint64)
    under = np.zeros_like(synapses)
    synapses[1:-1, 1, 1] = 5
    under[1:-1, 1, 1] = cells
    box = Box.from_shape(synapses.shape, RESOLUTION)
    return measure(synapses, under, box, **options).iloc[0]


@pytest.mark.parametrize(
    ("cells", "pre_id", "fraction", "flags"),
    [
        ([9, 9, 9, 4], 9, 0.75, SynapseFlag(0)),
        ([9, 9, 4, 4], 4, 0.5, SynapseFlag.WEAK_PRESYNAPTIC),  # ties to the smaller id
        ([4, 9, 9, 4], 4, 0.5, SynapseFlag.WEAK_PRESYNAPTIC),
        ([0, 0, 0, 4], 4, 1.0, SynapseFlag(0)),  # background only if there is nothing else
        ([0, 0, 0, 0], 0, np.nan, SynapseFlag.NO_PRESYNAPTIC_CELL),
        ([1, 2, 3, 3], 3, 0.5, SynapseFlag.WEAK_PRESYNAPTIC),
        ([3, 3, 3, 1, 1], 3, 0.6, SynapseFlag(0)),  # at the limit is not below it
    ],
)
def test_the_presynaptic_cell(
    cells: list[int], pre_id: int, fraction: float, flags: SynapseFlag
) -> None:
    row = row_of_voxels(cells)
    assert row["pre_id"] == pre_id
    np.testing.assert_equal(row["pre_fraction"], fraction)
    assert row["flags"] == flags


def test_the_limit_of_a_weak_presynaptic_cell_is_a_parameter() -> None:
    assert not row_of_voxels([9, 9, 4, 4], weak_presynaptic=0.5)["flags"]
    assert row_of_voxels([9, 9, 9, 4], weak_presynaptic=0.8)["flags"]


def test_the_position_is_a_voxel_of_the_object_and_counts_in_nm() -> None:
    """A bent object has its centroid outside; with thick sections the nearest voxel changes."""
    synapses = np.zeros((9, 9, 5), np.uint8)
    synapses[0:7, 0, 2] = 1
    synapses[0, 0:7, 2] = 1
    synapses[2, 2, 0] = 1
    for resolution in ((4.0, 4.0, 4.0), (4.0, 4.0, 50.0), (4.0, 4.0, 0.5)):
        box = Box.from_shape(synapses.shape, resolution)
        row = measure(synapses, synapses, box).iloc[0]
        expected = exact_nearest(np.argwhere(synapses), resolution)
        found = [row[f"{a}_pos"] / h for a, h in zip("xyz", resolution, strict=True)]
        assert found == (expected + 0.5).tolist()
    thin = measure(synapses, synapses, Box.from_shape(synapses.shape, (4.0, 4.0, 0.5)))
    assert thin["z_pos"][0] == 0.25  # the stray voxel, once z costs nothing


def test_equal_distances_go_to_the_first_voxel_in_raster_order() -> None:
    synapses = np.zeros((5, 5, 5), np.uint8)
    for voxel in [(2, 0, 2), (0, 2, 2), (4, 2, 2), (2, 4, 2)]:
        synapses[voxel] = 1
    whole = Box.from_shape((5, 5, 5), (8.0, 8.0, 8.0))
    row = measure(synapses, synapses, whole).iloc[0]
    assert (row["x_pos"], row["y_pos"], row["z_pos"]) == (20.0, 4.0, 20.0)
    # So they do if the voxels are read in pieces, of which that at low x comes first.
    extent = Box((0, 0, 2), (5, 5, 3), (8.0, 8.0, 8.0))
    sums = np.argwhere(synapses).sum(axis=0)
    found = position_of(1, extent, 4, sums, lambda box: synapses[box.slices(whole)], limit=1)
    assert found == (2, 0, 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.tuples(*[st.integers(-(10**6), 10**6)] * 3))
def test_the_position_does_not_depend_on_the_origin(seed: int, start: Triple) -> None:
    synapses, cells, _ = tissue(seed, (6, 7, 3))
    here = measure_block(synapses, cells, None, *[Box.from_shape((6, 7, 3), RESOLUTION)] * 2)
    there = measure_block(
        synapses, cells, None, *[Box.from_shape((6, 7, 3), RESOLUTION, start)] * 2
    )
    np.testing.assert_array_equal(here.position + np.array(start), there.position)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.sampled_from([0.03, 0.5]))
def test_an_object_is_read_in_pieces_of_any_size(seed: int, limit: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    frame = Box.from_shape((11, 8, 6), RESOLUTION, (-4, 100, 7))
    synapses = (rng.random(frame.shape) < density).astype(np.uint64) * np.uint64(8)
    synapses[3, 3, 3] = 8
    whole = measure_block(synapses, synapses, None, frame, frame)
    extent = Box(tuple(whole.start[0]), tuple(whole.stop[0]), RESOLUTION)
    reads: list[Box] = []

    def read(box: Box) -> Array:
        reads.append(box)
        return synapses[box.slices(frame)]

    found = position_of(8, extent, int(whole.voxels[0]), whole.sums[0], read, limit=limit)
    assert found == tuple(whole.position[0])
    assert all(box.voxels <= limit for box in reads)
    assert sum(box.voxels for box in reads) <= extent.voxels


def test_only_the_pieces_near_the_centroid_of_a_huge_object_are_read() -> None:
    synapses = np.ones((64, 64, 8), np.uint64)
    frame = Box.from_shape(synapses.shape, (8.0, 8.0, 8.0))
    sums = np.argwhere(synapses).sum(axis=0)
    reads: list[Box] = []

    def read(box: Box) -> Array:
        reads.append(box)
        return synapses[box.slices(frame)]

    assert position_of(1, frame, synapses.size, sums, read, limit=256) == (31, 31, 3)
    assert len(reads) <= 8  # of 128


def test_an_object_that_has_gone_is_named() -> None:
    frame = Box.from_shape((4, 4, 4), RESOLUTION)
    with pytest.raises(RunStateError, match=r"synapse 7 is not in the layer at .*measure all"):
        position_of(7, frame, 1, np.array([1, 1, 1]), lambda box: np.zeros(box.shape, np.uint64))


@pytest.mark.parametrize(("most_runs", "cut"), [(MOST_RUNS, []), (1, [((3, 1, 0), (6, 3, 1))])])
def test_only_objects_of_many_runs_cut_by_blocks_are_read_again(
    most_runs: int, cut: list[tuple[Triple, Triple]]
) -> None:
    synapses = np.zeros((8, 4, 2), np.uint64)
    synapses[0:2, 1, 1] = 1  # in the first block
    synapses[3:6, 1:3, 0] = 2  # cut
    frame = Box.from_shape(synapses.shape, RESOLUTION)
    parts = [
        measure_block(
            synapses[b.write.slices(frame)],
            synapses[b.write.slices(frame)],
            None,
            b.write,
            frame,
            most_runs=most_runs,
        )
        for b in Grid(frame, (4, 4, 2))
    ]
    reads: list[Box] = []

    def read(box: Box) -> Array:
        reads.append(box)
        return synapses[box.slices(frame)]

    whole = combine(parts)
    assert set(whole.run_of.tolist()) == (set() if cut else {2})
    table = synapse_table(whole, frame, read)
    assert [(box.start, box.stop) for box in reads] == cut
    assert table["x_pos"].tolist() == [0.5 * 4.6, 4.5 * 4.6]


def test_a_range_of_ids_can_be_cut_out() -> None:
    synapses, cells, p = tissue(4, (7, 6, 5))
    frame = Box.from_shape(synapses.shape, RESOLUTION)
    whole = measure_block(synapses, cells, p, frame, frame)
    some = np.where((synapses >= 7) & (synapses <= 2**40), synapses, np.uint64(0))
    expected = measure_block(some, cells, p, frame, frame)
    for name, array in whole.between(7, 2**40).to_arrays().items():
        np.testing.assert_array_equal(array, expected.to_arrays()[name], err_msg=name)
    assert len(whole.between(8, 9)) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int32, np.bool_])
@pytest.mark.parametrize("order", ["C", "F"])
def test_labels_of_any_integer_dtype_and_order(dtype: type[np.generic], order: Any) -> None:
    rng = np.random.default_rng(0)
    synapses = rng.integers(0, 2, (6, 5, 4))
    cells = rng.integers(0, 2, (6, 5, 4))
    box = Box.from_shape((6, 5, 4), RESOLUTION)
    expected = measure(synapses.astype(np.uint64), cells.astype(np.uint64), box)
    given_ = [np.asarray(a.astype(dtype), order=order) for a in (synapses, cells)]
    pd.testing.assert_frame_equal(measure(*given_, box), expected)


def test_float_probability_is_brought_to_what_is_stored() -> None:
    synapses, cells, p = tissue(1, (6, 5, 4))
    # The ends of the scale count as well.
    p[0, 0, :2] = 0, 255
    box = Box.from_shape(synapses.shape, RESOLUTION)
    pd.testing.assert_frame_equal(
        measure(synapses, cells, box, (p / 255).astype(np.float32)),
        measure(synapses, cells, box, p),
    )


def test_no_synapses_give_an_empty_table_with_the_right_dtypes() -> None:
    nothing = np.zeros((4, 4, 4), np.uint64)
    table = measure(nothing, nothing, Box.from_shape((4, 4, 4), RESOLUTION))
    assert len(table) == 0
    assert tuple(table.columns) == MEASURED
    assert len(combine([])) == 0
    expected = empty_table(SYNAPSES)
    for name in MEASURED:
        assert table[name].dtype == expected[name].dtype, name


def test_arrays_that_do_not_fit_are_named() -> None:
    a, box = np.zeros((4, 4, 4), np.uint64), Box.from_shape((4, 4, 4), RESOLUTION)
    with pytest.raises(FormatError, match=r"cells of shape \(4, 4, 3\) do not fill \[0:4"):
        measure(a, a[:, :, :3], box)
    with pytest.raises(FormatError, match="synapses must hold integer labels, not float64"):
        measure(a.astype(float), a, box)
    with pytest.raises(FormatError, match=r"cells hold negative labels \(-1\)"):
        measure(a, a.astype(np.int32) - 1, box)
    with pytest.raises(FormatError, match=r"probability of shape \(3, 4, 4\) does not fill"):
        measure(a, a, box, np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(FormatError, match=r"float in 0\.\.1, not float64 in 0\.0\.\.2\.0"):
        measure(a, a, box, np.linspace(0, 2, 64).reshape(4, 4, 4))
    with pytest.raises(FormatError, match=r"float in 0\.\.1, not uint16"):
        measure(a, a, box, a.astype(np.uint16))
    with pytest.raises(BoundsError, match="is not inside the layer"):
        measure_block(a, a, None, box, box.translated((1, 0, 0)))
