"""Questions to tables against pandas on the whole table; tables of every kind; errors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnapse.analysis.connectome import connectome_of
from cnapse.analysis.queries import Reading, Synapses
from cnapse.analysis.queries_engine import Engine
from cnapse.errors import ConfigError, DamagedFileError, LayerNotFoundError, TableError
from cnapse.tables import PARTNERS, filled, parquet_bytes, write_table

FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
BIG = 2**63 + 11


def random_table(seed: int, rows: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    cells = np.array([1, 2, 3, 4, BIG, BIG + 2], np.uint64)
    called = {1: "A", 2: "A", 3: "it's; DROP TABLE x --", 4: "4", BIG: str(BIG), BIG + 2: '"q"'}
    table = pd.DataFrame({"syn_id": np.sort(random.integers(1, 30, rows)).astype(np.uint64)})
    for end in ("pre", "post"):
        table[f"{end}_id"] = random.choice(cells, rows)
        table[end] = [called[int(cell)] for cell in table[f"{end}_id"]]
    for axis in ("x_pos", "y_pos", "z_pos"):
        table[axis] = random.integers(0, 10, rows) * 4.0 + 2.0
    table["size"], table["share"] = random.random(rows) * 1e5, random.random(rows)
    return filled(table, PARTNERS)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return random_table(0, 60)


@pytest.fixture(scope="module")
def parts(table, tmp_path_factory) -> Path:
    """A folder of parts, with letters in its name that are patterns and quotes elsewhere."""
    folder = tmp_path_factory.mktemp("run") / "it's [1]*?" / "partners"
    folder.mkdir(parents=True)
    for number in range(3):
        rows = table.iloc[number * 20 : number * 20 + 20]
        (folder / f"part-{number:08d}.parquet").write_bytes(parquet_bytes(rows, PARTNERS))
    return folder


@pytest.fixture(scope="module")
def opened(parts):
    with Synapses.open(parts, verify=True) as synapses:
        yield synapses


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        found, expected.reset_index(drop=True)[list(found.columns)], check_dtype=False
    )


def test_all_rows_come_in_the_order_of_the_table(opened, table) -> None:
    same(opened.to_pandas(), table)
    assert opened.count() == len(table)
    assert set(opened.to_pandas().columns) == set(PARTNERS.names)


@FEW
@given(
    cell=st.sampled_from([1, 3, BIG, 99, "A", "it's; DROP TABLE x --", '"q"', str(BIG), "4"]),
    side=st.sampled_from(["either", "pre", "post"]),
)
def test_synapses_of_a_cell(opened, table, cell, side) -> None:
    def at(end: str) -> "pd.Series[bool]":
        if str(cell).isdigit():
            return table[f"{end}_id"] == np.uint64(int(cell))
        return table[end] == cell

    mask = at("pre") | at("post") if side == "either" else at(side)
    found = opened.of_cell(cell, side)
    same(found.to_pandas(), table[mask])
    assert found.count() == mask.sum()


@FEW
@given(
    st.lists(st.integers(-2, 12).map(lambda n: n * 4.0), min_size=3, max_size=3),
    st.lists(st.integers(1, 12).map(lambda n: n * 4.0), min_size=3, max_size=3),
    st.sampled_from([None, 3e4]),
)
def test_synapses_in_a_box_and_between_two_cells(opened, table, start, shape, size) -> None:
    stop = [a + b for a, b in zip(start, shape, strict=True)]
    places = table[["x_pos", "y_pos", "z_pos"]].to_numpy()
    inside = ((places >= start) & (places < stop)).all(axis=1)
    same(opened.in_box(start, stop).to_pandas(), table[inside])
    mask = inside & (table["pre"] == "A") & (table["post_id"] == np.uint64(BIG))
    if size is not None:
        mask &= table["size"] >= size
    found = opened.in_box(start, stop).between("A", BIG).at_least(size=size)
    same(found.to_pandas(), table[mask])
    assert found.edges()["size"].sum() == pytest.approx(table[mask]["size"].sum())


def test_a_list_of_names_finds_all_ids_of_a_name(parts, table, tmp_path) -> None:
    (tmp_path / "names.csv").write_text('id,name\n3,B\n4,"B"\n')
    with Synapses.open(parts, names=str(tmp_path / "names.csv")) as synapses:
        found = synapses.of_cell("B", "pre").to_pandas()
        assert set(found["pre"]) == {"B"}
        assert found["syn_id"].tolist() == table[table["pre_id"].isin([3, 4])]["syn_id"].tolist()
        with pytest.raises(TableError, match="has no cell called 'A'"):
            synapses.of_cell("A")


def test_a_misspelt_cell_and_bad_boxes_are_refused(opened) -> None:
    with pytest.raises(TableError, match=r"no cell called '\"p\"': did you mean '\"q\"'\?"):
        opened.of_cell('"p"')
    with pytest.raises(ConfigError, match="box 0 0 0 to 0 1 1: give x y z of a corner"):
        opened.in_box((0, 0, 0), (0, 1, 1))
    with pytest.raises(ConfigError, match="cell 0: ids are from 1 to"):
        opened.of_cell(0)
    with pytest.raises(ConfigError, match="side 'left': there are either, pre and post"):
        opened.of_cell(1, "left")
    with pytest.raises(ConfigError, match=r"memory of 0 GB: give at least 0\.1"):
        Engine(0)


def test_the_same_table_in_every_form_gives_the_same_edges(opened, table, tmp_path) -> None:
    write_table(table, tmp_path / "own.csv", PARTNERS)
    columns = {"pre_id": "bodyId_pre", "post_id": "bodyId_post"}
    table[["pre_id", "post_id"]].rename(columns=columns).to_feather(tmp_path / "neu.feather")
    cave = {"pre_id": "pre_pt_root_id", "post_id": "post_pt_root_id", "size": "size"}
    table[[*cave]].rename(columns=cave).to_csv(tmp_path / "cave.csv.gz", index=False)
    other = {"pre_id": "from", "post_id": "to", "size": "area", "syn_id": "cleft"}
    table[[*other]].rename(columns=other).to_csv(tmp_path / "o.tsv", index=False, sep="\t")
    reading = Reading(
        columns={"pre_cell": "from", "post_cell": "to", "size": "area", "synapse": "cleft"}
    )
    with Synapses.open(tmp_path / "own.csv") as own:
        expected = opened.edges()
        pd.testing.assert_frame_equal(own.edges(), expected)
    by_id = table.groupby(["pre_id", "post_id"])
    with Synapses.open(tmp_path / "o.tsv", reading=reading) as found:
        edges = found.edges().set_index(["pre_id", "post_id"])
        assert edges["synapses"].to_dict() == by_id["syn_id"].nunique().to_dict()
        assert edges["size"].to_dict() == pytest.approx(by_id["size"].sum().to_dict())
    for name, kind in (("neu.feather", "neuprint"), ("cave.csv.gz", "cave")):
        with Synapses.open(tmp_path / name) as found:
            assert found.layout.format == kind
            edges = found.edges().set_index(["pre_id", "post_id"])
            assert edges["synapses"].to_dict() == by_id.size().to_dict()
            with pytest.raises(TableError, match="has no places in nm: give --resolution"):
                found.in_box((0, 0, 0), (1, 1, 1))


def test_places_in_voxels_and_lists_become_nanometres(tmp_path) -> None:
    rows = {
        "pre_pt_root_id": [1, 2],
        "post_pt_root_id": [2, 1],
        "ctr_pt_position": [[1, 2, 3], [4, 5, 6]],
    }
    pq.write_table(pa.table(rows), tmp_path / "cave.parquet")
    reading = Reading(resolution=(4, 4, 40))
    with Synapses.open(tmp_path / "cave.parquet", reading=reading) as synapses:
        found = synapses.in_box((0, 0, 0), (5, 9, 121)).to_pandas()
    assert found[["x_pos", "y_pos", "z_pos"]].to_numpy().tolist() == [[4.0, 8.0, 120.0]]


def test_plain_columns_of_others_are_read_in_place(tmp_path) -> None:
    rows = {"body_pre": [1, BIG], "body_post": [2, 1], "x_pre": [1, 2], "y_pre": [1, 1]}
    table = pa.table({**{k: pa.array(v, pa.uint64()) for k, v in rows.items()}, "z_pre": [1, 1]})
    pq.write_table(table, tmp_path / "t.parquet")
    with Synapses.open(tmp_path / "t.parquet") as synapses:
        assert synapses.to_pandas()["pre_id"].tolist() == [1, BIG]
        assert synapses.in_box((8, 0, 0), (9, 9, 9)).count() == 1


def test_a_run_or_a_folder_of_tables_is_found(parts, tmp_path) -> None:
    run = tmp_path / "run"
    (run / "tables").mkdir(parents=True)
    (run / "tables" / "partners").symlink_to(parts)
    (tmp_path / "cnapse.toml").write_text(
        'output = "run"\nresolution = [4, 4, 40]\n[layers]\nprobability = "i"\ncells = "c"\n'
    )
    for place in (tmp_path / "cnapse.toml", run, run / "tables"):
        with Synapses.open(place) as synapses:
            assert synapses.count() == 60


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.csv", "x,y\n1,2\n", TableError, r"a.csv is of no format that is known by its columns"),
        ("a.csv", "syn_id,pre,size\n", TableError, "has a column pre but no post"),
        ("a.csv", "pre_id,voxels\n", TableError, "it looks like the table of synapses: give that"),
        ("a.csv", "pre_id,post_id\n-1,2\n", TableError, r"column 'pre_id'.* ids are from 0"),
        ("a.csv", "pre_id,post_id,size\n1,2,big\n", TableError, "big"),
        ("a.parquet", "no Parquet", TableError, "a.parquet cannot be read"),
        ("a.txt", "pre,post", TableError, "is no table by its name"),
        ("b/c", "", LayerNotFoundError, "no table of partners at .*/a: give a cnapse.toml"),
    ],
)
def test_bad_tables_are_one_line(tmp_path, name, content, error, message) -> None:
    path = tmp_path / name
    if "/" in name:
        (tmp_path / "a").mkdir()
        path = tmp_path / "a"
    else:
        path.write_text(content)
    with pytest.raises(error, match=message) as raised:
        Synapses.open(path).edges()
    assert "\n" not in str(raised.value)


def test_options_that_do_not_go_with_the_table(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("from,to\n1,2\n")
    for reading, message in (
        (Reading("xyz"), "--format xyz: there are cnapse, cave"),
        (Reading("cave"), r"read as cave, has no column of presynaptic cells \(pre_pt_root_id\)"),
        (Reading("cnapse"), "has no cells: a table of partners has pre and post, or their ids"),
        (Reading(columns={"pre_cell": "fro"}), r"no column 'fro' \(--columns pre_cell=fro\)"),
    ):
        with pytest.raises((TableError, ConfigError), match=message):
            Synapses.open(tmp_path / "a.csv", reading=reading)


def test_flipped_bits_of_a_part_are_found(table, tmp_path) -> None:
    data = bytearray(parquet_bytes(table, PARTNERS))
    data[200] ^= 0xFF
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"t.parquet is damaged"):
        Synapses.open(tmp_path / "t.parquet", verify=True)


def test_a_table_larger_than_memory_spills(tmp_path) -> None:
    """Half a million rows of own synapses and cells with 0.1 GB: sums are those of numpy."""
    n = 500_000
    random = np.random.default_rng(3)
    size = random.integers(0, 1 << 30, n).astype(np.float64)
    table = pa.table(
        {
            "syn_id": np.arange(1, n + 1, dtype=np.uint64) * 7 + (1 << 60),
            "pre_id": random.integers(1, 1000, n).astype(np.uint64),
            "post_id": random.integers(1, 1000, n).astype(np.uint64),
            "size": size,
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    with Synapses.open(tmp_path / "t.parquet", memory_gb=0.1) as synapses:
        made = connectome_of(synapses)
        counts, matrix = made.counts(), made.sparse("size")
    assert (counts.rows, counts.synapses) == (n, n)
    assert matrix.sum() == size.sum() == counts.size


def test_closing_takes_the_copy_away(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "a.csv").write_text("pre,post\nA,B\n")
    with Synapses.open(tmp_path / "a.csv") as synapses:
        assert len([*tmp_path.iterdir()]) == 2
        found = synapses.to_pandas()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert found["pre"].tolist() == ["A"]
