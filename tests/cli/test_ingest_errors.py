"""What a newcomer gets wrong with `cnapse ingest`: each time one line, with the way out."""

import errno
import io
import json
import os
import pathlib
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore
import tifffile
from PIL import Image

from cnapse_cli import main as cli

SIZE = ["--resolution", "4", "4", "40"]


@pytest.fixture
def fails(monkeypatch, capsys, tmp_path):
    """Call the command, which fails with one line; HERE stands for the folder."""
    monkeypatch.chdir(tmp_path)

    def call(line, *arguments):
        monkeypatch.setattr(sys, "argv", ["cnapse", "ingest", *map(str, arguments)])
        monkeypatch.delenv("CNAPSE_DEBUG", raising=False)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, str), capsys.readouterr()
        assert "\n" not in ended.value.code
        assert ended.value.code.replace(str(tmp_path), "HERE") == f"cnapse: {line}"
        assert not (tmp_path / "out/info").exists()

    return call


@pytest.fixture
def data():
    return np.random.default_rng(0).integers(0, 256, (6, 20, 30)).astype(np.uint8)


@pytest.fixture
def volume(tmp_path, data):
    """One stack of each format."""
    tifffile.imwrite(tmp_path / "raw.tif", data, photometric="minisblack")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["main"] = file["labels"] = data
    for driver in ("zarr", "n5"):
        place = {"driver": "file", "path": f"{tmp_path}/raw.{driver}/s0/"}
        store = tensorstore.open(
            {"driver": driver, "kvstore": place}, create=True, dtype="uint8", shape=data.shape
        )
        store.result().write(data).result()
    (tmp_path / "sections").mkdir()
    for z, section in enumerate(data):
        Image.fromarray(section).save(tmp_path / f"sections/s{z}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("nix.tif", "nix.tif: no such file or folder: check the path"),
        ("nix.h5", "nix.h5: no such file or folder: check the path"),
        ("nix.zarr", "nix.zarr: no such file or folder: check the path"),
        ("nix.png", "nix.png: no such file or folder: check the path"),
        ("nix/", "nix: no such file or folder: check the path"),
        ("raw_*.tif", "raw_*.tif: no file matches this pattern: check it with `ls`"),
        (
            "empty",
            "empty: no TIFF or PNG sections, Zarr, N5 or layer in this folder: check the path",
        ),
        ("empty.zarr", "empty.zarr: no Zarr or N5 array in this folder: check the path"),
        (
            "gs://bucket/raw.tif",
            "gs://bucket/raw.tif: image stacks are read from disk: copy it here first",
        ),
        (
            "notes.txt",
            (
                "notes.txt is not a readable TIFF file (not a TIFF file: header=b'my n'): give "
                "TIFF, PNG, HDF5, Zarr, N5 or a precomputed layer"
            ),
        ),
    ],
)  # fmt: skip
def test_a_path_that_is_wrong(fails, tmp_path, path, line) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "notes.txt").write_text("my notes")
    fails(line, path, "out", *SIZE)


def test_a_voxel_size_that_is_wrong(fails, volume) -> None:
    for path in ("raw.tif", "raw.h5:main", "raw.n5", "sections"):
        name = {"raw.h5:main": "raw.h5:/main", "raw.n5": "raw.n5/s0"}.get(path, path)
        fails(
            f"{name} does not tell its voxel size: give --resolution X Y Z in nm, as in "
            "--resolution 4.6 4.6 50",
            path, "out",
        )  # fmt: skip
        fails(
            "--resolution 0.004 0.004 0.04 looks like micrometres: give nm, 4 4 40",
            path, "out", "--resolution", 0.004, 0.004, 0.04,
        )  # fmt: skip
    metadata = {"unit": "um", "spacing": 0.04, "axes": "ZYX"}
    tifffile.imwrite(
        "known.tif", np.zeros((3, 4, 5), np.uint8), imagej=True, resolution=(250, 250),
        metadata=metadata,
    )  # fmt: skip
    fails(
        "--resolution says 40 x 4 x 4 nm, but known.tif says 4 x 4 x 40 nm: correct the option, or "
        "add --ignore-metadata",
        "known.tif", "out", "--resolution", 40, 4, 4,
    )  # fmt: skip
    for wrong in (0.0, -4.0, float("nan")):
        fails(
            f"a voxel size must be three positive numbers in nm, not ({wrong}, 4.0, 40.0)",
            "raw.tif", "out", "--resolution", wrong, 4, 40,
        )  # fmt: skip


def test_axes_that_are_wrong(fails, volume) -> None:
    fails(
        "raw.zarr/s0 does not tell the order of its axes (6, 20, 30): give --axes, the fastest "
        "last, as in --axes zyx",
        "raw.zarr", "out", *SIZE,
    )  # fmt: skip
    for axes in ("czyx", "zy", "zzy"):
        fails(
            f"raw.zarr/s0 has 3 axes (6, 20, 30), which do not go with {axes}: give --axes with x, "
            "y, z and a letter for each other axis, as in --axes czyx",
            "raw.zarr", "out", *SIZE, "--axes", axes,
        )  # fmt: skip
    fails(
        "raw.tif: --axes is for HDF5, Zarr and N5, which this is not: leave it out",
        "raw.tif", "out", *SIZE, "--axes", "zyx",
    )  # fmt: skip


def test_a_dataset_that_is_wrong_or_missing(fails, volume) -> None:
    fails(
        "raw.h5 holds 2 volumes, /labels, /main: name one, as in raw.h5:/labels",
        "raw.h5", "out", *SIZE,
    )  # fmt: skip
    for how in (["raw.h5:raw", "out"], ["raw.h5", "out", "--dataset", "raw"]):
        fails("raw.h5: no dataset raw, there are /labels, /main: correct the name", *how, *SIZE)
    for how in (["raw.zarr:s9", "out"], ["raw.zarr", "out", "--dataset", "s9"]):
        fails("raw.zarr: no array s9, there are s0: correct the name", *how, *SIZE)
    fails(
        "raw.tif: --dataset is for HDF5, Zarr and N5, which this is not: leave it out",
        "raw.tif", "out", *SIZE, "--dataset", "main",
    )  # fmt: skip


def test_an_encoding_that_is_wrong(fails, volume) -> None:
    fails(
        "encoding 'zip' does not go with a layer of type image and uint8: use raw or png or jpeg "
        "or jxl",
        "raw.tif", "out", *SIZE, "--encoding", "zip",
    )  # fmt: skip
    fails(
        "a chunk must have at least 1 voxel per axis, not [64, 0, 64]",
        "raw.tif", "out", *SIZE, "--chunk", 64, 0, 64,
    )  # fmt: skip


def test_a_destination_that_is_taken(fails, volume) -> None:
    fails("HERE/raw.tif is a file; a layer is a folder: use another path", "raw.tif", "raw.tif",
          *SIZE)  # fmt: skip
    Path("layer").mkdir()
    Path("layer/info").write_text("{}")
    line = "file://HERE/layer: there is a layer already: use another path, or --overwrite"
    fails(line, "raw.tif", "layer", *SIZE)
    line = "a part of this path is a file, not a folder: give another path"
    fails(f"HERE/raw.tif/layer/.cnapse-ingest.json: {line}", "raw.tif", "raw.tif/layer", *SIZE)


FULL = (
    "no space left on the disk: free some, then run the same command again (a run goes on where "
    "it stopped)"
)


def fill(monkeypatch, allowed):
    """Let the disk take a number of files yet; the next is cut short."""
    write_bytes, count = pathlib.Path.write_bytes, [0]

    def full(path, content):
        count[0] += 1
        if count[0] > allowed:
            write_bytes(path, content[:3])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)


@pytest.mark.parametrize(
    ("allowed", "file"),
    [
        (0, ".cnapse-ingest.json"),
        (1, "4_4_40/0-16_0-16_0-4"),
        # Behind two notes and the four chunks of the first slab.
        (6, "4_4_40/0-16_0-16_4-6"),
        (11, "provenance"),
        (12, "info"),
    ],
)
def test_a_full_disk_wherever_it_is_met(fails, volume, data, monkeypatch, allowed, file) -> None:
    options = ["raw.tif", "out", *SIZE, "--chunk", 16, 16, 4]
    with monkeypatch.context() as patched:
        fill(patched, allowed)
        fails(f"HERE/out/{file}: {FULL}", *options)
    assert not list(volume.rglob("*.part"))
    # With space it goes on, and is whole.
    monkeypatch.setattr(sys, "argv", ["cnapse", "ingest", *map(str, options)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    place = {"driver": "file", "path": f"{volume}/out/"}
    spec = {"driver": "neuroglancer_precomputed", "kvstore": place}
    found = tensorstore.open(spec, open=True).result()[..., 0].read().result()
    np.testing.assert_array_equal(found, data.T)
    assert json.loads(Path("out/info").read_text())["type"] == "image"


FORBIDDEN = "no permission: see who may with `ls -l`, or give another path"


def forbid(monkeypatch, path):
    """Make opening a file fail, as for a user who may not; tests may run as one who may all."""
    opened = io.open

    def refused(file, *arguments, **named):
        if os.fspath(file) in (str(path), str(Path(path).absolute())):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return opened(file, *arguments, **named)

    for where in ("builtins.open", "io.open"):
        monkeypatch.setattr(where, refused)


@pytest.mark.parametrize(
    ("path", "file"),
    [("raw.tif", "raw.tif"), ("sections", "sections/s3.png")],
)  # fmt: skip
def test_a_file_that_must_not_be_read(fails, volume, monkeypatch, path, file) -> None:
    forbid(monkeypatch, file)
    fails(f"{file}: {FORBIDDEN}", path, "out", *SIZE)


def test_hdf5_that_must_not_be_read(fails, volume, monkeypatch) -> None:
    def refused(*_arguments, **_named):
        raise PermissionError(errno.EACCES, "unable to open file: Permission denied")

    monkeypatch.setattr(h5py, "File", refused)
    fails(f"raw.h5: {FORBIDDEN}", "raw.h5:main", "out", *SIZE)


def test_a_destination_that_must_not_be_written(fails, volume, monkeypatch) -> None:
    make = pathlib.Path.mkdir

    def refused(path, *arguments, **named):
        if "out" in path.parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return make(path, *arguments, **named)

    monkeypatch.setattr(pathlib.Path, "mkdir", refused)
    fails(f"HERE/out/.cnapse-ingest.json: {FORBIDDEN}", "raw.tif", "out", *SIZE)
