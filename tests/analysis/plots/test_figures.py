"""Figures: what is written in them, and that nothing breaks them."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from cnapse.analysis.plots import style
from cnapse.analysis.plots.cell_sheet import cell_sheet, draw_cell
from cnapse.analysis.plots.circle import draw_circle
from cnapse.analysis.plots.comparison import compare_edges
from cnapse.analysis.plots.comparison_figure import draw_comparison
from cnapse.analysis.plots.distributions import (
    draw_partners,
    draw_sections,
    draw_shares,
    draw_sizes,
)
from cnapse.analysis.plots.graph import Graph
from cnapse.analysis.plots.layers import draw_layers
from cnapse.analysis.plots.matrix import draw_matrix
from cnapse.analysis.plots.statistics import statistics_of
from cnapse.analysis.queries import Synapses
from cnapse.errors import ConfigError, TableError

HOSTILE = ("<script>alert(1)</script>", "$x^2$ & 神経", "a" * 60, "-->")


def _graph(n: int, *, links: bool = True, types: tuple[str, ...] = ()) -> Graph:
    rng = np.random.default_rng(n)
    weights = (
        rng.integers(0, 30, (n, n)) * (rng.random((n, n)) < 0.4) if links else np.zeros((n, n))
    )
    names = (*HOSTILE, *(f"c{i}" for i in range(n)))[:n]
    return Graph(
        names, (types * n)[:n] or ("",) * n, sparse.csr_array(weights.astype(float)), "synapses", n
    )


def _texts(figure) -> list[str]:
    root = ET.fromstring(style.figure_bytes(figure, "svg"))
    return ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text")]


@pytest.mark.parametrize("draw", [draw_matrix, draw_circle, draw_layers])
@pytest.mark.parametrize(
    "graph",
    [_graph(0), _graph(1), _graph(1, links=False), _graph(7, types=("sensory", "", "motor"))],
    ids=["empty", "one", "alone", "seven"],
)
def test_any_connectome_can_be_drawn(draw, graph):
    texts = _texts(draw(graph, title="T & co"))
    assert "T & co" in texts
    assert ("no connections" in texts) == (graph.weights.nnz == 0)
    if graph.weights.nnz:
        assert all(any(text.startswith(name[:5]) for text in texts) for name in graph.cells[:1])


def test_a_matrix_of_many_cells_has_the_names_of_types_instead():
    graph = _graph(300, types=("sensory",) * 150 + ("motor",) * 150)
    texts = _texts(draw_matrix(graph))
    assert "c7" not in texts
    assert texts.count("sensory") >= 2


@pytest.fixture
def opened(table):
    rng = np.random.default_rng(1)
    rows = [(i // 2 + 1, "AVAL", f"M{i % 7}", float(rng.lognormal(12))) for i in range(60)]
    rows += [(100, "M1", "AVAL", 5e4), (101, "M1", "M1", 4e4)]
    path = table(rows, x_pos=np.arange(62) * 100.0, y_pos=5.0, z_pos=7.0)
    with Synapses.open(path) as synapses:
        yield synapses


def test_distributions_say_their_numbers(opened):
    found = statistics_of(opened)
    assert "32 synapses with partners" in _texts(draw_partners(found))
    assert "32 synapses" in _texts(draw_sizes(found.volumes))
    assert "62 partners" in _texts(draw_shares(found))
    assert "no synapses" in _texts(draw_sections(None))


def test_distributions_of_nothing(table):
    with Synapses.open(table([])) as synapses:
        found = statistics_of(synapses)
    assert "no partners" in _texts(draw_partners(found))
    assert "no sizes" in _texts(draw_sizes(found.volumes))
    assert "no shares" in _texts(draw_shares(found))


def test_a_sheet_has_both_sides_of_a_cell(opened):
    sheet = cell_sheet(opened, "AVAL")
    assert sheet.made.synapses == 60
    assert dict(sheet.made.partners[["cell", "synapses"]].to_numpy().tolist())["M0"] == 9
    assert sheet.received.partners["cell"].tolist() == ["M1"]
    assert sheet.made.sizes.total == 60
    assert len(sheet.made.places) == 60
    texts = _texts(draw_cell(sheet))
    assert "makes 60 connections with 7 cells · receives 1 connection with 1 cell" in texts
    alone = cell_sheet(opened, "M0")
    assert alone.made.sizes is None
    assert "none" in _texts(draw_cell(alone))


def test_an_autapse_is_on_both_sides(opened):
    sheet = cell_sheet(opened, "M1")
    assert sheet.made.partners["cell"].tolist() == ["AVAL", "M1"]
    assert "M1" in sheet.received.partners["cell"].tolist()


def test_a_cell_that_is_not_there(opened):
    with pytest.raises(TableError, match="has no cell called 'AVAR': did you mean 'AVAL'"):
        cell_sheet(opened, "AVAR")
    with pytest.raises(TableError, match="cell 77 has no synapses: give another one"):
        cell_sheet(opened, 77)


def test_a_comparison_lists_what_is_new(opened, table):
    with Synapses.open(table([(1, "AVAL", "NEW", 1.0)], "b.csv")) as other:
        comparison = compare_edges(opened.edges(), other.edges())
    texts = _texts(draw_comparison(comparison, ("one", "two"), ("x", "y"), same=True))
    assert "AVAL → NEW" in texts
    assert "Gone: 9" in texts
    assert "none" in texts
    empty = compare_edges(opened.edges().head(0), opened.edges().head(0))
    assert "no connections" in _texts(draw_comparison(empty, ("a", "b"), ("x", "y"), same=False))


def test_files_are_the_same_each_time_and_letters_stay_letters(tmp_path):
    graph = _graph(5)
    for kind in ("svg", "png"):
        first, second = (style.figure_bytes(draw_circle(graph), kind) for _ in range(2))
        assert first == second
    text = style.figure_bytes(draw_circle(graph), "svg").decode()
    assert "<script" not in text
    assert "&lt;script" in text
    assert any("$x^2$" in words for words in _texts(draw_circle(graph)))
    # Identifiers of namespaces are no addresses that are fetched.
    assert not re.search(r"(?:src|href)=\"(?!#)", text)
    style.save_figure(draw_circle(graph), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 800
    style.save_figure(draw_circle(graph), tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_other_endings_are_refused():
    with pytest.raises(ConfigError, match=r"a.jpg: a figure is written as .svg, .png or .pdf"):
        style.kind_of("a.jpg")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (1000, "1,000"), (1e5, "10⁵"), (0.001, "10⁻³"), (20, "20")],
)
def test_labels_of_logarithmic_axes(value, text):
    assert style.power(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (9999, "9,999"), (35_600, "35.6 k"), (2e7, "20 M"), (5e9, "5 G")]
)
def test_numbers_in_few_characters(value, text):
    assert style.short(value) == text


def test_every_type_has_a_colour():
    groups = [f"t{i}" for i in range(13)]
    colours = style.group_colours([*groups, ""])
    assert set(colours) == {*groups, ""}
    assert len({colours[g] for g in sorted(groups)[:10]}) == 10
    assert colours[""] not in {colours[g] for g in groups}
    assert style.group_colours(groups[::-1]) == colours, "figures of other orders agree"
