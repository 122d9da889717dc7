"""A page measured in pixels from its upper left corner, drawn with matplotlib.

Pictures are placed pixel by pixel, without any resampling. Neither the user's matplotlib settings
nor its version gets into the file, so that the same page gives the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import Patch

__all__ = ["INK", "PALE", "Page", "elided", "flowed", "printable", "text_width"]

INK = "#1a1a1a"
PALE = "#6b6b6b"

_DPI = 150
_FONT = "DejaVu Sans"
_UNKNOWN = "?"

Side = Literal["left", "center", "right"]


class Page:
    """A white page.

    Parameters
    ----------
    width, height : int
        In pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._steps: list[Callable[[Figure], object]] = []

    def picture(self, pixels: npt.NDArray[np.uint8], x: int, y: int) -> None:
        """Put RGB `pixels`, shape (rows, columns, 3), with their upper left corner at a place."""
        bottom = self.height - y - pixels.shape[0]
        self._steps.append(
            lambda figure: figure.figimage(pixels, xo=x, yo=bottom, origin="upper", zorder=0)
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 8,
        colour: str = INK,
        bold: bool = False,
        side: Side = "left",
        halo: str = "",
    ) -> None:
        """Write one line, vertically centred at y.

        `halo` is the colour of a thin line around the letters, for text on pictures.
        """

        def step(figure: Figure) -> None:
            from matplotlib.patheffects import withStroke

            written = figure.text(
                x / self.width,
                1 - y / self.height,
                printable(text),
                fontproperties=_font(size, bold=bold),
                color=colour,
                horizontalalignment=side,
                verticalalignment="center_baseline",
                parse_math=False,
            )
            if halo:
                written.set_path_effects([withStroke(linewidth=1.8, foreground=halo)])

        self._steps.append(step)

    def rectangle(
        self, x: float, y: float, width: float, height: float, *, fill: str, edge: str = ""
    ) -> None:
        """A filled rectangle, its upper left corner at a place."""
        corner = (x / self.width, 1 - (y + height) / self.height)
        size = width / self.width, height / self.height

        def step(figure: Figure) -> None:
            from matplotlib.patches import Rectangle

            _add(figure, Rectangle(corner, *size), fill, edge)

        self._steps.append(step)

    def dot(self, x: float, y: float, radius: float, *, fill: str, edge: str = "") -> None:
        """A filled circle."""
        middle = (x / self.width, 1 - y / self.height)
        size = 2 * radius / self.width, 2 * radius / self.height

        def step(figure: Figure) -> None:
            from matplotlib.patches import Ellipse

            _add(figure, Ellipse(middle, *size), fill, edge)

        self._steps.append(step)

    def png(self) -> bytes:
        """The page as a PNG file."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        buffer = io.BytesIO()
        with _plain_settings():
            figure = Figure(
                figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI, facecolor="white"
            )
            FigureCanvasAgg(figure)
            for step in self._steps:
                step(figure)
            # Without this matplotlib writes its own version into the file.
            figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()


def _add(figure: Figure, patch: Patch, fill: str, edge: str) -> None:
    patch.set(
        transform=figure.transFigure,
        facecolor=fill,
        edgecolor=edge or "none",
        linewidth=0.7,
        zorder=2,
    )
    figure.add_artist(patch)


@contextlib.contextmanager
def _plain_settings() -> Iterator[None]:
    """Matplotlib as it comes, whatever the user's own settings."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        yield


def _font(size: float, *, bold: bool) -> FontProperties:
    from matplotlib.font_manager import FontProperties

    return FontProperties(family=_FONT, size=size, weight="bold" if bold else "normal")


def printable(text: str) -> str:
    """The text, with a question mark for what the font cannot write."""
    known = _known_characters()
    return "".join(c if ord(c) in known else _UNKNOWN for c in text)


def elided(text: str, longest: int = 24) -> str:
    """The text, or its beginning where it is too long."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


@functools.cache
def _known_characters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(_FONT)).get_charmap())


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width in pixels of a line of text."""
    with _plain_settings():
        width, _, _ = _renderer().get_text_width_height_descent(
            printable(text), _font(size, bold=bold), ismath=False
        )
    return float(width)


@functools.cache
def _renderer() -> Any:
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, _DPI)  # type: ignore[no-untyped-call]


def flowed(widths: Sequence[float], room: float, gap: float) -> list[tuple[int, float]]:
    """Where items of some widths go that follow one another: line, and distance from the left."""
    places: list[tuple[int, float]] = []
    line, x = 0, 0.0
    for width in widths:
        if x > 0 and x + width > room:
            line, x = line + 1, 0.0
        places.append((line, x))
        x += width + gap
    return places
