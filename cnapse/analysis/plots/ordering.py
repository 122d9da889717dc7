"""Orders that show structure: by type, by clustering, by the flow of signals."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.errors import TableError

if TYPE_CHECKING:
    from cnapse.analysis.plots.graph import Graph

__all__ = ["Ordering", "clustered", "flow", "layer_of_type", "order_of", "types_in_order"]

Order = npt.NDArray[np.int64]

_MOST_CLUSTERED = 4000
# Leaves are turned to lie beside what is like them where that takes no more than seconds.
_MOST_TURNED = 600
# Words in the name of a type, and the place of such cells between sense and muscle.
_LAYERS = (("sens", 0), ("inter", 1), ("motor", 2), ("moto", 2), ("musc", 3))
LAYER_NAMES = ("sensory", "interneurons", "motor", "muscle")


class Ordering(StrEnum):
    """How cells are ordered."""

    type = "type"
    cluster = "cluster"
    name = "name"
    strength = "strength"


def order_of(graph: Graph, ordering: Ordering) -> Order:
    """Numbers of the cells in an order.

    Parameters
    ----------
    graph : Graph
    ordering : Ordering
        ``type``: sensory, inter, motor, muscle, then other types by name, each by clustering.

    Returns
    -------
    ndarray of int64, shape (n,)

    Raises
    ------
    TableError
        If there are too many to cluster.
    """
    if ordering is Ordering.name:
        return np.arange(len(graph))
    if ordering is Ordering.strength:
        return np.argsort(-(graph.outgoing + graph.incoming), kind="stable")
    if ordering is Ordering.cluster:
        return clustered(graph)
    parts = []
    types = np.asarray(graph.types, dtype=object)
    for group in types_in_order(graph.types):
        own = np.flatnonzero(types == group)
        parts.append(own[clustered(graph, own)])
    return np.concatenate(parts) if parts else np.arange(0)


def types_in_order(types: Iterable[str]) -> list[str]:
    """The types there are: along the way of signals, then by name; no type comes last."""

    def place(group: str) -> tuple[int, str]:
        layer = layer_of_type(group)
        return (len(LAYER_NAMES) if layer is None else layer) + 10 * (not group), group

    return sorted(set(types), key=place)


def layer_of_type(group: str) -> int | None:
    """0 for sensory, 1 for inter-, 2 for motor neurons, 3 for muscle; None for anything else."""
    lower = group.lower()
    return next((layer for word, layer in _LAYERS if word in lower), None)


def clustered(graph: Graph, chosen: Order | None = None) -> Order:
    """An order in which cells with like partners are neighbours.

    Hierarchical clustering with average linkage, on the cosine distance between what the cells
    make and receive (logarithms of the weights).

    Parameters
    ----------
    graph : Graph
    chosen : ndarray of int64, optional
        Only these cells, by what they make and receive in the whole graph.

    Returns
    -------
    ndarray of int64
        Places in `chosen`.

    Raises
    ------
    TableError
        If there are too many.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import pdist

    cells = np.arange(len(graph)) if chosen is None else chosen
    if len(cells) > _MOST_CLUSTERED:
        raise TableError(
            f"{len(cells):,} cells are too many to cluster (at most {_MOST_CLUSTERED:,}): "
            "take --order name, or fewer cells with --most"
        )
    made, received = graph.weights[cells], graph.weights[:, cells].T
    rows = np.log1p(np.hstack([made.toarray(), received.toarray()]))
    linked = np.flatnonzero(rows.any(axis=1))
    stray = np.setdiff1d(np.arange(len(cells)), linked)
    if len(linked) > 2:
        distances = pdist(rows[linked], "cosine").clip(min=0)
        tree = hierarchy.average(distances)
        if len(linked) <= _MOST_TURNED:
            tree = hierarchy.optimal_leaf_ordering(tree, distances)
        linked = linked[hierarchy.leaves_list(tree)]
    return np.concatenate([linked, stray]).astype(np.int64)


def flow(graph: Graph) -> npt.NDArray[np.float64]:
    """How far along the way of signals each cell is, from 0; a connection goes up by about 1.

    The heights z that best give each connection a drop of 1 in the sense of least squares (Carmel,
    Harel and Koren 2004; used for *C. elegans* by Varshney et al. 2011): L z = b, with L the
    Laplacian of the weights in both directions and b the net weight that a cell receives.

    Returns
    -------
    ndarray of float64, shape (n,)
        Parts of the graph that are not connected each begin with 0.
    """
    from scipy.sparse import csgraph

    heights = np.zeros(len(graph))
    if not len(graph):
        return heights
    weights = graph.weights.toarray()
    np.fill_diagonal(weights, 0.0)
    both = weights + weights.T
    net = (weights - weights.T).sum(axis=0)
    laplacian = np.diag(both.sum(axis=1)) - both
    _, part = csgraph.connected_components(both > 0, directed=False)
    for number in range(part.max() + 1):
        own = np.flatnonzero(part == number)
        if len(own) < 2:
            continue
        solved = np.linalg.lstsq(laplacian[np.ix_(own, own)], net[own], rcond=None)[0]
        heights[own] = solved - solved.min()
    return heights
