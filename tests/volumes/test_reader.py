import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import (
    ConfigError,
    FormatError,
    LayerNotFoundError,
    ResolutionError,
    StorageError,
    StorageUnavailableError,
)
from cnapse.geometry import Box
from cnapse.volumes.reader import open_layer, read_cutouts
from cnapse.volumes.stored import load_info
from cnapse.volumes.writer import create_layer

axis = st.integers(1, 11)
shapes = st.tuples(axis, axis, axis)
offsets = st.tuples(*[st.integers(-20, 20)] * 3)
chunks = st.tuples(*[st.integers(1, 6)] * 3)
seeds = st.integers(0, 999)
profile = settings(max_examples=20, deadline=None)

NUMPY_MODE = {"zero": "constant", "edge": "edge", "mirror": "reflect"}


def says(text):
    return re.escape(text)


def noise(shape, seed, dtype="uint8", high=250):
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def at_ratio(array, offset, down, up, kind):
    """A volume at another resolution, voxel by voxel in plain Python: (array, offset)."""
    low = [o * m // k for o, k, m in zip(offset, down, up, strict=True)]
    stop = [-(-(o + n) * m // k) for o, n, k, m in zip(offset, array.shape, down, up, strict=True)]
    out = np.empty([b - a for a, b in zip(low, stop, strict=True)], dtype=array.dtype)
    for index in np.ndindex(*out.shape):
        windows = []
        for i, a, o, n, k, m in zip(index, low, offset, array.shape, down, up, strict=True):
            first = (i + a) * k // m - o
            windows.append(slice(max(0, first), min(n, first + k)))
        values = array[tuple(windows)]
        if kind == "image":
            out[index] = np.rint(np.mean(values, dtype=np.float64))
        else:
            labels, counts = np.unique(values, return_counts=True)
            out[index] = labels[np.argmax(counts)]
    return out, tuple(low)


def cut(array, offset, box, mode):
    """A box out of a volume padded by numpy, far enough for every box of these tests."""
    reach = 60
    padded = np.pad(array, reach, mode=NUMPY_MODE[mode])
    return padded[
        tuple(
            slice(a - o + reach, b - o + reach)
            for a, b, o in zip(box.start, box.stop, offset, strict=True)
        )
    ]


@given(
    shape=shapes,
    offset=offsets,
    chunk=chunks,
    seed=seeds,
    start=st.tuples(*[st.integers(-25, 35)] * 3),
    size=st.tuples(*[st.integers(0, 14)] * 3),
    mode=st.sampled_from(["zero", "edge", "mirror"]),
)
@profile
def test_any_box_equals_numpy_padding(raw, shape, offset, chunk, seed, start, size, mode):
    array = noise(shape, seed)
    with tempfile.TemporaryDirectory() as folder:
        raw.write(Path(folder) / "a", [raw.Scale(array, offset, (4.6, 4.6, 50), chunk)])
        layer = open_layer(Path(folder) / "a")
        assert layer.bounds == Box.from_shape(shape, (4.6, 4.6, 50), offset)
        box = Box.from_shape(size, (4.6, 4.6, 50), start)
        found = layer.read(box, pad=mode)
        np.testing.assert_array_equal(found, cut(array, offset, box, mode))
        assert found.flags.f_contiguous
        assert found.dtype == np.uint8


@pytest.mark.parametrize("kind", ["image", "segmentation"])
@given(
    shape=shapes,
    offset=offsets,
    chunk=chunks,
    seed=seeds,
    down=st.tuples(*[st.integers(1, 4)] * 3),
    up=st.tuples(*[st.integers(1, 3)] * 3),
    start=st.tuples(*[st.integers(-8, 8)] * 3),
    size=st.tuples(*[st.integers(1, 14)] * 3),
    mode=st.sampled_from(["zero", "edge", "mirror"]),
)
@profile
def test_any_ratio_equals_numpy(raw, kind, shape, offset, chunk, seed, down, up, start, size, mode):
    down = tuple(1 if m > 1 else k for k, m in zip(down, up, strict=True))
    resolution = (4.6, 4.6, 50)
    wanted = tuple(h * k / m for h, k, m in zip(resolution, down, up, strict=True))
    array = noise(shape, seed, high=4 if kind == "segmentation" else 250)
    with tempfile.TemporaryDirectory() as folder:
        raw.write(Path(folder) / "a", [raw.Scale(array, offset, resolution, chunk)], kind)
        layer = open_layer(Path(folder) / "a", resolution=wanted)
        whole, low = at_ratio(array, offset, down, up, kind)
        assert layer.bounds == Box.from_shape(whole.shape, wanted, low)
        np.testing.assert_array_equal(layer.read(layer.bounds), whole)
        box = Box.from_shape(size, wanted, np.add(low, start))
        np.testing.assert_array_equal(layer.read(box, pad=mode), cut(whole, low, box, mode))


@given(
    seed=seeds,
    extents=st.lists(st.tuples(shapes, offsets, chunks), min_size=3, max_size=3),
)
@profile
def test_each_mip_has_its_own_offset_and_content(raw, seed, extents):
    # Contents that are no downsampling of each other show which scale was read.
    resolutions = [(4.6, 4.6, 50), (9.2, 9.2, 50), (18.4, 18.4, 100)]
    scales = [
        raw.Scale(noise(shape, seed + mip), offset, resolutions[mip], chunk)
        for mip, (shape, offset, chunk) in enumerate(extents)
    ]
    with tempfile.TemporaryDirectory() as folder:
        raw.write(Path(folder) / "a", scales)
        finest = open_layer(Path(folder) / "a")
        assert finest.resolution == (4.6, 4.6, 50)
        for mip, scale in enumerate(scales):
            for layer in (
                open_layer(Path(folder) / "a", mip=mip),
                open_layer(Path(folder) / "a", resolution=scale.resolution),
                finest.at(scale.resolution),
            ):
                assert layer.bounds.start == scale.offset
                assert layer.chunk_size == scale.chunk
                np.testing.assert_array_equal(layer.read(layer.bounds), scale.array)


def layer_of_scales(raw, folder, resolutions, size=12):
    scales = [
        raw.Scale(np.full((size,) * 3, mip, dtype=np.uint8), resolution=resolution)
        for mip, resolution in enumerate(resolutions)
    ]
    return raw.write(folder / "a", scales)


@pytest.mark.parametrize(
    ("wanted", "mip"),
    [
        ((16, 16, 50), 1),  # nearest finer, not the finest
        ((2, 2, 50), 0),  # finer than all: the nearest coarser
        ((12, 12, 50), 0),  # mip 1 does not nest
        ((8, 8, 25), 1),  # repeated in z only
        ((64, 64, 100), 2),
    ],
)
def test_which_scale_is_read(raw, tmp_path, wanted, mip):
    path = layer_of_scales(raw, tmp_path, [(4, 4, 50), (8, 8, 50), (32, 32, 50)])
    layer = open_layer(path, resolution=wanted)
    assert layer.mip == mip
    assert layer.read(layer.bounds)[0, 0, 0] == mip


def test_a_finer_scale_wins_over_a_nearer_coarser_one(raw, tmp_path):
    path = layer_of_scales(raw, tmp_path, [(4, 4, 50), (32, 32, 50)])
    assert open_layer(path, resolution=(16, 16, 50)).mip == 0


def test_a_mean_counts_only_voxels_that_exist(raw, tmp_path):
    # Voxel 1 at 8 nm is source voxels 2 and 3, and the layer begins at 3.
    array = np.array([200, 10, 21], dtype=np.uint8).reshape(3, 1, 1)
    path = raw.write(tmp_path / "a", [raw.Scale(array, (3, 0, 0), (4, 4, 50))])
    layer = open_layer(path, resolution=(8, 4, 50))
    assert layer.bounds == Box((1, 0, 0), (3, 1, 1), (8, 4, 50))
    # 15.5 goes to the even 16.
    assert layer.read(layer.bounds).ravel().tolist() == [200, 16]


def test_reads_do_not_depend_on_how_they_are_cut(raw, tmp_path):
    array = noise((23, 17, 19), 3)
    path = raw.write(tmp_path / "a", [raw.Scale(array, (5, -3, 7), (4, 4, 30), (8, 4, 4))])
    layer = open_layer(path, resolution=(12, 8, 90))
    whole = layer.read(layer.bounds)
    for z in range(layer.bounds.start[2], layer.bounds.stop[2]):
        for x in range(layer.bounds.start[0], layer.bounds.stop[0], 3):
            box = Box(
                (x, layer.bounds.start[1], z), (x + 3, layer.bounds.stop[1], z + 1), (12, 8, 90)
            ).clamped(layer.bounds)
            np.testing.assert_array_equal(layer.read(box), whole[box.slices(layer.bounds)])


def test_only_the_chunks_that_are_needed_are_read(raw, tmp_path):
    array = noise((16, 16, 16), 0)
    path = raw.write(tmp_path / "a", [raw.Scale(array)])
    for name in ("0-8_0-8_0-8", "0-8_8-16_0-8", "0-8_0-8_8-16"):
        (path / "s0" / name).unlink()
    layer = open_layer(path)
    inside = Box((8, 0, 0), (16, 16, 16), (4, 4, 50))
    np.testing.assert_array_equal(layer.read(inside), array[8:])
    # Past the edge by 5: mirroring needs voxels 10..15 alone.
    beyond = Box((15, 0, 0), (21, 16, 16), (4, 4, 50))
    layer.read(beyond, pad="mirror")
    assert not layer.read(Box((30, 0, 0), (40, 4, 4), (4, 4, 50)), pad="zero").any()
    coarse = open_layer(path, resolution=(8, 8, 50))
    coarse.read(Box((4, 0, 0), (8, 8, 16), (8, 8, 50)))
    with pytest.raises(LayerNotFoundError):
        coarse.read(Box((3, 0, 0), (8, 8, 16), (8, 8, 50)))


def test_padding_by_default_is_zero_for_labels_and_edge_for_images(raw, tmp_path):
    array = np.full((2, 2, 2), 7, dtype=np.uint8)
    box = Box((-1, 0, 0), (3, 2, 2), (4, 4, 50))
    image = open_layer(raw.write(tmp_path / "i", [raw.Scale(array)], "image"))
    labels = open_layer(raw.write(tmp_path / "s", [raw.Scale(array)], "segmentation"))
    assert image.read(box)[:, 0, 0].tolist() == [7, 7, 7, 7]
    assert labels.read(box)[:, 0, 0].tolist() == [0, 7, 7, 0]


def test_cutouts_of_several_layers_lie_on_one_box(raw, tmp_path):
    fine, coarse = noise((24, 24, 6), 1), noise((12, 12, 6), 2, "uint64", 3)
    image = raw.write(tmp_path / "i", [raw.Scale(fine, (4, 4, 0), (4, 4, 50))])
    cells = raw.write(tmp_path / "s", [raw.Scale(coarse, (2, 2, 0), (8, 8, 50))], "segmentation")
    layers = {"image": open_layer(image), "cells": open_layer(cells)}
    box = Box((6, 6, 1), (12, 12, 5), (4, 4, 50))
    found = read_cutouts(layers, box)
    np.testing.assert_array_equal(found["image"], fine[2:8, 2:8, 1:5])
    repeated = coarse.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(found["cells"], repeated[2:8, 2:8, 1:5])
    assert found["cells"].dtype == np.uint64


@pytest.mark.parametrize("spelling", ["{}", "file://{}", "precomputed://file://{}", "{}/"])
def test_paths_are_spelled_in_many_ways(raw, tmp_path, spelling):
    path = raw.write(tmp_path / "a", [raw.Scale(noise((3, 3, 3), 0))])
    assert open_layer(spelling.format(path)).path == f"file://{path}"


def test_fill_missing_takes_missing_chunks_for_zeros(raw, tmp_path):
    array = noise((16, 8, 8), 0) + 1
    path = raw.write(tmp_path / "a", [raw.Scale(array)])
    (path / "s0" / "0-8_0-8_0-8").unlink()
    layer = open_layer(path, fill_missing=True)
    found = layer.read(layer.bounds)
    assert not found[:8].any()
    np.testing.assert_array_equal(found[8:], array[8:])


def test_decoded_chunks_can_be_kept(raw, tmp_path):
    array = noise((16, 8, 8), 0)
    path = raw.write(tmp_path / "a", [raw.Scale(array)])
    layer = open_layer(path, cache_bytes=10**6)
    np.testing.assert_array_equal(layer.read(layer.bounds), array)
    for chunk in (path / "s0").iterdir():
        chunk.unlink()
    found = layer.read(layer.bounds)
    np.testing.assert_array_equal(found, array)
    # What is handed out is no window into the cache.
    found[:] = 0
    np.testing.assert_array_equal(layer.read(layer.bounds), array)


def test_one_channel_of_several(tmp_path):
    from cloudvolume import CloudVolume

    array = noise((6, 5, 4, 2), 0)
    info = CloudVolume.create_new_info(
        2, "image", "uint8", "raw", (4, 4, 50), (0, 0, 0), (6, 5, 4), chunk_size=(4, 4, 4)
    )
    volume = CloudVolume(f"file://{tmp_path}/a", info=info, progress=False)
    volume.commit_info()
    volume[:, :, :] = array
    layer = open_layer(tmp_path / "a", channel=1)
    np.testing.assert_array_equal(layer.read(layer.bounds), array[..., 1])
    message = f"file://{tmp_path}/a has 2 channels, one is needed: choose it with channel=0 to 1"
    with pytest.raises(FormatError, match=says(message)):
        open_layer(tmp_path / "a")
    with pytest.raises(FormatError, match=says("has no channel 2: it has 2, counted from 0")):
        open_layer(tmp_path / "a", channel=2)


@pytest.mark.parametrize("encoding", ["compressed_segmentation", "compresso", "raw"])
def test_layers_that_cloudvolume_wrote_with_gzip(tmp_path, encoding):
    from cloudvolume import CloudVolume

    array = noise((20, 17, 9), 5, "uint64", 2**40)
    info = CloudVolume.create_new_info(
        1,
        "segmentation",
        "uint64",
        encoding,
        (4, 4, 50),
        (-7, 3, 2),
        array.shape,
        chunk_size=(8, 8, 8),
    )
    volume = CloudVolume(f"file://{tmp_path}/a", info=info, progress=False)
    volume.commit_info()
    volume[:, :, :] = array
    layer = open_layer(tmp_path / "a", kind="segmentation")
    np.testing.assert_array_equal(layer.read(layer.bounds), array)


# --- what goes wrong ----------------------------------------------------------------------------


def test_no_scale_nests(raw, tmp_path):
    path = layer_of_scales(raw, tmp_path, [(4, 4, 50), (8, 8, 50)])
    message = (
        f"file://{path} cannot be read at 6 x 6 x 50 nm: it has mip 0 at 4 x 4 x 50 nm, "
        "mip 1 at 8 x 8 x 50 nm; ask for one of these, or for whole multiples or fractions of one"
    )
    with pytest.raises(ResolutionError, match=says(message)):
        open_layer(path, resolution=(6, 6, 50))


def test_no_such_mip(raw, tmp_path):
    path = layer_of_scales(raw, tmp_path, [(4, 4, 50)])
    message = f"file://{path} has no mip 3: it has mip 0 at 4 x 4 x 50 nm"
    with pytest.raises(LayerNotFoundError, match=says(message)):
        open_layer(path, mip=3)


def test_resolution_and_mip(raw, tmp_path):
    with pytest.raises(ConfigError, match="x: give a resolution or a mip, not both"):
        open_layer("x", resolution=(4, 4, 50), mip=0)


def test_a_box_of_another_resolution(raw, tmp_path):
    path = layer_of_scales(raw, tmp_path, [(4, 4, 50)])
    message = (
        f"file://{path} is open at 4 x 4 x 50 nm, the box [0:1 0:1 0:1] at 8 x 8 x 50 nm is not: "
        "use box.at(layer.resolution), or layer.at(box.resolution)"
    )
    with pytest.raises(ResolutionError, match=says(message)):
        open_layer(path).read(Box((0, 0, 0), (1, 1, 1), (8, 8, 50)))


def test_an_unknown_pad(raw, tmp_path):
    layer = open_layer(layer_of_scales(raw, tmp_path, [(4, 4, 50)]))
    with pytest.raises(ConfigError, match='pad must be "zero", "edge" or "mirror", not \'wrap\''):
        layer.read(layer.bounds, pad="wrap")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_missing_chunk_is_named(raw, tmp_path, seed):
    path = raw.write(tmp_path / "a", [raw.Scale(noise((16, 8, 8), seed))])
    (path / "s0" / "8-16_0-8_0-8").unlink()
    message = (
        f"file://{path}: chunk s0/8-16_0-8_0-8 is missing: copy the layer again; if missing "
        "chunks stand for 0, open it with fill_missing (for a layer in cnapse.toml: { path = "
        '"...", fill_missing = true })'
    )
    layer = open_layer(path)
    with pytest.raises(LayerNotFoundError, match=says(message)):
        layer.read(layer.bounds)
    # CloudVolume reads single voxels by another way.
    with pytest.raises(LayerNotFoundError, match="8-16_0-8_0-8 is missing"):
        layer.read(Box((9, 1, 1), (10, 2, 2), (4, 4, 50)))


@pytest.mark.parametrize(
    ("encoding", "suffix"),
    [("raw", ""), ("raw", ".gz"), ("compressed_segmentation", ".gz"), ("compresso", "")],
)
def test_a_damaged_chunk(tmp_path, encoding, suffix):
    bounds = Box((0, 0, 0), (16, 8, 8), (4, 4, 50))
    writer = create_layer(
        tmp_path / "a",
        kind="segmentation",
        dtype="uint64",
        bounds=bounds,
        chunk_size=8,
        encoding=encoding,
    )
    writer.write(np.ones(bounds.shape, np.uint64), bounds)
    chunk = tmp_path / "a" / "4_4_50" / "8-16_0-8_0-8"
    half = chunk.read_bytes()[: chunk.stat().st_size // 2]
    chunk.unlink()
    chunk.with_name(chunk.name + suffix).write_bytes(half)
    message = f"a chunk in {bounds} is damaged or not {encoding}, copy the layer again: "
    with pytest.raises(FormatError, match=says(f"file://{tmp_path}/a: {message}")):
        open_layer(tmp_path / "a").read(bounds)


def test_a_resolution_in_another_order_or_unit(raw, tmp_path):
    path = layer_of_scales(raw, tmp_path, [(4, 4, 50)])
    cases = {
        (50, 4, 4): "the order is x, y, z: did you mean 4 x 4 x 50 nm?",
        (0.004, 0.004, 0.05): "that looks like micrometres: did you mean 4 x 4 x 50 nm?",
    }
    for wanted, message in cases.items():
        with pytest.raises(ResolutionError, match=re.escape(message)):
            open_layer(path, resolution=wanted)


@pytest.mark.parametrize("wrong", [0, -4])
def test_an_info_with_voxels_of_no_size(raw, tmp_path, wrong):
    path = raw.write(tmp_path / "a", [raw.Scale(np.zeros((4, 4, 4), np.uint8))])
    info = json.loads((path / "info").read_text())
    info["scales"][0]["resolution"][1] = wrong
    (path / "info").write_text(json.dumps(info))
    message = f"file://{path}: its info has resolution [4, {wrong}, 50]: voxel sizes are above 0"
    with pytest.raises(ResolutionError, match=re.escape(message)):
        open_layer(path, mip=0)


def test_an_info_in_micrometres(raw, tmp_path):
    path = layer_of_scales(raw, tmp_path, [(4, 4, 50)])
    info = json.loads((path / "info").read_text())
    info["scales"][0]["resolution"] = [0.004, 0.004, 0.05]
    (path / "info").write_text(json.dumps(info))
    message = (
        f"file://{path}: the resolution [0.004, 0.004, 0.05] in its info looks like micrometres: "
        "write it there in nm, [4.0, 4.0, 50.0]"
    )
    with pytest.raises(ResolutionError, match=says(message)):
        open_layer(path)


def test_a_chunk_that_may_not_be_read(raw, tmp_path):
    path = raw.write(tmp_path / "a", [raw.Scale(noise((8, 8, 8), 0))])
    (path / "s0" / "0-8_0-8_0-8").unlink()
    (path / "s0" / "0-8_0-8_0-8").mkdir()
    layer = open_layer(path)
    message = f"{path}/s0/0-8_0-8_0-8: there is a folder, and a file is needed: give another name"
    with pytest.raises(StorageError, match=says(message)):
        layer.read(layer.bounds)


def test_the_other_kind(raw, tmp_path):
    path = layer_of_scales(raw, tmp_path, [(4, 4, 50)])
    message = (
        f"file://{path} is of type image, but a segmentation is needed: check that the layers are "
        'not swapped, or set "type" in its info to "segmentation" if it is one'
    )
    with pytest.raises(FormatError, match=says(message)):
        open_layer(path, kind="segmentation")


def test_no_such_folder(tmp_path):
    message = f"{tmp_path}/nowhere: no such layer: there is no such folder"
    with pytest.raises(LayerNotFoundError, match=says(message)):
        open_layer(tmp_path / "nowhere")


def test_a_folder_without_info(raw, tmp_path):
    message = f"{tmp_path} is a folder without a file named info, so no layer: "
    with pytest.raises(LayerNotFoundError, match=says(message + "give the folder that has one")):
        open_layer(tmp_path)
    layer_of_scales(raw, tmp_path, [(4, 4, 50)])
    with pytest.raises(LayerNotFoundError, match=says(f"{message}did you mean {tmp_path}/a?")):
        open_layer(tmp_path)


def test_a_file_is_no_layer(tmp_path):
    (tmp_path / "raw.tif").write_bytes(b"II*\0")
    message = (
        f"{tmp_path}/raw.tif is a file, not a layer: a layer is a folder with a file named info; "
        "bring image stacks in with `cnapse ingest`"
    )
    with pytest.raises(FormatError, match=says(message)):
        open_layer(tmp_path / "raw.tif")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "its info does not describe a volume: "),
        ("[]", "its info does not describe a volume: "),
        ("{}", "its info does not describe a volume: "),
        (
            '{"@type": "neuroglancer_annotations_v1"}',
            "its info does not describe a volume: ",
        ),
    ],
)
def test_an_info_of_something_else(tmp_path, content, message):
    (tmp_path / "info").write_text(content)
    with pytest.raises(FormatError, match=says(f"file://{tmp_path}: {message}")):
        open_layer(tmp_path)


def test_an_empty_volume(raw, tmp_path):
    path = layer_of_scales(raw, tmp_path, [(4, 4, 50)])
    info = json.loads((path / "info").read_text())
    info["scales"][0]["size"] = [12, 0, 12]
    (path / "info").write_text(json.dumps(info))
    message = f"file://{path} is empty: its info says a size of [12, 0, 12] voxels"
    with pytest.raises(FormatError, match=says(message)):
        open_layer(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("ftp://x/y", "no such layer: there is no file named info; check the path"),
        (
            "gs://gs://x/y",
            "unknown kind of path: give a folder, gs://, s3://, https:// or file://",
        ),
    ],
)
def test_an_unknown_protocol(path, message):
    with pytest.raises(LayerNotFoundError, match=says(f"{path}: {message}")):
        load_info(path)


def test_a_bucket_that_does_not_answer(monkeypatch):
    import cloudvolume

    def refuse(*args, **kwargs):
        raise ConnectionError("\x1b[1;91mrefused\nby the host\x1b[m")

    monkeypatch.setattr(cloudvolume, "CloudVolume", refuse)
    message = (
        "gs://b/layer cannot be reached: refused by the host; tried for 30 s: check the network "
        "and the address, then run the same command again"
    )
    with pytest.raises(StorageUnavailableError, match=says(message)):
        open_layer("gs://b/layer")
