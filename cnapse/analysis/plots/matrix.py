"""The adjacency matrix as a figure: who talks to whom, and how much."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.analysis.plots import style
from cnapse.analysis.plots.graph import Graph
from cnapse.viewing.page import text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_matrix", "pooled"]

# Inches.
_SIDE = 6.6
_LARGEST_CELL = 0.3
_LEAST_LABELLED = 0.062
_STRIP = 0.09
_BAR = 0.55
_GAP = 0.06
_LEFT = 0.3
# The scale of the bars stands there.
_LEAST_LEFT = 0.7
_TOP = 0.8
_BOTTOM = 0.55
_SCALE = 1.1
# More cells than this are added up in blocks, so that a pixel is one block.
_MOST_PIXELS = 1200
_MOST_GROUP_NAMES = 24
_MOST_LINES = 120


@style.styled()
def draw_matrix(graph: Graph, *, title: str = "Adjacency matrix", note: str = "") -> Figure:
    """Draw a matrix, rows presynaptic and columns postsynaptic, in the order of the graph.

    Bars beside it are the sums of its rows and columns; strips are the types of the cells.

    Parameters
    ----------
    graph : Graph
    title, note : str
        Above; the note follows the counts.
    """
    n = len(graph)
    cell = min(_LARGEST_CELL, _SIDE / max(n, 1))
    side = max(cell * n, 1.6)
    points = min(8.0, 0.82 * 72 * cell)
    labelled = n > 0 and cell >= _LEAST_LABELLED
    typed = any(graph.types)
    names = [style.name_of(name) for name in graph.cells]
    label = _label_room(names, points) if labelled else 0.0
    group = _group_room(graph) if typed and not labelled else 0.0
    before = label + group + (_STRIP + _GAP if typed else 0.0)
    left, top = max(_LEFT + before, _LEAST_LEFT), _TOP + _BAR + _GAP + before
    key = 0.15 if typed else 0.0
    width = max(left + side + _GAP + _BAR + 0.3 + _SCALE, 4.6)
    height = top + side + _BOTTOM + key
    figure = style.new_figure(width, height)
    style.title(figure, title, " · ".join(part for part in (graph.said, note) if part))
    axes = style.axes_at(figure, left, top, side, side)
    if not graph.weights.nnz:
        style.nothing_to_show(axes, "no connections")
        return figure
    _draw_cells(figure, axes, graph, left + side + _GAP + _BAR + 0.25, top, side)
    if labelled:
        _write_labels(axes, names, points, offset=(_STRIP + _GAP) * typed)
    if typed:
        _draw_types(figure, axes, graph, (left, top, side), named=not labelled)
        _draw_key(figure, graph, (left, top + side + 0.28), width - left - 0.2)
    _draw_sums(figure, axes, graph, (left, top, side), before)
    pooled_note = ", cells added up in blocks" if n > _MOST_PIXELS else ""
    style.caption(
        figure, f"rows: presynaptic, columns: postsynaptic; bars: their sums{pooled_note}"
    )
    return figure


def pooled(graph: Graph, most: int = _MOST_PIXELS) -> npt.NDArray[np.float64]:
    """The weights as an array of at most `most` rows; with more cells, sums over square blocks.

    Returns
    -------
    ndarray of float64, shape (m, m)
        Its sum is that of the weights.
    """
    n = len(graph)
    block = max(1, -(-n // most))
    m = -(-n // block)
    entries = graph.weights.tocoo()
    array = np.zeros((m, m))
    np.add.at(array, (entries.coords[0] // block, entries.coords[1] // block), entries.data)
    return array


def _label_room(names: list[str], points: float) -> float:
    """Inches that the longest name takes."""
    return max(text_width(name, points) for name in names) / 150 + 0.05


def _group_room(graph: Graph) -> float:
    names = [style.name_of(group) for group in set(graph.types) if group]
    return _label_room(names, 7.5) if 0 < len(names) <= _MOST_GROUP_NAMES else 0.0


def _draw_cells(
    figure: Figure, axes: Axes, graph: Graph, right: float, top: float, side: float
) -> None:
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import MaxNLocator

    array = pooled(graph)
    values = array[array > 0]
    least, largest = float(values.min()), float(values.max())
    wide = largest > 12 * least
    norm = LogNorm(least, largest) if wide else Normalize(min(least, 0.0), largest)
    extent = (-0.5, len(graph) - 0.5, len(graph) - 0.5, -0.5)
    shown = axes.imshow(
        np.ma.masked_equal(array, 0), cmap=style.shade_colours(), norm=norm,
        interpolation="nearest", extent=extent, aspect="auto", zorder=1,
    )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.LINE, linewidth=0.6)
    if len(graph) <= _MOST_LINES:
        lines = np.arange(0.5, len(graph) - 1)
        axes.hlines(lines, *axes.get_xlim(), color="#eeeeee", linewidth=0.4)
        axes.vlines(lines, *axes.get_ylim(), color="#eeeeee", linewidth=0.4)
    axes.plot(
        [-0.5, len(graph) - 0.5], [-0.5, len(graph) - 0.5], color=style.LINE, linewidth=0.5,
        zorder=0.5,
    )  # fmt: skip
    bar = style.axes_at(figure, right, top, 0.12, min(1.8, side))
    scale = figure.colorbar(shown, cax=bar)
    scale.outline.set_linewidth(0.5)
    name = "synapses" if graph.unit == "synapses" else "size, nm³"
    bar.set_title(name, fontsize=7.5, weight="normal", pad=6)
    if wide:
        style.log_axis(bar.yaxis)
    elif graph.unit == "synapses":
        bar.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _write_labels(axes: Axes, names: list[str], points: float, offset: float) -> None:
    places = range(len(names))
    axes.tick_params(length=0, pad=2 + 72 * offset, labelsize=points)
    axes.set_yticks(places, names)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0, pad=2 + 72 * offset, labelsize=points)
    axes.set_xticks(places, names, rotation=90)


def _draw_types(
    figure: Figure, axes: Axes, graph: Graph, place: tuple[float, float, float], *, named: bool
) -> None:
    """Strips to the left and above, lines between types."""
    left, top, side = place
    colours = style.group_colours(graph.types)
    beside = style.axes_at(figure, left - _GAP - _STRIP, top, _STRIP, side)
    above = style.axes_at(figure, left, top - _GAP - _STRIP, side, _STRIP)
    for strip in (beside, above):
        strip.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
        strip.set_axis_off()
    n, first = len(graph), 0
    write = named and _group_room(graph) > 0
    for group, members in groupby(graph.types):
        count = len(list(members))
        start, width = first / n, count / n
        beside.axhspan(1 - start, 1 - start - width, color=colours[group], linewidth=0)
        above.axvspan(start, start + width, color=colours[group], linewidth=0)
        if first:
            axes.axhline(first - 0.5, color=style.PALE, linewidth=0.5)
            axes.axvline(first - 0.5, color=style.PALE, linewidth=0.5)
        if write and group and width * side > 0.11:
            text, middle = style.name_of(group), start + width / 2
            beside.text(-0.6, 1 - middle, text, ha="right", va="center", fontsize=7.5)
            above.text(middle, 1.6, text, ha="center", va="bottom", rotation=90, fontsize=7.5)
        first += count


def _draw_key(figure: Figure, graph: Graph, corner: tuple[float, float], width: float) -> None:
    """The types below the matrix."""
    from matplotlib.patches import Patch

    colours = style.group_colours(graph.types)
    groups = list(dict.fromkeys(graph.types))
    if len(groups) > _MOST_GROUP_NAMES // 2:
        return
    patches = [Patch(color=colours[g], label=style.name_of(g or "no type", 20)) for g in groups]
    across, down = figure.get_size_inches()
    figure.legend(
        handles=patches, loc="upper left", ncols=max(1, min(len(groups), int(width / 1.15))),
        bbox_to_anchor=(corner[0] / across, 1 - (corner[1] - 0.2) / down), borderaxespad=0,
        handlelength=0.9, handleheight=0.9, columnspacing=1.2, fontsize=7.5,
    )  # fmt: skip


def _draw_sums(
    figure: Figure,
    axes: Axes,
    graph: Graph,
    place: tuple[float, float, float],
    before: float,
) -> None:
    left, top, side = place
    n = len(graph)
    right = style.axes_at(figure, left + side + _GAP, top, _BAR, side)
    # Gaps between very many bars would make patterns.
    width = 0.85 if n <= _MOST_LINES else 1.0
    right.barh(np.arange(n), graph.outgoing, width, color=style.MAIN, linewidth=0)
    right.set(ylim=axes.get_ylim(), yticks=[])
    above = style.axes_at(figure, left, top - before - _GAP - _BAR, side, _BAR)
    above.bar(np.arange(n), graph.incoming, width, color=style.MAIN, linewidth=0)
    above.set(xlim=axes.get_xlim(), xticks=[])
    for one, side_name in ((right, "bottom"), (above, "left")):
        for name, spine in one.spines.items():
            spine.set_visible(name in (side_name,))
    largest = max(graph.outgoing.max(), graph.incoming.max())
    right.set(xlim=(0, largest), xticks=[0, graph.outgoing.max()])
    above.set(ylim=(0, largest), yticks=[0, graph.incoming.max()])
    right.set_xticklabels(["0", style.short(graph.outgoing.max())], fontsize=6.5)
    above.set_yticklabels(["0", style.short(graph.incoming.max())], fontsize=6.5)
