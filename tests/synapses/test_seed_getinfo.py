"""Where ``synapse_getinfo.py`` of Cnapse is right, and where it is wrong and we are not.

Its arithmetic is re-stated here, slowly, as a reference; see the list of errors in its code that
each test names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.geometry import Box
from cnapse.synapses.measure import measure
from cnapse.tables import SynapseFlag

Array = npt.NDArray[Any]
RESOLUTION = (4.0, 4.0, 50.0)


def seed_getinfo(synapses: Array, cells: Array) -> pd.DataFrame:
    """What the published program writes, errors included; arrays as it indexes them."""
    pre: dict[int, int] = {}
    size: dict[int, float] = {}
    places: dict[int, list[tuple[int, int, int]]] = {}
    for z in range(synapses.shape[2]):
        section, under = synapses[:, :, z], cells[:, :, z]
        # The least label of each section is taken for background.
        for label in sorted(set(section.ravel().tolist()))[1:]:
            voxels = sorted((x, y) for x, y in np.argwhere(section == label).tolist())
            counts: dict[int, int] = {}
            for x, y in voxels:
                counts[int(under[x, y])] = counts.get(int(under[x, y]), 0) + 1
            if len(counts) > 1:
                counts.pop(0, None)
            # Each section overwrites what the sections before it have found.
            pre[label] = min(counts, key=lambda c: (-counts[c], c))
            size[label] = size.get(label, 0) + len(voxels) * float(np.prod(RESOLUTION))
            # All distances are summed before the least is sought, which leaves one number.
            places.setdefault(label, []).append((*voxels[int(np.argmin(0.0))], z))
    rows = [
        (label, pre[label], size[label], *np.multiply(p[len(p) // 2], RESOLUTION))
        for label, p in places.items()
    ]
    return pd.DataFrame(rows, columns=["syn_id", "pre_id", "size", "x_pos", "y_pos", "z_pos"])


def ours(synapses: Array, cells: Array) -> pd.DataFrame:
    return measure(synapses, cells, Box.from_shape(synapses.shape, RESOLUTION))


def blank(shape: tuple[int, int, int] = (12, 10, 6)) -> tuple[Array, Array]:
    return np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)


def test_agrees_where_the_seed_is_right() -> None:
    """Size and presynaptic cell of synapses that lie on one cell in all sections."""
    rng = np.random.default_rng(0)
    synapses, cells = blank((60, 60, 10))
    cells[:] = 1 + np.arange(60)[:, None, None] // 20 + 10 * (np.arange(60)[None, :, None] // 20)
    cells[rng.random(cells.shape) < 0.2] = 0  # membranes
    for i in range(9):
        x, y = 20 * (i % 3) + 4, 20 * (i // 3) + 4
        dx, dy = rng.integers(3, 12, 2)
        synapses[x : x + dx, y : y + dy, rng.integers(0, 3) : rng.integers(5, 10)] = i + 1
    theirs = seed_getinfo(synapses, cells).sort_values("syn_id").reset_index(drop=True)
    table = ours(synapses, cells)
    assert len(table) == 9
    assert table["syn_id"].tolist() == theirs["syn_id"].tolist()
    assert table["pre_id"].tolist() == theirs["pre_id"].tolist()
    assert table["size"].tolist() == theirs["size"].tolist()


def test_seed_takes_the_presynaptic_cell_of_the_last_section() -> None:
    synapses, cells = blank()
    synapses[2:6, 2:6, 1:4] = 5
    cells[:, :, :3] = 7
    cells[:, :, 3] = 8
    assert seed_getinfo(synapses, cells)["pre_id"].tolist() == [8]
    assert ours(synapses, cells)["pre_id"].tolist() == [7]


def test_seed_takes_background_if_the_last_section_has_nothing_else() -> None:
    synapses, cells = blank()
    synapses[2:6, 2:6, 1:4] = 5
    cells[:, :, :3] = 7
    assert seed_getinfo(synapses, cells)["pre_id"].tolist() == [0]
    assert ours(synapses, cells)["pre_id"].tolist() == [7]


def test_seed_takes_the_first_voxel_for_the_nearest_to_the_centroid() -> None:
    """``argmin`` of the root of the sum of all squares is ``argmin`` of one number: always 0."""
    synapses, cells = blank()
    synapses[2:7, 3:8, 2] = 5
    seed = seed_getinfo(synapses, cells).iloc[0]
    assert (seed["x_pos"], seed["y_pos"], seed["z_pos"]) == (2 * 4, 3 * 4, 2 * 50)  # a corner
    row = ours(synapses, cells).iloc[0]
    # The middle, as the centre of its voxel: half a voxel from the seed's convention.
    assert (row["x_pos"], row["y_pos"], row["z_pos"]) == (4.5 * 4, 5.5 * 4, 2.5 * 50)


def test_seed_centres_by_section_not_by_object() -> None:
    """A large section and a tail: the middle of the list of sections is in the tail."""
    synapses, cells = blank()
    synapses[1:9, 1:9, 0] = 5
    synapses[1, 1, 1:5] = 5
    assert seed_getinfo(synapses, cells)["z_pos"].tolist() == [100]
    assert ours(synapses, cells)["z_pos"].tolist() == [25.0]


def test_seed_drops_the_first_label_of_a_section_without_background() -> None:
    synapses, cells = blank((6, 6, 2))
    cells[:] = 9
    synapses[:3], synapses[3:] = 5, 6
    seed = seed_getinfo(synapses, cells)
    assert seed["syn_id"].tolist() == [6]
    table = ours(synapses, cells)
    assert table["syn_id"].tolist() == [5, 6]
    assert table["size"].tolist() == [36 * 800.0] * 2


def test_seed_takes_a_tiff_as_x_y_z() -> None:
    """A TIFF comes z, y, x: its sections then run along x, and x and z change places."""
    synapses, cells = blank((12, 10, 6))
    cells[:] = 9
    synapses[7:10, 4:7, 2] = 5
    as_read_from_tiff = synapses.T, cells.T
    seed = seed_getinfo(*as_read_from_tiff).iloc[0]
    assert seed["z_pos"] == 8 * 50  # x, in sections of 50 nm
    assert seed["x_pos"] == 2 * 4  # z, in pixels of 4 nm
    row = ours(synapses, cells).iloc[0]
    assert (row["x_pos"], row["y_pos"], row["z_pos"]) == (8.5 * 4, 5.5 * 4, 2.5 * 50)


def test_seed_says_nothing_of_a_synapse_on_no_cell() -> None:
    synapses, cells = blank()
    synapses[2:4, 2:4, 2] = 5
    assert seed_getinfo(synapses, cells)["pre_id"].tolist() == [0]
    row = ours(synapses, cells).iloc[0]
    assert row["pre_id"] == 0
    assert row["flags"] == SynapseFlag.NO_PRESYNAPTIC_CELL
