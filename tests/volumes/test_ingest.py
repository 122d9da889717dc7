import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cnapse.errors import ConfigError, FormatError, LayerExistsError, LayerNotFoundError
from cnapse.geometry import Box
from cnapse.volumes.files import read_volume
from cnapse.volumes.ingest import IngestOptions, default_chunk_size, ingest, plan_ingest
from cnapse.volumes.reader import open_layer
from cnapse.volumes.sources import open_source

RESOLUTION = (4.6, 4.6, 50)
# Else tifffile takes small stacks for colours.
GREY = {"photometric": "minisblack"}
DATA = Path(os.environ.get("CNAPSE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def says(text):
    return re.escape(text)


def stack(dtype="uint8", shape=(11, 33, 50), seed=0):
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def bring_in(source, destination, *, overwrite=False, progress=None, **options):
    given_options = {"resolution": RESOLUTION, "chunk_size": (16, 16, 4), **options}
    plan = plan_ingest(open_source(source), destination, IngestOptions(**given_options))
    return ingest(plan, overwrite=overwrite, progress=progress)


class Numbers:
    """A source that computes its voxels and counts what is asked of it."""

    name = "numbers"
    resolution = None
    begin = None
    chunk_size = None

    def __init__(self, shape, dtype="uint8"):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.asked = []

    def section(self, z):
        x, y = np.meshgrid(np.arange(self.shape[0]), np.arange(self.shape[1]), indexing="ij")
        return (x + 3 * y + 7 * z) % 251

    def read_into(self, out, start, row=0):
        for z in range(out.shape[2]):
            self.asked.append(start + z)
            out[:, :, z] = self.section(start + z)[:, row : row + out.shape[1]]

    def identity(self):
        return [["numbers", *self.shape]]


@given(
    dtype=st.sampled_from(["uint8", "uint16", "uint32", "uint64", "int16"]),
    shape=st.tuples(st.integers(1, 12), st.integers(2, 30), st.integers(2, 30)),
    offset=st.tuples(*[st.integers(-50, 50)] * 3),
    chunk=st.tuples(*[st.integers(1, 16)] * 3),
    way=st.sampled_from(["file", "bigtiff", "folder", "pattern", "tiles"]),
)
@settings(max_examples=30, deadline=None)
def test_images_come_in_voxel_by_voxel(raw, dtype, shape, offset, chunk, way):
    data = stack(dtype, shape)
    with tempfile.TemporaryDirectory() as folder:
        source = write_stack(Path(folder), data, way)
        bring_in(source, Path(folder) / "out", offset=offset, chunk_size=chunk)
        np.testing.assert_array_equal(raw.read(Path(folder) / "out"), data.transpose(2, 1, 0))
        layer = open_layer(Path(folder) / "out", kind="image")
        assert layer.bounds == Box.from_shape(shape[::-1], RESOLUTION, offset)
        assert layer.dtype == data.dtype
        assert layer.chunk_size == chunk


def write_stack(folder, data, way):
    if way in ("folder", "pattern"):
        (folder / "in").mkdir()
        for z, section in enumerate(data):
            tifffile.imwrite(folder / "in" / f"s{z}.tif", section, compression="zlib", **GREY)
        # A single section in a folder is a stack too.
        return folder / "in" / ("s*.tif" if way == "pattern" else "")
    options = {
        "file": {},
        "bigtiff": {"bigtiff": True, "byteorder": ">"},
        "tiles": {"tile": (16, 16), "compression": "lzw"},
    }
    tifffile.imwrite(folder / "in.tif", data, **options[way], **GREY)
    return folder / "in.tif"


@pytest.mark.parametrize("encoding", [None, "raw", "compresso"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int32"])
def test_segmentations_are_uint64_or_uint32(tmp_path, dtype, encoding):
    from cloudvolume import CloudVolume

    data = stack(dtype) // 2
    data = np.abs(data)
    tifffile.imwrite(tmp_path / "in.tif", data)
    bring_in(tmp_path / "in.tif", tmp_path / "out", kind="segmentation", encoding=encoding)
    volume = CloudVolume(f"file://{tmp_path}/out", progress=False)
    assert volume.layer_type == "segmentation"
    assert volume.dtype == ("uint32" if dtype == "uint32" else "uint64")
    np.testing.assert_array_equal(np.asarray(volume[:, :, :])[..., 0], data.T)


def test_voxel_size_from_the_file(tmp_path):
    metadata = {"unit": "um", "spacing": 0.05, "axes": "ZYX"}
    tifffile.imwrite(
        tmp_path / "in.tif",
        stack(),
        imagej=True,
        resolution=(1 / 0.0046, 1 / 0.0046),
        metadata=metadata,
    )
    bring_in(tmp_path / "in.tif", tmp_path / "out", resolution=None)
    assert open_layer(tmp_path / "out", resolution=RESOLUTION).info["scales"][0]["resolution"] == [
        4.6,
        4.6,
        50,
    ]


@pytest.mark.parametrize(
    ("resolution", "chunk"),
    [((4.6, 4.6, 50), (128, 128, 16)), ((8, 8, 8), (64, 64, 64)), ((10, 10, 40), (128, 128, 16))],
)
def test_chunks_by_default(tmp_path, resolution, chunk):
    assert default_chunk_size(resolution) == chunk
    options = IngestOptions(resolution=resolution)
    info = plan_ingest(Numbers((10, 10, 10)), tmp_path, options).info
    assert info["scales"][0]["chunk_sizes"] == [list(chunk)]


def test_each_section_is_read_once_slab_by_slab(tmp_path):
    source = Numbers((20, 10, 11))
    plan = plan_ingest(source, tmp_path / "out", IngestOptions("image", RESOLUTION, (0, 0, 5), 4))
    steps = []
    ingest(plan, progress=steps.append)
    assert source.asked == list(range(11))
    assert steps == [0, 4, 4, 3]
    layer = open_layer(tmp_path / "out")
    assert layer.bounds.start == (0, 0, 5)
    found = layer.read(layer.bounds)
    for z in range(11):
        np.testing.assert_array_equal(found[:, :, z], source.section(z))


@pytest.mark.parametrize("way", ["file", "tiles", "folder"])
def test_memory_is_one_slab(tmp_path, least_peak, way):
    data = np.random.default_rng(0).integers(0, 9, (48, 256, 256)).astype(np.uint8)
    source = open_source(write_stack(tmp_path, data, way))
    plan = plan_ingest(
        source, tmp_path / "out", IngestOptions("image", RESOLUTION, chunk_size=(64, 64, 4))
    )
    ingest(plan)
    peak = least_peak(lambda: ingest(plan, overwrite=True))
    block_bytes = plan.blocks(0)[0].write.voxels
    assert block_bytes == 256 * 256 * 4
    # Of 12 slabs: one, a section, a chunk being encoded, and what the machinery takes.
    assert peak < 5 * block_bytes


def test_an_interrupted_ingest_goes_on(tmp_path, raw):
    class Failing(Numbers):
        fails = True

        def read_into(self, out, start, row=0):
            if self.fails and start >= 8:
                raise KeyboardInterrupt
            super().read_into(out, start, row)

    source = Failing((20, 10, 14))
    plan = plan_ingest(source, tmp_path / "out", IngestOptions("image", RESOLUTION, chunk_size=4))
    with pytest.raises(KeyboardInterrupt):
        ingest(plan)
    # What is half done is no layer.
    with pytest.raises(LayerNotFoundError):
        open_layer(tmp_path / "out")
    other = plan_ingest(
        Numbers((20, 10, 15)), tmp_path / "out", IngestOptions("image", RESOLUTION, chunk_size=4)
    )
    message = (
        f"file://{tmp_path}/out: an ingest of other files or options was begun here and not "
        "finished: use another path, or --overwrite"
    )
    with pytest.raises(LayerExistsError, match=says(message)):
        ingest(other)
    source.fails, source.asked = False, []
    steps = []
    ingest(plan, progress=steps.append)
    assert source.asked == list(range(8, 14))
    assert steps == [8, 4, 2]
    found = raw.read(tmp_path / "out")
    for z in range(14):
        np.testing.assert_array_equal(found[:, :, z], source.section(z))
    assert not list((tmp_path / "out").glob(".cnapse*"))


def test_a_layer_that_is_there_is_kept(tmp_path, raw):
    tifffile.imwrite(tmp_path / "in.tif", stack())
    tifffile.imwrite(tmp_path / "other.tif", stack(seed=1, shape=(5, 20, 20)))
    bring_in(tmp_path / "in.tif", tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    message = f"file://{tmp_path}/out: there is a layer already: use another path, or --overwrite"
    with pytest.raises(LayerExistsError, match=says(message)):
        bring_in(tmp_path / "other.tif", tmp_path / "out")
    np.testing.assert_array_equal(raw.read(tmp_path / "out"), stack().T)
    bring_in(tmp_path / "other.tif", tmp_path / "out", overwrite=True)
    np.testing.assert_array_equal(raw.read(tmp_path / "out"), stack(seed=1, shape=(5, 20, 20)).T)
    # Nothing of the old layer is left, and nothing else is gone.
    assert len(list((tmp_path / "out" / "4.6_4.6_50").iterdir())) == 2 * 2 * 2
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("")
    message = f"{tmp_path}/file is a file; a layer is a folder: use another path"
    with pytest.raises(LayerExistsError, match=says(message)):
        bring_in(tmp_path / "in.tif", tmp_path / "file")


def test_damaged_pixels_leave_no_layer(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", stack(), compression="zlib")
    with tifffile.TiffFile(tmp_path / "in.tif") as tif:
        place = tif.pages[6].dataoffsets[0]
    with (tmp_path / "in.tif").open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 50)
    with pytest.raises(FormatError, match=says(f"page 6 of {tmp_path}/in.tif cannot be decoded")):
        bring_in(tmp_path / "in.tif", tmp_path / "out")
    assert not (tmp_path / "out" / "info").exists()


@pytest.mark.parametrize(
    ("dtype", "kind", "message"),
    [
        (
            "float64",
            "image",
            "has pixels of float64, which Neuroglancer cannot show: convert it to uint8, uint16",
        ),
        (
            "float32",
            "segmentation",
            "has pixels of float32, but labels are whole numbers: convert it to uint32 or uint64",
        ),
    ],
)
def test_dtypes_that_cannot_be_stored(tmp_path, dtype, kind, message):
    tifffile.imwrite(tmp_path / "in.tif", stack().astype(dtype))
    with pytest.raises(FormatError, match=says(f"{tmp_path}/in.tif {message}")):
        bring_in(tmp_path / "in.tif", tmp_path / "out", kind=kind)
    assert not (tmp_path / "out").exists()


def test_labels_below_zero(tmp_path):
    data = stack("int16") // 4 + 9000
    data[7, 3, 3] = -1
    tifffile.imwrite(tmp_path / "in.tif", data)
    message = f"{tmp_path}/in.tif: labels below 0 at [0:50 0:33 4:8] at 4.6 x 4.6 x 50 nm: "
    with pytest.raises(FormatError, match=says(message)):
        bring_in(tmp_path / "in.tif", tmp_path / "out", kind="segmentation")
    assert not (tmp_path / "out" / "info").exists()


def test_nothing_is_written_when_the_input_is_wrong(tmp_path):
    (tmp_path / "in").mkdir()
    for z in (1, 2, 4):
        tifffile.imwrite(tmp_path / "in" / f"s{z}.tif", stack()[z])
    with pytest.raises(FormatError, match=says("section 3 is missing between s2.tif and s4.tif")):
        bring_in(tmp_path / "in", tmp_path / "out")
    tifffile.imwrite(tmp_path / "in" / "s3.tif", stack()[3])
    with pytest.raises(ConfigError, match="does not tell its voxel size"):
        bring_in(tmp_path / "in", tmp_path / "out", resolution=None)
    assert not (tmp_path / "out").exists()


# --- whole files into memory --------------------------------------------------------------------


def test_files_and_layers_read_alike(tmp_path):
    data = stack("uint16")
    tifffile.imwrite(tmp_path / "in.tif", data)
    array, box = read_volume(tmp_path / "in.tif", resolution=RESOLUTION)
    np.testing.assert_array_equal(array, data.T)
    assert box == Box((0, 0, 0), (50, 33, 11), RESOLUTION)
    assert array.dtype == np.uint16
    assert array.flags.f_contiguous
    bring_in(tmp_path / "in.tif", tmp_path / "out", offset=(7, 8, 9))
    for path in (tmp_path / "out", f"precomputed://file://{tmp_path}/out"):
        array, box = read_volume(path)
        np.testing.assert_array_equal(array, data.T)
        assert box == Box.from_shape((50, 33, 11), RESOLUTION, (7, 8, 9))
    coarse, box = read_volume(tmp_path / "out", resolution=(9.2, 9.2, 50))
    assert coarse.shape == box.shape == (26, 17, 11)


def test_whole_files_need_a_voxel_size(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", stack())
    message = (
        f"{tmp_path}/in.tif does not tell its voxel size: give --resolution X Y Z in nm, as in "
        "--resolution 4.6 4.6 50"
    )
    with pytest.raises(ConfigError, match=says(message)):
        read_volume(tmp_path / "in.tif")
    with pytest.raises(LayerNotFoundError, match=says(f"{tmp_path}/no: no such file or folder")):
        read_volume(tmp_path / "no", resolution=RESOLUTION)


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def command():
    import typer

    from cnapse_cli.ingest import ingest as command

    app = typer.Typer()
    app.command()(command)
    runner = CliRunner()

    def run(*arguments):
        return runner.invoke(app, [str(a) for a in arguments], catch_exceptions=True)

    return run


def test_the_command(tmp_path, command):
    data = stack("uint16")
    tifffile.imwrite(tmp_path / "labels.tif", data)
    options = ["--segmentation", "--resolution", 4.6, 4.6, 50, "--offset", -5, 0, 7]
    options += ["--chunk", 16, 16, 8, "--encoding", "raw"]
    result = command(tmp_path / "labels.tif", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    expected = (
        f"segmentation of uint64, [-5:45 0:33 7:18] at 4.6 x 4.6 x 50 nm, written to {tmp_path}/out"
    )
    assert expected in result.output
    layer = open_layer(tmp_path / "out", kind="segmentation")
    np.testing.assert_array_equal(layer.read(layer.bounds), data.T)
    again = command(tmp_path / "labels.tif", tmp_path / "out", *options)
    assert isinstance(again.exception, LayerExistsError)
    assert (
        command(tmp_path / "labels.tif", tmp_path / "out", *options, "--overwrite").exit_code == 0
    )


def test_the_command_without_a_voxel_size(tmp_path, command):
    tifffile.imwrite(tmp_path / "raw.tif", stack())
    result = command(tmp_path / "raw.tif", tmp_path / "out")
    assert isinstance(result.exception, ConfigError)


# --- real files ---------------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")
@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [("raw", "image", "uint8"), ("neurites_derived", "segmentation", "uint64")],
)
def test_the_vnc_stack(tmp_path, name, kind, dtype):
    path = DATA / "vnc_sstem" / f"{name}.tif"
    message = f"{path} does not tell its voxel size: give --resolution X Y Z in nm"
    with pytest.raises(ConfigError, match=says(message)):
        bring_in(path, tmp_path / "out", resolution=None)
    bring_in(path, tmp_path / "out", kind=kind, chunk_size=None)
    layer = open_layer(tmp_path / "out", kind=kind, resolution=RESOLUTION)
    assert layer.bounds.shape == (640, 1024, 20)
    assert layer.dtype == dtype
    expected = tifffile.imread(path).transpose(2, 1, 0)
    np.testing.assert_array_equal(layer.read(layer.bounds), expected)
