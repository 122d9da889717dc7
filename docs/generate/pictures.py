"""The pictures of the tutorial, of the page on algorithms and of the one on scripts.

    python docs/generate/pictures.py TUTORIAL

TUTORIAL is the folder in which the tutorial was followed. Those of the viewer are made by
docs/screenshots.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

__all__ = ["draw_labels", "draw_stages", "main", "small"]

IMAGES = Path(__file__).parents[1] / "images"
_WIDEST = 1200
_INK, _BLUE, _YELLOW, _GREY = "#202124", "#3f51b5", "#ffb300", "#9aa0a6"


def small(source: Path | io.BytesIO, target: Path, widest: int = _WIDEST) -> None:
    """A picture at most so wide: a photograph as JPEG, else in few colours."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    if picture.width > widest:
        height = round(picture.height * widest / picture.width)
        picture = picture.resize((widest, height), Image.Resampling.LANCZOS)
    if target.suffix == ".jpg":
        picture.save(target, quality=82, optimize=True)
    else:
        picture.quantize(64, dither=Image.Dither.NONE).save(target, optimize=True)


def draw_stages() -> Figure:
    """What each stage reads and leaves."""
    figure = Figure(figsize=(10, 3.7), layout="constrained")
    axes = _canvas(figure, (0, 20), (0, 7.4))
    layers = {"image": (0, 5), "probability": (5, 5), "synapses": (10, 5), "cells": (10, 1.6)}
    for name, (x, y) in layers.items():
        _box(axes, x, y, name, _BLUE)
    _box(axes, 15, 5, "table of synapses", _YELLOW, width=4.6)
    _box(axes, 15, 1.6, "table of partners", _YELLOW, width=4.6)
    _arrow(axes, (3.2, 5.7), (5, 5.7), "detect")
    _arrow(axes, (8.2, 5.7), (10, 5.7), "label, stitch,\nrelabel")
    _arrow(axes, (13.2, 5.7), (15, 5.7), "measure,\ntabulate")
    _arrow(axes, (17.3, 5), (17.3, 3), "assign, gather", side="right")
    _arrow(axes, (13.2, 2.3), (15, 2.3), "")
    _arrow(axes, (11.6, 3), (15, 5.2), "")
    _box(axes, 0, 1.6, "pyramid, properties,\nannotate, meshes", _GREY, width=5.6)
    axes.text(2.8, 1.1, "for the viewer, from all of these", ha="center", va="top", color=_GREY)
    axes.text(
        0, 7.35, "layers: blue.  tables: yellow.  stages: on the arrows", va="top", color=_INK
    )
    return figure


def draw_labels() -> Figure:
    """An object that two blocks share: labels, the plane that both see, ids."""
    cells = np.zeros((6, 12), int)
    cells[1:3, 3:9] = 1
    cells[3, 7:9] = 1
    cells[4, 1:3] = 2
    cells[4:, 10] = 3
    figure = Figure(figsize=(10, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    _grid(left, cells, {(1, "a"): "1", (1, "b"): "1", (2, "a"): "2", (3, "b"): "2"})
    left.add_patch(Rectangle((6 - 0.5, -0.5), 1, 6, fc=_YELLOW, ec="none", alpha=0.35))
    left.set_title("two blocks, each with labels of its own;\nyellow: the plane that both see")
    first = {number: int(np.flatnonzero(cells.ravel() == number)[0]) + 1 for number in (1, 2, 3)}
    ids = {(number, side): str(first[number]) for number in first for side in "ab"}
    _grid(right, cells, ids, ranks=True)
    right.set_title(
        "ids: 1 + the raster index of an object's\nfirst voxel, which is what each square shows"
    )
    return figure


def _grid(
    axes: Axes, cells: np.ndarray, named: dict[tuple[int, str], str], *, ranks: bool = False
) -> None:
    """Voxels with their labels, in block a (left) and block b."""
    colours = ListedColormap(["white", "#c5cae9", "#c8e6c9", "#ffe0b2"])
    axes.imshow(cells, cmap=colours, vmin=0, vmax=3)
    height, width = cells.shape
    axes.hlines(np.arange(height + 1) - 0.5, -0.5, width - 0.5, color="0.85", lw=0.8)
    axes.vlines(np.arange(width + 1) - 0.5, -0.5, height - 0.5, color="0.85", lw=0.8)
    axes.vlines(width / 2 - 0.5, -0.5, height - 0.5, color=_INK, lw=2.5)
    for (y, x), number in np.ndenumerate(cells):
        if ranks and not number:
            rank = str(y * width + x + 1)
            axes.text(x, y, rank, fontsize=7, color=_GREY, ha="center", va="center")
        if number:
            side = "a" if x < width // 2 else "b"
            if (number, side) in named:
                axes.text(x, y + 0.08, named[number, side], ha="center", va="center", fontsize=10)
    axes.set(xticks=[], yticks=[])


def _canvas(figure: Figure, x: tuple[float, float], y: tuple[float, float]) -> Axes:
    axes = figure.subplots()
    axes.set(xlim=x, ylim=y, aspect="equal")
    axes.set_axis_off()
    return axes


def _box(axes: Axes, x: float, y: float, text: str, colour: str, width: float = 3.2) -> None:
    shape = FancyBboxPatch(
        (x, y),
        width,
        1.4,
        boxstyle="round,pad=0,rounding_size=0.2",
        fc=colour,
        ec="none",
        alpha=0.25,
    )
    axes.add_patch(shape)
    axes.text(x + width / 2, y + 0.7, text, ha="center", va="center", fontsize=11, color=_INK)


def _arrow(
    axes: Axes, start: tuple[float, float], stop: tuple[float, float], text: str, side: str = "top"
) -> None:
    axes.annotate("", stop, start, arrowprops={"arrowstyle": "-|>", "color": _INK, "lw": 1.3})
    x, y = (start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2
    if side == "top":
        axes.text(x, y + 0.15, text, ha="center", va="bottom", fontsize=9, color=_INK)
    else:
        axes.text(x + 0.2, y, text, ha="left", va="center", fontsize=9, color=_INK)


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tutorial", type=Path, help="folder in which the tutorial was followed")
    folder = parser.parse_args().tutorial
    for figure, name in ((draw_stages(), "stages"), (draw_labels(), "labels")):
        made = io.BytesIO()
        figure.savefig(made, dpi=130)
        small(made, IMAGES / f"algorithms_{name}.png")
    small(folder / "synapse.png", IMAGES / "tutorial_synapse.jpg", 1100)
    small(folder / "explain.png", IMAGES / "tutorial_explain.jpg", 1100)
    with contextlib.suppress(FileNotFoundError):
        small(folder / "cleft_profiles.png", IMAGES / "scripting_profiles.png", 840)
    for name in ("tutorial_", "algorithms_", "scripting_"):
        for path in sorted(IMAGES.glob(f"{name}*")):
            sys.stdout.write(f"{path.name} {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
