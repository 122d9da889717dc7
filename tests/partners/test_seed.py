"""Beside the seed's arithmetic, re-stated as a slow reference; and each place where it is wrong.

The facts are those of Cnapse's `synapse_diffuse.py` (J. A. Bae); the code is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import chi2, chi2_contingency
from skimage.morphology import ball, dilation

from cnapse.errors import ConfigError
from cnapse.geometry import Box
from cnapse.partners.assign import AssignParameters, Site, assign_many, assign_synapse
from cnapse.partners.emitters import EmitterRule, find_emitters
from cnapse.partners.labels import Tissue
from cnapse.partners.montecarlo import Walk, fibonacci_sphere, walk
from cnapse.synapses.measure import measure
from cnapse.tables import SynapseFlag

Array = npt.NDArray[Any]
SEED_VOXEL_NM = (4.0, 4.0, 50.0)
NEAR = EmitterRule.published("near")
PARAMETERS = AssignParameters.cnapse(method="montecarlo")


def seed_emitters(cells: Array, density: Array, pre_id: int) -> Array:
    """Dilations over the whole box, as the seed has it: voxels (n, 3)."""
    pre = cells == pre_id
    flat = np.zeros((10, 10, 3))
    flat[:, :, 1] = 1
    around_density = dilation(density.astype(np.uint8), flat) > 0
    return np.argwhere((dilation(pre.astype(np.uint8), ball(2)) > 0) & ~pre & around_density)


def seed_walks(
    cells: Array,
    pre_ids: list[int],
    emitters: list[Array],
    particles: int,
    rng: np.random.Generator,
    voxel_nm: tuple[float, float, float] = SEED_VOXEL_NM,
) -> list[dict[int, int]]:
    """All particles of all synapses at once, step by step: how many end in each cell, 0 for lost.

    `cells` [synapse, x, y, z] are boxes of one shape.
    """
    steps = fibonacci_sphere(10_000) * (4.0 / np.asarray(voxel_nm))
    box = np.repeat(np.arange(len(cells)), particles)
    pre = np.repeat(np.array(pre_ids), particles)
    starts = [e[rng.integers(len(e), size=particles)] for e in emitters]
    at = np.concatenate(starts).astype(float)
    end = np.zeros(len(at), np.int64)
    moving = np.arange(len(at))
    for _ in range(10_000):
        to = at[moving] + steps[rng.integers(len(steps), size=len(moving))]
        voxel = np.round(to).astype(int)
        out = ((voxel < 0) | (voxel >= cells.shape[1:])).any(axis=1)
        if out.any():  # moved back, frozen; what it stands on counts: only inside another cell
            back = np.round(at[moving[out]]).astype(int)
            end[moving[out]] = cells[(box[moving[out]], *back.T)]
            moving, to, voxel = moving[~out], to[~out], voxel[~out]
        label = cells[(box[moving], *voxel.T)].astype(np.int64)
        free = label != pre[moving]
        at[moving[free]] = to[free]
        hit = free & (label > 0)
        end[moving[hit]] = label[hit]
        moving = moving[~hit]
        if not len(moving):
            break
    counted = [np.unique(e, return_counts=True) for e in end.reshape(-1, particles)]
    return [dict(zip(ids.tolist(), n.tolist(), strict=True)) for ids, n in counted]


def seed_walk(
    cells: Array,
    pre_id: int,
    emitters: Array,
    particles: int,
    rng: np.random.Generator,
    voxel_nm: tuple[float, float, float] = SEED_VOXEL_NM,
) -> dict[int, int]:
    """The walk of one synapse."""
    return seed_walks(cells[None], [pre_id], [emitters], particles, rng, voxel_nm)[0]


def seed_partners(
    cells: Array, density: Array, pre_id: int, rng: np.random.Generator, particles: int = 1000
) -> dict[int, float]:
    """Share of each partner, those with at most 1 % of the particles dropped."""
    found = seed_walk(cells, pre_id, seed_emitters(cells, density, pre_id), particles, rng)
    kept = {c: n for c, n in found.items() if c and n > 0.01 * particles}
    return {cell: n / sum(kept.values()) for cell, n in kept.items()}


def our_counts(
    cells: Array,
    density: Array,
    pre_id: int,
    how: Walk,
    stream: int,
    voxel_nm: tuple[float, float, float] = SEED_VOXEL_NM,
) -> dict[int, int]:
    emitters = find_emitters(cells, density, (0, 0, 0), pre_id, NEAR)
    around = Tissue(cells, density, (0, 0, 0), pre_id, False, voxel_nm)
    arrivals = walk(around, emitters, how, (0, stream))
    counts = np.rint(arrivals.raw_share * how.particles).astype(int)
    lost = round(arrivals.lost * how.particles)
    return {0: lost, **dict(zip(arrivals.post_ids.tolist(), counts.tolist(), strict=True))}


def statistic(a: dict[int, int], b: dict[int, int]) -> tuple[float, int]:
    """Chi-square of two sets of counts and its degrees of freedom; rare outcomes are merged."""
    outcomes = sorted(set(a) | set(b))
    table = np.array([[a.get(o, 0), b.get(o, 0)] for o in outcomes])
    rare = table.sum(axis=1) < 20
    table = np.vstack([table[~rare], table[rare].sum(axis=0, keepdims=True)])
    table = table[table.sum(axis=1) > 0]
    if len(table) < 2:
        return 0.0, 0
    result = chi2_contingency(table, correction=False)
    return float(result.statistic), int(result.dof)


def whole(shape: tuple[int, ...], voxel_nm: tuple[float, float, float] = SEED_VOXEL_NM) -> Box:
    return Box.from_shape(shape, voxel_nm)


def test_hit_shares_agree_with_the_seed_on_50_synapses(tissue: Callable[..., Any]) -> None:
    """Common boxes, same emitters: the two sets of counts are drawn from the same shares."""
    sites = [tissue(seed) for seed in range(50)]
    emitters = [seed_emitters(t.cells, t.density, t.pre_id) for t in sites]
    for t, theirs in zip(sites, emitters, strict=True):
        ours = find_emitters(t.cells, t.density, (0, 0, 0), t.pre_id, NEAR)
        assert {tuple(e) for e in theirs.tolist()} == {tuple(e) for e in ours.tolist()}
    reference = seed_walks(
        np.stack([t.cells for t in sites]),
        [t.pre_id for t in sites],
        emitters,
        1000,
        np.random.default_rng(1),
    )
    total, freedom, tails, partners = 0.0, 0, [], []
    for number, (t, counts) in enumerate(zip(sites, reference, strict=True)):
        ours = our_counts(t.cells, t.density, t.pre_id, Walk(particles=4000), number)
        value, dof = statistic(counts, ours)
        total, freedom = total + value, freedom + dof
        partners.append(len(set(ours) - {0}))
        if dof:
            tails.append(chi2.sf(value, dof))
    assert freedom > 50, "the geometries are too simple to tell anything"
    assert len(set(partners)) >= 3
    assert 1e-3 < chi2.sf(total, freedom) < 1 - 1e-6
    assert min(tails) > 1e-4


def test_the_comparison_would_notice_another_walk(tissue: Callable[..., Any]) -> None:
    total, freedom = 0.0, 0
    for seed in range(12):
        t = tissue(seed)
        emitters = seed_emitters(t.cells, t.density, t.pre_id)
        rng = np.random.default_rng(seed)
        theirs = seed_walk(t.cells, t.pre_id, emitters, 1000, rng, (4.0, 4.0, 25.0))
        counts = our_counts(t.cells, t.density, t.pre_id, Walk(particles=4000), seed)
        value, dof = statistic(theirs, counts)
        total, freedom = total + value, freedom + dof
    assert chi2.sf(total, freedom) < 1e-6


def test_partners_agree_where_the_seed_is_right(tissue: Callable[..., Any]) -> None:
    """Sets, and shares within the sampling error, but for cells near the cut of 1 %."""
    for seed in range(50, 62):
        t = tissue(seed)
        box = whole(t.cells.shape)
        site = Site(1, t.pre_id, box, seed)
        ours = assign_synapse(t.cells, t.density, box, site, PARAMETERS)
        theirs = seed_partners(t.cells, t.density, t.pre_id, np.random.default_rng(seed))
        shares = dict(zip(ours.post_ids.tolist(), ours.share.tolist(), strict=True))
        if not ours.flags & SynapseFlag.NEAR_CUT:
            assert set(shares) == set(theirs)
        for cell in set(shares) & set(theirs):
            assert abs(shares[cell] - theirs[cell]) < 5 * np.sqrt(0.5 / 1000)


# --- where the seed is wrong ----------------------------------------------------------------------


def slab(voxel_nm: tuple[float, float, float]) -> Any:
    """A presynaptic cell below, a gap of two voxels in x, cells 8 and 9 above, sharing the wall."""
    shape = (60, 60, 21)
    cells = np.zeros(shape, np.uint64)
    cells[:25] = 7
    cells[27:, :34], cells[27:, 34:] = 8, 9
    density = np.zeros(shape, bool)
    density[20:25, 28:33, 10] = True
    return cells, density, whole(shape, voxel_nm)


def test_wrong_2_to_the_mip_is_an_exclusive_or_and_the_voxel_size_is_typed_in() -> None:
    """The seed walks in 4 x 4 x 50 whatever the data; ours walks in the data's own voxels."""
    said_by_the_seed = [2 ^ mip for mip in range(4)]
    assert said_by_the_seed == [2, 3, 0, 1]
    cells, density, _ = slab((4.0, 4.0, 4.0))
    cells[27:, :, 11:] = 10  # another cell begins one section above
    true_voxel = (4.0, 4.0, 4.0)
    typed_in = seed_partners(cells, density, 7, np.random.default_rng(0))
    true = seed_walk(
        cells, 7, seed_emitters(cells, density, 7), 1000, np.random.default_rng(0), true_voxel
    )
    site = Site(1, 7, whole(cells.shape, true_voxel), 5)
    ours = assign_synapse(cells, density, site.extent, site, PARAMETERS)
    shares = dict(zip(ours.post_ids.tolist(), ours.raw_share.tolist(), strict=True))
    assert typed_in.get(10, 0) < 0.1
    assert true[10] / 1000 > 0.2
    assert shares[10] == pytest.approx(true[10] / 1000, abs=0.08)


def test_right_padding_follows_the_voxel_size() -> None:
    extent = Box((100, 100, 20), (110, 105, 21), (4.6, 8.0, 50.0))
    bounds = Box((0, 0, 0), (500, 500, 100), extent.resolution)
    cutout = PARAMETERS.cutout(extent, bounds)
    assert (cutout.start, cutout.stop) == ((78, 87, 18), (132, 118, 23))


def test_wrong_z_y_x_taken_for_x_y_z() -> None:
    """A TIFF's z, y, x used as x, y, z: the flat footprint reaches across sections."""
    cells, density = (a.transpose(1, 0, 2) for a in slab(SEED_VOXEL_NM)[:2])
    right = seed_emitters(cells, density, 7)
    as_read = seed_emitters(cells.transpose(2, 1, 0), density.transpose(2, 1, 0), 7)[:, ::-1]
    assert set(right[:, 2].tolist()) == {10}
    assert set(as_read[:, 2].tolist()) == set(range(5, 15))
    ours = find_emitters(cells, density, (0, 0, 0), 7, NEAR)
    assert {tuple(e) for e in ours.tolist()} == {tuple(e) for e in right.tolist()}


def test_wrong_the_presynaptic_cell_of_the_last_section() -> None:
    """The seed's info names the cell under the last section; its partner is then the real one."""
    cells, density, box = slab(SEED_VOXEL_NM)
    density[20:25, 28:33, 8:11] = True
    cells[20:25, 28:33, 10] = 8  # in its last section the density lies on another cell
    last = int(np.bincount(cells[:, :, 10][density[:, :, 10]].astype(int)).argmax())
    assert last == 8
    table = measure(density.astype(np.uint64), cells, box)
    assert table["pre_id"].tolist() == [7]
    wrong = seed_partners(cells, density, last, np.random.default_rng(0))
    rows, _ = assign_many(density.astype(np.uint64), cells, box, table, PARAMETERS)
    assert 7 in wrong
    assert set(rows["post_id"]) == {8, 9}


def test_wrong_every_synapse_scans_the_whole_volume() -> None:
    """Ours takes slices no larger than the cutout, of arrays that need not be in memory."""

    class Recorder:
        def __init__(self, array: Array) -> None:
            self.array, self.read = array, 0
            self.shape, self.dtype = array.shape, array.dtype

        def __getitem__(self, index: Any) -> Array:
            part: Array = self.array[index]
            self.read += part.size
            return part

    box = whole((3000, 3000, 400))
    other = np.full((1, 1, 1), 8, np.uint64)
    cells: Any = Recorder(np.broadcast_to(other, box.shape))
    synapses: Any = Recorder(np.broadcast_to(np.uint64(0), box.shape))
    where = Box((1020, 1028, 310), (1025, 1033, 311), SEED_VOXEL_NM)
    table = pd.DataFrame(
        {
            "syn_id": [0],
            "pre_id": [7],
            "size": [1.0],
            **{f"start_{a}": [where.start[i]] for i, a in enumerate("xyz")},
            **{f"stop_{a}": [where.stop[i]] for i, a in enumerate("xyz")},
            "first_voxel": [12],
        }
    )
    assign_many(synapses, cells, box, table, PARAMETERS)
    assert synapses.read == where.voxels
    assert cells.read == PARAMETERS.cutout(where, box).voxels
    assert cells.read < box.voxels / 200_000


def test_wrong_the_box_ends_one_voxel_early() -> None:
    """The seed's padding counts from the last voxel, not from one past it."""
    _, density, _ = slab(SEED_VOXEL_NM)
    first, last = np.argwhere(density).min(axis=0), np.argwhere(density).max(axis=0)
    seed_stop = last + np.ceil(100 / np.asarray(SEED_VOXEL_NM)).astype(int)
    extent = Box(tuple(first), tuple(last + 1), SEED_VOXEL_NM)
    cutout = PARAMETERS.cutout(extent, Box((-99, -99, -9), (99, 99, 99), SEED_VOXEL_NM))
    assert seed_stop.tolist() == [49, 57, 12]
    assert cutout.stop == (50, 58, 13)
    assert np.subtract(first, cutout.start).tolist() == [25, 25, 2]


def test_wrong_lost_particles_hit_the_cell_they_started_in() -> None:
    """Only from an emitter inside another cell, at the edge of the box; ours says lost."""
    cells = np.zeros((1, 30, 1), np.uint64)
    cells[0, :3] = 7
    cells[0, 3:6] = 9
    emitters = np.array([[0, 4, 0]])
    voxel = (4.0, 4.0, 4.0)
    theirs = seed_walk(cells, 7, emitters, 1000, np.random.default_rng(0), voxel)
    around = Tissue(cells, np.zeros((1, 1, 1), bool), (0, 0, 0), 7, False, voxel)
    ours = walk(around, emitters.astype(np.int32), Walk(), (0, 1))
    steps = fibonacci_sphere(10_000)
    stays = (np.abs(steps[:, [0, 2]]) < 0.5).all(axis=1).mean()
    assert theirs == {9: 1000}
    assert ours.raw_share[0] == pytest.approx(stays, abs=4 * np.sqrt(0.25 / 1000))
    assert ours.raw_share[0] + ours.lost == 1


def test_wrong_background_as_presynaptic_cell() -> None:
    """Where no cell lies under the density, the seed takes 0 for a cell and finds partners."""
    cells, density, box = slab(SEED_VOXEL_NM)
    cells[:25] = 0
    assert seed_partners(cells, density, 0, np.random.default_rng(0))
    ours = assign_synapse(cells, density, box, Site(1, 0, box, 3), PARAMETERS)
    assert ours.flags & SynapseFlag.NO_PRESYNAPTIC_CELL
    assert len(ours.post_ids) == 0


def test_wrong_unseeded() -> None:
    """Two runs of the seed differ; two of ours are the same bytes, and the seed can be chosen."""
    cells, density, box = slab(SEED_VOXEL_NM)
    emitters = seed_emitters(cells, density, 7)
    theirs = [seed_walk(cells, 7, emitters, 1000, np.random.default_rng()) for _ in range(8)]
    assert len({tuple(sorted(run.items())) for run in theirs}) > 1
    site = Site(1, 7, box, 3)
    ours = [assign_synapse(cells, density, box, site, PARAMETERS) for _ in range(3)]
    assert len({run.raw_share.tobytes() for run in ours}) == 1
    other = assign_synapse(cells, density, box, site, PARAMETERS.changed(seed=1))
    assert other.raw_share.tobytes() != ours[0].raw_share.tobytes()


def test_wrong_no_place_reaches_the_table() -> None:
    """The seed's table has syn_id, pre_id, post_id, size; ours says where each cell was hit."""
    cells, density, box = slab(SEED_VOXEL_NM)
    table = measure(density.astype(np.uint64), cells, box)
    rows, _ = assign_many(density.astype(np.uint64), cells, box, table, PARAMETERS)
    voxels = rows[["post_x", "post_y", "post_z"]].to_numpy() / SEED_VOXEL_NM - 0.5
    at = np.rint(voxels).astype(int)
    np.testing.assert_allclose(voxels, at, atol=1e-9)
    np.testing.assert_array_equal(cells[tuple(at.T)], rows["post_id"])


def test_wrong_steps_may_jump_over_membranes() -> None:
    """The seed takes 4 nm steps at any voxel size; ours refuses what skips a voxel."""
    cells, density, box = slab((2.0, 2.0, 50.0))
    with pytest.raises(ConfigError, match="step_nm = 4 is longer than the smallest voxel"):
        assign_synapse(cells, density, box, Site(1, 7, box, 3), PARAMETERS)
