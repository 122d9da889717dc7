"""Sizes, shares and numbers of partners as figures, with the published ranges behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cnapse.analysis.plots import published, style
from cnapse.analysis.plots.statistics import Histogram, TableStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_partners", "draw_sections", "draw_shares", "draw_sizes"]

# A column of the report, and of a journal.
_WIDTH, _HEIGHT = 4.1, 3.1
_LEAST_SECTIONS = 12
_PANEL = (0.62, 0.68, 3.25, 1.75)


def _panel(title: str, below: str, small_print: str) -> tuple[Figure, Axes]:
    figure = style.new_figure(_WIDTH, _HEIGHT)
    style.title(figure, title, below, left=0.18)
    style.caption(figure, small_print, left=0.18)
    return figure, style.axes_at(figure, *_PANEL)


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' if number != 1 else ''}"


@style.styled()
def draw_sizes(volumes: Histogram | None) -> Figure:
    """Draw how large synapses are, with the published percentiles behind it.

    Parameters
    ----------
    volumes : Histogram or None
        nm3, on a logarithmic axis.
    """
    total = volumes.total if volumes else 0
    figure, axes = _panel(
        "Volume of synapses", _counted(total, "synapse"), f"shaded: {published.SOURCE}"
    )
    if volumes is None or not volumes.counts.sum():
        style.nothing_to_show(axes, "no sizes")
        return figure
    axes.set_xscale("log")
    _bands(axes, published.VOLUME_NM3, {0.05: "5 %", 0.5: "median", 0.95: "95 %"})
    axes.bar(
        volumes.edges[:-1], volumes.counts, np.diff(volumes.edges), align="edge",
        color=style.MAIN, edgecolor="white", linewidth=0.4, zorder=2,
    )  # fmt: skip
    low = min(float(volumes.edges[0]), 4e4)
    high = max(float(volumes.edges[-1]), 2.6e6)
    axes.set(xlim=(low, high), xlabel="volume, nm³", ylabel="synapses")
    style.log_axis(axes.xaxis)
    _mark_median(axes, volumes, "nm³")
    _whole_numbers(axes)
    return figure


@style.styled()
def draw_sections(sections: Histogram | None) -> Figure:
    """Draw in how many sections synapses lie, with the published percentiles behind it.

    Parameters
    ----------
    sections : Histogram or None
        Its edges at the halves: 0.5, 1.5 and so on; the last bin has all beyond.
    """
    total = sections.total if sections else 0
    figure, axes = _panel(
        "Sections of a synapse", _counted(total, "synapse"), f"shaded: {published.SOURCE}"
    )
    if sections is None or not total:
        style.nothing_to_show(axes, "no synapses")
        return figure
    _bands(axes, published.SECTIONS, {0.5: "median", 0.95: "95 %"}, pad=0.45)
    # As far as there are some, or published ones.
    end = max(int(np.flatnonzero(sections.counts)[-1]) + 2, _LEAST_SECTIONS)
    numbers = ((sections.edges[:-1] + sections.edges[1:]) / 2)[:end]
    axes.bar(numbers, sections.counts[:end], 0.82, color=style.MAIN, zorder=2)
    last = int(numbers[-1])
    plus = "+" * (end >= len(sections.counts))
    labels = [str(int(n)) for n in numbers[:-1]] + [f"{last}{plus}"]
    step = max(1, len(labels) // 8)
    shown = sorted({*range(0, len(labels) - step // 2 - 1, step), len(labels) - 1})
    axes.set_xticks(numbers[shown], [labels[i] for i in shown])
    axes.set(xlim=(0.3, last + 0.7), xlabel="sections", ylabel="synapses")
    _mark_median(axes, sections, "")
    _whole_numbers(axes)
    return figure


@style.styled()
def draw_shares(statistics: TableStatistics) -> Figure:
    """Draw the shares of partners, and how many are at most so large beside what is published."""
    shares = statistics.shares
    total = shares.total if shares else 0
    figure, axes = _panel("Shares of partners", _counted(total, "partner"), "")
    if shares is None or not total:
        style.nothing_to_show(axes, "no shares")
        return figure
    axes.bar(
        shares.edges[:-1], shares.counts, np.diff(shares.edges), align="edge",
        color=style.MAIN, edgecolor="white", linewidth=0.4,
    )  # fmt: skip
    axes.set(xlim=(0, 1), xlabel="share of a partner in its synapse", ylabel="partners")
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    _whole_numbers(axes)
    found = ", ".join(f"{100 * part:.2g}" for part in statistics.at_or_below.values())
    known = ", ".join(f"{100 * part:g}" for part in published.SHARES_AT_OR_BELOW.values())
    limits = ", ".join(f"{100 * limit:g}" for limit in published.SHARES_AT_OR_BELOW)
    style.caption(
        figure, f"at most {limits} %: {found} % of partners (Witvliet: {known} %)", left=0.18
    )
    return figure


@style.styled()
def draw_partners(statistics: TableStatistics) -> Figure:
    """Draw how many partners synapses have, beside the published ranges."""
    n = statistics.synapses
    figure, axes = _panel(
        "Partners of a synapse",
        f"{_counted(n, 'synapse')} with partners",
        f"bars with caps: {published.SOURCE}",
    )
    if not n:
        style.nothing_to_show(axes, "no partners")
        return figure
    many = published.MANY_PARTNERS
    parts = np.zeros(many)
    for number, count in statistics.partners.items():
        parts[min(number, many) - 1] += count / n
    places = np.arange(many, dtype=np.float64)
    axes.bar(places - 0.17, 100 * parts, 0.5, color=style.MAIN, zorder=2)
    for place, part in zip(places, parts, strict=True):
        axes.text(
            place - 0.17, 100 * part + 1.5, f"{100 * part:.0f} %", ha="center", va="bottom",
            fontsize=7.5,
        )  # fmt: skip
    for place, known in zip(places, published.PARTNERS.values(), strict=True):
        middle = 50 * (known.low + known.high)
        axes.errorbar(
            place + 0.28, middle, 50 * (known.high - known.low), color=style.ACCENT, capsize=3.5,
            linewidth=1.6, capthick=1.6, zorder=3,
        )  # fmt: skip
    axes.set_xticks(places, ["1", "2", "3", f"{many} or more"])
    axes.set(xlabel="partners", ylabel="synapses, %", ylim=(0, max(78.0, 100 * parts.max() + 14)))
    mean = published.MEAN_PARTNERS
    axes.text(
        1, 0.98,
        f"mean {statistics.mean_partners:.2f} (published {mean.low:.2f} to {mean.high:.2f})",
        transform=axes.transAxes, ha="right", va="top", fontsize=7.5,
    )  # fmt: skip
    return figure


def _bands(
    axes: Axes,
    ranges: Mapping[float, published.Range],
    names: Mapping[float, str],
    pad: float = 0.0,
) -> None:
    """Published ranges of percentiles behind the bars, their names at the top."""
    for p, known in ranges.items():
        low, high = known.low - pad, known.high + pad
        axes.axvspan(low, high, color=style.BAND, alpha=0.75, linewidth=0, zorder=0)
        middle = (low * high) ** 0.5 if pad == 0 else (low + high) / 2
        axes.text(
            middle, 1.01, names[p], transform=axes.get_xaxis_transform(), ha="center", va="bottom",
            fontsize=6.5, color="#8a5a12",
        )  # fmt: skip


def _mark_median(axes: Axes, values: Histogram, unit: str) -> None:
    if 0.5 not in values.quantiles:
        return
    median = values.quantiles[0.5].value
    axes.axvline(median, color=style.INK, linewidth=1.0, linestyle=(0, (3, 2)), zorder=3)
    text = f"median {median:,.0f} {unit}".rstrip()
    # On the side of the line that has more room.
    left, right = axes.transLimits.transform(axes.transScale.transform([(median, 0), (median, 0)]))
    at_right = (left[0] + right[0]) / 2 > 0.5
    axes.annotate(
        text, (median, 0.97), xycoords=axes.get_xaxis_transform(),
        xytext=(-4 if at_right else 4, 0), textcoords="offset points",
        ha="right" if at_right else "left", va="top", fontsize=7.5, zorder=4,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.0},
    )  # fmt: skip


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short(value)))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
