"""Every form read back by a reader that is not ours, over random tables."""

import csv
import json
import math
from pathlib import Path

import duckdb
import h5py
import networkx as nx
import numpy as np
import openpyxl
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from cnapse.analysis.connectome import connectome_of
from cnapse.analysis.exports import EXPORTS, Export, write_connectome
from cnapse.analysis.exports.rows import write_rows
from cnapse.analysis.queries import Synapses
from cnapse.errors import ConfigError, LayerExistsError, StorageError, TableError
from cnapse.interchange import SourceOptions, open_source
from cnapse.tables import PARTNERS, filled, read_table, write_table

FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

NASTY = [
    "=cmd|' /C calc'!A0",
    "+1",
    "@x",
    "a,b",
    'q"q',
    "l1\nl2",
    "NA",
    "#N/A",
    "née 日本",
    "<&>",
    "t\tt",
]
names = (
    st.one_of(
        st.sampled_from(NASTY),
        # What XML can hold: the others are refused, see below.
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=4),
    )
    .map(lambda text: text.strip(" "))
    .filter(lambda text: not text.isdigit())
)
ids = st.one_of(st.integers(1, 4), st.sampled_from([2**53 + 1, 2**64 - 1]))


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A table of partners as cnapse writes it; (syn_id, post_id) need not be unique."""
    called = draw(st.dictionaries(ids, names, min_size=1, max_size=5))
    cells = st.sampled_from([*called])
    row = st.tuples(st.integers(1, 3), cells, cells, st.floats(0, 1e9), *[st.floats(0, 1e6)] * 6)
    columns = ["syn_id", "pre_id", "post_id", "size", "x_pos", "y_pos", "z_pos"]
    table = pd.DataFrame(
        draw(st.lists(row, max_size=8)), columns=[*columns, "post_x", "post_y", "post_z"]
    )
    for end in ("pre", "post"):
        table[f"{end}_id"] = table[f"{end}_id"].astype("uint64")
        values = [called[cell] or str(cell) for cell in table[f"{end}_id"]]
        table[end] = pd.Series(values, dtype="str")
    return filled(table.astype({"syn_id": "uint64"}), PARTNERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("exports")


def table_of(*rows: tuple[int, int, str, int, str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["syn_id", "pre_id", "pre", "post_id", "post", "size"])
    places = {f"{name}": 10.0 for name in ("x_pos", "y_pos", "z_pos", "post_x", "post_y", "post_z")}
    return filled(frame.assign(**places), PARTNERS)


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@FEW
@given(tables())
@example(table_of())
@example(table_of((1, 2**64 - 1, "=A1", 2**64 - 1, "=A1", 0.1)))
def test_every_form_is_the_table(folder, table) -> None:
    write_table(table, folder / "partners.parquet", PARTNERS)
    out = folder / "out"
    with Synapses.open(folder / "partners.parquet") as synapses:
        made = connectome_of(synapses)
        edges, cells = made.edges(), made.cells()
        order = ["syn_id", "pre", "pre_id", "post", "post_id", "x_pos", "y_pos", "z_pos"]
        order += ["post_x", "post_y", "post_z", "size"]
        kept = synapses.to_pandas().sort_values(order, ignore_index=True)
        counts = made.matrix("synapses").to_numpy()
        export = Export(made)
        write_connectome(export, out, ["all"], overwrite=True)
        has_sizes = made.has_sizes
    labels = cells["cell"].tolist()
    sizes = np.zeros(counts.shape)
    at = {label: number for number, label in enumerate(labels)}
    for row in edges.itertuples():
        sizes[at[row.pre], at[row.post]] = row.size
    # Sums are those of the table.
    assert edges["size"].sum() == pytest.approx(math.fsum(table["size"]))
    assert len(kept) == len(table)
    check_csv(out, edges, labels, counts)
    check_parquet(out, edges, labels, counts)
    check_excel(out, edges, labels, counts)
    check_graphml(out, edges, labels)
    check_sparse(out, counts, sizes if has_sizes else None)
    check_foreign(out, kept)
    check_cremi(out, kept)


def check_csv(out: Path, edges: pd.DataFrame, labels: list[str], counts: np.ndarray) -> None:
    header, *rows = read_csv(out / "edges.csv")
    assert header == list(edges.columns)
    ends = [[row[0], row[1], row[2], row[3], row[4]] for row in rows]
    columns = ["pre", "pre_id", "post", "post_id", "synapses"]
    assert ends == edges[columns].astype("str").to_numpy().tolist()
    assert [float(row[5]) for row in rows] == edges["size"].tolist()
    header, *rows = read_csv(out / "matrix_synapses.csv")
    assert header == ["", *labels]
    assert [row[0] for row in rows] == labels
    assert [[int(value) for value in row[1:]] for row in rows] == counts.tolist()
    assert [row[1] for row in read_csv(out / "cells.csv")[1:]] == labels


def check_parquet(out: Path, edges: pd.DataFrame, labels: list[str], counts: np.ndarray) -> None:
    found = duckdb.sql("SELECT * FROM read_parquet(?)", params=[str(out / "edges.parquet")])
    rows = [tuple(row) for row in edges.itertuples(index=False)]
    assert repr(found.fetchall()) == repr([tuple(map(python, row)) for row in rows])
    matrix = pd.read_parquet(out / "matrix_synapses.parquet")
    assert [*matrix.columns] == [*matrix.index] == labels
    assert matrix.to_numpy().tolist() == counts.tolist()


def check_excel(out: Path, edges: pd.DataFrame, labels: list[str], counts: np.ndarray) -> None:
    book = openpyxl.load_workbook(out / "connectome.xlsx")
    rows = list(book["edges"].iter_rows(min_row=2))
    for row in rows:
        assert [cell.data_type for cell in row[:5]] == ["s", "s", "s", "s", "n"]
    columns = ["pre", "pre_id", "post", "post_id"]
    assert [[cell.value for cell in row[:4]] for row in rows] == (
        edges[columns].astype("str").to_numpy().tolist()
    )
    # openpyxl writes 16 digits, Excel shows 15.
    assert [row[5].value for row in rows] == pytest.approx(edges["size"].tolist(), rel=1e-15)
    (_, *header), *rows = book["synapses"].iter_rows(values_only=True)
    assert header == [row[0] for row in rows] == labels
    assert [[*row[1:]] for row in rows] == counts.tolist()
    book.close()


def check_graphml(out: Path, edges: pd.DataFrame, labels: list[str]) -> None:
    graph = nx.read_graphml(out / "connectome.graphml")
    assert sorted(graph.nodes) == sorted(labels)
    assert graph.is_directed()
    found = {(a, b): (data["weight"], data["size"]) for a, b, data in graph.edges(data=True)}
    rows = zip(edges["pre"], edges["post"], edges["synapses"], edges["size"], strict=True)
    assert found == {(pre, post): (n, size) for pre, post, n, size in rows}


def check_sparse(out: Path, counts: np.ndarray, sizes: np.ndarray | None) -> None:
    matrix = sparse.load_npz(out / "sparse_synapses.npz")
    assert matrix.format == "coo"
    assert np.array_equal(matrix.toarray(), counts)
    if sizes is not None:
        assert np.array_equal(sparse.load_npz(out / "sparse_size.npz").toarray(), sizes)
    assert len(pd.read_csv(out / "cells.csv", keep_default_na=False)) == len(counts)


def check_foreign(out: Path, kept: pd.DataFrame) -> None:
    ends = kept[["pre_id", "post_id"]].to_numpy().tolist()
    cave = pq.read_table(out / "cave_synapses.parquet").to_pylist()
    assert [[row["pre_pt_root_id"], row["post_pt_root_id"]] for row in cave] == ends
    assert [row["size"] for row in cave] == kept["size"].tolist()
    places = kept[["post_x", "post_y", "post_z"]].to_numpy().tolist()
    assert [row["post_pt_position"] for row in cave] == places
    rows = read_csv(out / "neuprint_connections.csv")[1:]
    weights = kept.groupby(["pre_id", "post_id"]).size()
    assert {(int(a), int(b)): int(n) for a, b, n in rows} == weights.to_dict()
    neurons = {int(row[0]): row[1:] for row in read_csv(out / "neuprint_neurons.csv")[1:]}
    assert {cell: int(row[1]) for cell, row in neurons.items() if int(row[1])} == (
        kept.groupby("pre_id")["syn_id"].nunique().to_dict()
    )
    assert {cell: int(row[2]) for cell, row in neurons.items() if int(row[2])} == (
        kept.groupby("post_id").size().to_dict()
    )
    header, *rows = read_csv(out / "synaptor_edges.csv")
    assert header[:4] == ["cleft_segid", "presyn_segid", "postsyn_segid", "size"]
    assert [[int(row[1]), int(row[2])] for row in rows] == ends
    assert [float(row[3]) for row in rows] == kept["size"].tolist()


def check_cremi(out: Path, kept: pd.DataFrame) -> None:
    """As ``cremi.CremiFile.read_annotations`` reads: ids, types, locations and partners."""
    with h5py.File(out / "cremi.h5") as file:
        assert file.attrs["file_format"] == "0.2"
        group = file["annotations"]
        numbers, kinds = group["ids"][()], group["types"].asstr()[()]
        places = dict(zip(numbers.tolist(), group["locations"][()].tolist(), strict=True))
        names_of = dict(
            zip(
                group["comments/target_ids"][()].tolist(),
                group["comments/comments"].asstr()[()],
                strict=True,
            )
        )
        pairs = group["presynaptic_site/partners"][()].tolist()
    sites = dict(zip(numbers.tolist(), kinds, strict=True))
    assert len(sites) == len(numbers)
    assert [places[a] for a, _ in pairs] == kept[["z_pos", "y_pos", "x_pos"]].to_numpy().tolist()
    assert [places[b] for _, b in pairs] == kept[["post_z", "post_y", "post_x"]].to_numpy().tolist()
    assert [[names_of[a], names_of[b]] for a, b in pairs] == kept[
        ["pre", "post"]
    ].to_numpy().tolist()
    assert {(sites[a], sites[b]) for a, b in pairs} <= {("presynaptic_site", "postsynaptic_site")}


def python(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize(
    ("form", "file", "unit"),
    [
        ("cave", "cave_synapses.parquet", (1.0, 1.0, 1.0)),
        ("neuprint", "neuprint_synapses.parquet", None),
        ("synaptor", "synaptor_edges.csv", (1.0, 1.0, 1.0)),
        ("cremi", "cremi.h5", None),
    ],
)
def test_what_is_written_for_others_is_read_back(tmp_path, form, file, unit) -> None:
    """By `cnapse annotate` and, where there are cells, as a table of partners again."""
    table = table_of(
        (1, 7, "A", 8, "B", 2.5), (1, 7, "A", 9, "9", 1.5), (2, 8, "B", 2**60, "C", 4.0)
    )
    table["post_x"] = [16.0, 8.0, 24.0]  # "9" comes before "B"
    write_table(table, tmp_path / "partners.csv", PARTNERS)
    with Synapses.open(tmp_path / "partners.csv") as synapses:
        write_connectome(Export(connectome_of(synapses)), tmp_path / "out", [form])
    (part,) = open_source(tmp_path / "out" / file, SourceOptions(resolution=unit)).parts()
    points = np.asarray(part.points)
    assert points[:, 1, 0].tolist() == [8.0, 16.0, 24.0]
    assert points[:, 0].tolist() == [[10.0, 10.0, 10.0]] * 3
    if form == "cremi":
        with pytest.raises(TableError, match="a CREMI file names places, not cells"):
            Synapses.open(tmp_path / "out" / file)
        return
    with Synapses.open(tmp_path / "out" / file) as synapses:
        assert synapses.layout.format == form
        again = synapses.edges()
    assert again["pre_id"].tolist() == [7, 7, 8]
    assert again["post_id"].tolist() == [8, 9, 2**60]


def test_a_name_that_xml_cannot_hold_is_refused_and_nothing_is_left(tmp_path) -> None:
    pd.DataFrame({"pre": ["A\x07"], "post": ["B"]}).to_parquet(tmp_path / "t.parquet")
    with Synapses.open(tmp_path / "t.parquet") as synapses:
        made = Export(connectome_of(synapses))
        for form in ("graphml", "excel"):
            with pytest.raises(TableError, match=rf"'A\\x07' holds a control .* --export {form}"):
                write_connectome(made, tmp_path / "out", ["csv", form])
        assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]
        write_connectome(made, tmp_path / "out", ["csv", "parquet", "sparse"])
    assert read_csv(tmp_path / "out" / "edges.csv")[1][0] == "A\x07"


def test_forms_say_what_they_need(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("syn_id,pre,post,size\n1,A,B,5\n")
    with Synapses.open(tmp_path / "t.csv") as synapses:
        made = Export(connectome_of(synapses))
        with pytest.raises(TableError, match=r"no ids of cells .*, which --export cave is"):
            write_connectome(made, tmp_path / "out", ["cave"])
        with pytest.raises(TableError, match=r"no places in nm .*, which --export cremi is"):
            write_connectome(made, tmp_path / "out", ["cremi"])
        with pytest.raises(ConfigError, match="--export pdf: there are csv, excel, parquet"):
            write_connectome(made, tmp_path / "out", ["csv,pdf"])
    assert not (tmp_path / "out").exists()


def test_a_folder_is_replaced_only_when_asked_and_nothing_else_in_it(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("syn_id,pre,post,size\n1,A,B,5\n")
    out = tmp_path / "out"
    with Synapses.open(tmp_path / "t.csv") as synapses:
        made = Export(connectome_of(synapses))
        write_connectome(made, out, ["csv", "sparse"])
        (out / "mine.txt").write_text("mine")
        with pytest.raises(LayerExistsError, match=r"out: the folder is not empty: give another"):
            write_connectome(made, out)
        files = write_connectome(made, out, ["parquet"], overwrite=True)
        with pytest.raises(ConfigError, match="there is a file: give the name of a folder"):
            write_connectome(made, tmp_path / "t.csv")
    assert {path.name for path in out.iterdir()} == {*(path.name for path in files), "mine.txt"}
    record = json.loads((out / "connectome.json").read_text())
    assert record["counts"]["edges"] == 1
    assert {*record["files"], "connectome.json"} == {path.name for path in files}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_rows_are_written_whole_or_not_at_all(tmp_path) -> None:
    table = table_of((1, 7, "A", 8, "B", 2.5)).assign(flags=[5])
    write_table(table, tmp_path / "partners.parquet", PARTNERS)
    with Synapses.open(tmp_path / "partners.parquet") as synapses:
        assert synapses.write(tmp_path / "rows.csv") == 1
        assert synapses.write(tmp_path / "rows.parquet") == 1
        with pytest.raises(TableError, match=r"rows are written as .csv or .parquet"):
            synapses.write(tmp_path / "rows.txt")
        with pytest.raises(TableError, match="rows are written to this machine"):
            synapses.write("gs://bucket/rows.csv")
        (first,) = synapses.batches()

    def broken():
        yield first
        raise StorageError("gone")

    with pytest.raises(StorageError, match="gone"):
        write_rows(broken(), tmp_path / "half.parquet")
    expected = read_table(tmp_path / "partners.parquet")
    for name in ("rows.csv", "rows.parquet"):
        pd.testing.assert_frame_equal(read_table(tmp_path / name), expected)
    assert "no_presynaptic_cell|nothing_hit" in (tmp_path / "rows.csv").read_text()
    assert not [path for path in tmp_path.iterdir() if "half" in path.name]


def test_every_form_has_a_writer_that_is_said_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "connectome.md").read_text()
    for name in EXPORTS:
        assert f"| `{name}` |" in text
