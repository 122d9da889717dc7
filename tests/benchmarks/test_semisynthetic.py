"""The semi-synthetic truth on tissue where it is plain, and a few real places."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[Any]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
H = np.array([4.0, 4.0, 4.0])
SITE = np.array([60, 39, 60])


@pytest.fixture(scope="module")
def zones() -> ModuleType:
    """The construction."""
    return _module("_semisynthetic")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark."""
    return _module("semisynthetic")


def _module(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def flat(border: int = 60, thickness: int = 40) -> Array:
    """Cell 1 up to y = 40, above it cell 2 (x < border) and 3, below it cell 4; all touch."""
    labels = np.zeros((120, 80, 120), np.uint16, order="F")
    labels[:border, 40:], labels[border:, 40:] = 2, 3
    labels[:, :40] = 1
    labels[:, : 40 - thickness] = 4
    return labels


def piece(zones: ModuleType, labels: Array, voxel: Array = H) -> Any:
    return zones.Fine(labels, zones._apart(labels, voxel), np.zeros(3), voxel)


def place(zones: ModuleType, labels: Array, radius: float = 60.0) -> Any:
    fine = piece(zones, labels)
    at = (SITE + 0.5) * H
    partners = zones.truth_at(fine, SITE, zones.Zone(radius)).partners
    return zones.Place(fine, at, np.array([0.0, 1.0, 0.0]), radius, 1, partners, 5)


# --- the truth ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("border_nm", "partners"),
    [
        (0, {2, 3}),  # in the middle of the zone
        (20, {2, 3}),
        (50, None),  # 3 begins at the zone's rim: seen, but little
        (75, None),  # out of the zone, but within reach
        (100, {2}),
        (-20, {2, 3}),
        (-100, {3}),
    ],
)
def test_who_lies_opposite_the_zone(zones: ModuleType, border_nm: int, partners: Any) -> None:
    found = zones.truth_at(piece(zones, flat(60 + border_nm // 4)), SITE, zones.Zone())
    assert found.partners == partners
    # All of the disk is seen, less the slit between both cells; and what one sees of its sides.
    assert 0.8 < found.seen_nm2 / (np.pi * 60.0**2) < 1.7


def test_the_outer_limit_says_who_has_no_say(zones: ModuleType) -> None:
    near = piece(zones, flat(border=60 + 26))  # 3 begins 104 nm from the site
    assert zones.truth_at(near, SITE, zones.Zone(outer=1.5)).partners == {2}
    assert zones.truth_at(near, SITE, zones.Zone(outer=2.0)).partners is None


def test_a_cell_on_the_back_of_a_thin_process_is_no_partner(zones: ModuleType) -> None:
    thin = piece(zones, flat(thickness=10))
    assert zones.truth_at(thin, SITE, zones.Zone()).partners == {2, 3}
    up = np.array([0.0, 1.0, 0.0])
    at = (SITE + 0.5) * H
    assert zones._is_thin(thin, at, up, 1)
    assert not zones._is_thin(piece(zones, flat(thickness=30)), at, up, 1)


def test_a_cell_of_which_little_is_seen_is_ambiguous(zones: ModuleType) -> None:
    labels = flat(border=120)
    assert zones.truth_at(piece(zones, labels), SITE, zones.Zone()).partners == {2}
    labels[70:78, 40:] = 5  # its end, some 12 nm wide at the rim of the zone
    assert zones.truth_at(piece(zones, labels), SITE, zones.Zone()).partners is None
    labels[70:78, 40:] = 2
    labels[56:64, 50:70, 56:64] = 5  # wholly inside of cell 2, behind its membrane
    assert zones.truth_at(piece(zones, labels), SITE, zones.Zone()).partners == {2}


def test_sight_is_straight(zones: ModuleType) -> None:
    free = np.ones((9, 9, 1), bool)
    free[4, :8] = False
    site = np.array([2, 2, 0])
    seen = [zones._in_sight(free, site, i, j, 0) for i, j in ((2, 8), (6, 2), (5, 8), (3, 2))]
    assert seen == [True, False, False, True]


def test_thick_sections_touch_and_a_cell_below_is_ambiguous(zones: ModuleType) -> None:
    voxel = np.array([4.0, 4.0, 50.0])
    labels = flat()[:, :, :9].copy(order="F")
    fine = piece(zones, labels, voxel)
    site = np.array([60, 39, 4])
    assert zones.truth_at(fine, site, zones.Zone()).partners == {2, 3}
    labels[:, :30, :4] = 9
    below = piece(zones, labels, voxel)
    np.testing.assert_array_equal(below.apart[..., 4:], fine.apart[..., 4:])
    assert zones.truth_at(below, site, zones.Zone()).partners is None


def test_paths_are_as_long_as_they_are(zones: ModuleType) -> None:
    """Around a wall: up, across, and down."""
    free = np.ones((9, 9, 1), bool)
    free[4, :8] = False
    path = zones._paths(free, np.array([2, 2, 0]), H, 1000.0)
    assert path[2, 2, 0] == 0
    assert path[0, 2, 0] == pytest.approx(8)
    assert path[0, 0, 0] == pytest.approx(8 * np.sqrt(2))
    # To (4, 8): 2 diagonal steps and 4 straight ones; the same again on the other side.
    assert path[6, 2, 0] == pytest.approx(2 * (2 * np.sqrt(2) + 4) * 4)
    assert np.isinf(path[4, 2, 0])
    assert np.isinf(zones._paths(free, np.array([2, 2, 0]), H, 40.0)[6, 2, 0])


# --- what a method gets to see --------------------------------------------------------------------


@pytest.mark.parametrize("gap", [8.0, 16.0, 24.0, 32.0, 40.0])
def test_the_gap_is_as_wide_as_asked_for(zones: ModuleType, gap: float) -> None:
    where = place(zones, flat())
    volume = zones.seen_as(where, zones.Setting("", (4.0, 4.0, 4.0), gap_nm=gap))
    x, y, z = (n // 2 for n in volume.cells.shape)
    across = volume.cells[x - 10, :, z]
    assert np.count_nonzero(across == 0) * 4 == gap
    along = volume.cells[:, y + 20, z]
    assert np.count_nonzero(along == 0) * 4 == gap


def test_the_density_is_the_same_in_all_gaps_and_lies_behind_the_zone(zones: ModuleType) -> None:
    where = place(zones, flat())
    volumes = [
        zones.seen_as(where, zones.Setting("", (4.0, 4.0, 4.0), gap_nm=gap, shift_vx=shift))
        for gap, shift in ((8.0, 0), (40.0, 0), (16.0, 3))
    ]
    for volume in volumes[1:]:
        np.testing.assert_array_equal(volume.density, volumes[0].density)
    assert set(np.unique(volumes[0].cells[volumes[0].density])) == {1}
    expected = np.pi * 60.0**2 * zones.DEPTH_NM
    assert volumes[0].density.sum() * 64 == pytest.approx(expected, rel=0.1)
    # Displaced: cells are where they were, three voxels away.
    moved, still = volumes[2].cells, zones.seen_as(where, zones.Setting("", (4.0,) * 3)).cells
    shifts = [
        (i, k)
        for i in range(-3, 4)
        for k in range(-3, 4)
        if (np.roll(still, (i, k), axis=(0, 1))[5:-5, 5:-5] == moved[5:-5, 5:-5]).all()
    ]
    assert [round(np.hypot(*shift)) for shift in shifts] == [3]


def test_the_density_of_a_thin_process_stays_off_its_back_unless_asked(zones: ModuleType) -> None:
    where = place(zones, flat(thickness=10))
    box = (4.0, 4.0, 4.0)
    plain = zones.seen_as(where, zones.Setting("", box))
    filling = zones.seen_as(where, zones.Setting("", box, filling=True))
    rows = [np.flatnonzero(v.density.any((0, 2))) for v in (plain, filling)]
    assert np.ptp(rows[0]) + 1 < np.ptp(rows[1]) + 1 == 6  # of 10, less half a cleft on each side
    assert rows[0][-1] == rows[1][-1]


def test_cells_are_eroded_by_at_most_so_much_and_each_by_its_own(zones: ModuleType) -> None:
    where = place(zones, flat())
    box = (4.0, 4.0, 4.0)
    clean = zones.seen_as(where, zones.Setting("", box)).cells
    eroded = zones.seen_as(where, zones.Setting("", box, eroded_nm=24.0)).cells
    most = zones.seen_as(where, zones.Setting("", box, gap_nm=16.0 + 48.0)).cells
    assert (eroded[eroded > 0] == clean[eroded > 0]).all()
    assert (eroded[most > 0] == most[most > 0]).all()
    lost = [int(((clean == c) & (eroded == 0)).sum()) for c in (1, 2, 3)]
    assert min(lost) < max(lost)


def test_a_density_that_no_voxel_hits_is_not_shown(zones: ModuleType) -> None:
    where = place(zones, flat(), radius=60.0)
    assert zones.seen_as(where, zones.Setting("", (500.0, 500.0, 500.0))) is None


def test_fine_cells_are_those_at_the_voxel_centres(zones: ModuleType) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(1, 5, (12, 12, 12)).astype(np.uint16)
    cells = zones.Cells("", coarse, (12.0,) * 3, (4.0,) * 3)
    fine = zones.fine_piece(cells, np.full(3, 72.0), 36.0)
    assert fine.labels.shape == (18, 18, 18)
    np.testing.assert_array_equal(fine.labels[1::3, 1::3, 1::3], coarse[3:9, 3:9, 3:9])
    np.testing.assert_array_equal(fine.origin_nm, [36, 36, 36])


# --- the benchmark --------------------------------------------------------------------------------


def test_every_method_is_right_on_plain_tissue(zones: ModuleType, bench: ModuleType) -> None:
    tissue = [place(zones, flat(60 + n)) for n in (-25, 0, 5, 25)]
    assert [p.partners for p in tissue] == [{3}, {2, 3}, {2, 3}, {2}]
    cells = zones.Cells("plain", flat(), (4.0,) * 3, (4.0,) * 3)
    result = bench.judged(cells, zones.Setting("clean", (4.0, 4.0, 50.0)), tissue)
    assert (result.places, result.right_pre) == (4, 4)
    for by_limit in result.scores.values():
        assert by_limit[0.01].f1 == 1
    rows = bench.rows_of(result)
    assert [r.work.rpartition(", ")[2] for r in rows][-1] == "monte carlo"
    assert {(r.ours, r.theirs, r.ratio, r.peer) for r in rows} == {(1, 1, 1, "contact area")}
    assert "4 synapses, presynaptic cell right in 100 %" in rows[0].note


def test_counts_of_a_set(bench: ModuleType) -> None:
    score = bench._added(bench.Score(1, 1, 1), {1, 2, 3}, frozenset({2, 9}))
    assert (score.true_positives, score.false_positives, score.false_negatives) == (2, 3, 2)


def test_more_is_better(bench: ModuleType) -> None:
    row = bench.Row("", 0.9, "F1", "contact", 0.45, more_is_better=True)
    assert row.ratio == pytest.approx(2)


def test_no_data_gives_no_row_and_says_so(
    bench: ModuleType, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out = tmp_path / "rows.json"
    options = ["semisynthetic.py", "--quick", "--data", str(tmp_path), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", options)
    bench.main()
    assert json.loads(out.read_text()) == []
    assert capsys.readouterr().err.splitlines() == [
        f"no row for {name}: no real data at {tmp_path / name} (set CNAPSE_SHARED_DATA, or --data)"
        for name in ("fib25", "vnc_sstem")
    ]


@pytest.mark.parametrize("name", ["fib25", "vnc"])
def test_real_places(zones: ModuleType, bench: ModuleType, shared_data: Path, name: str) -> None:
    cells = getattr(zones, name)(shared_data)
    places, counts = zones.place_zones(cells, {1: 1, 2: 1, 3: 0}, zones.Zone(), 3, 25)
    again, _ = zones.place_zones(cells, {1: 1, 2: 1, 3: 0}, zones.Zone(), 3, 25)
    assert [p.site_nm.tolist() for p in places] == [p.site_nm.tolist() for p in again]
    assert len(places) == counts.placed > 0
    for where in places:
        assert len(where.partners) in {1, 2}
        assert where.pre_id not in where.partners | {0}
        assert np.linalg.norm(where.normal) == pytest.approx(1)
        volume = zones.seen_as(where, bench.settings_of(cells)[0])
        assert bench.majority(volume) == where.pre_id
        assert where.partners <= set(np.unique(volume.cells).tolist())
    result = bench.judged(cells, bench.settings_of(cells)[0], places)
    assert result.right_pre == len(places)
    assert result.scores["harmonic"][0.01].recall == 1
