"""What colours and lines in a picture mean: the legend of an overview, the caption of a panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnapse.viewing import panels
from cnapse.viewing.cutout import SynapseView
from cnapse.viewing.page import INK, PALE, Page, flowed, text_width
from cnapse.viewing.palette import SYNAPSE

__all__ = ["LINE", "Item", "draw_caption", "draw_legend", "legend", "legend_lines"]

LINE = 30
_MARK = 34
_LEGEND_SIZE = 8.5


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the legend."""

    text: str
    colour: str
    mark: str = "swatch"

    @property
    def width(self) -> float:
        """In pixels."""
        return _MARK + 9 + text_width(self.text, _LEGEND_SIZE)


def legend(view: SynapseView) -> list[Item]:
    """The entries for a synapse."""
    items = []
    if view.pre is not None:
        items.append(Item(f"{view.pre.called} presynaptic", view.colours[view.pre.id]))
    for partner in view.partners:
        share = "" if partner.share is None else f"  {100 * partner.share:.0f} %"
        items.append(Item(partner.called + share, view.colours[partner.id]))
    if any(partner.position_nm for partner in view.partners):
        items.append(Item("where a partner is hit", PALE, "dot"))
    items.append(Item("synapse", SYNAPSE, "outline"))
    if view.probability is not None:
        items.append(Item("probability, 0 to 1", panels.PROBABILITY, "ramp"))
    return items


def legend_lines(items: Sequence[Item], room: float) -> int:
    """How many lines a legend takes."""
    return 1 + max(line for line, _ in _places(items, room))


def draw_legend(page: Page, items: Sequence[Item], corner: tuple[float, float]) -> None:
    """Draw a legend; its room goes to the right as far as it begins from the left."""
    left, top = corner
    for item, (line, along) in zip(items, _places(items, page.width - 2 * left), strict=True):
        x, middle = left + along, top + (line + 0.5) * LINE
        _draw_mark(page, item, x, middle)
        page.text(x + _MARK + 9, middle, item.text, size=_LEGEND_SIZE)


def _places(items: Sequence[Item], room: float) -> list[tuple[int, float]]:
    return flowed([item.width for item in items], room, 26)


def _draw_mark(page: Page, item: Item, x: float, y: float) -> None:
    top, height = y - 8, 16
    match item.mark:
        case "dot":
            page.dot(x + _MARK / 2, y, 5, fill=item.colour, edge="white")
        case "outline":
            page.rectangle(x, top, _MARK, height, fill="#8c8c8c")
            for across, down, wide, high in (
                (4, 3, _MARK - 8, 1),
                (4, height - 4, _MARK - 8, 1),
                (4, 3, 1, height - 6),
                (_MARK - 5, 3, 1, height - 6),
            ):
                page.rectangle(x + across, top + down, wide, high, fill=item.colour)
        case "ramp":
            page.picture(_ramp(height), round(x), round(top))
        case _:
            page.rectangle(x, top, _MARK, height, fill=item.colour)


def _ramp(height: int) -> npt.NDArray[np.uint8]:
    """Probability from 0 to 1 over grey, as it is drawn over the EM."""
    picture = np.full((height, _MARK, 3), 0.55, dtype=np.float32)
    weight = np.repeat(np.linspace(0, 1, _MARK, dtype=np.float32)[:, None], height, axis=1)
    panels.blend_probability(
        picture, weight, panels.Screen((_MARK, height), (1, 1), 1), alpha=panels.PROBABILITY_ALPHA
    )
    return np.rint(picture * 255).astype(np.uint8)


def draw_caption(page: Page, view: SynapseView, corner: tuple[float, float], width: float) -> None:
    """Below a panel: the id, and the cells' names in their colours as far as there is room."""
    x, y = corner
    page.text(x, y + 13, str(view.syn_id), size=6.5, bold=True)
    words = [("?" if view.pre is None else view.pre.called, view.pre)]
    words += [(partner.called, partner) for partner in view.partners]
    used = 0.0
    for number, (word, cell) in enumerate(words):
        text = word + ("  →" if number == 0 else "," if number < len(words) - 1 else "")
        needed = text_width(text, 6.5)
        if used + needed > width - 20:
            page.text(x + used, y + 31, "…", size=6.5)
            return
        page.text(x + used, y + 31, text, size=6.5, colour=view.colours[cell.id] if cell else INK)
        used += needed + 7
