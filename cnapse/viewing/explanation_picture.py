"""The picture of an explanation: sections by what is shown, shares, parameters; a white page.

::

    title
    a  EM          section  section  section      d  shares
    b  walks       section  section  section      e  how
    c  potential   section  section  section
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cnapse.store import Store, cloud_path
from cnapse.viewing import explanation_panels as drawn
from cnapse.viewing.diffusion import Diffusion
from cnapse.viewing.explanation import Explanation, Slab
from cnapse.viewing.explanation_shares import draw_shares, draw_text
from cnapse.viewing.labels import Corner, draw_name, draw_scale_bar, roomiest
from cnapse.viewing.page import INK, PALE, Page, flowed, text_width
from cnapse.viewing.palette import SYNAPSE
from cnapse.viewing.panels import Pixels, Screen

__all__ = ["draw_explanation", "page_of"]

_MARGIN = 40
_GAP = 10
_TITLE = 74
_HEAD = 74
_APART = 34
_MARK_LINE = 27
_SIDE = 660
_BETWEEN = 52
# Longer side of a panel where so many sections stand side by side.
_PANEL_PX = {1: 540, 2: 520, 3: 440}
_MOST_BESIDE = 400

Mark = tuple[str, str, str]
"""What a mark looks like (disc, dot, line, outline, ramp), its colour, what it is."""


def draw_explanation(shown: Explanation, path: str | Path) -> None:
    """Draw how the partners of a synapse were found, as a PNG.

    Parameters
    ----------
    shown : Explanation
    path
        File to write.
    """
    folder, _, name = cloud_path(path).rpartition("/")
    Store(folder).put(name, page_of(shown).png())


def page_of(shown: Explanation) -> Page:
    """The page of an explanation, the same bytes for the same input."""
    grid = _grid(shown)
    rows = grid.rows
    left = _MARGIN + grid.width + _BETWEEN
    top = _MARGIN + _TITLE
    # The side is measured on a page that is thrown away.
    needed = _side(Page(left + _SIDE, 10), shown, (left, top), len(rows))
    down = max(top + grid.height, round(needed))
    page = Page(left + _SIDE + _MARGIN, down + _MARGIN)
    _draw_title(page, shown)
    for number, row in enumerate(rows):
        x, y = grid.place(number)
        _heading(page, "abc"[number], row.name, row.about, (x, y))
        _draw_marks(page, row.marks, (x, y + 48), grid.block)
        _draw_row(page, shown, row, grid, (x, y + grid.head), first=number == 0)
    _side(page, shown, (left, top), len(rows))
    return page


class _Row(NamedTuple):
    """What is shown in every section: a heading, a legend, and the panels."""

    name: str
    about: str
    marks: list[Mark]
    panel: Callable[[Slab, Screen], Pixels]


class _Grid(NamedTuple):
    """Where the panels go: rows below one another, or beside one another for a single section."""

    rows: list[_Row]
    screen: Screen
    sections: int
    head: int

    @property
    def block(self) -> int:
        """Width of a row's panels."""
        return self.sections * (self.screen.shape[1] + _GAP) - _GAP

    @property
    def width(self) -> int:
        if self.sections > 1:
            return self.block
        return len(self.rows) * (self.block + _APART) - _APART

    @property
    def height(self) -> int:
        down = 1 if self.sections == 1 else len(self.rows)
        return down * (self.head + self.screen.shape[0] + _APART) - _APART

    def place(self, number: int) -> tuple[int, int]:
        """Upper left corner of a row."""
        x, y = _MARGIN, _MARGIN + _TITLE
        if self.sections == 1:
            return x + number * (self.block + _APART), y
        return x, y + number * (self.head + self.screen.shape[0] + _APART)


def _grid(shown: Explanation) -> _Grid:
    screen = shown.view.screen(_PANEL_PX.get(len(shown.slabs), _MOST_BESIDE))
    grid = _Grid(_rows(shown), screen, len(shown.slabs), _HEAD)
    lines = max(_lines(row.marks, grid.block) for row in grid.rows)
    return grid._replace(head=_HEAD + (lines - 1) * _MARK_LINE)


def _draw_row(
    page: Page, shown: Explanation, row: _Row, grid: _Grid, corner: tuple[int, int], *, first: bool
) -> None:
    """The panels of a row; names and scale bar on the first one."""
    x, y = corner
    height, width = grid.screen.shape
    for slab in shown.slabs:
        pixels = row.panel(slab, grid.screen)
        page.picture(np.rint(pixels * 255).astype(np.uint8), x, y)
        if first:
            _draw_names(page, shown, slab, grid.screen, (x, y))
        x += width + _GAP
    if first:
        draw_scale_bar(page, grid.screen, (x - _GAP, y + height))


def _rows(shown: Explanation) -> list[_Row]:
    """What stands below one another."""
    rows: list[_Row] = [
        _Row(
            "Electron microscopy",
            "",
            _em_marks(shown),
            lambda slab, screen: drawn.em_panel(shown, slab, screen),
        )
    ]
    diffusion = shown.diffusion
    for method in reversed(shown.methods):
        if diffusion is not None:
            row = _walk_row if method == "montecarlo" else _potential_row
            rows.append(row(shown, diffusion))
    return rows


def _em_marks(shown: Explanation) -> list[Mark]:
    view = shown.view
    marks: list[Mark] = [("outline", SYNAPSE, "density")]
    if view.pre is not None:
        marks.append(("swatch", view.colours[view.pre.id], "presynaptic"))
    return marks + [("swatch", view.colours[cell.id], cell.called) for cell in view.partners]


def _walk_row(shown: Explanation, diffusion: Diffusion) -> _Row:
    count = f"{len(diffusion.ends):,} particles"
    if len(diffusion.ends) > drawn.MOST_PLACES:
        count += f", {drawn.MOST_PLACES:,} shown"
    return _Row(
        "Random walks",
        f"{count} (Monte Carlo)",
        [
            ("dot", drawn.EMITTER, "emitters"),
            ("line", PALE, "paths of some"),
            ("disc", PALE, "where a cell, by colour, took a particle up"),
        ],
        lambda slab, screen: drawn.walk_panel(shown, diffusion, slab, screen),
    )


def _potential_row(shown: Explanation, diffusion: Diffusion) -> _Row:
    marks: list[Mark] = [
        ("ramp", "", "concentration, highest to 1 % of it (log)"),
        ("disc", PALE, "where a cell, by colour, takes it up (mean)"),
    ]
    if shown.how.rule == "near":
        marks.append(("dot", drawn.EMITTER, "emitters inside a cell: count for it"))
    return _Row(
        "Diffusion solved exactly",
        "(harmonic)",
        marks,
        lambda slab, screen: drawn.potential_panel(shown, diffusion, slab, screen),
    )


def _heading(page: Page, letter: str, name: str, about: str, corner: Corner) -> None:
    """A letter, what follows, and more about it."""
    x, y = corner
    page.text(x, y + 12, letter, size=12, bold=True)
    page.text(x + 30, y + 12, name, size=9.5, bold=True)
    if about:
        page.text(
            x + 30 + text_width(name, 9.5, bold=True) + 14, y + 12, about, size=9, colour=PALE
        )


def _draw_title(page: Page, shown: Explanation) -> None:
    row = shown.row
    place = ", ".join(f"{row[name]:,.0f}" for name in ("x_pos", "y_pos", "z_pos"))
    count = int(row["sections"])
    about = f"at {place} nm   {row['size']:,.0f} nm³   {count} section{'s' if count != 1 else ''}"
    page.text(_MARGIN, _MARGIN + 10, shown.view.title, size=14, bold=True)
    page.text(_MARGIN, _MARGIN + 42, about, size=8.5, colour=PALE)


def _side(page: Page, shown: Explanation, corner: Corner, letters: int) -> float:
    """Shares and parameters; where they end."""
    x, y = corner
    if shown.diffusion is not None and shown.methods:
        _heading(page, "abcde"[letters], "Shares of the transmitter", "", (x, y))
        y = draw_shares(page, shown, shown.diffusion, (x, y + 62), _SIDE) + 40
        letters += 1
    _heading(page, "abcde"[letters], "How", "", (x, y))
    return draw_text(page, shown, (x, y + 46), _SIDE)


# --- on the panels ------------------------------------------------------------------------------


def _draw_names(page: Page, shown: Explanation, slab: Slab, screen: Screen, corner: Corner) -> None:
    """Section, and names of the cells where there is room; none is cut off by the panel's edge."""
    x, y = corner
    columns = screen.shape[1]
    name = f"z {slab.middle}" if not slab.half else f"z {slab.middle} ± {slab.half}"
    page.text(x + 10, y + 18, name, size=8, colour="white", bold=True, halo=INK)
    view = shown.view
    for cell in [*([view.pre] if view.pre else []), *view.partners]:
        place = roomiest(drawn.cell_shape(shown, slab, screen, cell.id), 0.045 * columns)
        if place is None:
            continue
        draw_name(page, screen, corner, place, cell.called, size=7.5)


def _lines(marks: list[Mark], room: float) -> int:
    """How many lines a legend takes."""
    return 1 + max(line for line, _ in _mark_places(marks, room))


def _mark_places(marks: list[Mark], room: float) -> list[tuple[int, float]]:
    widths = [_mark_width(kind) + 8 + text_width(text, 7.5) for kind, _, text in marks]
    return flowed(widths, room - 30, 22)


def _draw_marks(page: Page, marks: list[Mark], corner: Corner, room: float) -> None:
    """The legend of a row."""
    places = _mark_places(marks, room)
    for (kind, colour, text), (line, along) in zip(marks, places, strict=True):
        x, y = corner[0] + 30 + along, corner[1] + line * _MARK_LINE
        wide = _mark_width(kind)
        match kind:
            case "disc":
                page.dot(x + wide / 2, y, 5.5, fill=colour, edge="white")
            case "dot":
                for across in (4, 11, 18):
                    for up in (-4, 4):
                        page.dot(x + across, y + up, 2.4, fill=colour)
            case "line":
                page.rectangle(x, y - 1, wide, 2, fill=colour)
            case "outline":
                page.rectangle(x, y - 8, wide, 16, fill=colour)
                page.rectangle(x + 2, y - 6, wide - 4, 12, fill="#3c3c3c")
            case "ramp":
                page.picture(_ramp(wide, 16), round(x), round(y - 8))
            case _:
                page.rectangle(x, y - 8, wide, 16, fill=colour)
        page.text(x + wide + 8, y, text, size=7.5)


def _mark_width(kind: str) -> int:
    return {"disc": 12, "ramp": 110}.get(kind, 22)


def _ramp(width: int, height: int) -> npt.NDArray[np.uint8]:
    picture = np.ones((height, width, 3), np.float32)
    values = np.linspace(1, 0, width, dtype=np.float32)
    drawn.lay_potential(picture, np.repeat(values[None, :], height, axis=0))
    return np.rint(picture * 255).astype(np.uint8)
