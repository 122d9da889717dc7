"""Cells, their types, and the orders that figures show them in."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cnapse.analysis.connectome import connectome_of
from cnapse.analysis.plots.circle import strongest_links
from cnapse.analysis.plots.graph import Graph, cell_types, graph_of
from cnapse.analysis.plots.layers import layers_of
from cnapse.analysis.plots.links import bezier, tapered, widths_of
from cnapse.analysis.plots.matrix import pooled
from cnapse.analysis.plots.ordering import Ordering, flow, layer_of_type, order_of, types_in_order
from cnapse.analysis.queries import Synapses
from cnapse.errors import ConfigError, TableError


def _graph(weights: np.ndarray, types: tuple[str, ...] = ()) -> Graph:
    n = len(weights)
    return Graph(
        cells=tuple(f"c{i}" for i in range(n)),
        types=types or ("",) * n,
        weights=sparse.csr_array(np.asarray(weights, dtype=np.float64)),
        unit="synapses",
        of_all=n,
    )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    n = draw(st.integers(0, 12))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weights = rng.integers(0, 4, (n, n)) * (rng.random((n, n)) < 0.3)
    types = tuple(rng.choice(["", "sensory", "MOTOR", "x"], n).tolist())
    return _graph(weights, types)


@settings(max_examples=25, deadline=None)
@given(graph=graphs(), ordering=st.sampled_from(Ordering))
def test_an_order_has_every_cell_once(graph, ordering):
    order = order_of(graph, ordering)
    assert sorted(order.tolist()) == list(range(len(graph)))
    again = graph.reordered(order)
    assert again.weights.sum() == graph.weights.sum()
    for row, cell in enumerate(order):
        assert again.outgoing[row] == graph.outgoing[cell]
    if ordering is Ordering.type:
        groups = list(dict.fromkeys(again.types))
        assert groups == types_in_order(graph.types)
        # Each type in one piece.
        assert len(
            [a for a, b in zip(again.types, again.types[1:], strict=False) if a != b]
        ) == max(0, len(groups) - 1)


@settings(max_examples=25, deadline=None)
@given(graph=graphs(), most=st.integers(1, 14))
def test_pooling_and_choosing_keep_what_they_should(graph, most):
    assert pooled(graph, most).sum() == graph.weights.sum()
    assert len(pooled(graph, most)) <= most
    strong = graph.strongest(most)
    assert len(strong) == min(most, len(graph))
    assert strong.of_all == graph.of_all
    total = graph.outgoing + graph.incoming
    left = [total[i] for i, cell in enumerate(graph.cells) if cell not in strong.cells]
    kept = [total[i] for i, cell in enumerate(graph.cells) if cell in strong.cells]
    assert max(left, default=0) <= min(kept, default=np.inf)
    rows, columns, weights = strongest_links(graph, most)
    assert len(weights) == min(most, graph.weights.nnz)
    assert weights.tolist() == sorted(graph.weights.data.tolist())[-most:][: len(weights)]
    assert all(graph.weights[r, c] == w for r, c, w in zip(rows, columns, weights, strict=True))


def test_clusters_of_a_block_matrix_stay_together():
    block = np.zeros((12, 12))
    block[:4, 4:8] = block[8:, :4] = 3
    shuffled = np.random.default_rng(3).permutation(12)
    graph = _graph(block[np.ix_(shuffled, shuffled)])
    found = [int(shuffled[i]) // 4 for i in order_of(graph, Ordering.cluster)]
    assert sum(a != b for a, b in itertools.pairwise(found)) == 2


def test_a_chain_flows_by_one_a_step():
    chain = np.diag(np.arange(1, 6), k=1)
    order = np.random.default_rng(0).permutation(6)
    heights = flow(_graph(chain[np.ix_(order, order)]))
    assert heights == pytest.approx(order, abs=1e-9)
    assert flow(_graph(np.zeros((3, 3)))).tolist() == [0, 0, 0]
    # A cell's connection to itself has no direction.
    assert flow(_graph(np.eye(2) * 9 + [[0, 1], [0, 0]])) == pytest.approx([0, 1])


def test_layers_by_type_and_else_by_flow():
    chain = np.diag(np.ones(3), k=1)
    typed = layers_of(_graph(chain, ("Sensory neuron", "inter", "glia", "motorneuron")))
    assert typed.names == ("sensory", "interneurons", "motor", "other")
    assert typed.of.tolist() == [0, 1, 3, 2]
    plain = layers_of(_graph(chain, ("glia",) * 4))
    assert not plain.by_type
    assert plain.of.tolist() == [0, 1, 2, 3]
    assert layer_of_type("body wall muscle") == 3
    assert layer_of_type("") is None


def test_types_of_a_names_file_and_of_a_file_of_types(table, tmp_path):
    path = table([(1, "a", "b", 1.0), (2, "b", "c", 1.0)])
    (tmp_path / "types.csv").write_text("cell,type\na,sensory\nc, motor\nz,other\n")
    with Synapses.open(path) as synapses:
        connectome = connectome_of(synapses)
        types = cell_types(connectome.cells(), types=str(tmp_path / "types.csv"))
        assert types == {"a": "sensory", "c": "motor"}
        graph = graph_of(connectome, "size", types)
    assert graph.types == ("sensory", "", "motor")
    assert graph.unit == "nm³"
    assert graph.weights.toarray().tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_ids_find_their_types(tmp_path):
    (tmp_path / "names.csv").write_text("id,name,type\n7,AVAL,inter|command\n8,AVAR,\n")
    cells = pd.DataFrame({"cell": ["AVAL", "9"], "ids": [[7], [9]]})
    assert cell_types(cells, names=str(tmp_path / "names.csv")) == {"AVAL": "inter"}
    (tmp_path / "types.csv").write_text("id,type\n9,muscle\n")
    assert cell_types(cells, types=str(tmp_path / "types.csv")) == {"9": "muscle"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("a,b\n1,2\n", ConfigError, "has the columns a, b: give a header with cell and type"),
        ("", TableError, "not a CSV of cell and type"),
        ("cell,type\nq,x\n", TableError, "none of its cells is in the table, which has 1, such as"),
    ],
)
def test_files_of_types_that_do_not_fit(tmp_path, text, error, message):
    (tmp_path / "types.csv").write_text(text)
    cells = pd.DataFrame({"cell": ["a"], "ids": [[]]})
    with pytest.raises(error, match=message):
        cell_types(cells, types=str(tmp_path / "types.csv"))


def test_bands_begin_and_end_where_the_cells_are():
    curve = bezier([(0, 0), (1, 2), (3, 1), (4, 4)])
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [4, 4]
    band = tapered(curve, 0.5, tip=0.2)
    assert np.hypot(*(band[0] - band[-1])) == pytest.approx(0.5)
    half = len(curve)
    assert np.hypot(*(band[half - 1] - band[half])) == pytest.approx(0.1)
    assert widths_of([4, 1], 0.1, 2).tolist() == [2, 1]
    assert widths_of([], 0.1, 2).tolist() == []
