"""Synapse tables of other projects, made as they publish them; a layer read by neuroglancer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from neuroglancer.read_precomputed_annotations import AnnotationReader

ROWS = 12
FIRST_CELL = 864691135000000001  # beyond 2^53, and odd: float64 cannot hold it


@dataclass
class Truth:
    """What all tables tell: positions in voxels of 4 x 4 x 40 nm."""

    pre: np.ndarray
    post: np.ndarray
    centre: np.ndarray
    pre_cell: np.ndarray
    post_cell: np.ndarray
    ids: np.ndarray
    size: np.ndarray


@pytest.fixture(scope="session")
def truth() -> Truth:
    rng = np.random.default_rng(5)
    pre, post = rng.integers(100, 30000, (2, ROWS, 3))
    n = np.arange(ROWS, dtype=np.uint64)
    return Truth(
        pre,
        post,
        (pre + post) // 2,
        np.uint64(FIRST_CELL) + 2 * (n % 3),
        np.uint64(2**63 + 1) + 2 * (n % 4),
        np.uint64(2**60 + 1) + 2 * n,
        rng.integers(10, 5000, ROWS),
    )


@pytest.fixture
def cave(truth) -> pd.DataFrame:
    """As `materialize.synapse_query` returns it."""
    return pd.DataFrame(
        {
            "id": truth.ids,
            "valid": True,
            "pre_pt_supervoxel_id": truth.ids + 9,
            "pre_pt_root_id": truth.pre_cell,
            "post_pt_supervoxel_id": truth.ids + 9,
            "post_pt_root_id": truth.post_cell,
            "size": truth.size,
            "pre_pt_position": list(truth.pre),
            "post_pt_position": list(truth.post),
            "ctr_pt_position": list(truth.centre),
        }
    )


@pytest.fixture
def split(cave) -> pd.DataFrame:
    """The same with `split_positions=True`."""
    lists = [name for name in cave if name.endswith("_position")]
    columns = {
        f"{name}_{axis}": [place[i] for place in cave[name]]
        for name in lists
        for i, axis in enumerate("xyz")
    }
    return cave.drop(columns=lists).assign(**columns)


@dataclass
class Found:
    """A line or point as neuroglancer's own reader finds it."""

    points: np.ndarray
    properties: dict
    segments: dict


def read_layer(folder: Path) -> dict[int, Found]:
    """All annotations that the spatial index lists, with what is stored by id."""
    reader = AnnotationReader(f"file://{folder}/")
    ids = set()
    for level in reader.spatial:
        for cell in np.ndindex(*level.metadata["grid_shape"]):
            if cell in level:
                ids |= {int(found.id) for found in level[cell]}
    found = {}
    for i in ids:
        one = reader.by_id[i]
        ends = (
            [one.point] if reader.annotation_type.lower() == "point" else [one.point_a, one.point_b]
        )
        found[i] = Found(
            np.array(ends, np.float64),
            dict(zip((p.id for p in reader.properties), one.props, strict=True)),
            {
                name: list(segments)
                for name, segments in zip(reader.relationships, one.segments, strict=True)
            },
        )
    return found


@pytest.fixture
def read():
    return read_layer
