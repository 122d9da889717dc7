"""Small files: whole or not at all, and names that never leave the folder's tree."""

import numpy as np
import pytest

from cnapse.errors import FormatError, LayerNotFoundError, TableError
from cnapse.names import load_cells, load_names
from cnapse.store import Store, cloud_path, local_path


def test_files_come_and_go(tmp_path) -> None:
    store = Store(tmp_path / "s")
    assert store.names() == []
    assert store.get("a/b.json") is None
    store.put_json("a/b.json", {"x": 1})
    store.put("a/c", b"c")
    assert store.child("a").names() == ["b.json", "c"]
    assert store.names("a") == ["b.json", "c"]
    assert store.get_json("a/b.json") == {"x": 1}
    assert store.exists("a/c")
    store.delete(["a/c", "never there"])
    assert not store.exists("a/c")
    store.put("d", b"d")
    store.delete_folder("a")
    assert store.names() == ["d"]
    store.delete_folder("")
    assert store.names() == []
    with pytest.raises(LayerNotFoundError, match="is not there"):
        store.read("a/c")


def test_json_is_the_same_bytes_whatever_the_order(tmp_path) -> None:
    store = Store(tmp_path)
    store.put_json("a", {"x": 1, "b": [2, {"d": 3, "c": "é"}]})
    store.put_json("b", {"b": [2, {"c": "é", "d": 3}], "x": 1})
    assert store.get("a") == store.get("b")


def test_several_files_come_at_once(tmp_path) -> None:
    store = Store(tmp_path)
    store.put_all([("a", b"1"), ("f/b", b"2")])
    assert store.get_all(["f/b", "none", "a"]) == {"f/b": b"2", "none": None, "a": b"1"}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path)
    store.put("f", b"old")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="/f: no space left on the disk: free some, then"):
        store.put("f", b"new")
    assert store.get("f") == b"old"
    assert store.names() == ["f"]


def test_arrays_keep_dtype_and_bytes(tmp_path) -> None:
    store = Store(tmp_path)
    arrays = {
        "ids": np.array([1, 2**64 - 1], np.uint64),
        "none": np.zeros(0, np.int64),
        "two": np.arange(6.0).reshape(2, 3).T,
    }
    store.put_arrays("a", arrays)
    store.put_arrays("b", arrays)
    assert store.get("a") == store.get("b")
    again = store.get_arrays("a")
    assert again is not None
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_damaged_files_are_named(tmp_path, content) -> None:
    store = Store(tmp_path)
    store.put("x", content)
    with pytest.raises(FormatError, match=r"x is damaged .*: delete it"):
        store.get_json("x")
    with pytest.raises(FormatError, match=r"x is damaged .*: delete it"):
        store.get_arrays("x")


def test_paths(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cloud_path("a/b/") == f"file://{tmp_path}/a/b"
    assert cloud_path("precomputed://gs://b/c") == "gs://b/c"
    assert local_path("gs://b/c") is None
    assert local_path("a") == tmp_path / "a"


def test_names_of_cells(tmp_path) -> None:
    (tmp_path / "names.csv").write_text("id,name\n7,AVAL\n18446744073709551615,ASH left\n")
    names = load_names(str(tmp_path / "names.csv"))
    assert names.of([7, 8, 2**64 - 1]) == ["AVAL", "8", "ASH left"]
    assert load_names("").of([3]) == ["3"]


@pytest.mark.parametrize("text", ["id\n7\n9\n", "9\n7", "id,name\n7,a\n9,b\n7,c\n"])
def test_lists_of_cells(tmp_path, text) -> None:
    (tmp_path / "cells.csv").write_text(text)
    assert load_cells(str(tmp_path / "cells.csv")) == {7, 9}


@pytest.mark.parametrize(
    ("text", "message"),
    [("id\n", "lists no cell"), ("7\nx\n", "'x' is no whole number"), ("", "not a CSV")],
)
def test_wrong_lists_of_cells(tmp_path, text, message) -> None:
    (tmp_path / "cells.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        load_cells(str(tmp_path / "cells.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7,a\n7,b\n", "segment id 7 is there twice"),
        ("7,a\nx,b\n", "'x' is no whole number"),
        ("7\n8\n", "needs two columns"),
        ("7,a\n18446744073709551616,b\n", "18446744073709551616 has more than 64 bits"),
        ("", "not a CSV"),
    ],
)
def test_wrong_names(tmp_path, text, message) -> None:
    (tmp_path / "n.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        load_names(str(tmp_path / "n.csv"))
