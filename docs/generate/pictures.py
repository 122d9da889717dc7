"""The pictures of the tutorial, of the page on algorithms and of the one on scripts.

    python docs/generate/pictures.py TUTORIAL

TUTORIAL is the folder in which the tutorial was followed; with `explain_harmonic.png` and
`explain_montecarlo.png` in it, drawn by ``cnapse explain --method``, the pictures of these methods
are made, too. Those of the viewer are made by docs/screenshots.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image

import cnapse
from cnapse.runs import LayerName, RunData

__all__ = ["draw_labels", "draw_stages", "main", "panel", "small"]

IMAGES = Path(__file__).parents[1] / "images"
_WIDEST = 1200
_INK, _BLUE, _YELLOW, _GOLD, _GREY = "#202124", "#3f51b5", "#ffb300", "#b26a00", "#9aa0a6"
_FOR_THE_VIEWER = {
    "pyramid": "coarser scales of the layers",
    "properties": "names and numbers of cells and synapses",
    "annotate": "lines from synapses to partners",
    "meshes": "surfaces, if they are asked for",
}


def small(source: Path | io.BytesIO, target: Path, widest: int = _WIDEST) -> None:
    """A picture at most so wide: a photograph as JPEG, else in few colours."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    if picture.width > widest:
        height = round(picture.height * widest / picture.width)
        picture = picture.resize((widest, height), Image.Resampling.LANCZOS)
    if target.suffix == ".jpg":
        # Full resolution of colours: they tell cells apart.
        picture.save(target, quality=82, subsampling=0, optimize=True)
    else:
        picture.quantize(64, dither=Image.Dither.NONE).save(target, optimize=True)


def panel(source: Path, target: Path) -> None:
    """The lower left of what `cnapse explain` draws for one method: legend and three sections."""
    with Image.open(source) as opened:
        wide, high = opened.size
        cut = opened.crop((wide // 80, high * 575 // 1000, wide * 655 // 1000, high * 975 // 1000))
    made = io.BytesIO()
    cut.save(made, "PNG")
    small(made, target)


def draw_stages(folder: Path) -> Figure:
    """What each stage reads and leaves, by a place of the tutorial's run.

    Parameters
    ----------
    folder : Path
        In which the tutorial was followed.
    """
    run = cnapse.open_run(folder / "cnapse.toml")
    names: tuple[LayerName, ...] = ("image", "probability", "synapses", "cells")
    section = {name: _section(run, name) for name in names}
    figure = Figure(figsize=(12, 5.6))
    em = section["image"]
    _layer(figure, "image", (0.005, 0.53), em)
    _layer(figure, "probability", (0.245, 0.53), em, section["probability"], cmap="inferno")
    objects, cells = (_coloured(section[name]) for name in ("synapses", "cells"))
    _layer(figure, "synapses", (0.485, 0.53), em, objects, cmap="tab10", alpha=0.85)
    _layer(figure, "cells", (0.485, 0.02), em, cells, cmap="tab20", alpha=0.55)
    synapses, partners = run.synapses, run.partners
    here = np.unique(section["synapses"])
    columns = {"syn_id": "syn_id", "pre_id": "pre_id", "size": "size, nm³"}
    _table(figure, "table of synapses", 0.53, synapses[synapses.syn_id.isin(here)], columns)
    columns = {"syn_id": "syn_id", "post_id": "post_id", "share": "share"}
    _table(figure, "table of partners", 0.02, partners[partners.syn_id.isin(here)], columns)
    _arrow(figure, (0.187, 0.72), (0.24, 0.72), "detect")
    _arrow(figure, (0.427, 0.72), (0.48, 0.72), "label,\nstitch,\nrelabel")
    _arrow(figure, (0.667, 0.72), (0.752, 0.72), "measure,\ntabulate", at=0.716)
    _arrow(figure, (0.667, 0.21), (0.752, 0.21), "assign,\ngather,\nexport", at=0.716)
    # Both read both layers.
    figure.add_artist(Line2D([0.678, 0.678], [0.21, 0.72], color=_INK, lw=1.3))
    _arrow(figure, (0.87, 0.62), (0.87, 0.445), "")
    text = "For the viewer, from all of these"
    figure.text(0.005, 0.42, text, fontsize=11, fontweight="bold", color=_INK, va="top")
    for i, (stage, leaves) in enumerate(_FOR_THE_VIEWER.items()):
        y = 0.345 - 0.075 * i
        figure.text(0.005, y, stage, fontsize=10, color=_BLUE, va="top")
        figure.text(0.13, y, leaves, fontsize=10, color=_INK, va="top")
    return figure


def _section(run: RunData, name: LayerName) -> np.ndarray:
    """A place of the tutorial's run, [y, x]."""
    layer = run.layer(name)
    cut = layer.read(cnapse.Box((30, 20, 8), (230, 220, 9), layer.resolution))
    return np.asarray(cut).reshape(200, 200, order="F").T


def _coloured(ids: np.ndarray) -> np.ndarray:
    """Ids as 1, 2, 3, ... for a list of colours; 0 stays."""
    _, numbers = np.unique(ids, return_inverse=True)
    return numbers.reshape(ids.shape) + (1 if ids.all() else 0)


def _layer(
    figure: Figure,
    name: str,
    place: tuple[float, float],
    em: np.ndarray,
    over: np.ndarray | None = None,
    *,
    cmap: str = "",
    alpha: float = 1.0,
) -> None:
    """The EM, with what a layer holds on it."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((*place, 0.178, 0.178 * width / height))
    axes.set(xticks=[], yticks=[])
    axes.set_title(name, fontsize=11, fontweight="bold", color=_BLUE, loc="left", pad=4)
    axes.imshow(em, cmap="gray", vmin=40, vmax=230)
    if over is not None:
        shown = np.ma.masked_where(over == 0, over)
        if cmap == "inferno":
            axes.imshow(shown, cmap=cmap, vmin=0, vmax=255, alpha=np.minimum(1, over / 100))
        else:
            axes.imshow(shown % 20, cmap=cmap, vmin=0, vmax=20, alpha=alpha)


def _table(
    figure: Figure, name: str, y: float, rows: pd.DataFrame, columns: dict[str, str]
) -> None:
    """The first rows of a table."""
    axes = figure.add_axes((0.757, y, 0.24, 0.382))
    axes.set_axis_off()
    axes.set_title(name, fontsize=11, fontweight="bold", color=_GOLD, loc="left", pad=4)
    text = [
        [f"{v:,.0f}" if c == "size" else f"{v:.2f}" if c == "share" else str(v) for c, v in r]
        for r in (
            list(row.items()) for _, row in rows[list(columns)].head(6).astype(object).iterrows()
        )
    ]
    text += [["..."] * len(columns)]
    made = axes.table(text, colLabels=list(columns.values()), loc="upper left", cellLoc="right")
    made.auto_set_font_size(False)
    made.set_fontsize(9)
    for (row, _), cell in made.get_celld().items():
        cell.set(edgecolor="0.8", height=0.115, facecolor="#fff3d6" if row == 0 else "white")


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


def _arrow(
    figure: Figure,
    start: tuple[float, float],
    stop: tuple[float, float],
    stages: str,
    *,
    at: float | None = None,
) -> None:
    """An arrow, with the stages' names above its middle, or above `at`."""
    shape = FancyArrowPatch(
        start, stop, arrowstyle="-|>", mutation_scale=14, color=_INK, lw=1.3, shrinkA=0, shrinkB=0
    )
    shape.set_transform(figure.transFigure)
    figure.add_artist(shape)
    x = (start[0] + stop[0]) / 2 if at is None else at
    figure.text(x, start[1] + 0.02, stages, ha="center", va="bottom", fontsize=9, color=_INK)


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tutorial", type=Path, help="folder in which the tutorial was followed")
    folder = parser.parse_args().tutorial
    for figure, name in ((draw_stages(folder), "stages.jpg"), (draw_labels(), "labels.png")):
        made = io.BytesIO()
        figure.savefig(made, dpi=130)
        small(made, IMAGES / f"algorithms_{name}")
    small(folder / "synapse.png", IMAGES / "tutorial_synapse.jpg", 1100)
    small(folder / "explain.png", IMAGES / "tutorial_explain.jpg", 1100)
    with contextlib.suppress(FileNotFoundError):
        small(folder / "cleft_profiles.png", IMAGES / "scripting_profiles.png", 840)
    for method, name in (("harmonic", "exact"), ("montecarlo", "walks")):
        with contextlib.suppress(FileNotFoundError):
            source = folder / f"explain_{method}.png"
            small(source, IMAGES / f"explain_{method}.jpg", 1700)
            panel(source, IMAGES / f"algorithms_{name}.jpg")
    for name in ("tutorial_", "algorithms_", "scripting_", "explain_"):
        for path in sorted(IMAGES.glob(f"{name}*")):
            sys.stdout.write(f"{path.name} {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
