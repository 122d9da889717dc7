"""Whatever is in a file or an option of a user: it is read, or one line says what is wrong.

Each parser gets good input that was damaged: bytes cut, flipped and put in; values of JSON and TOML
replaced by others; lines of text with other words. Files of libraries (HDF5, TIFF, Parquet) are
damaged in the same way each time, so that a test cannot find a new fault of a library by chance.

=================================  ==================================================
`load_config`                      cnapse.toml
`load_train_config`                training file
`prices`                           table of prices
`load_names`, `load_types`         CSV of names; `load_cells`: list of cells
`read_table`, `read_metadata`      tables, CSV and Parquet
`open_source` of interchange       tables of others; `parse_mapping`: --columns
`read_volume`                      TIFF, PNG, HDF5, Zarr, N5
`open_layer`                       the info of a layer
`load_bundle`, `load_checkpoint`   model.json, weights
`read_state`                       a state of Neuroglancer
`parse_box`, `parse_sections`      --box, --sections
`parse_flags`, `open_queue`        flags in a CSV; the address of a queue
=================================  ==================================================

Decisions of reviewers have theirs in tests/review/test_exchange.py.
"""

import copy
import io
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cnapse.analysis.groundtruth import parse_box, parse_sections
from cnapse.config import load_config
from cnapse.detection.checkpoint import load_bundle, load_checkpoint
from cnapse.detection.settings import load_train_config
from cnapse.errors import CnapseError, one_line
from cnapse.geometry import Box
from cnapse.interchange import open_source
from cnapse.interchange.formats import parse_mapping
from cnapse.names import load_cells, load_names, load_types
from cnapse.tables import (
    PARTNERS,
    empty_table,
    filled,
    parquet_bytes,
    parse_flags,
    read_metadata,
    read_table,
)
from cnapse.viewing import read_state
from cnapse.volumes.files import read_volume
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer
from cnapse_tasks.planning.prices import default_text, prices
from cnapse_tasks.queues import open_queue

MANY = int(os.environ.get("CNAPSE_FUZZ", "25"))
QUICK = settings(
    max_examples=MANY,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# The same damage each time.
SAME = settings(QUICK, derandomize=True)

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | WORDS
    | st.sampled_from(["", "gs://", "..", "image", "uint8", "0", "nan", "-1", "\x00"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def read_or_told(read: Callable[[], object]) -> None:
    """It is read, or one line says what is wrong."""
    line: str | None = "read"
    try:
        read()
    except CnapseError as error:
        line = one_line(error)
    assert line
    assert "\n" not in line


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes that were cut, flipped, or had others put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["flip", "cut", "put", "repeat", "drop"]))
        if what == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del data[at:]
        elif what == "put":
            data[at:at] = draw(st.binary(max_size=8))
        elif what == "repeat":
            data[at:at] = data[at : at + 40]
        else:
            del data[at : at + draw(st.integers(1, 20))]
    return bytes(data)


@st.composite
def changed(draw: st.DrawFn, whole: object) -> object:
    """JSON of which some values are others, are missing, or are new."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        node, key = value, None
        while isinstance(node, dict | list) and node:
            keys = sorted(node, key=str) if isinstance(node, dict) else list(range(len(node)))
            parent, key = node, draw(st.sampled_from(keys))
            node = parent[key]
            if draw(st.booleans()):
                break
        if key is None:
            return draw(VALUES)
        what = draw(st.sampled_from(["other", "other", "gone", "new"]))
        if what == "gone":
            del parent[key]
        elif what == "new" and isinstance(parent, dict):
            parent[draw(WORDS)] = draw(VALUES)
        else:
            parent[key] = draw(VALUES)
    return value


def toml_of(values: object) -> str:
    """TOML of what JSON can hold, as far as it can; sections become inline tables."""
    if isinstance(values, dict):
        pairs = (f"{json.dumps(k)} = {toml_of(v)}" for k, v in values.items() if v is not None)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(values, list):
        return "[" + ", ".join(toml_of(v) for v in values if v is not None) + "]"
    if isinstance(values, bool):
        return str(values).lower()
    if isinstance(values, float):
        return repr(values)
    return json.dumps(values)


def toml_file(values: object, path: Path) -> Path:
    content = values if isinstance(values, dict) else {"value": values}
    lines = [f"{json.dumps(k)} = {toml_of(v)}\n" for k, v in content.items() if v is not None]
    path.write_text("".join(lines), encoding="utf-8")
    return path


# --- TOML -----------------------------------------------------------------------------------------

CONFIG = {
    "output": "run",
    "resolution": [4, 4, 50],
    "names": "names.csv",
    "block": [64, 64, 8],
    "layers": {"image": "image", "cells": {"path": "cells", "grow_nm": 10}, "mask": "mask"},
    "bounds": {"start": [0, 0, 0], "stop": [9, 9, 9]},
    "detect": {"model": "phantom", "tile": [64, 64]},
    "label": {"threshold": 0.5, "channel": 0},
    "assign": {"min_share": 0.01, "pre_reach_vx": [1, 1, 1]},
    "meshes": {"layers": ["cells"], "mip": 2},
    "link": {"image": "gs://a/b"},
}
TRAIN = {
    "output": "model",
    "resolution": [4, 4, 50],
    "steps": 3,
    "widths": [4, 4, 4, 4, 4],
    "loss": {"bce": 0.5},
    "augment": {"flip": 1.0},
    "layers": [{"image": "a.tif", "labels": "b.tif", "start": [0, 0, 0], "stop": [9, 9, 9]}],
    "phantom": [{"shape": [64, 64, 4], "validation": True}],
}


@QUICK
@given(changed(CONFIG))
def test_cnapse_toml(tmp_path, values) -> None:
    read_or_told(lambda: load_config(toml_file(values, tmp_path / "cnapse.toml")))


@QUICK
@given(damaged((Path(__file__).parents[1] / "docs/configuration.md").read_bytes()[300:4000]))
def test_cnapse_toml_as_bytes(tmp_path, content) -> None:
    (tmp_path / "cnapse.toml").write_bytes(content)
    read_or_told(lambda: load_config(tmp_path / "cnapse.toml"))


@QUICK
@given(changed(TRAIN))
def test_training_file(tmp_path, values) -> None:
    read_or_told(lambda: load_train_config(toml_file(values, tmp_path / "train.toml")))


@QUICK
@given(damaged(default_text().encode()))
def test_prices(tmp_path, content) -> None:
    (tmp_path / "prices.toml").write_bytes(content)
    read_or_told(lambda: prices(tmp_path / "prices.toml"))


# --- tables ---------------------------------------------------------------------------------------

NAMES = b'id,name,type\n1021114810,AVAL,inter|command\n1422676001,"ASHR, 2",sensory\n'


@QUICK
@given(damaged(NAMES))
def test_names(tmp_path, content) -> None:
    (tmp_path / "names.csv").write_bytes(content)
    for load in (load_names, load_types, load_cells):
        read_or_told(lambda load=load: load(str(tmp_path / "names.csv")))


def partners() -> pd.DataFrame:
    table = filled(pd.DataFrame({"syn_id": [5, 5, 9], "post_id": [2**63, 7, 8]}), PARTNERS)
    return table.fillna(1.5).astype(empty_table(PARTNERS).dtypes.to_dict())


@QUICK
@given(data=st.data())
def test_tables_as_csv(tmp_path, data) -> None:
    whole = partners().assign(flags="near_cut|border").to_csv(index=False).encode()
    (tmp_path / "partners.csv").write_bytes(data.draw(damaged(whole)))
    read_or_told(lambda: read_table(tmp_path / "partners.csv", columns=["syn_id", "post_id"]))
    read_or_told(lambda: open_source(tmp_path / "partners.csv"))


@SAME
@given(data=st.data())
def test_tables_as_parquet(tmp_path, data) -> None:
    whole = parquet_bytes(partners(), PARTNERS, {"cnapse_assign": "{}"})
    (tmp_path / "partners.parquet").write_bytes(data.draw(damaged(whole)))
    read_or_told(lambda: read_table(tmp_path / "partners.parquet"))
    read_or_told(lambda: read_metadata(tmp_path / "partners.parquet"))
    read_or_told(lambda: list(open_source(tmp_path / "partners.parquet").parts()))


COLUMNS = ["pre_x", "pre_y", "pre_z", "post_x", "post_y", "post_z", "pre_cell", "id", "size"]


@QUICK
@given(st.lists(SCALARS, min_size=len(COLUMNS), max_size=len(COLUMNS)), st.booleans())
def test_tables_of_others(tmp_path, row, as_text) -> None:
    """Any value in any column."""
    names = ["pre_pt_position_x", "pre_pt_position_y", "pre_pt_position_z", "post_pt_position_x"]
    names += ["post_pt_position_y", "post_pt_position_z", "pre_pt_root_id", "id", "size"]
    good: list[object] = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    for i in range(0, len(names), 3):
        mixed = {
            n: [g, v if j == i else g]
            for j, (n, g, v) in enumerate(zip(names, good, row, strict=True))
        }
        try:
            table = pa.table(
                {n: [str(v) for v in vs] if as_text else vs for n, vs in mixed.items()}
            )
            pq.write_table(table, tmp_path / "cave.parquet")
        except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError):
            continue  # no Parquet file can hold it
        read_or_told(lambda: list(open_source(tmp_path / "cave.parquet").parts()))


@QUICK
@given(st.lists(WORDS | st.sampled_from(["pre_x=a", "id=", "=", "pre=a=b"]), max_size=3))
def test_mapping(words) -> None:
    read_or_told(lambda: parse_mapping(words))


@QUICK
@given(WORDS | st.sampled_from(["near_cut", "near_cut||border", "|"]))
def test_flags(text) -> None:
    read_or_told(lambda: parse_flags(text))


# --- volumes --------------------------------------------------------------------------------------

ARRAY = np.arange(2 * 6 * 5, dtype=np.uint8).reshape(2, 6, 5)


def tiff() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, ARRAY, photometric="minisblack", imagej=True, resolution=(0.25, 0.25))
    return file.getvalue()


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(ARRAY[0]).save(file, "PNG")
    return file.getvalue()


def hdf5() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened.create_dataset("main", data=ARRAY).attrs["element_size_um"] = [0.05, 0.004, 0.004]
    return file.getvalue()


FILES = {"a.tif": tiff(), "a.png": png(), "a.h5": hdf5()}


@pytest.mark.parametrize("name", FILES)
@SAME
@given(data=st.data())
def test_volumes(tmp_path, name, data) -> None:
    (tmp_path / name).write_bytes(data.draw(damaged(FILES[name])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about sizes
        read_or_told(lambda: read_volume(tmp_path / name, resolution=(4, 4, 50)))


ZARR = {
    "zarr_format": 2, "shape": [2, 6, 5], "chunks": [2, 6, 5], "dtype": "|u1", "compressor": None,
    "fill_value": 0, "order": "C", "filters": None, "dimension_separator": ".",
}  # fmt: skip
N5 = {
    "dimensions": [5, 6, 2], "blockSize": [5, 6, 2], "dataType": "uint8",
    "compression": {"type": "raw"}, "resolution": [4, 4, 50],
}  # fmt: skip


@pytest.mark.parametrize(("name", "whole"), [(".zarray", ZARR), ("attributes.json", N5)])
@QUICK
@given(data=st.data())
def test_zarr_and_n5(tmp_path, name, whole, data) -> None:
    folder = tmp_path / "volume"
    folder.mkdir(exist_ok=True)
    (folder / "0.0.0").write_bytes(ARRAY.tobytes())
    (folder / name).write_text(json.dumps(data.draw(changed(whole))))
    read_or_told(lambda: read_small(folder))


def read_small(folder: Path) -> None:
    """What is not a terabyte of nothing is read as well."""
    from cnapse.volumes.sources import open_source as open_volume

    if np.prod([float(n) for n in open_volume(folder, axes="zyx").shape]) < 1e6:
        read_volume(folder, resolution=(4, 4, 50))


@pytest.fixture(scope="module")
def layer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "layer"
    box = Box.from_shape((20, 10, 4), (4, 4, 50))
    writer = create_layer(folder, kind="image", dtype="uint8", bounds=box, chunk_size=(20, 10, 4))
    writer.write(np.ones(box.shape, np.uint8, order="F"), box)
    return folder


@QUICK
@given(data=st.data())
def test_info_of_a_layer(tmp_path, layer, data) -> None:
    folder = tmp_path / "layer"
    if not folder.exists():
        shutil.copytree(layer, folder)
    info = data.draw(changed(json.loads((layer / "info").read_text())))
    (folder / "info").write_text(json.dumps(info))
    read_or_told(lambda: open_layer(folder, mip=0))
    read_or_told(lambda: open_layer(folder, resolution=(4, 4, 50)).bounds)


# --- models ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Path:
    return Path(__file__).parents[1] / "cnapse/models/phantom"


@QUICK
@given(data=st.data())
def test_model_json(tmp_path, model, data) -> None:
    made = data.draw(changed(json.loads((model / "model.json").read_text())))
    (tmp_path / "model.json").write_text(json.dumps(made))
    if not (tmp_path / "weights.safetensors").exists():
        shutil.copy(model / "weights.safetensors", tmp_path)
    read_or_told(lambda: load_bundle(tmp_path))


@SAME
@given(data=st.data())
def test_weights(tmp_path, model, data) -> None:
    head = (model / "weights.safetensors").read_bytes()[:3000]
    shutil.copy(model / "model.json", tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(data.draw(damaged(head)))
    read_or_told(lambda: load_bundle(tmp_path))


@SAME
@given(data=st.data())
def test_checkpoints(tmp_path, data) -> None:
    file = io.BytesIO()
    torch.save({"state_dict": {"model.conv_in.weight": torch.zeros(3)}}, file)
    (tmp_path / "a.chkpt").write_bytes(data.draw(damaged(file.getvalue())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about pickles
        read_or_told(lambda: load_checkpoint(tmp_path / "a.chkpt"))


# --- the viewer, options --------------------------------------------------------------------------

STATE = {
    "dimensions": {"x": [4e-9, "m"], "y": [4e-9, "m"], "z": [5e-8, "m"]},
    "position": [10.5, 20.5, 3.5],
    "layers": [
        {"type": "segmentation", "name": "cells", "source": "precomputed://a", "segments": ["5"]},
        {
            "type": "annotation", "name": "missed",
            "source": {"url": "local://annotations", "transform": {"outputDimensions": {}}},
            "annotations": [
                {"type": "point", "id": "1", "point": [1, 2, 3], "segments": [["1"], ["2"]]},
                {"type": "line", "id": "2", "pointA": [1, 2, 3], "pointB": [4, 5, 6]},
            ],
        },
    ],
}  # fmt: skip


@QUICK
@given(changed(STATE))
def test_state_of_the_viewer(state) -> None:
    read_or_told(lambda: read_state(json.dumps(state)))
    if isinstance(state, dict):
        read_or_told(lambda: read_state(state))


@QUICK
@given(damaged(b"https://neuroglancer-demo.appspot.com/#!%7B%22layers%22:%5B%5D%7D"))
def test_links(content) -> None:
    text = content.decode("utf-8", "replace")
    if "#!" in text and not text.partition("#!")[2].startswith(("http", "gs:", "s3:", "mid")):
        read_or_told(lambda: read_state(text))


NUMBERS = st.lists(
    st.integers(-9999, 9999).map(str) | st.sampled_from(["", " ", "-", "1e3", "x", "٣", "9" * 30]),
    max_size=8,
)


@QUICK
@given(NUMBERS, st.sampled_from([",", " ", "-", ", "]))
def test_boxes_and_sections(words, between) -> None:
    text = between.join(words)
    read_or_told(lambda: parse_box(text, (4, 4, 50)))
    read_or_told(lambda: parse_sections(text))


@QUICK
@given(st.sampled_from(["", "fq:", "fq://", "sqs://", "sqs://a/", "http://"]), WORDS)
def test_addresses_of_queues(start, rest) -> None:
    """Not of queues that could be there."""
    if start.startswith("sqs://") or not rest.strip("/."):
        return
    place = f"{start}/proc/none/{rest}"
    read_or_told(lambda: open_queue(place, create=False))
