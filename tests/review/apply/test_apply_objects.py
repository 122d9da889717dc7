"""Edits kept sparsely give what edits of the whole array give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import ReviewError
from cnapse.geometry import Box, Grid
from cnapse.review.apply_objects import Objects

SHAPE, CHUNK = (9, 7, 5), (4, 3, 2)
FRAME = Box.from_shape(SHAPE, (4, 4, 50), (3, -2, 10))


def objects_of(labels: np.ndarray) -> Objects:
    def extent_of(syn_id: int) -> Box | None:
        voxels = np.argwhere(labels == syn_id)
        if not len(voxels):
            return None
        start, stop = voxels.min(0) + FRAME.start, voxels.max(0) + 1 + FRAME.start
        return Box(tuple(start), tuple(stop), FRAME.resolution)

    return Objects(FRAME, CHUNK, lambda box: labels[box.slices(FRAME)], extent_of)


class Dense:
    """The same edits on the whole array."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels.copy()
        self.alive = set(np.unique(labels).tolist()) - {0}

    def new(self, voxels: np.ndarray) -> int:
        order = sorted(int(i) for i in FRAME.raster_index(voxels))
        syn_id = next(i + 1 for i in order if i + 1 not in self.alive)
        self.labels[tuple((voxels - FRAME.start).T)] = syn_id
        self.alive.add(syn_id)
        return syn_id


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_like_the_whole_array(data) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    # Ids are those of voxels, so that new ones may clash with them.
    layer = rng.choice([0, 0, 0, 3, 40, 41, 120, 300], SHAPE).astype(np.uint64)
    layer.setflags(write=False)
    sparse, dense = objects_of(layer), Dense(layer)
    for _ in range(data.draw(st.integers(1, 7))):
        present = sorted(set(np.unique(dense.labels).tolist()) - {0})
        kind = data.draw(st.sampled_from(["remove", "merge", "split", "paint", "new", "erase"]))
        if kind == "remove" and present:
            syn_id = data.draw(st.sampled_from(present))
            sparse.remove(syn_id)
            dense.labels[dense.labels == syn_id] = 0
            dense.alive.discard(syn_id)
        elif kind == "merge" and len(present) > 1:
            group = data.draw(st.permutations(present))[:2]
            kept = min(group)
            assert sparse.merge(group) == kept
            dense.labels[np.isin(dense.labels, group)] = kept
            dense.alive -= set(group) - {kept}
        elif kind == "split" and present:
            syn_id = data.draw(st.sampled_from(present))
            voxels = np.argwhere(dense.labels == syn_id) + FRAME.start
            piece = voxels[rng.random(len(voxels)) < 0.5]
            if 0 < len(piece) < len(voxels):
                assert sparse.split(syn_id, [piece]) == [dense.new(piece)]
        else:
            voxels = np.argwhere(rng.random(SHAPE) < 0.05) + FRAME.start
            if not len(voxels):
                continue
            if kind == "erase" or not present:
                assert sparse.paint(voxels, 0) == 0
                dense.labels[tuple((voxels - FRAME.start).T)] = 0
            elif kind == "paint":
                syn_id = data.draw(st.sampled_from(present))
                assert sparse.paint(voxels, syn_id) == syn_id
                dense.labels[tuple((voxels - FRAME.start).T)] = syn_id
            else:
                assert sparse.paint(voxels, None) == dense.new(voxels)
    np.testing.assert_array_equal(sparse.read(FRAME), dense.labels)
    part = Box((4, -1, 11), (10, 4, 14), FRAME.resolution)
    np.testing.assert_array_equal(sparse.read(part), dense.labels[part.slices(FRAME)])
    edits = sparse.edits()
    for block in Grid(FRAME, CHUNK):
        cut = block.write.slices(FRAME)
        if (dense.labels[cut] != layer[cut]).any():
            assert block.index in edits
    for syn_id in (set(np.unique(dense.labels).tolist()) | set(np.unique(layer).tolist())) - {0}:
        now, before = dense.labels == syn_id, layer == syn_id
        if not now.any():
            continue
        assert syn_id in sparse.changed or (now == before).all()
        found = {tuple(v) for v in (sparse.voxels_of(syn_id) - FRAME.start).tolist()}
        assert found == {tuple(v) for v in np.argwhere(now).tolist()}


def test_ids_stand_for_what_they_were_merged_into() -> None:
    labels = np.zeros(SHAPE, np.uint64)
    labels[0, 0, 0], labels[4, 4, 4], labels[8, 6, 4] = 1, 200, 315
    objects = objects_of(labels)
    assert objects.merge([315, 200]) == 200
    assert objects.resolve(315) == 200
    assert objects.merge([200, 1]) == 1
    assert (objects.resolve(315), objects.resolve(200)) == (1, 1)
    # A piece that has the voxel of a retired id is that object again.
    (again,) = objects.split(1, [np.array([[11, 4, 14]])])
    assert (again, objects.resolve(315), objects.gone()) == (315, 315, {200})
    objects.remove(1)
    assert objects.resolve(1) is None
    assert objects.gone() == {1, 200}
    with pytest.raises(ReviewError, match="synapse 77 is not there"):
        objects.remove(77)
