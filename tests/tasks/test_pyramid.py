"""Mips by many tasks are those of the whole volume at once."""

import numpy as np
import pytest
import tinybrain

from cnapse.geometry import Box
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer
from cnapse_tasks import igneous


@pytest.mark.parametrize(
    ("size", "levels", "made"),
    [
        ((150, 110, 20), 1, 1),
        ((150, 110, 20), 2, 1),  # y is too thin for a second one
        ((150, 140, 9), 2, 2),
        ((64, 64, 8), 3, 1),
        ((257, 131, 5), 2, 2),  # 1 and 3 voxels are left beyond whole blocks
        ((300, 1, 9), 2, 0),
    ],
)
@pytest.mark.parametrize("kind", ["image", "segmentation"])
def test_every_chunk_of_every_mip(tmp_path, size, levels, made, kind) -> None:
    bounds = Box.from_shape(size, (4, 4, 50), (1001, -37, 7))
    rng = np.random.default_rng(2)
    dtype = np.uint8 if kind == "image" else np.uint64
    array = np.asfortranarray(rng.integers(0, 4, size).astype(dtype))
    writer = create_layer(
        tmp_path / "a", kind=kind, dtype=dtype, bounds=bounds, chunk_size=(32, 32, 4)
    )
    writer.write(array, bounds)
    count = igneous.levels_of(bounds, (32, 32, 4), levels)
    grid = igneous.downsampling_grid(bounds, (32, 32, 4), count)
    igneous.add_scales(str(writer.path), (32, 32, 4), count)
    sparse = kind == "segmentation"
    for index in reversed(range(len(grid))):
        igneous.downsample(writer.path, grid, index, count, sparse=sparse)
    assert len(open_layer(tmp_path / "a").info["scales"]) == 1 + made
    reduce = tinybrain.downsample_segmentation if sparse else tinybrain.downsample_with_averaging
    options = {"sparse": True} if sparse else {}
    expected = reduce(array, (2, 2, 1), num_mips=made, **options) if made else []
    for mip in range(1, made + 1):
        layer = open_layer(tmp_path / "a", mip=mip)
        np.testing.assert_array_equal(layer.read(layer.bounds), np.squeeze(expected[mip - 1]))
