import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import BoundsError, FormatError, LayerExistsError, ResolutionError
from cnapse.geometry import Box, Grid
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import (
    build_info,
    create_layer,
    open_writer,
)

axis = st.integers(1, 20)
profile = settings(max_examples=20, deadline=None)
BOUNDS = Box((5, -3, 2), (25, 17, 12), (4.6, 4.6, 50))


def says(text):
    return re.escape(text)


def noise(shape, dtype, seed=0):
    if np.dtype(dtype).kind == "f":
        return np.random.default_rng(seed).normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def image(path, **changes):
    options = {"kind": "image", "dtype": "uint8", "bounds": BOUNDS, "chunk_size": (8, 8, 4)}
    return create_layer(path, **{**options, **changes})


@given(
    shape=st.tuples(axis, axis, axis),
    start=st.tuples(*[st.integers(-20, 20)] * 3),
    chunk=st.tuples(*[st.integers(1, 9)] * 3),
    blocks=st.tuples(*[st.integers(1, 3)] * 3),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "uint32", "uint64", "float32"]),
    order=st.sampled_from("CF"),
)
@profile
def test_images_by_blocks_are_the_bytes_on_disk(raw, shape, start, chunk, blocks, dtype, order):
    bounds = Box.from_shape(shape, (4.6, 4.6, 50), start)
    array = np.asarray(noise(shape, dtype), order=order)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        writer = create_layer(path, kind="image", dtype=dtype, bounds=bounds, chunk_size=chunk)
        for block in Grid(bounds, tuple(c * n for c, n in zip(chunk, blocks, strict=True))):
            writer.write(array[block.write.slices(bounds)], block.write)
        np.testing.assert_array_equal(raw.read(path), array)
        layer = open_layer(path, kind="image")
        assert layer.bounds == bounds
        np.testing.assert_array_equal(layer.read(bounds), array)


@pytest.mark.parametrize("encoding", [None, "raw", "compressed_segmentation", "compresso"])
@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_segmentations_are_what_cloudvolume_reads(tmp_path, encoding, dtype, order):
    from cloudvolume import CloudVolume

    array = np.asarray(noise(BOUNDS.shape, dtype), order=order)
    array[:10] = array[3, 3, 3]
    writer = image(tmp_path / "a", kind="segmentation", dtype=dtype, encoding=encoding)
    writer.write(array, BOUNDS)
    volume = CloudVolume(f"file://{tmp_path}/a", progress=False)
    assert volume.layer_type == "segmentation"
    assert volume.encoding == (encoding or "compressed_segmentation")
    np.testing.assert_array_equal(np.asarray(volume[:, :, :])[..., 0], array)


@pytest.mark.parametrize("encoding", ["png", "jpeg", "jxl"])
def test_images_in_other_encodings(tmp_path, encoding):
    x, y, z = np.meshgrid(*[np.arange(n) for n in BOUNDS.shape], indexing="ij")
    array = (8 * x + 4 * y + z).clip(0, 255).astype(np.uint8)
    image(tmp_path / "a", encoding=encoding).write(array, BOUNDS)
    found = open_layer(tmp_path / "a").read(BOUNDS).astype(int)
    assert np.abs(found - array).max() <= (0 if encoding == "png" else 30)


def test_files_are_plain_and_zeros_are_written(tmp_path):
    writer = image(tmp_path / "a")
    writer.write(np.zeros(BOUNDS.shape, np.uint8), BOUNDS)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*"))
    names = [str(p) for p in files]
    assert len(list((tmp_path / "a" / "4.6_4.6_50").iterdir())) == len(Grid(BOUNDS, (8, 8, 4)))
    assert not [n for n in names if n.endswith((".gz", ".part"))]
    assert {"info", "provenance"} <= set(names)
    assert not open_layer(tmp_path / "a").read(BOUNDS).any()


def test_a_compressed_file_of_the_same_name_does_not_shadow_ours(tmp_path):
    from cloudvolume import CloudVolume

    writer = image(tmp_path / "a")
    volume = CloudVolume(f"file://{tmp_path}/a", progress=False)  # gzips by default
    volume[:, :, :] = np.full(BOUNDS.shape, 9, np.uint8)
    writer.write(np.full(BOUNDS.shape, 4, np.uint8), BOUNDS)
    assert np.unique(open_layer(tmp_path / "a").read(BOUNDS)).tolist() == [4]
    assert not list((tmp_path / "a").rglob("*.gz"))


def test_a_write_that_fails_leaves_the_old_chunk(tmp_path, monkeypatch):
    writer = image(tmp_path / "a")
    writer.write(np.full(BOUNDS.shape, 4, np.uint8), BOUNDS)

    def full_disk(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="no space left on the disk: free some"):
            writer.write(np.full(BOUNDS.shape, 5, np.uint8), BOUNDS)
    assert np.unique(open_layer(tmp_path / "a").read(BOUNDS)).tolist() == [4]


def test_buckets_get_gzip(tmp_path):
    from cloudfiles import CloudFiles

    array = noise(BOUNDS.shape, "uint64")
    writer = image("mem://cnapse-test/a", kind="segmentation", dtype="uint64")
    writer.write(array, BOUNDS)
    found = open_writer("mem://cnapse-test/a")
    assert found.bounds == BOUNDS
    np.testing.assert_array_equal(open_layer("mem://cnapse-test/a").read(BOUNDS), array)
    files = CloudFiles("mem://cnapse-test/a")
    chunk = next(iter(files.list(prefix="4.6_4.6_50/")))
    assert files.get([chunk], raw=True)[0]["compress"] == "gzip"
    assert files.get_json("provenance")["description"].startswith("made by cnapse")


def test_provenance_says_which_version(tmp_path):
    image(tmp_path / "a")
    found = json.loads((tmp_path / "a" / "provenance").read_text())
    assert found["description"].startswith("made by cnapse ")


@pytest.mark.parametrize(
    ("resolution", "key", "stored"),
    [
        ((4, 4, 50), "4_4_50", [4, 4, 50]),
        ((4.6, 4.6, 50), "4.6_4.6_50", [4.6, 4.6, 50]),
    ],
)
def test_the_info(resolution, key, stored):
    bounds = Box((5, -3, 2), (25, 17, 12), resolution)
    info = build_info(kind="segmentation", dtype="uint64", bounds=bounds, chunk_size=16)
    assert info["scales"] == [
        {
            "chunk_sizes": [[16, 16, 16]],
            "compressed_segmentation_block_size": [8, 8, 8],
            "encoding": "compressed_segmentation",
            "key": key,
            "resolution": stored,
            "size": [20, 20, 10],
            "voxel_offset": [5, -3, 2],
        }
    ]
    assert (info["type"], info["data_type"], info["num_channels"]) == ("segmentation", "uint64", 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_small_segmentations_are_raw_by_default(dtype):
    info = build_info(kind="segmentation", dtype=dtype, bounds=BOUNDS, chunk_size=16)
    assert info["scales"][0]["encoding"] == "raw"


def test_a_layer_may_be_there_already(tmp_path):
    image(tmp_path / "a").write(noise(BOUNDS.shape, "uint8"), BOUNDS)
    info = json.loads((tmp_path / "a" / "info").read_text())
    # What other programs add: mips, meshes.
    info["scales"].append({**info["scales"][0], "key": "9", "resolution": [9.2, 9.2, 50]})
    info["mesh"] = "mesh"
    (tmp_path / "a" / "info").write_text(json.dumps(info))
    again = image(tmp_path / "a", exist_ok=True)
    assert again.bounds == BOUNDS
    assert json.loads((tmp_path / "a" / "info").read_text()) == info
    message = f"file://{tmp_path}/a: there is a layer already: delete it or choose another path"
    with pytest.raises(LayerExistsError, match=says(message)):
        image(tmp_path / "a")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"dtype": "uint16"}, "data_type uint8 instead of uint16"),
        ({"kind": "segmentation"}, "type image instead of segmentation"),
        ({"chunk_size": 16}, "chunk_sizes [[8, 8, 4]] instead of [[16, 16, 16]]"),
        ({"encoding": "png"}, "encoding raw instead of png"),
        ({"bounds": BOUNDS.translated((1, 0, 0))}, "voxel_offset [5, -3, 2] instead of [6, -3, 2]"),
        (
            {"bounds": Box(BOUNDS.start, BOUNDS.stop, (4, 4, 50))},
            "resolution [4.6, 4.6, 50] instead of [4, 4, 50]",
        ),
    ],
)
def test_another_layer_is_there(tmp_path, changes, difference):
    image(tmp_path / "a")
    message = (
        f"file://{tmp_path}/a: there is a layer already, with {difference}: "
        "delete it or choose another path"
    )
    with pytest.raises(LayerExistsError, match=says(message)):
        image(tmp_path / "a", exist_ok=True, **changes)


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ((5, -3, 2), (12, 17, 12)),  # ends inside a chunk
        ((6, -3, 2), (25, 17, 12)),  # begins inside one
        ((5, -3, 4), (13, 5, 8)),
    ],
)
def test_boxes_that_cut_chunks(tmp_path, start, stop):
    writer = image(tmp_path / "a")
    box = Box(start, stop, (4.6, 4.6, 50))
    message = (
        f"file://{tmp_path}/a: {box} cuts through storage chunks of [8, 8, 4] that begin at "
        "[5, -3, 2]: write whole chunks, or up to the layer's end"
    )
    with pytest.raises(BoundsError, match=says(message)):
        writer.write(np.zeros(box.shape, np.uint8), box)
    assert not (tmp_path / "a" / "4.6_4.6_50").exists()


def test_a_box_outside(tmp_path):
    writer = image(tmp_path / "a")
    box = BOUNDS.grown(8)
    message = f"file://{tmp_path}/a covers {BOUNDS}, cannot write {box}"
    with pytest.raises(BoundsError, match=says(message)):
        writer.write(np.zeros(box.shape, np.uint8), box)


def test_arrays_that_do_not_fit(tmp_path):
    writer = image(tmp_path / "a")
    message = (
        f"file://{tmp_path}/a holds uint8, the array is int64: convert it with "
        'array.astype("uint8")'
    )
    with pytest.raises(FormatError, match=says(message)):
        writer.write(np.zeros(BOUNDS.shape, np.int64), BOUNDS)
    message = (
        f"file://{tmp_path}/a: an array of shape (10, 20, 20) does not fill {BOUNDS}, "
        "whose shape is (20, 20, 10)"
    )
    with pytest.raises(FormatError, match=says(message)):
        writer.write(np.zeros((10, 20, 20), np.uint8), BOUNDS)
    box = Box(BOUNDS.start, BOUNDS.stop, (9.2, 9.2, 50))
    message = (
        f"file://{tmp_path}/a has voxels of 4.6 x 4.6 x 50 nm, the box {box} has others: "
        "use box.at(writer.bounds.resolution)"
    )
    with pytest.raises(ResolutionError, match=says(message)):
        writer.write(np.zeros(BOUNDS.shape, np.uint8), box)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"kind": "segmentation", "dtype": "float32"},
            "a layer of type segmentation cannot hold float32: it takes unsigned integers",
        ),
        (
            {"dtype": "float64"},
            "a layer of type image cannot hold float64: it takes integers or float32",
        ),
        (
            {"dtype": "uint16", "encoding": "jpeg"},
            "encoding 'jpeg' does not go with a layer of type image and uint16: use raw or png",
        ),
        (
            {"kind": "segmentation", "dtype": "uint8", "encoding": "compressed_segmentation"},
            "encoding 'compressed_segmentation' does not go with a layer of type segmentation and",
        ),
        ({"chunk_size": (8, 0, 8)}, "a chunk must have at least 1 voxel per axis, not [8, 0, 8]"),
    ],
)
def test_formats_that_do_not_exist(tmp_path, changes, message):
    with pytest.raises(FormatError, match=says(message)):
        image(tmp_path / "a", **changes)
    assert not (tmp_path / "a").exists()


def test_a_layer_without_voxels(tmp_path):
    empty = Box((0, 0, 0), (0, 5, 5), (4, 4, 50))
    with pytest.raises(BoundsError, match=says(f"a layer must have voxels, not {empty}")):
        image(tmp_path / "a", bounds=empty)


def test_sharded_layers_are_not_written(tmp_path):
    image(tmp_path / "a")
    info = json.loads((tmp_path / "a" / "info").read_text())
    info["scales"][0]["sharding"] = {"@type": "neuroglancer_uint64_sharded_v1"}
    (tmp_path / "a" / "info").write_text(json.dumps(info))
    message = (
        f"file://{tmp_path}/a is sharded, and writing a chunk would replace a whole shard: "
        "write to an unsharded layer"
    )
    with pytest.raises(FormatError, match=says(message)):
        open_writer(tmp_path / "a")
    info["num_channels"] = 3
    del info["scales"][0]["sharding"]
    (tmp_path / "a" / "info").write_text(json.dumps(info))
    message = f"file://{tmp_path}/a has several channels; only one can be written"
    with pytest.raises(FormatError, match=says(message)):
        open_writer(tmp_path / "a")
