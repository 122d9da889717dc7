"""A comparison of two connectomes as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.analysis.plots import style
from cnapse.analysis.text_table import figure as rounded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from cnapse.analysis.edges import Correlation
    from cnapse.analysis.plots.comparison import Comparison

__all__ = ["draw_comparison"]

Floats = npt.NDArray[np.float64]

_MOST_LISTED = 7
_MANY = 3000
_GONE, _NEW = "#d55e00", "#009e73"


@style.styled()
def draw_comparison(
    comparison: Comparison, names: tuple[str, str], units: tuple[str, str], *, same: bool
) -> Figure:
    """Draw weights against weights, and the strongest connections that only one side has.

    Parameters
    ----------
    comparison : Comparison
    names : (str, str)
        What the two are called.
    units : (str, str)
        What the weights of each are.
    same : bool
        Whether both weigh by the same: then the axes are equal, and a line shows equal weights.
    """
    figure = style.new_figure(8.4, 4.7)
    a, b = (style.name_of(name, 30) for name in names)
    shared, gone, new = comparison.shared, comparison.gone, comparison.new
    counts = f"{len(shared):,} connections in both, {len(gone):,} gone, {len(new):,} new"
    cells = f"{comparison.cells_common:,} cells in both ({comparison.cells_a:,} and "
    below = f"{counts} · {cells}{comparison.cells_b:,})"
    style.title(figure, f"{a}  →  {b}", below)
    axes = style.axes_at(figure, 0.85, 0.85, 3.2, 3.2)
    if comparison.edges.empty:
        style.nothing_to_show(axes, "no connections")
        return figure
    _draw_weights(axes, comparison, same=same)
    axes.set(xlabel=f"{a}: {units[0]}", ylabel=f"{b}: {units[1]}")
    _list(style.axes_at(figure, 5.5, 0.95, 2.5, 1.35), gone, "a", f"Gone: {len(gone):,}", _GONE)
    _list(style.axes_at(figure, 5.5, 2.75, 2.5, 1.35), new, "b", f"New: {len(new):,}", _NEW)
    style.caption(
        figure,
        f"correlation of weights in both: {_said(comparison.common)}; "
        f"of all {comparison.all.edges:,} pairs, 0 where there is none: {_said(comparison.all)}",
    )
    return figure


def _said(correlation: Correlation) -> str:
    return f"Pearson {rounded(correlation.pearson)}, Spearman {rounded(correlation.spearman)}"


@dataclass(frozen=True, slots=True)
class _Scale:
    """A logarithmic axis, and a strip below the least weight for what is not there.

    Attributes
    ----------
    low, high : float
        The least and the largest weight.
    """

    low: float
    high: float

    @classmethod
    def over(cls, weights: Floats) -> _Scale:
        """Over all weights above 0."""
        known = weights[weights > 0]
        low, high = (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)
        return cls(low, max(high, 2 * low))

    def part(self, share: float) -> float:
        """The factor that moves a weight along a share of the axis."""
        return float((self.high / self.low) ** share)

    @property
    def strip(self) -> float:
        """Where what is not there stands."""
        return self.low / self.part(0.11)

    @property
    def ends(self) -> tuple[float, float]:
        """Of the axis."""
        return self.strip / self.part(0.06), self.high * self.part(0.08)


def _draw_weights(axes: Axes, comparison: Comparison, *, same: bool) -> None:
    """On logarithmic axes; what only one side has stands in a strip beyond the least weight."""
    x, y = (comparison.edges[side].to_numpy(np.float64) for side in ("a", "b"))
    across, down = (_Scale.over(np.concatenate([x, y]) if same else one) for one in (x, y))
    rng = np.random.default_rng(0)
    # Whole numbers lie on each other: they are moved a little.
    u = x * across.part(0.012) ** rng.normal(size=len(x))
    v = y * down.part(0.012) ** rng.normal(size=len(y))
    beside = across.strip * rng.uniform(0.94, 1.06, len(x))
    below = down.strip * rng.uniform(0.94, 1.06, len(x))
    axes.set(xscale="log", yscale="log", xlim=across.ends, ylim=down.ends)
    both = (x > 0) & (y > 0)
    for chosen, a, b, colour in (
        (both, u, v, style.MAIN),
        (y == 0, u, below, _GONE),
        (x == 0, beside, v, _NEW),
    ):
        axes.scatter(
            a[chosen], b[chosen], s=16 if len(x) < _MANY else 5, color=colour, alpha=0.55,
            linewidths=0, rasterized=len(x) > _MANY,
        )  # fmt: skip
    axes.axvline((across.low * across.strip) ** 0.5, color=style.LINE, linewidth=0.6)
    axes.axhline((down.low * down.strip) ** 0.5, color=style.LINE, linewidth=0.6)
    if same:
        ends = [across.low, across.high]
        axes.plot(ends, ends, color=style.INK, linewidth=0.7, linestyle=(0, (4, 3)))
    _label(axes.xaxis, across)
    _label(axes.yaxis, down)


def _label(axis: Axis, scale: _Scale) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator

    ticks = _decades(scale.low, scale.high)
    axis.set_major_locator(FixedLocator([scale.strip, *ticks]))
    axis.set_major_formatter(FixedFormatter(["none", *(style.power(tick) for tick in ticks)]))
    axis.set_minor_locator(FixedLocator([]))


def _decades(low: float, high: float) -> list[float]:
    """Round numbers over a range: powers of ten, or 1, 2, 5 of each where there are few."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    steps = (1,) if last - first > 3 else (1, 2, 5)
    found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [value for value in found if low * 0.999 <= value <= high * 1.2]


def _list(axes: Axes, edges: pd.DataFrame, side: str, name: str, colour: str) -> None:
    """The strongest connections of one side alone."""
    axes.set_title(name, x=-0.36, pad=5)
    shown = edges.head(_MOST_LISTED)
    if shown.empty:
        style.nothing_to_show(axes, "none")
        return
    rows = np.arange(len(shown))
    values = shown[side].to_numpy(np.float64)
    axes.barh(rows, values, 0.66, color=colour)
    labels = [
        f"{style.name_of(str(pre), 11)} → {style.name_of(str(post), 11)}"
        for pre, post in zip(shown["pre"], shown["post"], strict=True)
    ]
    axes.set_yticks(rows, labels)
    axes.tick_params(axis="y", length=0, labelsize=7)
    axes.set(ylim=(_MOST_LISTED - 0.5, -0.5), xlim=(0, values.max() * 1.22), xticks=[])
    axes.spines["bottom"].set_visible(False)
    for row, value in zip(rows, values, strict=True):
        axes.annotate(
            f"{value:,.3g}" if value < 1000 else f"{value:,.0f}", (value, row), xytext=(3, 0),
            textcoords="offset points", va="center_baseline", fontsize=6.5, color=style.PALE,
        )  # fmt: skip
