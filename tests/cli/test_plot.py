"""`cnapse plot`, as somebody types it."""

import pandas as pd
import pytest

ROWS = [(1, "a", "b", 2e5), (1, "a", "c", 1e5), (2, "b", "c", 3e5), (3, "c", "c", 4e5)]


@pytest.fixture
def table(tmp_path):
    pd.DataFrame(ROWS, columns=["syn_id", "pre", "post", "size"]).to_csv(
        tmp_path / "partners.csv", index=False
    )
    return tmp_path / "partners.csv"


@pytest.mark.parametrize("kind", ["matrix", "circle", "layers", "sizes", "shares", "partners"])
def test_every_kind_writes_its_file(cnapse, table, tmp_path, kind):
    code, out, err = cnapse("plot", kind, table, "-o", tmp_path / "a.svg")
    assert (code, err) == (0, "")
    assert out.endswith(f"figure: {tmp_path / 'a.svg'}\n")
    assert (tmp_path / "a.svg").read_text().rstrip().endswith("</svg>")


def test_options_choose_cells(cnapse, table, tmp_path):
    (tmp_path / "types.csv").write_text("cell,type\na,sensory\nb,motor\n")
    options = ["--types", tmp_path / "types.csv", "--weight", "size", "--most", "2"]
    code, out, _ = cnapse("plot", "matrix", table, "-o", tmp_path / "a.svg", *options)
    assert code == 0
    # The two with the largest sizes.
    assert out.startswith("2 of 3 cells, 2 connections")
    code, out, _ = cnapse("plot", "circle", table, "-o", tmp_path / "a.svg", "--min-synapses", "2")
    assert out.startswith("0 of 3 cells, 0 connections")


def test_a_cell_and_a_comparison(cnapse, table, tmp_path):
    assert cnapse("plot", "cell", table, "c", "-o", tmp_path / "c.png")[1].startswith(
        "c: makes 1, receives 3 connections"
    )
    other = tmp_path / "other.csv"
    pd.DataFrame([*ROWS[1:], (9, "b", "a", 1.0)], columns=["syn_id", "pre", "post", "size"]).to_csv(
        other, index=False
    )
    code, out, _ = cnapse(
        "plot", "compare", table, other, "-o", tmp_path / "d.svg", "--list", tmp_path / "d.csv"
    )
    assert code == 0
    assert out.startswith("3 connections in both, 1 gone, 1 new")
    listed = pd.read_csv(tmp_path / "d.csv")
    assert listed.to_dict("list") == {
        "pre": ["a", "a", "b", "b", "c"],
        "post": ["b", "c", "a", "c", "c"],
        "a": [1.0, 1.0, 0.0, 1.0, 1.0],
        "b": [0.0, 1.0, 1.0, 1.0, 1.0],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["matrix", "{table}", "-o", "a.jpg"], "a.jpg: a figure is written as .svg, .png or .pdf"),
        (["matrix", "{table}", "-o", "no/a.svg"], "there is no folder no: make it first"),
        (["matrix", "gone.csv", "-o", "a.svg"], "gone.csv"),
        (["cell", "{table}", "aa", "-o", "a.svg"], "has no cell called 'aa'"),
        (["compare", "{table}", "cect:X", "-o", "a.svg"], "need the package cect"),
    ],
)
def test_errors_are_one_line(cnapse, table, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    code, _, err = cnapse("plot", *(one.format(table=table) for one in arguments))
    assert code == 1
    assert message in err
    assert err.rstrip("\n").count("\n") == 0


def test_tables_without_a_common_cell_are_no_comparison(cnapse, table, tmp_path):
    (tmp_path / "x.csv").write_text("syn_id,pre,post,size\n1,p,q,1\n")
    code, _, err = cnapse("plot", "compare", table, tmp_path / "x.csv", "-o", tmp_path / "a.svg")
    assert code == 1
    assert "have no cell in common: such as a and p: give --names" in err
