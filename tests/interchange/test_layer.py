"""Layers of sources, in memory and through files."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnapse.errors import LayerExistsError, TableError
from cnapse.interchange import SourceOptions, open_source, write_source
from cnapse.interchange.files import TableFiles
from cnapse.viewing.annotations import WriteOptions

VOXEL = (4.0, 4.0, 40.0)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def source(tmp_path, split):
    (tmp_path / "parts").mkdir()
    for i, part in enumerate(np.array_split(np.arange(len(split)), 3)):
        split.iloc[part].to_parquet(tmp_path / "parts" / f"{i}.parquet")
    # Parts of their own, so that what is streamed is streamed.
    split.iloc[:4].astype({"valid": "int8", "size": "int32"}).to_parquet(
        tmp_path / "parts/0.parquet"
    )
    return open_source(tmp_path / "parts", SourceOptions(resolution=VOXEL))


@pytest.mark.parametrize("sharded", [True, False])
def test_streamed_is_the_same_to_the_byte(tmp_path, source, sharded, monkeypatch) -> None:
    assert len(list(source.parts())) > 1
    # Several shards, and lines in several cells.
    small = partial(WriteOptions, shard_bytes=300, cell_limit=3)
    monkeypatch.setattr("cnapse.interchange.layer.WriteOptions", small)
    held = write_source(tmp_path / "held", source, sharded=sharded)
    # With 5 rows, it is not to be made at once.
    monkeypatch.delattr("cnapse.interchange.layer.write_annotations")
    streamed = write_source(tmp_path / "streamed", source, sharded=sharded, rows_in_memory=5)
    alone = write_source(tmp_path / "alone", source, sharded=sharded, rows_in_memory=5, workers=1)
    assert held == streamed == alone
    assert content(tmp_path / "alone") == content(tmp_path / "streamed")
    assert held.annotations == 12
    assert content(tmp_path / "held") == content(tmp_path / "streamed")
    made = content(tmp_path / "held")
    assert held.files == len(made) - 1
    assert held.stored_bytes == sum(map(len, made.values())) - len(made["info"])
    assert any(name.endswith(".shard") for name in made) == sharded


def test_sharded_by_size(tmp_path, source, monkeypatch) -> None:
    write_source(tmp_path / "few", source)
    assert not list((tmp_path / "few").rglob("*.shard"))
    monkeypatch.setattr("cnapse.interchange.layer.SHARDED_FROM", 12)
    write_source(tmp_path / "many", source)
    assert list((tmp_path / "many").rglob("*.shard"))


def test_what_is_there_stays(tmp_path, source, split) -> None:
    write_source(tmp_path / "layer", source)
    before = content(tmp_path / "layer")
    with pytest.raises(LayerExistsError, match=r"holds a layer already: .* with --overwrite$"):
        write_source(tmp_path / "layer", source)
    split["id"] = 5
    split.to_parquet(tmp_path / "bad.parquet")
    bad = open_source(tmp_path / "bad.parquet", SourceOptions(resolution=VOXEL))
    with pytest.raises(
        TableError, match=r"id 5 is there 12 times, and 1 ids .*--columns id= to co"
    ):
        write_source(tmp_path / "layer", bad, overwrite=True)
    assert content(tmp_path / "layer") == before
    counted = SourceOptions(resolution=VOXEL, columns={"id": ""})
    write_source(tmp_path / "layer", open_source(tmp_path / "bad.parquet", counted), overwrite=True)
    names = {name for name in content(tmp_path / "layer") if name.startswith("by_id")}
    assert names == {f"by_id/{i}" for i in range(1, 13)}


@pytest.mark.parametrize("kind", ["parquet", "csv", "feather"])
def test_no_rows(tmp_path, split, read, kind) -> None:
    path = tmp_path / f"none.{kind}"
    empty = split[:0]
    empty.to_csv(path, index=False) if kind == "csv" else getattr(empty, f"to_{kind}")(path)
    source = open_source(path, SourceOptions(resolution=VOXEL))
    assert write_source(tmp_path / "layer", source).annotations == 0
    assert read(tmp_path / "layer") == {}


def test_table_in_a_bucket(split, tmp_path) -> None:
    from cnapse.store import Store

    for name in ("t.csv.gz", "t.parquet"):
        path = tmp_path / name
        split.to_parquet(path) if "q" in name else split.to_csv(path, index=False)
        Store("mem://interchange").put(name, path.read_bytes())
        local, remote = (
            pd.concat(b.to_pandas() for b in TableFiles(at).batches(["id", "size"], {}))
            for at in (path, f"mem://interchange/{name}")
        )
        assert len(remote) == 12
        pd.testing.assert_frame_equal(local, remote)
