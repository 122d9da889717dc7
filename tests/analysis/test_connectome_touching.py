"""Areas of contact in blocks against cc3d on the whole array."""

import cc3d
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnapse.analysis.connectome_touching import touching_cells
from cnapse.geometry import Box
from cnapse.volumes.grow import grown_labels


class Array:
    """A layer in memory."""

    def __init__(self, labels, start=(3, 0, 1)) -> None:
        stop = [a + n for a, n in zip(start, labels.shape, strict=True)]
        self.resolution = (4.0, 5.0, 40.0)
        self.bounds = Box(start, stop, self.resolution)
        self._labels = labels

    def read(self, box):
        low = np.subtract(box.start, self.bounds.start)
        high = np.subtract(box.stop, self.bounds.start)
        return self._labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    block=st.tuples(*[st.integers(1, 10)] * 3),
    seed=st.integers(0, 99),
    grow=st.sampled_from([0.0, 9.0]),
)
def test_blocks_give_the_areas_of_cc3d(shape, block, seed, grow) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, shape).astype(np.uint32)
    found = touching_cells(Array(labels), grow_nm=grow, block=block)
    whole = grown_labels(labels, grow, (4.0, 5.0, 40.0)) if grow else labels
    expected = cc3d.contacts(whole, connectivity=6, surface_area=True, anisotropy=(4.0, 5.0, 40.0))
    pairs = zip(found["pre_id"], found["post_id"], found["area_nm2"], strict=True)
    assert {(int(a), int(b)): area for a, b, area in pairs} == pytest.approx(expected)
    assert (found["pre_id"] < found["post_id"]).all()


def test_large_ids_stay_exact() -> None:
    labels = np.array([[[2**64 - 1]], [[2**53 + 1]]], np.uint64)
    found = touching_cells(Array(labels))
    assert found.to_numpy(object).tolist() == [[2**53 + 1, 2**64 - 1, 200.0]]
