"""A connectome as a circle of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.analysis.plots import style
from cnapse.analysis.plots.graph import Graph
from cnapse.analysis.plots.links import bezier, tapered, widths_of
from cnapse.viewing.page import text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_LINKS", "draw_circle", "strongest_links"]

MOST_LINKS = 400
"""Connections that are drawn; a figure with more is a blot."""

_RADIUS = 2.5
_TOP, _MARGIN = 0.75, 0.3
_GROUP_GAP = 1.2


@style.styled()
def draw_circle(graph: Graph, *, title: str = "Connections", note: str = "") -> Figure:
    """Draw cells on a circle, in the order of the graph, and their connections inside.

    Bands are wide at the presynaptic cell and narrow at the postsynaptic one, and have the colour
    of the presynaptic cell's type. A ring marks connections of a cell with itself.

    Parameters
    ----------
    graph : Graph
        Of some hundred cells at most, to be readable.
    title, note : str
    """
    names = [style.name_of(name) for name in graph.cells]
    points = float(np.clip(2 * np.pi * _RADIUS * 72 / max(len(graph), 1) * 0.8, 3.5, 8.0))
    label = max((text_width(name, points) for name in names), default=0.0) / 150 + 0.18
    reach = _RADIUS + label
    key = 0.3 if any(graph.types) else 0.0
    figure = style.new_figure(2 * (reach + _MARGIN), 2 * reach + _TOP + 0.4 + key)
    rows, columns, weights = strongest_links(graph)
    style.title(figure, title, " · ".join(part for part in (graph.said, note) if part))
    axes = style.axes_at(figure, _MARGIN, _TOP, 2 * reach, 2 * reach)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_axis_off()
    if not len(weights):
        style.nothing_to_show(axes, "no connections")
        return figure
    angles = _angles(graph)
    places = _RADIUS * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    colours = style.group_colours(graph.types) | ({} if any(graph.types) else {"": style.MAIN})
    _draw_links(axes, graph, places, (rows, columns, weights), colours)
    _draw_cells(axes, graph, angles, names, points, colours)
    if any(graph.types):
        _key(figure, graph, colours)
    left_out = graph.weights.nnz - len(weights)
    said = f"; the {len(weights):,} strongest connections" if left_out else ""
    style.caption(figure, f"wide end: presynaptic; width: {_weight(graph)}{said}")
    return figure


def strongest_links(
    graph: Graph, most: int = MOST_LINKS
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Row, column and weight of the strongest connections, the weakest of them first."""
    entries = graph.weights.tocoo()
    order = np.argsort(entries.data, kind="stable")[-most:]
    rows, columns = entries.coords
    return rows[order], columns[order], entries.data[order]


def _weight(graph: Graph) -> str:
    return "number of synapses" if graph.unit == "synapses" else "summed size"


def _angles(graph: Graph) -> npt.NDArray[np.float64]:
    """Clockwise from the top, with a gap between types."""
    changes = np.array([a != b for a, b in zip(graph.types[1:], graph.types[:-1], strict=True)])
    steps = 1 + _GROUP_GAP * np.concatenate([[0.0], changes.astype(np.float64)])
    last = _GROUP_GAP * bool(changes.any())
    places = np.cumsum(steps) - 1
    return np.asarray(2 * np.pi * places / (places[-1] + 1 + last), dtype=np.float64)


def _draw_links(
    axes: Axes,
    graph: Graph,
    places: npt.NDArray[np.float64],
    links: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]],
    colours: dict[str, str],
) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    rows, columns, weights = links
    widths = widths_of(weights, 0.008, float(np.clip(1.2 / len(weights) ** 0.5, 0.03, 0.11)))
    strength = np.sqrt(weights / weights.max())
    shapes, fills = [], []
    for pre, post, width, strong in zip(rows, columns, widths, strength, strict=True):
        if pre == post:
            continue
        a, b = places[pre], places[post]
        # Neighbours bow less to the middle than cells that face each other.
        pull = 0.7 * (1 - 0.6 * np.hypot(*(a - b)) / (2 * _RADIUS))
        curve = bezier([a, (a + b) / 2 * (1 - pull), b])
        shapes.append(tapered(curve, width))
        fills.append(to_rgba(colours[graph.types[pre]], 0.16 + 0.5 * float(strong)))
    axes.add_collection(PolyCollection(shapes, facecolors=fills, edgecolors="none", zorder=1))
    own = [pre for pre, post in zip(rows, columns, strict=True) if pre == post]
    if own:
        ring = places[own]
        axes.scatter(
            ring[:, 0], ring[:, 1], s=62, facecolors="none", edgecolors=style.INK, linewidths=0.7,
            zorder=4,
        )  # fmt: skip


def _draw_cells(
    axes: Axes,
    graph: Graph,
    angles: npt.NDArray[np.float64],
    names: list[str],
    points: float,
    colours: dict[str, str],
) -> None:
    total = graph.outgoing + graph.incoming
    sizes = np.clip(widths_of(total, 2.2, 6.5), 0, 420 / len(graph) + 2) ** 2
    unit = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    places = unit * _RADIUS
    fills = [colours[group] for group in graph.types]
    axes.scatter(
        places[:, 0], places[:, 1], s=sizes, c=fills, edgecolors="white", linewidths=0.5, zorder=3
    )
    for name, angle, (x, y) in zip(names, angles, unit * (_RADIUS + 0.13), strict=True):
        degrees = 90 - np.degrees(angle)
        flipped = bool(np.sin(angle) < -1e-9)
        axes.text(
            x, y, name, fontsize=points, rotation=degrees + 180 * flipped,
            ha="right" if flipped else "left", va="center", rotation_mode="anchor",
        )  # fmt: skip


def _key(figure: Figure, graph: Graph, colours: dict[str, str]) -> None:
    from matplotlib.patches import Patch

    groups = list(dict.fromkeys(graph.types))
    patches = [Patch(color=colours[g], label=style.name_of(g or "no type", 20)) for g in groups]
    figure.legend(
        handles=patches, loc="lower center", ncols=min(len(groups), 6), fontsize=7.5,
        bbox_to_anchor=(0.5, 0.3 / figure.get_size_inches()[1]), borderaxespad=0,
        handlelength=0.9, handleheight=0.9, columnspacing=1.2,
    )  # fmt: skip
