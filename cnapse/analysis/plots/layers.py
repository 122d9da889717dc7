"""A connectome as layers, from sense to muscle, or along the way that its signals take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.analysis.plots import style
from cnapse.analysis.plots.circle import strongest_links
from cnapse.analysis.plots.graph import Graph
from cnapse.analysis.plots.links import bezier, tapered, widths_of
from cnapse.analysis.plots.ordering import LAYER_NAMES, flow, layer_of_type
from cnapse.viewing.page import text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Layers", "draw_layers", "layers_of"]

_ROW = 0.2
_COLUMN = 1.75
_TOP, _LEFT, _BOTTOM = 0.95, 0.35, 0.65
_BOX = 0.155
_MOST_LAYERS = 6
_SWEEPS = 12
_FORWARD, _BACK, _LATERAL = "#0072b2", "#d55e00", "#6b6b6b"


@dataclass(frozen=True, slots=True)
class Layers:
    """The layer of each cell.

    Attributes
    ----------
    of : ndarray of int64, shape (n,)
        From 0; -1 for cells of a type that has no place between sense and muscle.
    names : tuple of str
        Of the layers.
    by_type : bool
        Whether the types of the cells gave them; else the flow of signals did.
    """

    of: npt.NDArray[np.int64]
    names: tuple[str, ...]
    by_type: bool


def layers_of(graph: Graph) -> Layers:
    """Sensory, inter, motor, muscle by the types where they say so; else by the flow of signals.

    Cells of other types stand in a layer of their own, the last.
    """
    found = [layer_of_type(group) for group in graph.types]
    known = sorted({layer for layer in found if layer is not None})
    if len(known) < 2:
        heights = flow(graph)
        layer = np.minimum(np.rint(heights), _MOST_LAYERS - 1).astype(np.int64)
        count = int(layer.max(initial=0)) + 1
        return Layers(layer, tuple(f"layer {n + 1}" for n in range(count)), by_type=False)
    number = {layer: n for n, layer in enumerate(known)}
    of = np.array([len(known) if layer is None else number[layer] for layer in found])
    names = [LAYER_NAMES[layer] for layer in known]
    return Layers(of, (*names, "other")[: int(of.max()) + 1], by_type=True)


@style.styled()
def draw_layers(graph: Graph, *, title: str = "Layers", note: str = "") -> Figure:
    """Draw layers as columns, signals going to the right; what goes back in another colour.

    Parameters
    ----------
    graph : Graph
        Of a hundred cells or so, to be readable.
    title, note : str
    """
    layers = layers_of(graph)
    columns = _columns(graph, layers)
    tallest = max((len(column) for column in columns), default=1)
    names = [style.name_of(name, 12) for name in graph.cells]
    widest = max((text_width(name, 7) for name in names), default=0.0) / 150 + 0.14
    step = max(_COLUMN, widest + 1.1)
    across = max(step * (len(columns) - 1) + widest + 2 * _LEFT + 0.25, 4.6)
    down = max(tallest * _ROW, 1.6)
    figure = style.new_figure(across, _TOP + down + _BOTTOM)
    way = "layers by type" if layers.by_type else "layers by the flow of signals"
    style.title(figure, title, " · ".join(part for part in (graph.said, way, note) if part))
    axes = style.axes_at(figure, 0, _TOP, across, down)
    axes.set(xlim=(0, across), ylim=(down, 0))
    axes.set_axis_off()
    if not graph.weights.nnz:
        style.nothing_to_show(axes, "no connections")
        return figure
    places = np.zeros((len(graph), 2))
    for number, column in enumerate(columns):
        pitch = down / max(len(column), 1)
        for row, cell in enumerate(column):
            places[cell] = _LEFT + widest / 2 + number * step, (row + 0.5) * pitch
    drawn = _draw_links(axes, graph, layers, places, widest / 2)
    _draw_cells(axes, graph, places, names, widest)
    for number, name in enumerate(layers.names):
        axes.text(
            _LEFT + widest / 2 + number * step, -0.14, name, ha="center", va="center",
            weight="bold", fontsize=8, color=style.PALE,
        )  # fmt: skip
    _key(figure)
    some = f"; the {drawn:,} strongest connections" if drawn < graph.weights.nnz else ""
    style.caption(figure, f"wide end: presynaptic{some}; outlined: connects to itself")
    return figure


def _columns(graph: Graph, layers: Layers) -> list[list[int]]:
    """The cells of each layer, ordered so that connections cross less (barycentre, some sweeps)."""
    columns = [np.flatnonzero(layers.of == n).tolist() for n in range(len(layers.names))]
    both = (graph.weights + graph.weights.T).toarray() if len(graph) else np.zeros((0, 0))
    height = np.zeros(len(graph))
    for column in columns:
        height[column] = (np.arange(len(column)) + 0.5) / max(len(column), 1)
    for sweep in range(_SWEEPS):
        for number in range(len(columns)) if sweep % 2 == 0 else reversed(range(len(columns))):
            column = columns[number]
            others = layers.of != number
            pull = both[np.ix_(column, others)]
            total = pull.sum(axis=1)
            means = np.where(total > 0, pull @ height[others] / np.where(total > 0, total, 1), 2.0)
            means = np.where(total > 0, means, height[column])
            columns[number] = [column[i] for i in np.argsort(means, kind="stable")]
            height[columns[number]] = (np.arange(len(column)) + 0.5) / max(len(column), 1)
    return columns


def _draw_links(
    axes: Axes,
    graph: Graph,
    layers: Layers,
    places: npt.NDArray[np.float64],
    half: float,
) -> int:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    rows, posts, weights = strongest_links(graph)
    widths = widths_of(weights, 0.008, float(np.clip(1.2 / len(weights) ** 0.5, 0.03, 0.075)))
    strength = np.sqrt(weights / weights.max())
    shapes, fills = [], []
    for pre, post, width, strong in zip(rows, posts, widths, strength, strict=True):
        if pre == post:
            continue
        step = int(layers.of[post] - layers.of[pre])
        colour = _FORWARD if step > 0 else _BACK if step < 0 else _LATERAL
        # The last layer has no room to its right.
        bow = -1.0 if layers.of[pre] == len(layers.names) - 1 > 0 else 1.0
        controls = _controls(places[pre], places[post], step, half, bow)
        shapes.append(tapered(bezier(controls), width))
        pale, dark = (0.08, 0.4) if step == 0 else (0.14, 0.6)
        fills.append(to_rgba(colour, pale + dark * float(strong)))
    axes.add_collection(PolyCollection(shapes, facecolors=fills, edgecolors="none", zorder=1))
    return len(weights)


def _controls(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], step: int, half: float, bow: float
) -> Sequence[npt.NDArray[np.float64]]:
    """Out at the right and in at the left where signals go on; along one side within a layer."""
    if step == 0:
        side = np.array([half * bow, 0.0])
        reach = np.array([bow * (0.12 + 0.3 * abs(a[1] - b[1]) ** 0.6), 0.0])
        return [a + side, a + side + reach, b + side + reach, b + side]
    side = np.array([half * np.sign(step), 0.0])
    reach = (b - side - a - side) * np.array([0.45, 0.0])
    return [a + side, a + side + reach, b - side - reach, b - side]


def _draw_cells(
    axes: Axes,
    graph: Graph,
    places: npt.NDArray[np.float64],
    names: list[str],
    width: float,
) -> None:
    from matplotlib.patches import FancyBboxPatch

    colours = style.group_colours(graph.types) | ({} if any(graph.types) else {"": "#4d4d4d"})
    own = graph.weights.diagonal() > 0
    for name, group, (x, y), itself in zip(names, graph.types, places, own, strict=True):
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2 + 0.03, y - _BOX / 2 + 0.02), width - 0.06, _BOX - 0.04,
                boxstyle="round,pad=0.02,rounding_size=0.05", facecolor=colours[group],
                edgecolor=style.INK if itself else "white", linewidth=1.2 if itself else 0.6,
                zorder=3,
            )
        )  # fmt: skip
        axes.text(
            x, y, name, ha="center", va="center_baseline", fontsize=7, color="white", zorder=4
        )


def _key(figure: Figure) -> None:
    from matplotlib.patches import Patch

    entries = (("forward", _FORWARD), ("back", _BACK), ("within a layer", _LATERAL))
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in entries], ncols=3,
        loc="lower left",
        bbox_to_anchor=(_LEFT / figure.get_size_inches()[0], 0.3 / figure.get_size_inches()[1]),
        borderaxespad=0, handlelength=0.9, handleheight=0.9, columnspacing=1.2, fontsize=7.5,
    )  # fmt: skip
