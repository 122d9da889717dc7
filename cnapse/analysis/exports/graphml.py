"""A directed graph for networkx, Gephi, Cytoscape and igraph."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnapse.analysis.exports.export import Export, check_xml
from cnapse.errors import TableError

if TYPE_CHECKING:
    from cnapse.analysis.connectome import Connectome

__all__ = ["graph_of", "write_graphml"]

_MOST_EDGES = 5_000_000


def write_graphml(export: Export, folder: Path) -> None:
    """``connectome.graphml``.

    Raises
    ------
    TableError
        If a name holds a control character; if there are more edges than networkx holds well.
    """
    import networkx as nx  # type: ignore[import-untyped]

    connectome = export.connectome
    check_xml(export.path, connectome.labels(), "graphml")
    edges = connectome.counts().edges
    if edges > _MOST_EDGES:
        raise TableError(
            f"{export.path}: {edges:,} edges are too many for GraphML ({_MOST_EDGES:,}): take "
            "--export sparse or parquet, or a larger --min-synapses"
        )
    nx.write_graphml(graph_of(connectome), folder / "connectome.graphml", encoding="utf-8")


def graph_of(connectome: Connectome) -> Any:
    """The connectome as a `networkx.DiGraph`.

    Nodes are the cells by name (or id), with their ids as text joined by spaces, since GraphML has
    no unsigned numbers of 64 bits. Edges have the columns of the edge list, and ``weight``, the
    number of synapses; numbers that are not known are left out.
    """
    import networkx as nx

    graph = nx.DiGraph()
    cells = connectome.cells()
    for label, ids, named in zip(cells["cell"], cells["ids"], cells["named"], strict=True):
        graph.add_node(label, ids=" ".join(map(str, ids)), named=bool(named))
    columns = ["synapses", "size", "mean_size", "output_fraction", "input_fraction"]
    columns += ["output_fraction_size", "input_fraction_size"]
    for batch in connectome.edge_batches():
        ends = zip(*(batch.column(end).to_pylist() for end in ("pre", "post")), strict=True)
        values = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
        for (pre, post), row in zip(ends, values, strict=True):
            known = {k: v for k, v in zip(columns, row, strict=True) if not math.isnan(v)}
            graph.add_edge(pre, post, weight=known["synapses"], **known)
    return graph
