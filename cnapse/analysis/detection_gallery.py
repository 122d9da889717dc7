"""Contact sheet of the errors: what was found and is not there, and what was missed.

A tile shows the section in which the object is largest, with the outlines of all predicted and all
true objects, and how well the object overlaps with the other side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.analysis.detection_counts import DetectionCounts, Ids, ObjectSums
from cnapse.analysis.detection_evaluation import Comparison, DetectionEvaluation
from cnapse.analysis.detection_inputs import Volume
from cnapse.analysis.detection_objects import ObjectSource, read_box
from cnapse.geometry import Box, triple
from cnapse.viewing import panels
from cnapse.viewing.labels import draw_scale_bar
from cnapse.viewing.legend import LINE, Item, draw_legend
from cnapse.viewing.marks import thick
from cnapse.viewing.page import PALE, Page
from cnapse.viewing.panels import Screen

__all__ = ["ErrorTile", "draw_errors", "error_tiles"]

PREDICTED = "#ff7f0e"
TRUE = "#35c4f0"
_BLANK = 96

_WIDTH = 260
_COLUMNS = 5
_MARGIN = 28
_GAP = 10
_CAPTION = 50
_HEADING = 40
_SMALLEST_NM = 500.0
_ROOM = 1.6

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ErrorTile:
    """One error: the largest section of an object, and what is around it.

    Attributes
    ----------
    box : Box
        One section.
    image : ndarray, shape (x, y)
    predicted, true : ndarray of uint64, shape (x, y)
        Ids of objects.
    of_predicted : bool
        Whether the object is a predicted one.
    id : int
        The object's.
    voxels : int
    iou : float
        The best with any object of the other side; 0 where it overlaps none.
    position_nm : (x, y, z)
        Its centre of mass.
    """

    box: Box
    image: Array
    predicted: Ids
    true: Ids
    of_predicted: bool
    id: int
    voxels: int
    iou: float
    position_nm: tuple[float, float, float]


def error_tiles(
    comparison: Comparison,
    result: DetectionEvaluation,
    image: Volume | None,
    most: int = 20,
) -> tuple[list[ErrorTile], list[ErrorTile]]:
    """Cut out false positives and false negatives by the first rule, the largest first.

    Parameters
    ----------
    comparison : Comparison
    result : DetectionEvaluation
        Of that comparison.
    image
        EM; else the probability, if there is one.
    most : int
        Of each.
    """
    grid = comparison.grid
    predicted, true = comparison.predicted.objects(grid), comparison.truth.objects(grid)
    match = result.matched[0].match
    shown = image or comparison.levels
    tiles = []
    for own, ids, sums in (
        (predicted, match.unmatched_predicted, result.counts.predicted),
        (true, match.unmatched_true, result.counts.true),
    ):
        of_predicted = own is predicted
        tiles.append(
            [
                _tile(which, own, (predicted, true), sums, shown, result.counts, of_predicted)
                for which in _largest(sums, ids, most)
            ]
        )
    return tiles[0], tiles[1]


def draw_errors(
    false: Sequence[ErrorTile],
    missed: Sequence[ErrorTile],
    *,
    title: str,
    totals: tuple[int, int],
) -> bytes:
    """Draw both groups of tiles as a PNG.

    Parameters
    ----------
    false, missed
        As `error_tiles` gives them.
    title : str
    totals : (int, int)
        How many false positives and false negatives there are, shown or not.
    """
    groups = (
        ("False positives", false, totals[0], "predicted, not in the truth"),
        ("False negatives", missed, totals[1], "in the truth, not predicted"),
    )
    rows = [_rows(tiles) for _, tiles, _, _ in groups]
    height = _WIDTH + _CAPTION
    body = sum(_HEADING + max(n * height, 24) for n in rows)
    width = 2 * _MARGIN + _COLUMNS * (_WIDTH + _GAP) - _GAP
    page = Page(width, _MARGIN + 34 + body + LINE + _MARGIN)
    page.text(_MARGIN, _MARGIN + 8, title, size=11, bold=True)
    y = _MARGIN + 34
    for (name, tiles, total, meaning), n in zip(groups, rows, strict=True):
        some = f", the {len(tiles)} largest shown" if len(tiles) < total else ""
        page.text(_MARGIN, y + 14, f"{name}: {total}{some}", size=9.5, bold=True)
        y += _HEADING
        if not tiles:
            none = "none" if not total else meaning
            page.text(_MARGIN, y + 4, none, size=8, colour=PALE)
        for number, tile in enumerate(tiles):
            x = _MARGIN + number % _COLUMNS * (_WIDTH + _GAP)
            _draw_tile(page, tile, x, y + number // _COLUMNS * height)
        y += max(n * height, 24)
    items = [Item("predicted", PREDICTED, "outline"), Item("true", TRUE, "outline")]
    draw_legend(page, items, (_MARGIN, y))
    return page.png()


def _rows(tiles: Sequence[ErrorTile]) -> int:
    return -(-len(tiles) // _COLUMNS)


def _largest(sums: ObjectSums, ids: Ids, most: int) -> list[int]:
    """Rows of the largest objects, then by id."""
    rows = np.searchsorted(sums.ids, ids)
    order = np.argsort(-sums.voxels[rows], kind="stable")
    return [int(row) for row in rows[order[:most]]]


def _tile(
    row: int,
    own: ObjectSource,
    both: tuple[ObjectSource, ObjectSource],
    sums: ObjectSums,
    image: Volume | None,
    counts: DetectionCounts,
    of_predicted: bool,
) -> ErrorTile:
    frame = counts.box
    whole = Box(triple(sums.start[row].tolist()), triple(sums.stop[row].tolist()), frame.resolution)
    body = read_box(own, whole) == sums.ids[row]
    section = int(np.argmax(body.sum(axis=(0, 1))))
    x, y = (round(float(v)) for v in np.argwhere(body[:, :, section]).mean(axis=0))
    middle = (whole.start[0] + x, whole.start[1] + y)
    box = _around(whole, middle, whole.start[2] + section, frame)
    labels = [read_box(source, box)[:, :, 0] for source in both]
    pixels = np.full(box.shape, _BLANK, np.uint8) if image is None else image.read(box)
    overlaps = counts.overlaps
    ids = overlaps.pair_predicted if of_predicted else overlaps.pair_true
    iou = overlaps.iou[ids == sums.ids[row]]
    cx, cy, cz = (float(v) for v in sums.centres_nm(frame)[row])
    return ErrorTile(
        box=box,
        image=pixels[:, :, 0],
        predicted=labels[0],
        true=labels[1],
        of_predicted=of_predicted,
        id=int(sums.ids[row]),
        voxels=int(sums.voxels[row]),
        iou=float(iou.max()) if len(iou) else 0.0,
        position_nm=(cx, cy, cz),
    )


def _around(whole: Box, middle: tuple[int, int], z: int, frame: Box) -> Box:
    """A square of one section around a place, moved into the frame, cut off if it is larger."""
    h = frame.resolution
    extent = max(whole.shape[axis] * h[axis] for axis in (0, 1))
    side = max(_SMALLEST_NM, _ROOM * extent)
    start, stop = [], []
    for axis in (0, 1):
        low, high = frame.start[axis], frame.stop[axis]
        n = math.ceil(side / h[axis])
        first = max(low, min(middle[axis] - n // 2, high - n))
        start.append(first)
        stop.append(min(high, first + n))
    return Box((start[0], start[1], z), (stop[0], stop[1], z + 1), h)


def _draw_tile(page: Page, tile: ErrorTile, x: int, y: int) -> None:
    screen = Screen.fitted(tile.box.shape[:2], tile.box.resolution[:2], _WIDTH)
    contrast = (0.0, 255.0) if tile.image.std() == 0 else panels.black_and_white(tile.image)
    picture = panels.grey(tile.image, screen, contrast)
    for labels, colour in ((tile.true, TRUE), (tile.predicted, PREDICTED)):
        own = (labels == tile.id) & ((colour == PREDICTED) == tile.of_predicted)
        others = panels.shape_of((labels != 0) & ~own, screen)
        panels.blend(picture, panels.outline(others), colour, 0.8)
        contour = thick(panels.outline(panels.shape_of(own, screen)))
        panels.blend(picture, contour, colour, 1.0)
    page.picture(np.rint(picture * 255).astype(np.uint8), x, y)
    below = y + screen.shape[0]
    draw_scale_bar(page, screen, (x + screen.shape[1], below), size=6)
    page.text(x, below + 12, f"{tile.id}", size=7.5, bold=True)
    page.text(x + _WIDTH, below + 12, _overlap(tile.iou), size=7.5, side="right")
    place = ", ".join(f"{v:,.0f}" for v in tile.position_nm)
    page.text(x, below + 29, f"{tile.voxels} voxels at {place} nm", size=6.5, colour=PALE)


def _overlap(iou: float) -> str:
    if iou == 0:
        return "no overlap"
    return f"IoU {iou:.2f}" if iou >= 0.01 else "IoU < 0.01"
