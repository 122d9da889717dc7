"""Files that nobody wrote by hand: nested without end, numbers without end, other encodings, bombs.

What chance would not find (see test_fuzz.py), each for all readers of its kind.
"""

import gzip
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from cnapse.config import load_config
from cnapse.detection.checkpoint import load_bundle
from cnapse.detection.settings import load_train_config
from cnapse.errors import CnapseError, ConfigError, FormatError, one_line
from cnapse.geometry import Box
from cnapse.interchange import open_source
from cnapse.names import load_cells, load_names, load_types
from cnapse.review.exchange import Context, import_decisions
from cnapse.review.items import Candidates
from cnapse.review.log import DecisionLog
from cnapse.tables import SYNAPSES, empty_table, read_table
from cnapse.viewing import read_state
from cnapse.volumes.files import read_volume
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer
from cnapse_tasks.planning.prices import prices
from cnapse_tasks.planning.rates import Rates

ENDLESS = "1" * 5000  # Python makes no number of more than 4300 digits
DEEP = 20_000
NM = (4.0, 4.0, 50.0)


def told(read: Callable[[], object]) -> str:
    """The line that says what is wrong."""
    with pytest.raises(CnapseError) as error:
        read()
    line = one_line(error.value) or ""
    assert line
    assert "\n" not in line
    assert len(line) < 1000
    return line


# --- text -----------------------------------------------------------------------------------------

GOOD = 'output = "run"\nresolution = [4, 4, 50]\n[layers]\nprobability = "p"\n'
TOML = {
    "deep": ("a = " + "[" * DEEP).encode(),
    "tables in tables": ("a = " + "{a = " * 5000).encode(),
    "a key of many parts": ("a" + ".a" * 2000 + " = 1").encode(),
    "endless number": f"a = {ENDLESS}".encode(),
    "NUL": b'a = "\0"',
    "UTF-16": GOOD.encode("utf-16"),
    "BOM": b"\xef\xbb\xbf" + GOOD.encode(),
    "date": b"output = 1979-05-27",
}


@pytest.mark.parametrize("content", TOML.values(), ids=TOML)
def test_toml(tmp_path, content) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    for load in (load_config, load_train_config, prices):
        assert "a.toml" in told(lambda load=load: load(file))


@pytest.mark.parametrize("number", ["nan", "inf", "-4", "0"])
def test_voxels_without_a_size(tmp_path, number) -> None:
    file = tmp_path / "a.toml"
    file.write_text(GOOD.replace("50", number))
    assert "resolution" in told(lambda: load_config(file))


def test_lines_of_other_systems_are_the_same(tmp_path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(GOOD.encode())
    expected = load_config(file)
    file.write_bytes(GOOD.replace("\n", "\r\n").encode())
    assert load_config(file) == expected
    names = "id,name,type\n12,AVAL,inter\n7,ASHR,\n"
    table = tmp_path / "names.csv"
    for other in (names.replace("\n", "\r\n"), names.replace("\n", "\r"), "\ufeff" + names):
        table.write_bytes(other.encode())
        assert list(load_names(str(table)).of([7, 12])) == ["ASHR", "AVAL"]
        assert load_types(str(table))[12] == ["inter"]
        assert load_cells(str(table)) == {7, 12}


JSON = {
    "deep": b"[" * DEEP,
    "objects in objects": b'{"a":' * DEEP,
    "endless number": f'{{"layers": {ENDLESS}}}'.encode(),
    "NUL": b'{"a": "\0"}',
    "UTF-16": "{}".encode("utf-16"),
    "BOM": b"\xef\xbb\xbf{}",
    "half a pair": b'{"layers": "\\ud800"}',
    "null": b"null",
    "nothing": b"",
}


@pytest.mark.parametrize("content", JSON.values(), ids=JSON)
def test_json(tmp_path, content) -> None:
    for name in ("info", "model.json", "zarr.json", ".zarray", "attributes.json", "decisions.json"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_bytes(content)
    told(lambda: open_layer(tmp_path / "info", mip=0))
    told(lambda: load_bundle(tmp_path / "model_json"))
    for name in ("zarr_json", "_zarray", "attributes_json"):
        told(lambda name=name: read_volume(tmp_path / name, resolution=NM))
    told(lambda: Rates.from_json(content, "rates.json"))
    state = tmp_path / "state.json"
    state.write_bytes(content)
    if content[:3] != JSON["BOM"][:3] and content != JSON["UTF-16"]:  # of no layers, but states
        told(lambda: read_state(str(state)))
    candidates = Candidates(empty_table(SYNAPSES))
    with DecisionLog(tmp_path / "log") as log:
        file = str(tmp_path / "decisions_json/decisions.json")
        told(lambda: import_decisions(log, file, Context(candidates, "me")))
        assert not len(log)


HEAD = "syn_id,pre_id,post_id,size,x_pos,y_pos,z_pos\n"
CELLS = {
    "endless id": f"{ENDLESS},2,3,4,5,6,7\n",
    "negative id": "-1,2,3,4,5,6,7\n",
    "id that is no number": "nan,2,3,4,5,6,7\n",
    "id without end": "inf,2,3,4,5,6,7\n",
    "NUL": "1,\0,3,4,5,6,7\n",
}


@pytest.mark.parametrize("row", CELLS.values(), ids=CELLS)
def test_rows(tmp_path, row) -> None:
    file = tmp_path / "t.csv"
    file.write_text(HEAD + "1,2,3,4,5,6,7\n" + row)
    told(lambda: read_table(file))
    told(lambda: list(open_source(file).parts()))
    file.write_text(HEAD, encoding="utf-16")
    told(lambda: read_table(file))


@pytest.mark.parametrize("segment", [ENDLESS, "²", "-3", "1e3"])
def test_ids_of_cells(tmp_path, segment) -> None:
    file = tmp_path / "names.csv"
    file.write_text(f"id,name,type\n5,AVA,x\n{segment},AVB,y\n", encoding="utf-8")
    for load in (load_names, load_types, load_cells):
        told(lambda load=load: load(str(file)))


# --- volumes --------------------------------------------------------------------------------------


def test_volumes_beyond_all_memory(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("main", shape=(10**6,) * 3, dtype="u1", chunks=(64, 64, 64))
    n5 = {
        "dimensions": [10**6] * 3, "blockSize": [64] * 3, "dataType": "uint8",
        "compression": {"type": "raw"}, "resolution": [4, 4, 50],
    }  # fmt: skip
    (tmp_path / "n5").mkdir()
    (tmp_path / "n5/attributes.json").write_text(json.dumps(n5))
    (tmp_path / "a.png").write_bytes(png(2**31 - 1))
    (tmp_path / "a.tif").write_bytes(tiff(tmp_path / "small.tif", 2**32 - 1))
    for name in ("a.h5", "n5", "a.png", "a.tif"):
        path = tmp_path / name
        assert "more than memory holds" in told(lambda path=path: read_volume(path, resolution=NM))


def png(side: int) -> bytes:
    """A picture that says to be so large, of a thousand bytes."""

    def part(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", body) + part(b"IEND", b"")


def tiff(file: Path, side: int) -> bytes:
    """A file of 4 x 4 pixels that says to have others."""
    tifffile.imwrite(file, np.zeros((4, 4), np.uint8))
    content = bytearray(file.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    for at in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", content, first)[0], 12):
        if struct.unpack_from("<H", content, at)[0] in (256, 257, 278):  # width, length, strip
            struct.pack_into("<HII", content, at + 2, 4, 1, side)
    return bytes(content)


def test_a_chain_of_sections_that_closes(tmp_path) -> None:
    file = tmp_path / "a.tif"
    content = bytearray(tiff(file, 4))
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, first)
    file.write_bytes(content)
    assert "damaged after page 0" in told(lambda: read_volume(file, resolution=NM))


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(bytes(30_000_000), 1),
        gzip.compress(bytes(10)),
        gzip.compress(bytes(9999))[:20],
    ],
    ids=["a bomb", "too little", "cut off"],
)
def test_chunks_that_unpack_to_something_else(tmp_path, content) -> None:
    box = Box.from_shape((16, 16, 16), NM)
    layer = tmp_path / "layer"
    writer = create_layer(layer, kind="image", dtype="uint8", bounds=box, chunk_size=(16, 16, 16))
    writer.write(np.ones(box.shape, np.uint8, order="F"), box)
    (chunk,) = layer.rglob("0-16_0-16_0-16*")
    chunk.unlink()
    chunk.with_name("0-16_0-16_0-16.gz").write_bytes(content)
    with pytest.raises(FormatError, match=r"layer: a chunk in .* is damaged or not raw, copy"):
        open_layer(layer, mip=0).read(box)


@pytest.mark.parametrize("size", [(float("nan"), 4, 50), (4, float("inf"), 50), (4, 4, 0)])
def test_a_size_of_voxels_that_is_none(tmp_path, size) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises((ConfigError, CnapseError), match="voxel size must be three positive"):
        read_volume(tmp_path / "a.tif", resolution=size)


@pytest.mark.soak
def test_for_longer() -> None:
    """All of test_fuzz.py, forty times as many examples each."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = os.environ | {"CNAPSE_FUZZ": "1000"}
    file = Path(__file__).with_name("test_fuzz.py")
    subprocess.run([*command, str(file)], check=True, env=environment)
