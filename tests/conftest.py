"""What several tests share: real data if it is there, and a small tissue made by hand."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from cnapse.config import Config
from cnapse.geometry import Box
from cnapse.phantom import PhantomSpec
from cnapse.store import Store
from cnapse.volumes.writer import create_layer
from cnapse_cli.phantom import write_phantom

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real EM beside the project; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("CNAPSE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "vnc_sstem" / "raw.tif").is_file():
        pytest.skip(f"no real data at {path} (set CNAPSE_SHARED_DATA)")
    return path


@dataclass(frozen=True)
class Tissue:
    """Columns of cells with a gap, and densities on some membranes; as arrays and as layers."""

    box: Box
    cells: np.ndarray
    probability: np.ndarray
    folder: Path

    def config(self, output: Path, **changes) -> Config:
        """A run from the probability map on, by both methods of assignment."""
        values = {
            "output": f"file://{output}",
            "resolution": self.box.resolution,
            "layers": {
                "probability": f"file://{self.folder}/probability",
                "cells": f"file://{self.folder}/cells",
            },
            "label": {"min_voxels": 5},
            "assign": {"method": "both"},
            "block": (64, 64, 8),
        }
        return Config.from_dict(values | changes)


@pytest.fixture(scope="session")
def tissue(tmp_path_factory) -> Tissue:
    """Made without the phantom's code: a second, independent source of cells and densities."""
    rng = np.random.default_rng(11)
    shape = (150, 110, 20)
    box = Box.from_shape(shape, (4, 4, 50), (1001, -37, 7))
    sites = rng.random((40, 2)) * shape[:2]
    plane = np.stack(np.meshgrid(*map(np.arange, shape[:2]), indexing="ij"), axis=-1)
    cells = np.zeros(shape, np.uint64, order="F")
    for z in range(shape[2]):
        drift = 3 * np.stack([np.sin(z / 5 + np.arange(40)), np.cos(z / 7 + np.arange(40))], -1)
        distance, nearest = cKDTree(sites + drift).query(plane, k=2)
        apart = distance[..., 1] - distance[..., 0] >= 3
        cells[:, :, z] = np.where(apart, nearest[..., 0] * 1000 + 7, 0)
    rim = (ndimage.minimum_filter(cells, (9, 9, 1)) == 0) & (cells > 0)
    probability = np.zeros(shape, np.uint8, order="F")
    for x, y, z in rng.integers((8, 8, 1), (142, 102, 18), (40, 3)):
        part = (slice(x - 7, x + 7), slice(y - 7, y + 7), slice(z - 1, z + 2))
        density = rim[part] & (cells[part] == cells[x, y, z]) & (cells[x, y, z] > 0)
        probability[part][density] = 150 + z
    folder = tmp_path_factory.mktemp("tissue")
    for name, kind, array in (
        ("probability", "image", probability),
        ("cells", "segmentation", cells),
    ):
        writer = create_layer(
            folder / name, kind=kind, dtype=array.dtype, bounds=box, chunk_size=(32, 32, 4)
        )
        writer.write(array, box)
    return Tissue(box, cells, probability, folder)


@pytest.fixture(scope="session")
def fingerprint() -> Callable[[Config], dict[str, str]]:
    """Hashes of all that a run made, but for records and provenance."""

    def of(config: Config) -> dict[str, str]:
        store = Store(config.output)
        return {
            name: hashlib.sha256(store.read(name)).hexdigest()
            for name in store.names()
            if not name.startswith(".cnapse/") and not name.endswith("provenance")
        }

    return of


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """The session's phantom: layers image and cells, and the truth."""
    folder = tmp_path_factory.mktemp("phantom") / "tissue"
    spec = PhantomSpec((400, 384, 22), seed=77, voxel_offset=(1003, -501, 40))
    assert write_phantom(spec, folder) >= 5
    return folder
