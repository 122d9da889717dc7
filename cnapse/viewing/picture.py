"""Pictures of synapses: EM, probability, outline, pre- and postsynaptic cells in colour.

`draw_overview` shows one synapse in consecutive sections, plain above and explained below;
`draw_contact_sheet` shows many, one section each. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.errors import FormatError
from cnapse.store import Store, cloud_path
from cnapse.viewing import panels
from cnapse.viewing.cutout import CellNote, SynapseView, cut_out
from cnapse.viewing.labels import draw_name, draw_scale_bar, roomiest
from cnapse.viewing.legend import LINE, draw_caption, draw_legend, legend, legend_lines
from cnapse.viewing.page import INK, PALE, Page
from cnapse.viewing.palette import SYNAPSE
from cnapse.viewing.panels import Screen

if TYPE_CHECKING:
    from cnapse.runs import RunData

__all__ = [
    "CellNote",
    "SynapseView",
    "compose",
    "draw_contact_sheet",
    "draw_overview",
    "draw_run_picture",
]

Picture = npt.NDArray[np.uint8]

_MARGIN = 28
_GAP = 10
_TITLE = 62
_CAPTION = 50
# A label needs this much room around it, as a share of the panel.
_LABEL_ROOM = 0.025


def compose(view: SynapseView, section: int, screen: Screen, *, plain: bool = False) -> Picture:
    """One section as RGB pixels.

    Parameters
    ----------
    view : SynapseView
    section : int
        Counted from the box's first.
    screen : Screen
        How large it is drawn, as ``view.screen(width_px)`` gives it.
    plain : bool
        Only the EM.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        The chosen synapse is outlined, others thinly; its cells are tinted.
    """
    picture = panels.grey(view.image[:, :, section], screen, panels.black_and_white(view.image))
    if not plain:
        _explain(view, section, screen, picture)
    return np.rint(picture * 255).astype(np.uint8)


def _explain(view: SynapseView, section: int, screen: Screen, picture: panels.Pixels) -> None:
    panels.tint(picture, view.cells[:, :, section], screen, view.colours, alpha=0.36)
    if view.probability is not None:
        probability = panels.as_probability(view.probability[:, :, section])
        panels.blend_probability(picture, probability, screen, alpha=panels.PROBABILITY_ALPHA)
    synapses = view.synapses[:, :, section]
    # Where none was asked for, all are equal.
    chosen = synapses == view.syn_id if view.syn_id else synapses != 0
    own = panels.shape_of(chosen, screen)
    others = panels.shape_of((synapses != 0) & ~chosen, screen)
    panels.blend(picture, panels.outline(others), SYNAPSE, 0.45)
    panels.blend(picture, panels.outline(own), SYNAPSE, 1.0)


def draw_overview(
    view: SynapseView, path: str | Path, *, sections: int = 3, width_px: int = 480
) -> None:
    """Draw one synapse in consecutive sections, plain above and explained below, as a PNG.

    Parameters
    ----------
    view : SynapseView
    path
        File to write.
    sections : int
        How many; fewer where the view has fewer.
    width_px : int
        Longer side of a panel.
    """
    screen = view.screen(width_px)
    rows, columns = screen.shape
    shown = _consecutive(view, sections)
    width = 2 * _MARGIN + len(shown) * (columns + _GAP) - _GAP
    entries = legend(view)
    lines = legend_lines(entries, width - 2 * _MARGIN)
    top = _MARGIN + _TITLE
    below = top + 2 * rows + _GAP
    page = Page(width, below + 16 + lines * LINE + _MARGIN - 8)
    _draw_title(page, view)
    for number, section in enumerate(shown):
        x = _MARGIN + number * (columns + _GAP)
        page.picture(compose(view, section, screen, plain=True), x, top)
        page.picture(compose(view, section, screen), x, top + rows + _GAP)
        _draw_section_name(page, view, section, x, top)
        _draw_hits(page, view, section, screen, (x, top + rows + _GAP))
        if section == view.middle:
            _draw_labels(page, view, section, screen, (x, top + rows + _GAP))
    draw_scale_bar(page, screen, (width - _MARGIN, top + rows))
    draw_legend(page, entries, (_MARGIN, below + 16))
    _save(page, path)


def draw_contact_sheet(
    views: Sequence[SynapseView],
    path: str | Path,
    *,
    title: str = "",
    columns: int = 5,
    width_px: int = 260,
) -> None:
    """Draw many synapses, the middle section of each, as a PNG.

    Parameters
    ----------
    views : sequence of SynapseView
        In the order in which they are drawn, row by row.
    path
        File to write.
    title : str
        Above all of them.
    columns : int
        Panels in a row; fewer where there are fewer views.
    width_px : int
        Longer side of a panel.

    Raises
    ------
    FormatError
        If there is none.
    """
    if not views:
        raise FormatError("a contact sheet needs at least one synapse")
    screens = [view.screen(width_px) for view in views]
    across = min(columns, len(views))
    height = max(screen.shape[0] for screen in screens) + _CAPTION
    top = _MARGIN + (34 if title else 0)
    down = -(-len(views) // across)
    page = Page(
        2 * _MARGIN + across * (width_px + _GAP) - _GAP, top + down * height + _MARGIN - _GAP
    )
    if title:
        page.text(_MARGIN, _MARGIN + 8, title, size=11, bold=True)
    for number, (view, screen) in enumerate(zip(views, screens, strict=True)):
        x = _MARGIN + number % across * (width_px + _GAP)
        y = top + number // across * height
        page.picture(compose(view, view.middle, screen), x, y)
        draw_scale_bar(page, screen, (x + screen.shape[1], y + screen.shape[0]), size=6)
        draw_caption(page, view, (x, y + screen.shape[0]), width_px)
    _save(page, path)


def draw_run_picture(
    run: RunData,
    syn_ids: Sequence[int],
    path: str | Path,
    *,
    title: str = "",
) -> None:
    """Cut synapses out of a run and draw them: one as an overview, else a sheet.

    Parameters
    ----------
    run : RunData
        With image, cells and tables.
    syn_ids : sequence of int
    path
        PNG to write.
    title : str
        Makes one synapse a sheet too.
    """
    if len(syn_ids) == 1 and not title:
        draw_overview(cut_out(run, syn_ids[0]), path)
        return
    views = [cut_out(run, i, width_nm=1100.0, sections=1) for i in syn_ids]
    draw_contact_sheet(views, path, title=title)


def _save(page: Page, path: str | Path) -> None:
    folder, _, name = cloud_path(path).rpartition("/")
    Store(folder).put(name, page.png())


def _consecutive(view: SynapseView, count: int) -> list[int]:
    """Sections around the middle one, all inside the box."""
    total = view.box.shape[2]
    count = max(1, min(count, total))
    first = min(max(view.middle - count // 2, 0), total - count)
    return list(range(first, first + count))


def _draw_title(page: Page, view: SynapseView) -> None:
    page.text(_MARGIN, _MARGIN + 8, view.title, size=12, bold=True)
    place = ", ".join(f"{v:,.0f}" for v in view.position_nm)
    parts = [f"at {place} nm", view.note]
    page.text(
        _MARGIN, _MARGIN + 36, "   ".join(part for part in parts if part), size=8, colour=PALE
    )


def _draw_section_name(page: Page, view: SynapseView, section: int, x: float, y: float) -> None:
    name = f"z {view.box.start[2] + section}"
    page.text(x + 10, y + 16, name, size=8, colour="white", bold=True, halo=INK)


def _draw_hits(
    page: Page, view: SynapseView, section: int, screen: Screen, corner: tuple[float, float]
) -> None:
    """Where partners are hit in this section."""
    rows, columns = screen.shape
    for partner in view.partners:
        if partner.position_nm is None or view.section_of(partner.position_nm) != section:
            continue
        x, y = view.pixel(partner.position_nm, screen)
        if 0 <= x < columns and 0 <= y < rows:
            page.dot(corner[0] + x, corner[1] + y, 5, fill=view.colours[partner.id], edge="white")


def _draw_labels(
    page: Page, view: SynapseView, section: int, screen: Screen, corner: tuple[float, float]
) -> None:
    """Names of the cells, where there is room for them."""
    for cell in [*([view.pre] if view.pre else []), *view.partners]:
        shape = panels.shape_of(view.cells[:, :, section] == cell.id, screen)
        place = roomiest(shape, _LABEL_ROOM * max(screen.shape))
        if place is None:
            continue
        draw_name(page, screen, corner, place, cell.called)
