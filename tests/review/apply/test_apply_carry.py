import numpy as np
import pandas as pd
import pytest

from cnapse.geometry import Box
from cnapse.review.apply_carry import Carrier, voxel_at

FRAME = Box.from_shape((60, 40, 8), (4, 4, 50), (100, 0, 20))


@pytest.fixture
def carrier() -> Carrier:
    labels = np.zeros(FRAME.shape, np.uint64)
    labels[5:8, 5:8, 2], labels[20:24, 5:8, 2], labels[50:52, 30:32, 5] = 306, 7, 2**63
    rows = []
    for syn_id in (2**63, 306, 7):
        voxels = np.argwhere(labels == syn_id) + FRAME.start
        rows.append((syn_id, *voxels.min(0), *(voxels.max(0) + 1)))
    names = ["syn_id", *(f"{e}_{a}" for e in ("start", "stop") for a in "xyz")]
    table = pd.DataFrame(rows, columns=names).astype({"syn_id": "uint64"})

    def read(box: Box) -> np.ndarray:
        out = np.zeros(box.shape, np.uint64)
        inside = box.intersection(FRAME)
        out[inside.slices(box)] = labels[inside.slices(FRAME)]
        return out

    return Carrier(table, FRAME, read)


def nm(x, y, z) -> tuple[float, float, float]:
    return (100 + x + 0.5) * 4, (y + 0.5) * 4, (20 + z + 0.5) * 50


def test_by_id_place_and_nearness(carrier) -> None:
    assert carrier.match(306, [nm(6, 6, 2)]).how == "id"
    assert carrier.match(2**63, []).syn_id == 2**63
    place = carrier.match(999, [nm(6, 6, 2)])
    assert (place.syn_id, place.how) == (306, "place")
    near = carrier.match(999, [nm(45, 30, 5)])
    assert (near.syn_id, near.how) == (2**63, "near")
    # The same id was given to an object elsewhere: the place counts.
    moved = carrier.match(7, [nm(51, 31, 5)])
    assert (moved.syn_id, moved.how) == (2**63, "place")
    # Of several places, the first that lies on an object.
    assert carrier.match(999, [nm(0, 39, 7), nm(21, 6, 2)]).syn_id == 7


def test_what_is_not_found_is_told(carrier) -> None:
    gone = carrier.match(999, [nm(2, 39, 7)])
    assert (gone.syn_id, gone.kind) == (0, "gone")
    assert gone.why == "no synapse within 100 nm of 410 158 1375"
    both = carrier.match(999, [nm(14, 6, 2)])
    assert (both.syn_id, both.kind) == (0, "ambiguous")
    assert both.why == "several synapses within 100 nm of 458 26 1125: 7, 306"
    assert carrier.match(999, []).why == "no synapse 999 in the table, and no place is known"
    assert carrier.match(999, [(-1e6, 0.0, 0.0)]).kind == "gone"


def test_the_voxel_of_a_place() -> None:
    assert voxel_at(nm(3, 4, 5), FRAME) == (103, 4, 25)
    assert voxel_at((-0.1, 3.9, 50.0), FRAME) == (-1, 0, 1)
