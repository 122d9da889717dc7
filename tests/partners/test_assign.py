"""Cutouts, shares, flags and rows of the partner assignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from cnapse.errors import BoundsError, ConfigError, FormatError, TableError
from cnapse.geometry import Box, Triple, triple
from cnapse.partners import assign
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.assign import (
    ASSIGNED,
    PARTNER_ROWS,
    Assignment,
    AssignParameters,
    Evidence,
    Site,
    assign_many,
    assign_synapse,
    parameters_of,
)
from cnapse.partners.parameters import METHODS
from cnapse.synapses.measure import measure
from cnapse.tables import PARTNERS, SYNAPSES, SynapseFlag

Array = npt.NDArray[Any]
RESOLUTION = (4.0, 4.0, 50.0)
PARAMETERS = AssignParameters.cnapse()


def stripes(shape: Triple = (120, 150, 10), pitch: int = 30) -> tuple[Array, Array]:
    """Cells as slabs along y with a gap of 3 voxels; a density on the upper wall of some."""
    y = np.arange(shape[1])
    slab = np.where(y % pitch < pitch - 3, 10 + y // pitch, 0).astype(np.uint64)
    column = np.arange(shape[0]) // 40
    cells = np.broadcast_to(slab[:, None], shape).copy(order="F")
    cells[cells > 0] += (
        (100 * column[:, None, None])
        .repeat(shape[1], 1)
        .repeat(shape[2], 2)[cells > 0]
        .astype(np.uint64)
    )
    synapses = np.zeros(shape, np.uint64, order="F")
    number = 0
    for x in range(20, shape[0] - 20, 25):
        for wall in range(pitch - 3, shape[1] - pitch, pitch):
            number += 7
            synapses[x : x + 6, wall - 5 : wall, 3 + number % 3 : 6] = number
    return synapses, cells


@pytest.fixture(scope="module")
def volume() -> tuple[Array, Array, Box, pd.DataFrame]:
    synapses, cells = stripes()
    box = Box.from_shape(cells.shape, RESOLUTION, (1000, 2000, 30))
    return synapses, cells, box, measure(synapses, cells, box)


@pytest.fixture(params=METHODS)
def how(request: pytest.FixtureRequest) -> AssignParameters:
    """What must hold whatever the method."""
    return AssignParameters.cnapse(method=request.param)


def assert_same(a: tuple[pd.DataFrame, pd.DataFrame], b: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    for one, other in zip(a, b, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def site_of(row: Any, resolution: tuple[float, float, float] = RESOLUTION) -> Site:
    start = triple([row.start_x, row.start_y, row.start_z])
    stop = triple([row.stop_x, row.stop_y, row.stop_z])
    return Site(row.syn_id, row.pre_id, Box(start, stop, resolution), row.first_voxel)


# --- rows -----------------------------------------------------------------------------------------


def test_rows_fit_the_tables(volume: Any, how: AssignParameters) -> None:
    synapses, cells, box, table = volume
    rows, per_synapse = assign_many(synapses, cells, box, table, how)
    assert tuple(rows) == PARTNER_ROWS
    assert tuple(per_synapse) == ASSIGNED
    for found, schema in ((rows, PARTNERS), (per_synapse, SYNAPSES)):
        expected = {c.name: c.dtype for c in schema.columns}
        assert {name: str(found[name].dtype) for name in found} == {n: expected[n] for n in found}
    assert per_synapse["syn_id"].tolist() == table["syn_id"].tolist()
    assert len(rows) > len(table)
    assert not rows.duplicated(["syn_id", "post_id"]).any()
    by_synapse = rows.groupby("syn_id")
    np.testing.assert_allclose(by_synapse["share"].sum(), 1)
    np.testing.assert_allclose(by_synapse["size"].sum(), table["size"])
    counts = by_synapse.size()
    assert counts.tolist() == per_synapse["n_partners"].tolist()
    assert (rows["n_partners"].to_numpy() == counts.loc[rows["syn_id"]].to_numpy()).all()
    assert (rows["post_id"] != rows["pre_id"]).all()


def test_places_are_voxel_centres_of_the_partner(volume: Any, how: AssignParameters) -> None:
    synapses, cells, box, table = volume
    rows, _ = assign_many(synapses, cells, box, table, how)
    voxels = rows[["post_x", "post_y", "post_z"]].to_numpy() / RESOLUTION - 0.5
    np.testing.assert_array_equal(voxels, np.rint(voxels))
    at = voxels.astype(int) - box.start
    np.testing.assert_array_equal(cells[tuple(at.T)], rows["post_id"])


def test_an_empty_table_gives_empty_tables_of_the_right_types(
    volume: Any, how: AssignParameters
) -> None:
    synapses, cells, box, table = volume
    none = assign_many(synapses, cells, box, table.head(0), how)
    some = assign_many(synapses, cells, box, table.head(2), how)
    for empty, full in zip(none, some, strict=True):
        assert len(empty) == 0
        assert empty.dtypes.tolist() == full.dtypes.tolist()


def test_one_by_one_is_the_same(volume: Any, how: AssignParameters) -> None:
    synapses, cells, box, table = volume
    rows, _ = assign_many(synapses, cells, box, table, how)
    for row in table.itertuples():
        site = site_of(row)
        cutout = how.cutout(site.extent, box)
        density = synapses[site.extent.slices(box)] == row.syn_id
        found = assign_synapse(cells[cutout.slices(box)], density, cutout, site, how)
        own = rows[rows["syn_id"] == row.syn_id]
        assert found.post_ids.tolist() == own["post_id"].tolist()
        assert found.raw_share.tolist() == own["raw_share"].tolist()
        assert found.post_nm.tolist() == own[["post_x", "post_y", "post_z"]].to_numpy().tolist()


# --- what must not matter -------------------------------------------------------------------------


def test_order_of_the_table_does_not_matter(volume: Any, how: AssignParameters) -> None:
    synapses, cells, box, table = volume
    expected = assign_many(synapses, cells, box, table, how)
    mixed = table.sample(frac=1, random_state=3)
    rows, per_synapse = assign_many(synapses, cells, box, mixed, how)
    rows = rows.sort_values(["syn_id", "post_id"], ignore_index=True)
    assert_same((rows, per_synapse.sort_values("syn_id", ignore_index=True)), expected)


def test_parts_of_the_volume_give_the_same_rows(volume: Any, how: AssignParameters) -> None:
    """Each synapse from just its own cutout, with the bounds of the whole."""
    synapses, cells, box, table = volume
    expected = assign_many(synapses, cells, box, table, how)
    parts = []
    for i, row in enumerate(table.itertuples()):
        part = how.cutout(site_of(row).extent, box).grown(i % 3).clamped(box)
        cut = part.slices(box)
        one = table.iloc[i : i + 1]
        parts.append(assign_many(synapses[cut], cells[cut].copy(), part, one, how, bounds=box))
    found = (
        pd.concat([rows for rows, _ in parts], ignore_index=True),
        pd.concat([per for _, per in parts], ignore_index=True),
    )
    assert_same(found, expected)


def test_arrays_larger_than_the_cells_are_clipped_at_the_bounds(
    volume: Any, how: AssignParameters
) -> None:
    """A read that was padded with zeros beyond the layer changes nothing."""
    synapses, cells, box, table = volume
    expected = assign_many(synapses, cells, box, table, how)
    padded = box.grown((30, 20, 5))
    wide = [np.pad(a, [(30, 30), (20, 20), (5, 5)]) for a in (synapses, cells)]
    assert_same(assign_many(*wide, padded, table, how, bounds=box), expected)


def test_a_voxel_offset_moves_places_and_nothing_else(volume: Any, how: AssignParameters) -> None:
    synapses, cells, box, table = volume
    rows, per_synapse = assign_many(synapses, cells, box, table, how)
    by = (-517, 33, 1001)
    moved = table.copy()
    for axis, n in zip("xyz", by, strict=True):
        moved[[f"start_{axis}", f"stop_{axis}"]] += n
    found, found_synapses = assign_many(synapses, cells, box.translated(by), moved, how)
    for axis, n, h in zip("xyz", by, RESOLUTION, strict=True):
        found[f"post_{axis}"] -= n * h
    assert_same((found, found_synapses), (rows, per_synapse))


def test_the_first_voxel_chooses_the_random_numbers_of_walks(
    volume: Any, how: AssignParameters
) -> None:
    synapses, cells, box, table = volume
    rows, _ = assign_many(synapses, cells, box, table, how)
    others = table.assign(first_voxel=table["first_voxel"] + 1)
    found, _ = assign_many(synapses, cells, box, others, how)
    same = found["raw_share"].tolist() == rows["raw_share"].tolist()
    assert same is (how.method != "montecarlo")


def test_dtype_and_memory_order_do_not_matter(volume: Any, how: AssignParameters) -> None:
    synapses, cells, box, table = volume
    expected = assign_many(synapses, cells, box, table, how)
    frozen = np.ascontiguousarray(cells).astype(np.uint32)
    frozen.setflags(write=False)
    assert_same(assign_many(synapses.astype(np.uint16), frozen, box, table, how), expected)


def test_labels_above_2_to_the_63(how: AssignParameters) -> None:
    synapses, cells = stripes()
    box = Box.from_shape(cells.shape, RESOLUTION)
    plain, _ = assign_many(synapses, cells, box, measure(synapses, cells, box), how)
    high = np.uint64(2**64 - 10_000)
    synapses, cells = (np.where(a > 0, a + high, 0) for a in (synapses, cells))
    rows, _ = assign_many(synapses, cells, box, measure(synapses, cells, box), how)
    for name in ("syn_id", "pre_id", "post_id"):
        assert (rows[name] - high).tolist() == plain[name].tolist()
    assert rows["share"].tolist() == plain["share"].tolist()


def test_inputs_are_left_as_they_are(volume: Any) -> None:
    synapses, cells, box, table = volume
    before = synapses.copy(), cells.copy(), table.copy()
    assign_many(synapses, cells, box, table, AssignParameters.witvliet())
    np.testing.assert_array_equal(synapses, before[0])
    np.testing.assert_array_equal(cells, before[1])
    pd.testing.assert_frame_equal(table, before[2])


# --- shares ---------------------------------------------------------------------------------------


def assigned(
    monkeypatch: pytest.MonkeyPatch, counts: dict[int, int], particles: int, **changes: Any
) -> Assignment:
    """What becomes of these counts."""
    arrivals = Arrivals(
        np.array(list(counts), np.uint64),
        np.array(list(counts.values())) / particles,
        1 - sum(counts.values()) / particles,
        np.zeros((len(counts), 3), np.int64),
        particles=particles,
    )
    monkeypatch.setattr(assign, "walk", lambda *_: arrivals)
    cells = np.full((60, 60, 9), 2, np.uint64)
    cells[:28] = 1
    extent = Box((26, 26, 4), (28, 30, 5), RESOLUTION)
    cutout = PARAMETERS.cutout(extent, Box((0, 0, 0), (60, 60, 9), RESOLUTION))
    cells = cells[cutout.slices(Box((0, 0, 0), (60, 60, 9), RESOLUTION))]
    parameters = AssignParameters.cnapse(method="montecarlo", particles=particles, **changes)
    return assign_synapse(
        cells, np.ones(extent.shape, bool), cutout, Site(1, 1, extent, 0), parameters
    )


def test_a_share_of_exactly_the_cut_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    for particles in (100, 700, 1000, 2900, 5700):
        cut = particles // 100
        counts = {2: cut, 3: cut + 1, 4: particles - 3 * cut}
        found = assigned(monkeypatch, counts, particles)
        assert found.post_ids.tolist() == [3, 4]
        assert found.share.sum() == pytest.approx(1)
        assert found.raw_share.tolist() == [n / particles for n in (cut + 1, particles - 3 * cut)]
        assert found.arrivals.raw_share.sum() + found.lost == pytest.approx(1)


def test_the_cut_counts_all_particles_not_those_that_arrived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = assigned(monkeypatch, {2: 9, 3: 200}, 1000)
    assert found.post_ids.tolist() == [3]
    assert found.share.tolist() == [1]


def test_witvliet_drops_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = assigned(monkeypatch, {2: 1, 3: 999}, 1000, min_share=0.0)
    assert found.post_ids.tolist() == [2, 3]
    assert not found.flags & SynapseFlag.NEAR_CUT


@pytest.mark.parametrize(
    ("count", "near"), [(3, False), (4, True), (10, True), (16, True), (17, False)]
)
def test_shares_near_the_cut_are_flagged(
    monkeypatch: pytest.MonkeyPatch, count: int, near: bool
) -> None:
    """Two standard errors of 10 in 1000 are 6.3."""
    found = assigned(monkeypatch, {2: count, 3: 1000 - count}, 1000)
    assert bool(found.flags & SynapseFlag.NEAR_CUT) is near


def test_many_lost_and_nothing_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not assigned(monkeypatch, {2: 500}, 1000).flags
    assert assigned(monkeypatch, {2: 499}, 1000).flags == SynapseFlag.MANY_LOST
    nothing = assigned(monkeypatch, {2: 2}, 1000)
    assert nothing.flags == SynapseFlag.MANY_LOST | SynapseFlag.NOTHING_HIT
    assert len(nothing.post_ids) == len(nothing.share) == 0
    assert nothing.lost == pytest.approx(0.998)


def test_the_sampling_error_is_that_of_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    found = assigned(monkeypatch, {2: 300, 3: 500, 4: 5}, 1000)
    # 800 particles decide between two cells.
    expected = np.sqrt(0.375 * 0.625 / 800)
    assert found.share_error.tolist() == pytest.approx([expected, expected])
    exact = assign_synapse(*_one_site(), PARAMETERS)
    assert len(exact.share) > 0
    assert not exact.share_error.any()


def _one_site() -> tuple[Array, Array, Box, Site]:
    synapses, cells = stripes()
    box = Box.from_shape(cells.shape, RESOLUTION)
    row = next(measure(synapses, cells, box).itertuples())
    site = site_of(row)
    return cells, synapses[site.extent.slices(box)] == site.syn_id, box, site


@pytest.mark.parametrize(("count", "chance"), [(10, 1.0), (16, 0.057), (30, 0.0)])
def test_near_cut_is_the_chance_of_another_outcome(
    monkeypatch: pytest.MonkeyPatch, count: int, chance: float
) -> None:
    found = assigned(monkeypatch, {2: count, 3: 1000 - count}, 1000)
    assert found.near_cut == pytest.approx(chance, abs=1e-3)


def test_only_some_cells_may_be_partners(monkeypatch: pytest.MonkeyPatch) -> None:
    found = assigned(monkeypatch, {2: 100, 3: 300, 4: 500}, 1000, only=frozenset({2, 3, 99}))
    assert found.post_ids.tolist() == [2, 3]
    assert found.share.tolist() == pytest.approx([0.25, 0.75])
    assert found.raw_share.tolist() == [0.1, 0.3]
    assert found.lost == pytest.approx(0.1)
    none = assigned(monkeypatch, {2: 100}, 1000, only=frozenset({99}))
    assert none.flags & SynapseFlag.NOTHING_HIT


def test_both_methods_agree_and_say_how_far(volume: Any) -> None:
    synapses, cells, box, table = volume
    exact = assign_many(synapses, cells, box, table, PARAMETERS)
    walks = assign_many(synapses, cells, box, table, PARAMETERS.changed(method="montecarlo"))
    both = assign_many(synapses, cells, box, table, PARAMETERS.changed(method="both"))
    pd.testing.assert_frame_equal(both[0], exact[0])
    assert exact[1]["disagreement"].isna().all()
    assert walks[1]["disagreement"].isna().all()
    assert both[1]["disagreement"].between(1e-6, 0.05).all()
    assert (walks[0]["share_error"] > 0).any()


def test_exact_shares_below_one_particle_are_no_partners(volume: Any) -> None:
    """With no least share, the exact solution would find every cell that it can reach at all."""
    synapses, cells, box, table = volume
    rows, _ = assign_many(synapses, cells, box, table, PARAMETERS.changed(min_share=0.0))
    assert rows["raw_share"].min() > 1 / PARAMETERS.particles
    many, _ = assign_many(
        synapses, cells, box, table, PARAMETERS.changed(min_share=0.0, particles=10**9)
    )
    assert len(many) > len(rows)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_leave_no_trace(volume: Any, how: AssignParameters, threads: int) -> None:
    synapses, cells, box, table = volume
    expected = assign_many(synapses, cells, box, table, how)
    assert_same(assign_many(synapses, cells, box, table, how, threads=threads), expected)


# --- densities that cover the cleft ---------------------------------------------------------------


def clefts() -> tuple[Array, Array, Array]:
    """Densities over the gaps of `stripes`, and vesicles in every second slab."""
    synapses, cells = stripes()
    drawn = np.zeros_like(synapses)
    for number in np.unique(synapses[synapses > 0]):
        x, y, z = (slice(a.min(), a.max() + 1) for a in np.nonzero(synapses == number))
        drawn[x, y.start : y.stop + 8, z] = number
    vesicles = np.where(cells % 2 == 0, 200, 0).astype(np.uint8) * (cells > 0)
    return drawn, cells, vesicles


@pytest.mark.parametrize("evidence", ["vesicles", "direction", "neither"])
def test_the_side_of_a_cleft_comes_from_evidence_or_is_flagged(evidence: str) -> None:
    synapses, cells, vesicles = clefts()
    box = Box.from_shape(cells.shape, RESOLUTION)
    upward = np.zeros((*box.shape, 3), np.float32)
    for axis_y in range(box.shape[1]):
        wall = 30 * ((axis_y + 15) // 30) - 2
        even_below = cells[0, min(max(wall - 5, 0), box.shape[1] - 1), 0] % 2 == 0
        upward[:, axis_y, :, 1] = -1 if even_below else 1
    given = {
        "vesicles": Evidence(vesicles=vesicles),
        "direction": Evidence(direction=upward),
        "neither": Evidence(),
    }[evidence]
    how = PARAMETERS.changed(density="cleft")
    table = measure(synapses, cells, box)
    rows, per_synapse = assign_many(synapses, cells, box, table, how, evidence=given)
    undecided = (per_synapse["flags"].to_numpy() & int(SynapseFlag.UNDECIDED_SIDE)) != 0
    assert undecided.all() if evidence == "neither" else not undecided.any()
    if evidence != "neither":
        assert (per_synapse["pre_id"] % 2 == 0).all()
        largest = rows.sort_values("share").groupby("syn_id")["post_id"].last()
        across = per_synapse.set_index("syn_id")["pre_id"].loc[largest.index]
        assert (np.abs(largest.astype(np.int64) - across.astype(np.int64)) == 1).all()
        assert per_synapse["pre_fraction"].between(0.3, 0.7).all()


def test_evidence_of_another_box_is_refused(volume: Any) -> None:
    synapses, cells, box, table = volume
    how = PARAMETERS.changed(density="cleft")
    with pytest.raises(FormatError, match=r"vesicles have shape .* give arrays over exactly"):
        assign_many(
            synapses, cells, box, table, how, evidence=Evidence(vesicles=np.zeros((1, 1, 1)))
        )


def test_vesicles_beyond_the_cutout_cannot_count() -> None:
    with pytest.raises(ConfigError, match="vesicle_reach_nm = 200 is more than padding_nm = 100"):
        AssignParameters.cnapse(density="cleft", vesicle_reach_nm=200.0)


# --- flags ----------------------------------------------------------------------------------------


def flags_of(
    volume: Any, parameters: AssignParameters = PARAMETERS, **changes: Any
) -> tuple[pd.DataFrame, list[SynapseFlag]]:
    synapses, cells, box, table = volume
    rows, per_synapse = assign_many(synapses, cells, box, table.assign(**changes), parameters)
    return rows, [SynapseFlag(int(f)) for f in per_synapse["flags"]]


def test_no_presynaptic_cell(volume: Any) -> None:
    rows, flags = flags_of(volume, pre_id=np.uint64(0))
    assert len(rows) == 0
    assert all(f & SynapseFlag.NO_PRESYNAPTIC_CELL for f in flags)


def test_no_emitters(volume: Any) -> None:
    """Named in the table, but the cell is not there."""
    rows, flags = flags_of(volume, pre_id=np.uint64(999_999))
    assert len(rows) == 0
    assert all(f & SynapseFlag.NO_EMITTERS for f in flags)
    none = Assignment.none(5, SynapseFlag.NO_EMITTERS)
    assert (none.pre_id, none.flags) == (5, SynapseFlag.NO_EMITTERS)
    assert [none.emitters, none.lost, none.trapped, none.near_cut] == [0, 0, 0, 0]
    assert not len(none.post_ids)
    assert none.post_nm.shape == (0, 3)


def test_too_large_is_passed_over_and_the_rest_goes_on(volume: Any) -> None:
    synapses, cells, box, table = volume
    huge = table.copy()
    huge.loc[0, ["start_x", "start_y", "start_z"]] = box.start
    huge.loc[0, ["stop_x", "stop_y", "stop_z"]] = box.stop
    parameters = PARAMETERS.changed(max_box_voxels=60_000)
    rows, per_synapse = assign_many(synapses, cells, box, huge, parameters)
    flags = per_synapse["flags"].to_numpy()
    assert flags[0] == SynapseFlag.TOO_LARGE | SynapseFlag.BORDER
    assert not (flags[1:] & int(SynapseFlag.TOO_LARGE)).any()
    assert table["syn_id"][0] not in set(rows["syn_id"])
    assert len(set(rows["syn_id"])) == len(table) - 1


def test_border_is_where_the_cutout_was_clipped(volume: Any) -> None:
    synapses, cells, box, table = volume
    bounds = box.grown(100)
    inside = np.pad(cells, 100), np.pad(synapses, 100)
    _, per_synapse = assign_many(inside[1], inside[0], bounds, table, PARAMETERS)
    assert not (per_synapse["flags"].to_numpy() & int(SynapseFlag.BORDER)).any()
    _, flags = flags_of(volume)
    padding = np.array([25, 25, 2])
    starts = table[["start_x", "start_y", "start_z"]].to_numpy() - padding
    stops = table[["stop_x", "stop_y", "stop_z"]].to_numpy() + padding
    clipped = (starts < box.start).any(axis=1) | (stops > box.stop).any(axis=1)
    assert 0 < clipped.sum() < len(table)
    assert [bool(f & SynapseFlag.BORDER) for f in flags] == clipped.tolist()


def test_nothing_to_reach(volume: Any) -> None:
    synapses, cells, box, table = volume
    row = next(table.itertuples())
    alone = np.where(cells == row.pre_id, cells, 0)
    rows, per_synapse = assign_many(synapses, alone, box, table.head(1), PARAMETERS)
    flags = int(per_synapse["flags"][0])
    assert flags & SynapseFlag.NOTHING_HIT
    assert flags & SynapseFlag.MANY_LOST
    assert per_synapse["lost"].tolist() == [1.0]
    assert len(rows) == 0


# --- parameters -----------------------------------------------------------------------------------


def test_presets() -> None:
    witvliet = parameters_of("witvliet")
    assert (witvliet.rule, witvliet.padding_nm, witvliet.min_share) == ("extracellular", 1000, 0)
    assert parameters_of("cnapse", particles=50).particles == 50
    assert parameters_of("cnapse") == AssignParameters()
    reaches = witvliet.emitter_rule((4, 4, 30))
    assert (reaches.pre_reach, reaches.lower, reaches.upper) == ((1, 1, 1), (6, 6), (6, 6))


def test_another_rule_brings_its_own_reaches() -> None:
    rule = parameters_of("cnapse", rule="extracellular").emitter_rule(RESOLUTION)
    assert rule.paints
    assert rule.upper == (6, 6)


def test_padding_is_rounded_up_but_not_by_rounding_errors() -> None:
    parameters = AssignParameters.cnapse(padding_nm=100)
    assert parameters.padding_vx((4.0, 4.6, 50.0)) == (25, 22, 2)
    assert AssignParameters.cnapse(padding_nm=69).padding_vx((4.6, 4.6, 50.0)) == (15, 15, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parameters_of("berger"), "preset 'berger' is unknown: give cnapse or witvliet"),
        (lambda: parameters_of("cnapse", steps=3), "assign parameter 'steps' is unknown: rule, "),
        (lambda: parameters_of("cnapse", particles=0), "particles = 0: must be at least 1"),
        (lambda: parameters_of("cnapse", padding_nm=-1.0), "padding_nm = -1.0: must not be"),
        (lambda: parameters_of("cnapse", step_nm=0.0), "step_nm = 0.0: must be a length above 0"),
        (lambda: parameters_of("cnapse", min_share=1.0), "min_share = 1.0: must be at least 0"),
        (lambda: parameters_of("cnapse", rule="far"), "emitter rule 'far' is unknown"),
    ],
)
def test_parameters_that_cannot_be(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# --- errors ---------------------------------------------------------------------------------------


def test_a_step_too_long_is_refused_before_anything_is_read(volume: Any) -> None:
    synapses, cells, box, table = volume
    with pytest.raises(ConfigError, match="set step_nm to at most 4"):
        assign_many(synapses, cells, box, table.head(0), PARAMETERS.changed(step_nm=4.5))


def test_arrays_that_do_not_contain_a_cutout_are_refused(volume: Any) -> None:
    synapses, cells, box, table = volume
    with pytest.raises(BoundsError, match="give arrays that contain every synapse grown"):
        assign_many(synapses, cells, box, table, PARAMETERS, bounds=box.grown(50))


def test_a_table_of_another_segmentation_is_refused(volume: Any) -> None:
    synapses, cells, box, table = volume
    with pytest.raises(TableError, match="synapse 7 has no voxel in its bounding box"):
        assign_many(np.zeros_like(synapses), cells, box, table, PARAMETERS)
    with pytest.raises(TableError, match="missing columns first_voxel; give that of cnapse meas"):
        assign_many(synapses, cells, box, table.drop(columns="first_voxel"), PARAMETERS)


def test_arrays_that_do_not_fit_are_refused(volume: Any) -> None:
    synapses, cells, box, table = volume
    with pytest.raises(FormatError, match=r"cells are uint64 of shape \(119, 150, 10\): expected"):
        assign_many(synapses, cells[1:], box, table, PARAMETERS)
    with pytest.raises(FormatError, match="synapses are int64 of shape"):
        assign_many(synapses.astype(np.int64), cells, box, table, PARAMETERS)
    site = site_of(next(table.itertuples()))
    with pytest.raises(FormatError, match="synapse 7: density have shape"):
        assign_synapse(cells, np.ones((1, 1, 1), bool), box, site, PARAMETERS)


def test_contact_area_gives_the_same_kind_of_rows(volume: Any) -> None:
    synapses, cells, box, table = volume
    diffused, _ = assign_many(synapses, cells, box, table, PARAMETERS)
    rows, per_synapse = assign_many(
        synapses, cells, box, table, PARAMETERS.changed(method="contact")
    )
    assert rows.dtypes.tolist() == diffused.dtypes.tolist()
    np.testing.assert_allclose(rows.groupby("syn_id")["share"].sum(), 1)
    assert per_synapse["emitters"].eq(0).all()
    # Straight across a slit of 12 nm the opposite slab is the nearest cell.
    across = rows[rows["post_id"] == rows["pre_id"] + 1]
    assert across["syn_id"].tolist() == table["syn_id"].tolist()
