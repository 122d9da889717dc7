"""Precision against recall, and F1 against the threshold, as a PNG.

Neither the user's matplotlib settings nor its version gets into the file, so that the same figures
give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnapse.analysis.detection_counts import Int64s
from cnapse.analysis.detection_scores import average_precision, precision_recall
from cnapse.analysis.detection_sweep import Trial, best
from cnapse.viewing.page import INK, PALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_curve"]

OBJECTS = "#0072b2"
VOXELS = "#e69f00"
_GRID = "#dddddd"
_LINES_OF_F1 = (0.2, 0.4, 0.6, 0.8)


def draw_curve(
    trials: Sequence[Trial],
    levels: Int64s,
    rule: str,
    *,
    title: str = "",
    threshold: float | None = None,
) -> bytes:
    """Draw a sweep.

    Parameters
    ----------
    trials
        One for each threshold, rising.
    levels : ndarray of int, shape (2, 256)
        False and true voxels by stored probability.
    rule : str
        How objects match.
    title : str
    threshold : float, optional
        The one that was set, drawn as a line.

    Returns
    -------
    bytes
        A PNG of 1800 x 900 pixels.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK})
        figure = Figure(figsize=(12, 6), dpi=150, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _draw_tradeoff(left, trials, levels, rule)
        _draw_f1(right, trials, levels, rule, threshold)
        if title:
            figure.suptitle(title, x=0.012, ha="left", fontsize=11, fontweight="bold")
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_tradeoff(axes: Axes, trials: Sequence[Trial], levels: Int64s, rule: str) -> None:
    _prepare(axes, "recall", "precision")
    axes.set_xlim(-0.015, 1.015)
    axes.set_aspect("equal", adjustable="box")
    for f1 in _LINES_OF_F1:
        recall = np.linspace(f1 / (2 - f1), 1, 200)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color=_GRID, lw=0.8, ls=(0, (4, 3)))
        axes.annotate(
            f"F1 {f1:g}",
            (1, f1 / (2 - f1)),
            (-3, 3),
            textcoords="offset points",
            fontsize=7,
            color=PALE,
            ha="right",
        )
    precision, recall = precision_recall(levels)
    axes.plot(
        recall[1:],
        precision[1:],
        color=VOXELS,
        lw=1.8,
        label=f"voxels (average precision {average_precision(levels):.3f})",
    )
    scores = [trial.objects.score for trial in trials]
    axes.plot(
        [s.recall for s in scores],
        [s.precision for s in scores],
        color=OBJECTS,
        lw=1.2,
        marker="o",
        ms=4,
        label=f"objects ({rule})",
    )
    top = best(trials)
    if top is not None:
        score = top.objects.score
        axes.plot([score.recall], [score.precision], **_RING)
        axes.annotate(
            f"{top.cut.threshold:g}",
            (score.recall, score.precision),
            (-9, -13),
            textcoords="offset points",
            color=OBJECTS,
            fontweight="bold",
            ha="right",
        )
    _draw_legend(axes)


def _draw_f1(
    axes: Axes,
    trials: Sequence[Trial],
    levels: Int64s,
    rule: str,
    threshold: float | None,
) -> None:
    _prepare(axes, "threshold", "F1")
    axes.set_xlim(0, 1)
    precision, recall = precision_recall(levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * precision * recall / (precision + recall)
    axes.plot(np.arange(1, 256) / 255, f1[1:], color=VOXELS, lw=1.8, label="voxels")
    places = [trial.cut.threshold for trial in trials]
    bands = [(t.cut.threshold, t.objects.interval) for t in trials]
    known = [(place, *ends) for place, ends in bands if ends is not None]
    if known:
        at, low, high = zip(*known, strict=True)
        axes.fill_between(at, low, high, color=OBJECTS, alpha=0.13, lw=0, label="95 % interval")
    values = [trial.objects.score.f1 for trial in trials]
    axes.plot(places, values, color=OBJECTS, lw=1.2, marker="o", ms=4, label=f"objects ({rule})")
    top = best(trials)
    if top is not None:
        axes.plot([top.cut.threshold], [top.objects.score.f1], **_RING)
        axes.annotate(
            f"{top.objects.score.f1:.3f} at {top.cut.threshold:g}",
            (top.cut.threshold, top.objects.score.f1),
            (0, 10 if top.objects.score.f1 < 0.9 else -18),
            textcoords="offset points",
            color=OBJECTS,
            fontweight="bold",
            ha="center",
        )
    if threshold is not None:
        axes.axvline(threshold, color=PALE, lw=0.9, ls=(0, (1, 2)), label=f"set: {threshold:g}")
    _draw_legend(axes)


def _draw_legend(axes: Axes) -> None:
    """Below the axes, where it hides nothing."""
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.11), ncols=4, frameon=False, columnspacing=1.4
    )


_RING: dict[str, Any] = {
    "marker": "o",
    "ms": 11,
    "mfc": "none",
    "mec": OBJECTS,
    "mew": 1.6,
    "ls": "none",
}


def _prepare(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.set_ylim(-0.015, 1.015)
    axes.grid(color="#eeeeee", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(color=PALE, labelcolor=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PALE)
