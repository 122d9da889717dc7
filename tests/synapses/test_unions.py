"""Union-find against scipy's connected components."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cnapse.synapses.unions import Unions, id_of_each, object_id, roots


@given(st.integers(1, 30), st.data())
@settings(max_examples=30, deadline=None)
def test_groups_are_connected_components(n: int, data: st.DataObject) -> None:
    part = st.integers(0, n - 1)
    pairs = np.array(data.draw(st.lists(st.tuples(part, part), max_size=40)), np.int64)
    pairs = pairs.reshape(-1, 2)
    # The object at voxel 0 may come late, and some parts have no voxel that counts.
    first = np.array(data.draw(st.permutations(range(-1, n - 1))), np.int64)
    first[list(data.draw(st.sets(part, max_size=3)))] = -1
    voxels = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)), np.int64)
    split = data.draw(st.integers(0, n))
    unions = Unions()
    assert unions.add(first[:split], voxels[:split]) == 0
    assert unions.add(first[split:], voxels[split:]) == split
    unions.join(pairs[:, 0], pairs[:, 1])
    groups = unions.solved()

    ones = np.ones(len(pairs))
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    least, most = data.draw(st.integers(0, 6)), data.draw(st.none() | st.integers(3, 20))
    wanted = np.zeros(n, np.uint64)
    for which in range(n):
        mine = component == component[which]
        assert groups.root[which] == np.flatnonzero(mine)[0]
        known = first[mine & (first >= 0)]
        size = voxels[mine].sum()
        if len(known) and size >= least and (most is None or size <= most):
            wanted[which] = known.min() + 1
    np.testing.assert_array_equal(roots(n, pairs), groups.root)
    np.testing.assert_array_equal(id_of_each(groups, least, most), wanted)


def test_more_parts_than_there_was_room_for() -> None:
    unions, many = Unions(), (1 << 16) + 3
    for start in (0, many):
        voxels = np.full(many, 2, np.int64)
        assert unions.add(np.arange(start, start + many), voxels) == start
    unions.join(np.array([0]), np.array([2 * many - 1]))
    groups = unions.solved()
    assert groups.root[-1] == 0
    assert groups.voxels[0] == 4
    np.testing.assert_array_equal(groups.root[:-1], np.arange(2 * many - 1))
    assert (groups.first_voxel[:-1] == np.arange(2 * many - 1)).all()


def test_limits_of_size_count() -> None:
    first, voxels = np.array([0, 10, 20, 30, -1]), np.array([1, 2, 3, 4, 3])
    assert object_id(first, voxels, 2, 3).tolist() == [0, 11, 21, 0, 0]
    assert object_id(first, voxels, 1, None).tolist() == [1, 11, 21, 31, 0]
