"""Objects that a gap parts, against distances between all voxels."""

import itertools
import math

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from cnapse.errors import ConfigError
from cnapse.geometry import Box
from cnapse.synapses import merging
from cnapse.synapses.measure import measure
from cnapse.synapses.merging import merge_candidates, merged, merges, voxel_gap_nm

RESOLUTIONS = [(4.0, 4.0, 50.0), (4.6, 4.6, 50.0), (8.0, 8.0, 8.0)]


def corners(starts, stops) -> dict:
    start = {f"start_{a}": starts[:, i] for i, a in enumerate("xyz")}
    return start | {f"stop_{a}": stops[:, i] for i, a in enumerate("xyz")}


def all_gaps(labels: np.ndarray, cell_of: dict, h) -> dict:
    """Gap of every two objects of one cell, from all of their voxels."""
    voxels = {i: np.argwhere(labels == i) * np.asarray(h) for i in cell_of}
    return {
        (a, b): cdist(voxels[a], voxels[b]).min()
        for a, b in itertools.combinations(sorted(cell_of), 2)
        if cell_of[a] == cell_of[b] > 0
    }


def as_merged(labels: np.ndarray, gaps: dict, limit: float) -> np.ndarray:
    """Labels joined by a graph of pairs; each group goes by its smallest id."""
    graph = nx.Graph([pair for pair, gap in gaps.items() if gap <= limit * (1 + 1e-9)])
    out = labels.copy()
    for group in nx.connected_components(graph):
        out[np.isin(labels, list(group))] = min(group)
    return out


def tissue(seed: int, shape, cells: int = 3) -> tuple:
    """Blobs with ids as the label stage gives them, each within one of some cells (or none)."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random(shape), (1.5, 1.5, 0.7))
    parts, n = ndimage.label(noise > np.quantile(noise, 0.9))
    first = ndimage.minimum(np.arange(noise.size).reshape(shape, order="F"), parts, range(n + 1))
    ids = np.where(np.arange(n + 1) > 0, np.asarray(first) + 1, 0).astype(np.uint64)
    cell = rng.integers(0, cells + 1, n + 1).astype(np.uint64)
    return ids[parts], cell[parts], dict(zip(ids[1:].tolist(), cell[1:].tolist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(RESOLUTIONS), st.floats(4, 160))
def test_all_objects_of_a_cell_within_the_gap_and_no_others(seed, h, limit) -> None:
    labels, cells, cell_of = tissue(seed, (26, 22, 8))
    start = (1003, -77, 5)
    box = Box.from_shape(labels.shape, h, start)
    table = measure(labels, cells, box)
    found = merges(table, lambda part: labels[part.slices(box)], limit, h)
    gaps = all_gaps(labels, cell_of, h)
    near = {pair: gap for pair, gap in gaps.items() if gap <= limit}
    listed = dict(zip(zip(found.pairs["syn_id"], found.pairs["other_id"], strict=True),
                      found.pairs["gap_nm"], strict=True))  # fmt: skip
    assert listed == pytest.approx(near)
    expected = as_merged(labels, gaps, limit)
    np.testing.assert_array_equal(merged(labels, found.mapping), expected)
    # What is kept is named by its first voxel, as if it had been one object from the beginning.
    again = measure(expected, cells, box)
    np.testing.assert_array_equal(again["first_voxel"] + 1, again["syn_id"])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(RESOLUTIONS),
    st.integers(0, 2),
    st.integers(1, 6),
    st.floats(0.2, 2.5),
    st.booleans(),
)
def test_an_object_cut_by_a_plane(seed, h, axis, width, ratio, one_cell) -> None:
    """Joined if and only if both halves are of one cell and the cut is not too wide."""
    rng = np.random.default_rng(seed)
    shape = (18, 16, 14)
    whole = ndimage.gaussian_filter(rng.random(shape), 2) > 0.49
    whole[6:12, 5:11, 4:10] = True
    at = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
    low = int(rng.integers(4, 6))
    labels = np.where(at < low, 5, np.where(at >= low + width, 9, 0)) * whole
    labels = labels.astype(np.uint64)
    if not {5, 9} <= set(np.unique(labels).tolist()):
        return
    cells = np.where(labels == 5, 2, 2 if one_cell else 3).astype(np.uint64)
    box = Box.from_shape(shape, h)
    gap = cdist(np.argwhere(labels == 5) * np.asarray(h), np.argwhere(labels == 9) * h).min()
    limit = gap * ratio
    found = merges(measure(labels, cells, box), lambda b: labels[b.slices(box)], limit, h)
    assert found.mapping == ({9: 5} if one_cell and gap <= limit else {})


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 400).map(lambda nm: nm + 0.1))
def test_candidates_are_the_near_bounding_boxes_of_a_cell(seed, limit) -> None:
    rng = np.random.default_rng(seed)
    n, h = 300, np.array([4.0, 4.0, 50.0])
    start = rng.integers(-200, 200, (n, 3)) // (1, 1, 12)
    # From a single voxel to the whole volume.
    extent = np.maximum(1, (2 ** rng.uniform(0, 9, (n, 1)) * rng.random((n, 3)))).astype(int)
    pre = rng.integers(0, 6, n).astype(np.uint64)
    table = pd.DataFrame({"pre_id": pre, **corners(start, start + extent)})
    first, last = start * h, (start + extent - 1) * h
    beyond = np.maximum(0, np.maximum(first[:, None] - last, first - last[:, None]))
    near = (np.linalg.norm(beyond, axis=2) <= limit) & (pre[:, None] == pre) & (pre > 0)
    found = merge_candidates(table, limit, h)
    assert found.tolist() == np.argwhere(np.triu(near, 1)).tolist()
    assert len(found) > 0


def test_search_in_chunks(monkeypatch) -> None:
    rng = np.random.default_rng(2)
    start = rng.integers(0, 150, (400, 3))
    table = pd.DataFrame(
        {"pre_id": rng.integers(1, 5, 400).astype(np.uint64), **corners(start, start + 5)}
    )
    whole = merge_candidates(table, 60, (4, 4, 4))
    monkeypatch.setattr(merging, "_CHUNK", 7)
    np.testing.assert_array_equal(merge_candidates(table, 60, (4, 4, 4)), whole)
    assert len(whole) > 100


@pytest.mark.parametrize("piece", [(2, 1, 1), (3, 5, 2), (7, 2, 9)])
def test_objects_are_compared_piece_by_piece(monkeypatch, piece) -> None:
    """The same list, and nothing larger than a piece and its surroundings is ever read."""
    labels, cells, _ = tissue(4, (40, 32, 9), cells=1)
    h, limit = (4.0, 4.0, 50.0), 60.0
    box = Box.from_shape(labels.shape, h)
    table = measure(labels, cells, box)
    whole = merges(table, lambda part: labels[part.slices(box)], limit, h)
    largest = [0, 0, 0]

    def read(part: Box) -> np.ndarray:
        largest[:] = np.maximum(largest, part.shape)
        return labels[part.slices(box)]

    monkeypatch.setattr(merging, "_PIECE", piece)
    found = merges(table, read, limit, h)
    pd.testing.assert_frame_equal(found.pairs, whole.pairs)
    assert found.mapping == whole.mapping
    assert len(whole.pairs) > 3
    assert all(n <= p + 2 * (limit // v) for n, p, v in zip(largest, piece, h, strict=True))


def test_a_gap_is_counted_from_centre_to_centre() -> None:
    h = (4.6, 4.6, 50.0)
    at = np.array([[10, 10, 3]])
    assert voxel_gap_nm(at, np.array([[11, 10, 3]]), h) == pytest.approx(4.6)
    assert voxel_gap_nm(at, np.array([[10, 10, 4], [10, 10, 9]]), h) == 50
    assert voxel_gap_nm(at, np.array([[13, 14, 3]]), h) == pytest.approx(23)
    # 3 x 4.6 nm is 13.799999999999999: a limit of 13.8 means it.
    assert voxel_gap_nm(at, np.array([[13, 10, 3]]), h, 13.8) == pytest.approx(13.8)
    assert voxel_gap_nm(at, np.array([[13, 10, 3]]), h, 13.7) == math.inf
    assert voxel_gap_nm(at, np.zeros((0, 3), np.int64), h) == math.inf


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(RESOLUTIONS))
def test_gap_of_voxels_either_way(seed, h) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-50, 50, (20, 3)), rng.integers(-20, 90, (9, 3))
    expected = cdist(a * np.asarray(h), b * np.asarray(h)).min()
    assert voxel_gap_nm(a, b, h) == pytest.approx(expected)
    assert voxel_gap_nm(a, b, h) == voxel_gap_nm(b, a, h)


def test_a_chain_is_one_object_and_other_ids_stay() -> None:
    labels = np.zeros((40, 3, 3), np.uint64, order="F")
    for place, syn_id in ((0, 40), (5, 11), (10, 73), (30, 5), (36, 1 << 60)):
        labels[place : place + 3, 1, 1] = syn_id
    cells = np.where(labels > 0, np.uint64(8), np.uint64(0))
    box = Box.from_shape(labels.shape, (4, 4, 50))
    found = merges(measure(labels, cells, box), lambda b: labels[b.slices(box)], 12, (4, 4, 50))
    assert found.mapping == {40: 11, 73: 11}
    assert found.pairs["kept_id"].tolist() == [11, 11]
    assert found.pairs["x_pos"].tolist() == [26.0, 26.0]
    assert found.pairs["other_x"].tolist() == [6.0, 46.0]
    out = merged(labels, found.mapping)
    assert out.flags.f_contiguous
    assert np.unique(out).tolist() == [0, 5, 11, 1 << 60]
    np.testing.assert_array_equal(out == 11, np.isin(labels, [11, 40, 73]))
    assert np.isin([40, 73], labels).all()


def test_nothing_to_join() -> None:
    labels = np.zeros((9, 3, 3), np.uint64)
    labels[1, 1, 1], labels[3, 1, 1] = 4, 7
    box = Box.from_shape(labels.shape, (4, 4, 50))
    table = measure(labels, np.zeros_like(labels), box)
    found = merges(table, lambda b: labels[b.slices(box)], 100, (4, 4, 50))
    assert not found.mapping
    assert list(found.pairs) == list(merging.MERGE_COLUMNS)
    np.testing.assert_array_equal(merged(labels, found.mapping), labels)
    assert not len(merges(table[:0], lambda b: labels[b.slices(box)], 100, (4, 4, 50)).pairs)


@pytest.mark.parametrize("gap", [0.0, -3.0, math.nan, math.inf])
def test_a_gap_must_be_positive(gap) -> None:
    with pytest.raises(ConfigError, match=rf"^gap_nm must be a positive number of nm, not {gap}$"):
        merge_candidates(pd.DataFrame(), gap, (4, 4, 50))
