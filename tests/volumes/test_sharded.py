"""Sharded copies hold the same voxels, for CloudVolume and for tensorstore."""

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import FormatError, LayerNotFoundError
from cnapse.geometry import Box
from cnapse.volumes.reader import open_layer
from cnapse.volumes.sharded import shard_grid, sharded_info, write_shard
from cnapse.volumes.writer import commit_info, create_layer


def read_by_tensorstore(path) -> np.ndarray:
    kvstore = {"driver": "file", "path": f"{path}/"}
    found = tensorstore.open({"driver": "neuroglancer_precomputed", "kvstore": kvstore}).result()
    return found[..., 0].read().result()


def packed(folder, array, bounds, chunk, shard_bytes, **options) -> int:
    """Write a layer and its sharded copy, the last shard first; how many shards."""
    source, target = f"file://{folder}/a", f"file://{folder}/b"
    kind = "segmentation" if array.dtype == np.uint64 else "image"
    create_layer(
        source, kind=kind, dtype=array.dtype, bounds=bounds, chunk_size=chunk, **options
    ).write(array, bounds)
    info = sharded_info(source, shard_bytes=shard_bytes)
    commit_info(target, info)
    grid = shard_grid(info, 0)
    for index in reversed(range(len(grid))):
        assert write_shard(source, target, info, 0, index) >= 1
    return len(grid)


axis = st.integers(1, 24)


@given(
    shape=st.tuples(axis, axis, axis),
    start=st.tuples(*[st.integers(-50, 50)] * 3),
    chunk=st.tuples(*[st.integers(3, 9)] * 3),
    shard_bytes=st.sampled_from([500, 5000, 1 << 20]),
    dtype=st.sampled_from([np.uint8, np.uint64]),
    zeros=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_both_readers_find_every_voxel(
    tmp_path_factory, shape, start, chunk, shard_bytes, dtype, zeros
) -> None:
    folder = tmp_path_factory.mktemp("sharded")
    bounds = Box.from_shape(shape, (4, 4, 50), start)
    array = np.random.default_rng(0).integers(0, 9, shape).astype(dtype)
    if zeros:  # igneous damages such chunks at the rim
        array[shape[0] // 2 :] = 0
    array = np.asfortranarray(array)
    packed(folder, array, bounds, chunk, shard_bytes)
    np.testing.assert_array_equal(open_layer(folder / "b").read(bounds), array)
    np.testing.assert_array_equal(read_by_tensorstore(folder / "b"), array)


@pytest.mark.parametrize(
    ("dtype", "encoding"),
    [("uint8", "raw"), ("uint8", "png"), ("uint64", "compressed_segmentation")],
)
def test_many_chunks_become_few_files(tmp_path, dtype, encoding) -> None:
    bounds = Box.from_shape((128, 96, 32), (4, 4, 50))
    array = np.zeros(bounds.shape, dtype, order="F")
    array[20:70, 10:60, 3:20] = 3
    chunk = (16, 16, 8)
    shards = packed(tmp_path, array, bounds, chunk, 1 << 17, encoding=encoding)
    files = list((tmp_path / "b" / "4_4_50").iterdir())
    assert len(files) == shards
    assert len(files) < len(list((tmp_path / "a" / "4_4_50").iterdir())) / 4
    np.testing.assert_array_equal(read_by_tensorstore(tmp_path / "b"), array)


def test_what_cannot_be_packed(tmp_path) -> None:
    bounds = Box.from_shape((40, 40, 8), (4, 4, 50))
    packed(tmp_path, np.ones(bounds.shape, np.uint8, order="F"), bounds, (16, 16, 8), 1 << 20)
    with pytest.raises(FormatError, match="b is sharded already: copy it as it is"):
        sharded_info(tmp_path / "b")
    (tmp_path / "a" / "4_4_50" / "16-32_0-16_0-8").unlink()
    info = sharded_info(tmp_path / "a")
    with pytest.raises(LayerNotFoundError, match="chunk 4_4_50/16-32_0-16_0-8 is missing: make"):
        write_shard(tmp_path / "a", tmp_path / "b", info, 0, 0)


def test_missing_shards_are_an_error_unless_they_are_declared(tmp_path) -> None:
    bounds = Box.from_shape((64, 48, 16), (4, 4, 50), (5, -3, 2))
    array = np.ones(bounds.shape, np.uint8, order="F")
    packed(tmp_path, array, bounds, (16, 16, 8), 1 << 13)
    files = sorted((tmp_path / "b" / "4_4_50").iterdir())
    assert len(files) > 4
    files[1].unlink()
    with pytest.raises(LayerNotFoundError, match="is missing: copy the layer again"):
        open_layer(tmp_path / "b").read(bounds)
    layer = open_layer(tmp_path / "b", fill_missing=True)
    found = layer.read(bounds)
    chunks = np.count_nonzero(found == 0) // (16 * 16 * 8)
    assert layer.missing_chunks == chunks > 0
