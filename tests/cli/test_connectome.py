"""`cnapse connectome` and `cnapse query`, as someone calls them."""

import json

import pandas as pd
import pytest

# As in Yim et al. 2024, with what real tables have: an autapse, a fragment, a missing partner.
DAUER = """syn_id,pre,post,size
1,AVAL,AVAR,1000.5
1,AVAL,PVCL,2000.25
2,AVAL,AVAR,10
3,PVCL,PVCL,7
4,AVAR,48151623,70
5,PVCL,,90
"""


@pytest.fixture
def dauer(tmp_path):
    path = tmp_path / "dauer.csv"
    path.write_text(DAUER)
    return path


def test_a_table_of_names_becomes_matrices_with_the_sums_of_the_table(cnapse, dauer, tmp_path):
    out = tmp_path / "out"
    code, said, _ = cnapse("connectome", dauer, "-o", out, "-e", "csv,sparse")
    assert code == 0
    assert said == (
        f"{dauer}: read as cnapse\n"
        "6 rows: 5 of them make 4 edges between 4 cells; summed over the edges 5 synapses, "
        "3,088 nm3\n"
        "left out: 1 row: no postsynaptic cell\n"
        "1 cell has no name: unnamed.csv\n"
        "1 cell connects to itself (1 row, counted): autapses.csv\n"
        f"written to {out}: autapses.csv, cells.csv, edges.csv, left_out.csv, matrix_size.csv, "
        "matrix_synapses.csv, sparse_size.npz, sparse_synapses.npz, unnamed.csv, connectome.json\n"
    )
    table = pd.read_csv(dauer).dropna()
    matrix = pd.read_csv(out / "matrix_size.csv", index_col=0)
    assert matrix.to_numpy().sum() == table["size"].sum() == 3087.75
    by_pre = table.groupby("pre")["size"].sum()
    assert matrix.sum(axis=1)[by_pre.index].tolist() == by_pre.tolist()
    counts = pd.read_csv(out / "matrix_synapses.csv", index_col=0)
    assert counts.loc["AVAL", "AVAR"] == 2
    left = pd.read_csv(out / "left_out.csv")
    assert left[["reason", "syn_id", "pre"]].to_numpy().tolist() == [["no_post", 5, "PVCL"]]
    assert pd.read_csv(out / "unnamed.csv")["cell_id"].tolist() == [48151623]
    record = json.loads((out / "connectome.json").read_text())
    assert record["counts"]["size"] == 3087.75


def test_all_is_what_the_table_has_enough_for(cnapse, dauer, tmp_path):
    code, said, _ = cnapse("connectome", dauer, "-o", tmp_path / "out", "-e", "all")
    assert code == 0
    assert (
        f"not made: cave, neuprint, synaptor: {dauer} has no ids of cells (pre_id, post_id)\n"
        f"not made: cremi: {dauer} has no places in nm" in said
    )
    assert (tmp_path / "out" / "connectome.graphml").is_file()
    record = json.loads((tmp_path / "out" / "connectome.json").read_text())
    assert record["exports"] == ["csv", "excel", "parquet", "graphml", "sparse"]


def test_thresholds_say_what_they_leave_out(cnapse, dauer, tmp_path):
    code, said, _ = cnapse(
        *("connectome", dauer, "-o", tmp_path / "out", "--min-size", 50, "--no-autapses"),
        *("--named-only", "--min-synapses", 2),
    )
    assert code == 0
    assert (
        "6 rows: 0 of them make 0 edges between 3 cells; summed over the edges 0 synapses, 0 nm3\n"
        in said
    )
    for line in (
        "1 row: no postsynaptic cell",
        "2 rows: size below --min-size, or unknown",
        "1 row: a cell without a name (--named-only)",
        "2 rows: an edge of fewer synapses than --min-synapses",
    ):
        assert f"left out: {line}\n" in said
    assert len(pd.read_csv(tmp_path / "out" / "left_out.csv")) == 6


def test_contacts_make_a_matrix(cnapse, dauer, tmp_path):
    (tmp_path / "contacts.csv").write_text("pre,post,area_nm2\nAVAL,AVAR,5\nX,AVAL,6\n")
    code, said, _ = cnapse(
        "connectome", dauer, "-o", tmp_path / "out", "--contacts", tmp_path / "contacts.csv"
    )
    assert code == 0
    assert f"1 row of {tmp_path / 'contacts.csv'} names a cell that the table has not\n" in said
    matrix = pd.read_csv(tmp_path / "out" / "matrix_contact_area.csv", index_col=0)
    assert matrix.loc["AVAL", "AVAR"] == matrix.loc["AVAR", "AVAL"] == matrix.to_numpy().sum() / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-e", "pdf"], "--export pdf: there are csv, excel, parquet"),
        (
            ["-e", "cave"],
            "has no ids of cells (pre_id, post_id), which --export cave is made of: leave it out",
        ),
        (["--min-share", "0.5"], "has no column share: leave --min-share out"),
        (["--names", "none.csv"], "none.csv"),
        (["--contacts", "none.csv"], "no table at"),
        (["--format", "xyz"], "--format xyz: there are cnapse, cave"),
        (["--columns", "left=right"], "--columns left=right: expected ROLE=COLUMN"),
        (["--memory", "0"], "memory of 0 GB: give at least 0.1"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(cnapse, dauer, tmp_path, options, message):
    code, _, error = cnapse("connectome", dauer, "-o", tmp_path / "out", *options)
    assert code == 1
    assert message in error
    assert "\n" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["dauer.csv"]


def test_questions_show_rows_and_write_them(cnapse, dauer, tmp_path):
    code, said, _ = cnapse("query", dauer, "--cell", "AVAL", "--side", "pre")
    assert code == 0
    assert said.endswith("\n3 rows\n")
    assert said.count("AVAL") == 3
    out = tmp_path / "edges.csv"
    code, said, _ = cnapse("query", dauer, "--between", "AVAL", "AVAR", "--edges", "-o", out)
    assert (code, said) == (0, f"1 edge written to {out}\n")
    assert pd.read_csv(out)["size"].tolist() == [1010.5]
    code, said, _ = cnapse("query", dauer, "--min-size", "1e9", "-o", tmp_path / "none.parquet")
    assert (code, said) == (0, f"0 rows written to {tmp_path / 'none.parquet'}\n")
    assert len(pd.read_parquet(tmp_path / "none.parquet")) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cell", "AVAX"], "has no cell called 'AVAX': did you mean 'AVA"),
        (["--cell", "AVAL", "--side", "left"], "--side left: there are either, pre, post"),
        (["--box", "0", "0", "0", "1", "1", "1"], "has no places in nm"),
        (["-o", "rows.xlsx"], "rows.xlsx: rows are written as .csv or .parquet"),
        (["--side", "pre"], "--side is of --cell: give a cell"),
    ],
)
def test_bad_questions_are_one_line(cnapse, dauer, options, message):
    code, _, error = cnapse("query", dauer, *options)
    assert code == 1
    assert message in error
    assert "\n" not in error
