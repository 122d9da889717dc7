"""One cell on a sheet: whom it talks to, who talks to it, how large its synapses are, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.analysis.plots import style
from cnapse.analysis.plots.statistics import Histogram, histogram_of
from cnapse.errors import TableError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnapse.analysis.queries import Side, Synapses

__all__ = ["CellSheet", "Links", "cell_sheet", "draw_cell"]

Floats = npt.NDArray[np.float64]

_MOST_PARTNERS = 15
_MOST_PLACES = 20_000
_IN, _OUT = style.ACCENT, style.MAIN


@dataclass(frozen=True, slots=True)
class Links:
    """One side of a cell: what it makes, or what it receives.

    Attributes
    ----------
    partners : DataFrame
        cell, synapses, size (nm3; NaN without sizes): the cells at the other end, the most
        synapses first.
    synapses : int
        Connections: a synapse counts once for each of its postsynaptic cells.
    sizes : Histogram or None
        Of the rows, nm3.
    places : ndarray of float64, shape (n, 3)
        Of the synapses, nm; a sample where there are very many.
    """

    partners: pd.DataFrame
    synapses: int
    sizes: Histogram | None
    places: Floats


@dataclass(frozen=True, slots=True)
class CellSheet:
    """A cell, what it makes and what it receives."""

    cell: str
    made: Links
    received: Links


def cell_sheet(synapses: Synapses, cell: str | int) -> CellSheet:
    """Ask a table about a cell.

    Parameters
    ----------
    synapses : Synapses
    cell
        Name or id.

    Raises
    ------
    TableError
        If there is no such cell, or it has no synapses in the table.
    """
    made, received = _links(synapses, cell, "pre"), _links(synapses, cell, "post")
    if not made.synapses and not received.synapses:
        raise TableError(f"{synapses.path}: cell {cell} has no synapses: give another one")
    return CellSheet(str(cell), made, received)


def _links(synapses: Synapses, cell: str | int, side: Side) -> Links:
    other = "post" if side == "pre" else "pre"
    mine = synapses.of_cell(cell, side)
    edges = mine.edges()
    partners = (
        edges.groupby(other, sort=False)[["synapses", "size"]]
        .sum()
        .reset_index()
        .rename(columns={other: "cell"})
        .sort_values(["synapses", "size", "cell"], ascending=[False, False, True])
        .reset_index(drop=True)
    )
    return Links(
        partners=partners,
        synapses=int(partners["synapses"].sum()),
        sizes=_sizes(mine),
        places=_places(mine),
    )


def _sizes(mine: Synapses) -> Histogram | None:
    if "size" not in mine.layout.names:
        return None
    engine = mine.engine
    table = f"sheet_{engine.number()}"
    text, values = mine.where
    engine.run(
        f"CREATE TABLE {table} AS SELECT nullif(size, 'NaN'::DOUBLE) AS size "  # noqa: S608
        f"FROM keyed_rows WHERE {text}",
        values,
    )
    found = histogram_of(engine, table, "size")
    engine.run(f"DROP TABLE {table}")
    return found if found.total else None


def _places(mine: Synapses) -> Floats:
    axes = ("x_pos", "y_pos", "z_pos")
    if not {*axes} <= {*mine.layout.names}:
        return np.zeros((0, 3))
    text, values = mine.where
    known = " AND ".join(f"{axis} IS NOT NULL AND NOT isnan({axis})" for axis in axes)
    found = mine.engine.table(
        f"SELECT DISTINCT {', '.join(axes)} FROM keyed_rows WHERE ({text}) AND {known} "  # noqa: S608
        f"ORDER BY hash({', '.join(axes)}) LIMIT {_MOST_PLACES}",
        values,
    )
    columns = [found.column(axis).to_numpy().astype(np.float64) for axis in axes]
    return np.stack(columns, axis=1)


@style.styled()
def draw_cell(sheet: CellSheet) -> Figure:
    """Draw a cell's partners, the sizes of its connections, and where its synapses lie."""
    made, received = sheet.made, sheet.received
    figure = style.new_figure(8.2, 6.8)
    style.title(
        figure,
        style.name_of(sheet.cell, 40),
        f"makes {_counted(made)} · receives {_counted(received)}",
    )
    _draw_partners(figure, received, "Inputs", _IN, left=0.3)
    _draw_partners(figure, made, "Outputs", _OUT, left=4.25)
    _draw_sizes(style.axes_at(figure, 0.75, 4.35, 3.0, 1.65), sheet)
    _draw_places(figure, sheet)
    style.caption(figure, "a synapse counts once for each of its postsynaptic cells")
    return figure


def _counted(links: Links) -> str:
    cells = len(links.partners)
    return (
        f"{links.synapses:,} connection{'s' * (links.synapses != 1)} "
        f"{'with' if cells else 'of'} {cells:,} cell{'s' * (cells != 1)}"
    )


def _draw_partners(figure: Figure, links: Links, name: str, colour: str, left: float) -> None:
    axes = style.axes_at(figure, left + 1.05, 1.0, 2.3, 2.7)
    axes.set_title(name, x=-1.05 / 2.3, pad=6)
    shown = links.partners.head(_MOST_PARTNERS)
    if shown.empty:
        style.nothing_to_show(axes, "none")
        return
    rows = np.arange(len(shown))
    values = shown["synapses"].to_numpy(np.float64)
    axes.barh(rows, values, 0.68, color=colour)
    axes.set_yticks(rows, [style.name_of(str(cell), 14) for cell in shown["cell"]])
    # Few bars do not become blocks.
    axes.set(ylim=(_MOST_PARTNERS - 0.4, -0.6), xlim=(0, values.max() * 1.14), xticks=[])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    for row, value in zip(rows, values, strict=True):
        axes.annotate(
            f"{value:,.0f}", (value, row), xytext=(3, 0), textcoords="offset points",
            va="center_baseline", fontsize=7, color=style.PALE,
        )  # fmt: skip
    rest = len(links.partners) - len(shown)
    if rest:
        more = int(links.partners["synapses"].iloc[len(shown) :].sum())
        axes.text(
            0, -0.02, f"and {rest:,} more cell{'s' * (rest != 1)} with {more:,}", fontsize=7,
            transform=axes.transAxes, color=style.PALE, va="top",
        )  # fmt: skip


def _draw_sizes(axes: Axes, sheet: CellSheet) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title("Size of connections", x=-0.15, pad=6)
    sides = (
        ("inputs", sheet.received.sizes, _IN),
        ("outputs", sheet.made.sizes, _OUT),
    )
    drawn = [(name, sizes, colour) for name, sizes, colour in sides if sizes and sizes.counts.sum()]
    if not drawn:
        style.nothing_to_show(axes, "no sizes")
        return
    axes.set_xscale("log")
    for name, sizes, colour in drawn:
        axes.stairs(sizes.counts, sizes.edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(sizes.counts, sizes.edges, color=colour, linewidth=1.2, label=name)
    axes.set(xlabel="share of the volume, nm³", ylabel="connections")
    style.log_axis(axes.xaxis)
    low = min(sizes.edges[0] for _, sizes, _ in drawn)
    high = max(sizes.edges[-1] for _, sizes, _ in drawn)
    if high / low < 100:
        middle = (low * high) ** 0.5
        low, high = middle / 10, middle * 10
    axes.set_xlim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=2, handlelength=1.2, borderaxespad=0.1
    )


def _draw_places(figure: Figure, sheet: CellSheet) -> None:
    """Two views of one scale: from above (x, y) and from the side (x, z)."""
    both = np.concatenate([sheet.received.places, sheet.made.places]) / 1000
    views = (("x", "y", 0, 1), ("x", "z", 0, 2))
    left = 4.55
    if not len(both):
        axes = style.axes_at(figure, left, 4.35, 3.2, 1.65)
        axes.set_title("Places", x=-0.05, pad=6)
        style.nothing_to_show(axes, "no places")
        return
    low, high = both.min(axis=0), both.max(axis=0)
    span = float(max((high - low).max(), 0.5)) * 1.12
    middle = (low + high) / 2
    for number, (across, down, a, b) in enumerate(views):
        axes = style.axes_at(figure, left + 1.9 * number, 4.35, 1.35, 1.35)
        for links, colour, marker in ((sheet.received, _IN, "o"), (sheet.made, _OUT, "^")):
            places = links.places / 1000
            axes.scatter(
                places[:, a], places[:, b], s=9 if len(both) < 400 else 3, marker=marker,
                color=colour, alpha=0.7, linewidths=0, rasterized=len(both) > 2000,
            )  # fmt: skip
        axes.set(
            xlim=(middle[a] - span / 2, middle[a] + span / 2),
            ylim=(middle[b] + span / 2, middle[b] - span / 2),
            xlabel=f"{across}, µm",
            ylabel=f"{down}, µm",
        )
        axes.tick_params(labelsize=6.5)
        axes.locator_params(nbins=4)
        if number == 0:
            axes.set_title("Places", x=-0.1, pad=6)
    figure.text((left + 1.9) / 8.2, 1 - 4.27 / 6.8, "● inputs", color=_IN, fontsize=7, va="bottom")
    figure.text(
        (left + 2.55) / 8.2, 1 - 4.27 / 6.8, "▲ outputs", color=_OUT, fontsize=7, va="bottom"
    )
