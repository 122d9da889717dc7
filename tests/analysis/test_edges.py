"""Edges against networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.analysis.edges import edge_scores, edges_of
from cnapse.analysis.synapse_set import SynapseSet


def random_table(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Synapses of few cells, some unknown, some with a cell twice."""
    ids = np.arange(1, n + 1, dtype=np.uint64)
    row = np.repeat(ids, rng.integers(0, 4, n))
    pre = rng.integers(0, 4, n).astype(np.uint64)
    return pd.DataFrame(
        {
            "syn_id": row,
            "pre_id": pre[row.astype(int) - 1] * np.uint64(2**61),
            "post_id": rng.integers(0, 4, len(row)).astype(np.uint64),
            "size": rng.integers(1, 50, len(row)).astype(float),
        }
    )


def graph_of(table: pd.DataFrame) -> nx.DiGraph:
    graph = nx.DiGraph()
    for row in table.itertuples():
        if row.pre_id == 0 or row.post_id == 0:
            continue
        if not graph.has_edge(row.pre_id, row.post_id):
            graph.add_edge(row.pre_id, row.post_id, synapses=set(), size=0.0)
        edge = graph.edges[row.pre_id, row.post_id]
        edge["synapses"].add(row.syn_id)
        edge["size"] += row.size
    return graph


def at_least(graph: nx.DiGraph, least: int) -> nx.DiGraph:
    return graph.edge_subgraph(
        [(a, b) for a, b, s in graph.edges(data="synapses") if len(s) >= least]
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 25))
def test_graphs_at_every_threshold(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tables = random_table(rng, n), random_table(rng, n)
    p, t = (graph_of(table) for table in tables)
    sides = [SynapseSet.from_tables("some", table) for table in tables]
    edges = edges_of(sides[0])
    found = {
        (int(a), int(b)): (w, s)
        for (a, b), w, s in zip(edges.cells, edges.synapses, edges.size, strict=True)
    }
    assert found == {(a, b): (len(e["synapses"]), e["size"]) for a, b, e in p.edges(data=True)}
    scores = edge_scores(*sides)
    for threshold in scores.by_synapses:
        ours, theirs = at_least(p, threshold.least), at_least(t, threshold.least)
        both = sum(theirs.has_edge(*edge) for edge in ours.edges)
        assert threshold.score.true_positives == both
        assert threshold.score.false_positives == ours.number_of_edges() - both
        assert threshold.score.false_negatives == theirs.number_of_edges() - both
        assert threshold.real == sum(t.has_edge(*edge) for edge in ours.edges)
        assert threshold.seen == sum(p.has_edge(*edge) for edge in theirs.edges)
    union = nx.compose(p, t).edges
    assert scores.synapses_correlation.edges == len(union)
    weights = [
        [len(g.edges[e]["synapses"]) if g.has_edge(*e) else 0 for e in union] for g in (p, t)
    ]
    if len(union) > 1 and np.ptp(weights[0]) > 0 and np.ptp(weights[1]) > 0:
        expected = np.corrcoef(weights)[0, 1]
        assert scores.synapses_correlation.pearson == pytest.approx(expected)


SIZES = {"syn_id": [1, 2, 3], "pre_id": [1, 1, 2], "post_id": [5, 6, 6]}


def test_sizes_are_cut_at_the_quantiles_of_the_true_edges() -> None:
    truth = SynapseSet.from_tables("true", pd.DataFrame(SIZES | {"size": [10.0, 20.0, 40.0]}))
    predicted = SynapseSet.from_tables("predicted", pd.DataFrame(SIZES | {"size": [10, 40, 15]}))
    scores = edge_scores(predicted, truth)
    assert scores.by_size is not None
    assert [t.least for t in scores.by_size] == [10, 15, 20, 30, 36]
    assert [t.score.true_positives for t in scores.by_size] == [3, 2, 1, 0, 0]
    assert [t.score.false_positives for t in scores.by_size] == [0, 0, 0, 1, 1]
    assert [t.real for t in scores.by_size] == [3, 2, 1, 1, 1]
    assert [t.seen for t in scores.by_size] == [3, 2, 2, 1, 1]


def test_unknown_sizes_are_left_out_and_constant_weights_have_no_correlation() -> None:
    truth = SynapseSet.from_tables("true", pd.DataFrame(SIZES))
    scores = edge_scores(truth, truth)
    assert scores.by_size is scores.size_correlation is None
    assert scores.to_dict()["synapses_correlation"] == {
        "pearson": None,
        "spearman": None,
        "edges": 3,
    }
    assert scores.to_dict()["by_synapses"][1]["precision_any"] is None
