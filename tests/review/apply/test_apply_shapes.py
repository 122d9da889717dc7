import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import ReviewError
from cnapse.review.apply_shapes import ball, component_at, nearest_markers

H = (4.0, 4.0, 50.0)


def test_a_fold_belongs_to_the_marker_at_its_end() -> None:
    """In a straight line the far end of a U is near the other arm's marker."""
    mask = np.zeros((3, 21, 1), bool)
    mask[0], mask[2], mask[1, 20] = True, True, True
    owner = nearest_markers(mask, [np.array([[0, 0, 0]]), np.array([[2, 18, 0]])], H)
    voxels = np.argwhere(mask)
    assert (owner[(voxels[:, 0] == 2)] == 1).all()
    assert (owner[(voxels[:, 0] == 0) & (voxels[:, 1] < 9)] == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_nearest_by_another_program(seed) -> None:
    """networkx finds the same distances; parts without a marker stay whole."""
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 4, 3)) < 0.5
    voxels = [tuple(v) for v in np.argwhere(mask).tolist()]
    if len(voxels) < 4:
        return
    marked = rng.permutation(len(voxels))[:3]
    groups = [np.array([voxels[marked[0]], voxels[marked[1]]]), np.array([voxels[marked[2]]])]
    graph = nx.Graph()
    graph.add_nodes_from(voxels)
    for a in voxels:
        for b in voxels:
            if a < b and max(abs(p - q) for p, q in zip(a, b, strict=True)) == 1:
                length = float(np.linalg.norm((np.array(a) - b) * H))
                graph.add_edge(a, b, weight=length)
    reach = [
        nx.multi_source_dijkstra_path_length(graph, {tuple(m) for m in group.tolist()})
        for group in groups
    ]
    owner = dict(zip(voxels, nearest_markers(mask, groups, H).tolist(), strict=True))
    for voxel in voxels:
        far = [lengths.get(voxel, np.inf) for lengths in reach]
        if min(far) < np.inf:
            assert far[owner[voxel]] <= min(far) + 1e-5
    for part in nx.connected_components(graph):
        if not any(voxel in lengths for lengths in reach for voxel in part):
            assert len({owner[voxel] for voxel in part}) == 1


def test_markers_must_mean_the_object() -> None:
    mask = np.zeros((80, 3, 1), bool)
    mask[:5] = True
    here = np.array([[0, 0, 0]])
    with pytest.raises(ReviewError, match="a marker is 276 nm away from the object"):
        nearest_markers(mask, [here, np.array([[73, 0, 0]])], H)
    with pytest.raises(ReviewError, match="groups 1 and 2 mark the same voxel"):
        nearest_markers(mask, [here, here], H)
    # One beside it is taken for the nearest voxel.
    owner = nearest_markers(mask, [here, np.array([[9, 2, 0]])], H)
    assert set(owner.tolist()) == {0, 1}


def test_component_at_the_highest_threshold_that_will_do() -> None:
    probability = np.zeros((20, 20, 5), np.uint8)
    probability[4:16, 4:16, 1:4] = 60
    probability[8:12, 8:12, 2] = 100
    none, seed = np.zeros(probability.shape, bool), np.array([9, 9, 2])
    found = component_at(probability, none, seed, [0.375, 0.2], 8)
    assert len(found) == 16
    assert len(component_at(probability, none, seed, [0.375, 0.2], 17)) == 12 * 12 * 3
    # A component that runs out of what is seen, or touches an object, is none.
    assert component_at(probability[:12], none[:12], seed, [0.2], 8) is None
    other = none.copy()
    other[16, 16, 4] = True
    assert component_at(probability, other, seed, [0.2], 8) is None
    assert component_at(probability, none, np.array([0, 0, 0]), [0.2], 8) is None


def test_a_ball_is_round_in_nm() -> None:
    free = np.ones((41, 41, 5), bool)
    free[20, 21, 2] = False
    voxels = ball(free, np.array([20, 20, 2]), H, 60)
    assert np.ptp(voxels, axis=0).tolist() == [30, 30, 2]
    assert [20, 21, 2] not in voxels.tolist()
    distance = np.linalg.norm((voxels - [20, 20, 2]) * H, axis=1)
    assert distance.max() <= 60
