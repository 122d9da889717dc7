"""Volumes written by each format's own library come in voxel by voxel."""

import builtins
import json
import re
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from cnapse.errors import ConfigError, FormatError, LayerNotFoundError
from cnapse.geometry import Box
from cnapse.volumes.files import read_volume
from cnapse.volumes.ingest import IngestOptions, ingest, plan_ingest
from cnapse.volumes.reader import open_layer
from cnapse.volumes.sources import open_source

RESOLUTION = (4.6, 4.6, 50)
DTYPES = st.sampled_from(["uint8", "uint16", ">u2", "uint32", "uint64", "int16", "float32", "bool"])
SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 30), st.integers(1, 30))
SMALL = st.tuples(*[st.integers(1, 12)] * 3)
OFFSETS = st.tuples(*[st.integers(-50, 50)] * 3)
ORDERS = st.permutations("zyx").map("".join)


def says(text):
    return "^" + re.escape(text)


def numbers(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return (
        rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8).view(dtype)[..., 0]
        if dtype.kind != "b"
        else rng.integers(0, 2, shape).astype(bool)
    )


def bring_in(path, destination, options=None, **how):
    options = {"resolution": RESOLUTION, "chunk_size": (16, 16, 4), **(options or {})}
    return ingest(plan_ingest(open_source(path, **how), destination, IngestOptions(**options)))


def turned(data, axes):
    """An array x, y, z with its axes in another order."""
    return data.transpose(["xyz".index(axis) for axis in axes])


def check(raw, path, data, box):
    np.testing.assert_array_equal(raw.read(path), data)
    layer = open_layer(path)
    assert layer.bounds == box
    assert layer.dtype == (np.uint8 if data.dtype == bool else data.dtype.newbyteorder("="))


# --- HDF5 ---------------------------------------------------------------------------------------


@given(
    dtype=DTYPES,
    shape=SHAPES,
    chunks=st.none() | SMALL,
    offset=OFFSETS,
    axes=ORDERS,
    deep=st.integers(1, 9),
    extra=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_hdf5_voxel_by_voxel(raw, dtype, shape, chunks, offset, axes, deep, extra):
    data = numbers(dtype, shape)
    stored = turned(data, axes)
    if chunks:
        chunks = tuple(min(c, n) for c, n in zip(chunks, stored.shape, strict=True))
    how = {"axes": axes}
    if extra:
        stored, how = stored[None], {"axes": "c" + axes}
        chunks = chunks and (1, *chunks)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with h5py.File(folder / "in.h5", "w") as file:
            compression = "gzip" if chunks else None
            file.create_dataset("a/main", data=stored, chunks=chunks, compression=compression)
        options = {"offset": offset, "chunk_size": (8, 8, deep)}
        bring_in(f"{folder}/in.h5:/a/main", folder / "out", options, **how)
        check(raw, folder / "out", data, Box.from_shape(shape, RESOLUTION, offset))


@pytest.mark.parametrize("strip", [1, 300, 2000])
@pytest.mark.parametrize("chunks", [None, (3, 5, 7), (1, 20, 30), (12, 20, 1)])
def test_strips_of_any_size_make_the_whole(tmp_path, raw, monkeypatch, strip, chunks):
    monkeypatch.setattr("cnapse.volumes.arrays._STRIP_BYTES", strip)
    data = numbers("uint16", (30, 20, 12))
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("main", data=data.T, chunks=chunks)
    bring_in(tmp_path / "in.h5", tmp_path / "out", {"chunk_size": (8, 8, 5)})
    np.testing.assert_array_equal(raw.read(tmp_path / "out"), data)


def test_hdf5_is_z_y_x_unless_it_says_otherwise(tmp_path):
    data = numbers("uint8", (5, 6, 7))
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["plain"] = data.T
        file["labelled"] = data
        for dimension, label in zip(file["labelled"].dims, "xyz", strict=True):
            dimension.label = label
        file["vigra"] = data[..., None]
        tags = {"axes": [{"key": key} for key in "xyzc"]}
        file["vigra"].attrs["axistags"] = json.dumps(tags)
        file["four"] = data[..., None]
    for name in ("plain", "labelled", "vigra"):
        assert open_source(f"{tmp_path}/in.h5:{name}").shape == (5, 6, 7)
    where = f"{tmp_path}/in.h5:"
    message = (
        f"{where}/four does not tell the order of its axes (5, 6, 7, 1): give --axes, the fastest "
        "last, as in --axes zyx"
    )
    with pytest.raises(ConfigError, match=says(message)):
        open_source(where + "four")
    message = (
        f"--axes says zyx, but {where}/labelled says xyz: correct the option, or add "
        "--ignore-metadata"
    )
    with pytest.raises(ConfigError, match=says(message)):
        open_source(where + "labelled", axes="z,y,x")
    assert open_source(where + "labelled", axes="ZYX", ignore_metadata=True).shape == (7, 6, 5)
    for axes in ("zyx", "zzyx", "tzcy"):
        message = (
            f"{where}/four has 4 axes (5, 6, 7, 1), which do not go with {axes}: give --axes with "
            "x, y, z and a letter for each other axis, as in --axes czyx"
        )
        with pytest.raises(ConfigError, match=says(message)):
            open_source(where + "four", axes=axes)
    message = (
        f"{where}/four is no single volume: it has axes cxyz (5, 6, 7, 1); export one channel and "
        "one time point"
    )
    with pytest.raises(FormatError, match=says(message)):
        open_source(where + "four", axes="cxyz")


def test_hdf5_tells_its_voxel_size_with_a_unit_only(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name in ("um", "nm", "none", "mixed"):
            file[name] = np.zeros((2, 3, 4), np.uint8)
        file["um"].attrs["element_size_um"] = np.array([0.05, 0.0046, 0.0046], "float32")
        for name in ("nm", "none", "mixed"):
            file[name].attrs["resolution"] = [50, 4.6, 4.6]
        file["nm"].attrs["units"] = "nm"
        file["mixed"].attrs["units"] = ["nm", "um", "nm"]
    for name in ("um", "nm"):
        assert open_source(f"{tmp_path}/in.h5:{name}").resolution == RESOLUTION
    for name in ("none", "mixed"):
        message = f"{tmp_path}/in.h5:/{name} does not tell its voxel size: give --resolution X Y Z"
        with pytest.raises(ConfigError, match=says(message)):
            read_volume(f"{tmp_path}/in.h5:{name}")


def test_hdf5_that_is_not_there(tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["raw"] = file["labels/a"] = np.zeros((2, 2, 2))
        file["text"] = np.full((2, 2, 2), b"a")
        file["none"] = np.zeros((0, 2, 2))
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file["table"] = np.zeros(3)
    (tmp_path / "no.h5").write_bytes(b"text")
    cases = [
        ({"path": "nix.h5"}, LayerNotFoundError, "nix.h5: no such file or folder"),
        (
            {"path": "two.h5"},
            ConfigError,
            (
                "two.h5 holds 4 volumes, /labels/a, /none, /raw, /text: name one, as in "
                f"{tmp_path}/two.h5:/labels/a"
            ),
        ),
        (
            {"path": "two.h5", "dataset": "main"},
            LayerNotFoundError,
            "two.h5: no dataset main, there are /labels/a, /none, /raw, /text: correct the name",
        ),
        (
            {"path": "flat.h5"},
            FormatError,
            "flat.h5 holds no dataset of three or more axes: is it a volume?",
        ),
        (
            {"path": "two.h5:text"},
            FormatError,
            "two.h5:/text holds |S1, not numbers: name an image or labels with --dataset",
        ),
        (
            {"path": "two.h5:none"},
            FormatError,
            "two.h5:/none is empty, its shape is (0, 2, 2): name another",
        ),
        ({"path": "no.h5"}, FormatError, "no.h5 is not a readable HDF5 file ("),
        (
            {"path": "two.h5:raw", "dataset": "raw"},
            ConfigError,
            "two.h5:raw names a dataset, and so does --dataset raw: leave one out",
        ),
    ]
    for arguments, error, message in cases:
        arguments["path"] = f"{tmp_path}/{arguments['path']}"
        with pytest.raises(error, match=says(f"{tmp_path}/{message}")) as caught:
            open_source(**arguments)
        assert "\n" not in str(caught.value)


def test_damaged_hdf5_leaves_no_layer(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        made = file.create_dataset("main", data=numbers("uint8", (8, 30, 30)), compression="gzip")
        place = made.id.get_chunk_info(0).byte_offset
    with (tmp_path / "in.h5").open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 50)
    with pytest.raises(FormatError, match=says(f"{tmp_path}/in.h5:/main cannot be decoded (")):
        bring_in(tmp_path / "in.h5", tmp_path / "out")
    assert not (tmp_path / "out" / "info").exists()


@pytest.mark.parametrize("chunks", [None, (8, 64, 64), (1, 512, 512)])
def test_memory_of_hdf5_is_one_slab_and_a_strip(tmp_path, monkeypatch, least_peak, chunks):
    monkeypatch.setattr("cnapse.volumes.arrays._STRIP_BYTES", 1 << 18)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("main", data=np.zeros((24, 512, 512), np.uint8), chunks=chunks)
    options = IngestOptions("image", RESOLUTION, chunk_size=(128, 128, 4))
    plan = plan_ingest(open_source(tmp_path / "in.h5"), tmp_path / "out", options)
    ingest(plan)
    peak = least_peak(lambda: ingest(plan, overwrite=True))
    assert peak < 2.5 * 512 * 512 * 4


# --- Zarr and N5 --------------------------------------------------------------------------------


def write(path, driver, data, chunks=None, more=None):
    """An array as tensorstore writes it; `more` is metadata of the format."""
    chunks = [min(c, n) for c, n in zip(chunks or data.shape, data.shape, strict=True)]
    metadata = {
        "zarr": {"chunks": chunks},
        "zarr3": {
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
            "codecs": [{"name": "bytes"}, {"name": "gzip"}],
        },
        "n5": {"blockSize": chunks, "compression": {"type": "gzip"}},
    }[driver]
    place = {"driver": "file", "path": f"{path}/"}
    spec = {"driver": driver, "kvstore": place, "metadata": {**metadata, **(more or {})}}
    if driver == "zarr":
        spec["metadata"]["dtype"] = data.dtype.str
    store = tensorstore.open(
        spec, create=True, dtype=data.dtype.newbyteorder("="), shape=data.shape
    )
    store.result().write(data).result()


@given(
    driver=st.sampled_from(["zarr", "zarr3", "n5"]),
    dtype=DTYPES,
    shape=SHAPES,
    chunks=st.tuples(*[st.integers(5, 15)] * 3),
    offset=OFFSETS,
    axes=ORDERS,
    deep=st.integers(1, 9),
    extra=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_zarr_and_n5_voxel_by_voxel(raw, driver, dtype, shape, chunks, offset, axes, deep, extra):
    data = numbers("uint8" if driver == "n5" and dtype == "bool" else dtype, shape)
    stored = turned(data, axes)
    if extra:
        stored, axes, chunks = stored[None], "c" + axes, (1, *chunks)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "in" / "main", driver, stored, chunks)
        options = {"offset": offset, "chunk_size": (8, 8, deep)}
        bring_in(f"{folder}/in/main", folder / "out", options, axes=axes)
        check(raw, folder / "out", data, Box.from_shape(shape, RESOLUTION, offset))


def ome(folder, version, axes, transforms, group=()):
    """The metadata of an image with scales s0, s1, ..."""
    scales = [
        {"path": f"s{n}", "coordinateTransformations": each} for n, each in enumerate(transforms)
    ]
    image = {"axes": axes, "datasets": scales, "coordinateTransformations": list(group)}
    if version == "zarr":
        (folder / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
        (folder / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
        return
    attributes = {"ome": {"version": "0.5", "multiscales": [image]}}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (folder / "zarr.json").write_text(json.dumps(document))


def scaled(*values):
    return {"type": "scale", "scale": list(values)}


def moved(*values):
    return {"type": "translation", "translation": list(values)}


@pytest.mark.parametrize("version", ["zarr", "zarr3"])
def test_ome_zarr_tells_all(tmp_path, raw, version):
    data = numbers("uint16", (8, 6, 4))
    units = [{"name": "c", "type": "channel"}]
    units += [{"name": "z", "type": "space", "unit": "micrometer"}]
    units += [{"name": a, "type": "space", "unit": "nanometer"} for a in "yx"]
    write(tmp_path / "s0", version, data.T[None], (1, 2, 3, 4))
    write(tmp_path / "s1", version, data[::2, ::2].T[None])
    transforms = [
        [scaled(1, 0.025, 2.3, 2.3), moved(0, -0.05, 4.6, 23)],
        [scaled(1, 0.025, 4.6, 4.6), moved(0, -0.05, 5.75, 24.15)],
    ]
    ome(tmp_path, version, units, transforms, [scaled(1, 2, 2, 2)])
    # At the group, at the array, and with a name: the same.
    for path in (tmp_path, tmp_path / "s0", f"{tmp_path}:s0"):
        array, box = read_volume(path)
        np.testing.assert_array_equal(array, data)
        assert box == Box.from_shape((8, 6, 4), RESOLUTION, (10, 2, -2))
    coarse = open_source(tmp_path / "s1")
    assert coarse.resolution == (9.2, 9.2, 50)
    message = (
        f"{tmp_path}/s1 says that it begins at 5.25 1.25 -2 voxels, which are no whole numbers: "
        "give --offset X Y Z"
    )
    with pytest.raises(ConfigError, match=says(message)):
        bring_in(tmp_path / "s1", tmp_path / "out", {"resolution": None})
    bring_in(tmp_path / "s1", tmp_path / "out", {"resolution": None, "offset": (5, 1, -2)})
    np.testing.assert_array_equal(raw.read(tmp_path / "out"), data[::2, ::2])


def test_ome_zarr_without_units_needs_a_voxel_size(tmp_path):
    write(tmp_path / "s0", "zarr", np.zeros((2, 3, 4), np.uint8))
    ome(tmp_path, "zarr", [{"name": a} for a in "zyx"], [[scaled(50, 4, 4), moved(1, 1, 1)]])
    message = f"{tmp_path}/s0 does not tell its voxel size: give --resolution X Y Z in nm"
    with pytest.raises(ConfigError, match=says(message)):
        read_volume(tmp_path)
    # Where it begins has no unit either.
    assert read_volume(tmp_path, resolution=(4, 4, 50))[1].start == (0, 0, 0)


def test_zarr_v3_names_its_axes(tmp_path):
    data = numbers("uint8", (5, 6, 7))
    write(tmp_path / "in", "zarr3", data, more={"dimension_names": ["x", "y", "z"]})
    assert open_source(tmp_path / "in").shape == (5, 6, 7)


@pytest.mark.parametrize(
    ("more", "shape", "resolution"),
    [
        ({}, (5, 6, 7), None),
        ({"axes": ["z", "y", "x"]}, (7, 6, 5), None),
        ({"resolution": [4.6, 4.6, 50]}, (5, 6, 7), None),
        ({"resolution": [4.6, 4.6, 50], "units": ["nm"] * 3}, (5, 6, 7), RESOLUTION),
        ({"pixelResolution": {"dimensions": [4.6, 4.6, 50], "unit": "nm"}}, (5, 6, 7), RESOLUTION),
        (
            {
                "pixelResolution": {"dimensions": [4.6, 4.6, 50], "unit": "nm"},
                "downsamplingFactors": [2, 2, 1],
            },
            (5, 6, 7),
            None,
        ),
    ],
)
def test_n5_is_x_y_z_unless_it_says_otherwise(tmp_path, more, shape, resolution):
    write(tmp_path / "in.n5" / "s0", "n5", numbers("uint8", (5, 6, 7)))
    path = tmp_path / "in.n5" / "s0" / "attributes.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    source = open_source(tmp_path / "in.n5")
    assert (source.shape, source.resolution) == (shape, resolution)


def test_zarr_that_cannot_be_read(tmp_path):
    write(tmp_path / "in.zarr" / "a", "zarr", np.zeros((2, 2, 2)))
    write(tmp_path / "in.zarr" / "b" / "c", "zarr", np.zeros((2, 2, 2)))
    (tmp_path / "no.zarr").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / ".zarray").write_text("{}")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "zarr.json").write_text("{")
    (tmp_path / "gone").mkdir()
    ome(tmp_path / "gone", "zarr", [], [[]])
    cases = [
        ("nix.zarr", LayerNotFoundError, "nix.zarr: no such file or folder"),
        ("no.zarr", LayerNotFoundError, "no.zarr: no Zarr or N5 array in this folder"),
        (
            "in.zarr",
            ConfigError,
            f"in.zarr holds 2 arrays, a, b/c: name one, as in {tmp_path}/in.zarr:a",
        ),
        (
            "in.zarr:d",
            LayerNotFoundError,
            "in.zarr: no array d, there are a, b/c: correct the name",
        ),
        (
            "in.zarr/a",
            ConfigError,
            "in.zarr/a does not tell the order of its axes (2, 2, 2): give --axes, the fastest",
        ),
        ("bad", FormatError, "bad cannot be opened: "),
        ("text", FormatError, "text/zarr.json cannot be read ("),
        ("gone", LayerNotFoundError, f"gone/s0: the array that {tmp_path}/gone names is missing"),
    ]
    for path, error, message in cases:
        with pytest.raises(error, match=says(f"{tmp_path}/{message}")) as caught:
            open_source(f"{tmp_path}/{path}")
        assert "\n" not in str(caught.value)


def test_damaged_zarr_leaves_no_layer(tmp_path):
    write(tmp_path / "in", "zarr3", numbers("uint8", (8, 30, 30)), (8, 8, 8))
    (tmp_path / "in" / "c" / "0" / "1" / "1").write_bytes(b"nonsense")
    with pytest.raises(FormatError, match=says(f"{tmp_path}/in cannot be decoded (")):
        bring_in(tmp_path / "in", tmp_path / "out", axes="zyx")
    assert not (tmp_path / "out" / "info").exists()


# --- PNG ----------------------------------------------------------------------------------------


@given(
    dtype=st.sampled_from(["uint8", "uint16", "bool"]),
    shape=SHAPES,
    offset=OFFSETS,
    way=st.sampled_from(["", "s*.png"]),
)
@settings(max_examples=15, deadline=None)
def test_png_sections_voxel_by_voxel(raw, dtype, shape, offset, way):
    data = numbers(dtype, shape)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for z in range(shape[2]):
            Image.fromarray(np.ascontiguousarray(data[:, :, z].T)).save(folder / f"in/s{z}.png")
        bring_in(folder / "in" / way, folder / "out", {"offset": offset})
        check(raw, folder / "out", data, Box.from_shape(shape, RESOLUTION, offset))


def test_png_sections_that_are_wrong(tmp_path):
    def save(name, data):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(data).save(tmp_path / name)

    grey = numbers("uint8", (20, 30))
    for folder in ("gap", "size", "cut"):
        save(f"{folder}/s1.png", grey)
    save("gap/s3.png", grey)
    save("size/s2.png", grey[:, :20].astype(np.uint16))
    save("colour/s1.png", numbers("uint8", (20, 30, 3)))
    (tmp_path / "bad.png").write_bytes(b"text")
    cases = [
        ("gap", "gap: section 2 is missing between s1.png and s3.png: add what is missing, or"),
        (
            "size",
            (
                f"size/s2.png has 20 x 20 pixels of uint16, but {tmp_path}/size/s1.png has 30 x 20 "
                "of uint8: all must be alike"
            ),
        ),
        ("colour", "colour/s1.png is in colour (RGB): convert it to grey, or labels to one"),
        ("bad.png", "bad.png is not a readable PNG file ("),
    ]
    for path, message in cases:
        with pytest.raises(FormatError, match=says(f"{tmp_path}/{message}")):
            open_source(tmp_path / path)
    assert open_source(tmp_path / "gap", check_names=False).shape == (30, 20, 2)
    whole = (tmp_path / "cut" / "s1.png").read_bytes()
    (tmp_path / "cut" / "s1.png").write_bytes(whole[:200])
    with pytest.raises(FormatError, match=says(f"{tmp_path}/cut/s1.png is not a readable PNG")):
        bring_in(tmp_path / "cut", tmp_path / "out")
    assert not (tmp_path / "out" / "info").exists()


# --- precomputed --------------------------------------------------------------------------------


@given(
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    shape=SHAPES,
    chunks=SMALL,
    offset=OFFSETS,
    deep=st.integers(1, 9),
    named=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_layers_are_chunked_anew(raw, dtype, shape, chunks, offset, deep, named):
    data = numbers(dtype, shape)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw.write(folder / "in", [raw.Scale(data, offset, RESOLUTION, chunks)])
        source = f"precomputed://file://{folder}/in" if named else folder / "in"
        options = {"chunk_size": (8, 8, deep), "resolution": None}
        bring_in(source, folder / "out", options)
        check(raw, folder / "out", data, Box.from_shape(shape, RESOLUTION, offset))
        assert open_layer(folder / "out").chunk_size == (8, 8, deep)


def test_layers_keep_their_kind(tmp_path, raw):
    data = numbers("uint64", (9, 8, 7))
    raw.write(tmp_path / "in", [raw.Scale(data)], kind="segmentation")
    raw.write(tmp_path / "image", [raw.Scale(data)])
    options = {"resolution": None, "encoding": "compressed_segmentation", "kind": "segmentation"}
    message = f"file://{tmp_path}/in is a layer of kind segmentation: add --segmentation"
    with pytest.raises(ConfigError, match=says(message)):
        bring_in(tmp_path / "in", tmp_path / "out", {"resolution": None})
    message = f"file://{tmp_path}/image is a layer of kind image: leave out --segmentation"
    with pytest.raises(ConfigError, match=says(message)):
        bring_in(tmp_path / "image", tmp_path / "out", options)
    bring_in(tmp_path / "in", tmp_path / "out", options)
    np.testing.assert_array_equal(read_volume(tmp_path / "out")[0], data)
    message = f"{tmp_path}/in would be written onto itself: use another destination"
    with pytest.raises(ConfigError, match=says(message)):
        bring_in(tmp_path / "in", tmp_path / "in", options)
    with pytest.raises(ConfigError, match="--axes is for HDF5, Zarr and N5"):
        open_source(tmp_path / "in", axes="zyx")


# --- all formats --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "needs", "message"),
    [
        ("in.h5", "h5py", "in.h5: reading HDF5 needs h5py: pip install h5py"),
        (
            "in",
            "tensorstore",
            "in: reading Zarr and N5 needs tensorstore: pip install tensorstore",
        ),
    ],
)
def test_a_library_that_is_not_there_is_one_line(tmp_path, monkeypatch, name, needs, message):
    (tmp_path / "in.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    write(tmp_path / "in", "zarr", np.zeros((2, 2, 2)))
    original = builtins.__import__

    def without(module, *arguments, **named):
        if module.split(".")[0] == needs:
            raise ImportError(module)
        return original(module, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=says(f"{tmp_path}/{message}") + "$"):
        open_source(tmp_path / name)


def test_options_for_arrays_go_with_arrays(tmp_path):
    for option in ({"axes": "zyx"}, {"dataset": "main"}):
        name = next(iter(option))
        message = (
            f"{tmp_path}/in.tif: --{name} is for HDF5, Zarr and N5, which this is not: leave it out"
        )
        with pytest.raises(ConfigError, match=says(message)):
            open_source(tmp_path / "in.tif", **option)


@pytest.fixture
def command():
    import typer

    from cnapse_cli.ingest import ingest as command

    app = typer.Typer()
    app.command()(command)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_takes_a_dataset(tmp_path, command, raw):
    data = numbers("uint64", (9, 8, 7))
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["main"], file["other"] = data, data
    options = ["--segmentation", "--encoding", "raw", "--resolution", *RESOLUTION]
    options += ["--axes", "xyz", "--offset", 1, 2, -3]
    result = command(tmp_path / "in.h5", tmp_path / "out", "--dataset", "main", *options)
    assert result.exit_code == 0, result.output
    check(raw, tmp_path / "out", data, Box.from_shape((9, 8, 7), RESOLUTION, (1, 2, -3)))
