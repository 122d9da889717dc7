"""Small tissue for the partner tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import cKDTree

from cnapse.geometry import Triple

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tissue:
    """Cells [x, y, z] and one density in one of them, over the same voxels."""

    cells: Array
    density: Array
    pre_id: int


def make_tissue(seed: int, shape: Triple = (56, 52, 9), gap: float | None = None) -> Tissue:
    """A few cells with curved walls and a density on a wall; the gap may be 0 voxels wide."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(4, 12))
    centres = rng.uniform(0, 1, (count, 3)) * shape * (1, 1, 3)
    weight = np.array([1.0, 1.0, rng.uniform(1.5, 5)])
    at = np.stack(np.mgrid[: shape[0], : shape[1], : shape[2]], axis=-1).reshape(-1, 3)
    distance, nearest = cKDTree(centres * weight).query(at * weight, k=2)
    width = float(rng.choice([0, 3, 5, 9])) if gap is None else gap
    cells = np.where(distance[:, 1] - distance[:, 0] > width, nearest[:, 0] + 3, 0)
    cells = cells.reshape(shape).astype(np.uint64)
    wall = (distance[:, 1] - distance[:, 0]).reshape(shape)
    middle = np.zeros(shape, bool)
    middle[18:-18, 18:-18, 3:-3] = True
    candidates = np.argwhere(middle & (cells > 0) & (wall < width + 8))
    if not len(candidates):
        return make_tissue(seed + 1000, shape, gap)
    x, y, z = candidates[rng.integers(len(candidates))]
    pre_id = int(cells[x, y, z])
    near = ((at - (x, y, z)) ** 2 * (1, 1, 12)).sum(axis=1).reshape(shape) <= 60
    own = (cells == pre_id) | (rng.random(shape) < 0.2)
    return Tissue(cells, near & own, pre_id)


@pytest.fixture(scope="session")
def tissue() -> Callable[..., Tissue]:
    return make_tissue
