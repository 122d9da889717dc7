"""How all figures look, and how they are written: the same bytes each time.

Letters stay letters in SVG, so that they can be searched, copied and edited. Neither the user's
matplotlib settings nor the date gets into a file.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnapse.analysis.plots.ordering import types_in_order
from cnapse.errors import ConfigError
from cnapse.store import Store, cloud_path
from cnapse.viewing.page import INK, PALE, printable
from cnapse.viewing.palette import PRESYNAPTIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "BAND",
    "INK",
    "LINE",
    "MAIN",
    "PALE",
    "axes_at",
    "caption",
    "figure_bytes",
    "group_colours",
    "kind_of",
    "log_axis",
    "name_of",
    "new_figure",
    "nothing_to_show",
    "power",
    "save_figure",
    "shade_colours",
    "short",
    "styled",
    "title",
]

Kind = Literal["svg", "png", "pdf"]

MAIN = PRESYNAPTIC
ACCENT = "#d55e00"
BAND = "#f0d9b5"
"""Behind what is ours: published ranges."""
LINE = "#b8b8b8"

# Okabe and Ito's colours without yellow, then some of Tol's; the last is for what has no type.
_GROUPS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#882255",
    "#999933",
    "#332288",
    "#117733",
)
_NO_GROUP = "#8c8c8c"
_DPI = 200
_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
    "font.size": 8.0,
    "text.color": INK,
    # A name may hold a dollar.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "cnapse",
    "pdf.fonttype": 42,
    "axes.edgecolor": "#5a5a5a",
    "axes.labelcolor": INK,
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.unicode_minus": False,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "xtick.color": "#5a5a5a",
    "xtick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.color": "#5a5a5a",
    "ytick.labelcolor": INK,
    "ytick.labelsize": 7.5,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "lines.solid_capstyle": "butt",
}
_METADATA = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Our style, whatever the user's own settings; also a decorator."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure; width and height in inches. Inside of `styled`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes whose upper left corner is so many inches from that of the figure."""
    across, down = figure.get_size_inches()
    return figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )


def title(figure: Figure, text: str, below: str = "", *, left: float = 0.3) -> None:
    """A title and a line below it, at the upper left."""
    across, down = figure.get_size_inches()
    x = left / across
    figure.text(x, 1 - 0.25 / down, printable(text), size=11, weight="bold", va="center")
    if below:
        figure.text(x, 1 - 0.47 / down, printable(below), size=8, color=PALE, va="center")


def caption(figure: Figure, text: str, *, left: float = 0.3) -> None:
    """A line of small print at the bottom."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 0.16 / down, printable(text), size=7, color=PALE, va="center")


def nothing_to_show(axes: Axes, text: str) -> None:
    """A note instead of a plot."""
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, printable(text), transform=axes.transAxes, ha="center", va="center",
        color=PALE, size=9,
    )  # fmt: skip


def name_of(text: str, longest: int = 16) -> str:
    """A cell's name as it can be written; both ends of a long one, since many begin alike."""
    shown = printable(text)
    if len(shown) <= longest:
        return shown
    ending = (longest - 1) // 2
    return f"{shown[: longest - 1 - ending]}…{shown[-ending:]}"


def group_colours(groups: Sequence[str]) -> dict[str, str]:
    """A colour for each type, the same whatever the cells' order; grey for none. They repeat."""
    named = [group for group in types_in_order(groups) if group]
    colours = {group: _GROUPS[n % len(_GROUPS)] for n, group in enumerate(named)}
    return {**colours, "": _NO_GROUP}


def shade_colours() -> Colormap:
    """A colour map from pale to dark blue: for amounts on white, and readable in grey."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = ["#d3e4f3", "#9ecae1", "#4a98c9", "#1764ab", "#08306b"]
    return LinearSegmentedColormap.from_list("cnapse", stops)


def log_axis(axis: Axis) -> None:
    """Label the powers of ten of a logarithmic axis as 10⁵."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(power))
    axis.set_minor_formatter(NullFormatter())


def power(value: float, _position: object = None) -> str:
    """A number as the label of a logarithmic axis: ``10⁵``."""
    if value <= 0:
        return "0"
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) > 1e-6:
        return f"{value:g}"
    if 0 <= round(exponent) <= 3:
        return f"{value:,.0f}"
    return "10" + str(round(exponent)).translate(_SUPERSCRIPT)


def short(value: float) -> str:
    """A number in few characters: ``1,234``, ``35.6 k``."""
    if value < 10_000:
        return f"{value:,.0f}"
    exponent, unit = next((e, u) for e, u in ((9, "G"), (6, "M"), (3, "k")) if value >= 10**e)
    return f"{value / 10**exponent:,.3g} {unit}"


@styled()
def figure_bytes(figure: Figure, kind: Kind = "svg") -> bytes:
    """The figure as a file."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format=kind, dpi=_DPI, metadata=_METADATA[kind], facecolor=figure.get_facecolor()
    )
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure; its ending says as what: ``.svg``, ``.png`` or ``.pdf``.

    Raises
    ------
    ConfigError
        For another ending.
    """
    folder, _, name = cloud_path(path).rpartition("/")
    Store(folder).put(name, figure_bytes(figure, kind_of(path)))


def kind_of(path: str | Path) -> Kind:
    """What the ending of a path says.

    Raises
    ------
    ConfigError
        If it is none of ``.svg``, ``.png`` and ``.pdf``.
    """
    ending = str(path).lower().rpartition(".")[2]
    for kind in ("svg", "png", "pdf"):
        if ending == kind:
            return kind
    raise ConfigError(f"{path}: a figure is written as .svg, .png or .pdf")
