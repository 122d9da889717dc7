"""What reviewers found about a run, as text and as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from cnapse.analysis.text_table import aligned, figure, interval
from cnapse.errors import ConfigError, storage_error
from cnapse.review.estimates import Proportion
from cnapse.review.evaluation import Calibration, ReviewEvaluation, SizeCut

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_review", "review_report"]

_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#d55e00", "#009e73", "#777777"
# Below this, Okabe's and Ito's colours; inches.
_FIGURE = (10.5, 3.6)


def review_report(found: ReviewEvaluation) -> str:
    """All of it as text."""
    parts = [
        _head(found), _precision(found), _recall(found), _calibration(found), _size(found),
        _reviewers(found),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def _head(found: ReviewEvaluation) -> str:
    kinds = ", ".join(f"{kind} {n}" for kind, n in found.errors.items())
    here = found.decided - found.elsewhere
    lines = [
        f"{here:,} of {found.candidates:,} candidates decided"
        + (f"; errors: {kinds}" if kinds else "")
    ]
    if found.elsewhere:
        lines.append(
            f"note: {found.elsewhere:,} more decisions are about synapses that this run does not "
            "have; precision and reviewers' figures count them: they tell of the run before"
        )
    return "\n".join(lines)


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _row(name: str, one: Proportion) -> list[str]:
    return [name, figure(one.value), interval((one.low, one.high)) if one.n else "-", str(one.n)]


def _precision(found: ReviewEvaluation) -> str:
    if not found.decided:
        return ""
    lines = aligned([["", "", "95 % interval", "judged"], _row("precision", found.precision)])
    low, high = found.if_unsure
    if found.precision_basis == "all":
        lines.append(
            "of all that was decided, which is no random choice: claim candidates in the order "
            "`stratified` for an unbiased figure"
        )
    else:
        seen = sum(s.population for s in found.strata if s.true + s.false)
        there = sum(s.population for s in found.strata)
        lines.append(
            f"post-stratified by doubt and size, over strata with {100 * seen / there:.0f} % of "
            "the candidates"
        )
    if low != high:
        lines.append(f"if all unsure ones were false: {figure(low)}; true: {figure(high)}")
    return "\n".join(lines)


def _recall(found: ReviewEvaluation) -> str:
    if not found.boxes:
        return "recall: no box was looked at wholly (`box done` in the review)"
    lines = aligned([["", "", "95 % interval", "true"], _row("recall", found.recall)])
    missed = sum(box.missed for box in found.boxes)
    boxes = _counted(len(found.boxes), "box", "boxes")
    lines.append(
        f"in {boxes}: {found.recall.n - missed} found, {missed} missed, "
        f"{sum(box.false for box in found.boxes)} false, "
        f"{sum(box.unsure for box in found.boxes)} unsure"
    )
    undecided = sum(box.undecided for box in found.boxes)
    if undecided:
        open_ones = _counted(undecided, "candidate in them is", "candidates in them are")
        lines.append(f"{open_ones} undecided, and counted nowhere")
    return "\n".join(lines)


def _calibration(found: ReviewEvaluation) -> str:
    known = [one for one in found.calibration if one.n]
    if not known:
        return ""
    basis = "the sample" if found.calibration_basis == "sample" else "all that was decided"
    rows = [["calibration", "Brier", "ECE", "area", "n"]]
    rows += [
        [one.name, figure(one.brier), figure(one.ece), figure(one.area), str(one.n)]
        for one in known
    ]
    return "\n".join([*aligned(rows), f"from {basis}", *(_bins(one) for one in known)])


def _bins(one: Calibration) -> str:
    rows = [[one.name, "mean", "true", "95 % interval", "n"]]
    rows += [
        [
            f"{b.low:.1f}-{b.high:.1f}", figure(b.predicted), figure(b.observed),
            interval(b.interval), str(b.n),
        ]
        for b in one.bins
    ]  # fmt: skip
    return "\n" + "\n".join(aligned(rows))


def _size(found: ReviewEvaluation) -> str:
    if found.size is None:
        return ""
    named = {
        "as it is": found.size.now,
        "best F1": found.size.best_f1,
        "best precision, 95 % of recall": found.size.best_precision,
    }
    rows = [["least size", "nm3", "precision", "recall", "F1"]]
    rows += [[name, *_cut(cut)] for name, cut in named.items()]
    note = [] if found.size.absolute else ["recall is of what was found: no box tells what was not"]
    return "\n".join([*aligned(rows), *note])


def _cut(cut: SizeCut) -> list[str]:
    return [f"{cut.min_size:,.0f}", figure(cut.precision), figure(cut.recall), figure(cut.f1)]


def _reviewers(found: ReviewEvaluation) -> str:
    rows = [["reviewer", "decisions", "hours", "median s", "per hour"]]
    rows += [
        [
            one.reviewer, f"{one.decisions:,}",
            f"{one.hours:.2f}" if one.timed else "-",
            "-" if math.isnan(one.median_seconds) else f"{one.median_seconds:.1f}",
            f"{one.timed / one.hours:,.0f}" if one.hours else "-",
        ]
        for one in found.work
    ]  # fmt: skip
    parts = [aligned(rows)] if found.work else []
    if found.agreement:
        pairs = [["agreement", "both judged", "alike", "kappa"]]
        pairs += [
            [f"{one.first} / {one.second}", str(one.n), str(one.alike), figure(one.kappa)]
            for one in found.agreement
        ]
        parts.append(aligned(pairs))
        if found.disagreements:
            differ = _counted(found.disagreements, "disagreement stands", "disagreements stand")
            parts.append([f"{differ}: the last decision counts"])
    return "\n\n".join("\n".join(lines) for lines in parts)


def draw_review(found: ReviewEvaluation, path: Path) -> None:
    """Draw calibration and size cuts as PNG, PDF or SVG, by the name's ending.

    Raises
    ------
    ConfigError
        For another ending.
    StorageError
        If it cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        drawing = Figure(figsize=_FIGURE, layout="constrained")
        FigureCanvasAgg(drawing)
        left, middle, right = drawing.subplots(1, 3)
        _draw_calibration(left, found.calibration[0], _BLUE)
        _draw_calibration(middle, found.calibration[1], _ORANGE)
        _draw_cuts(right, found)
        try:
            drawing.savefig(path, dpi=200)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):
                raise storage_error(error, path) from error
            raise ConfigError(f"{path}: a picture is written as .png, .svg or .pdf") from error


def _draw_calibration(axes: Axes, one: Calibration, colour: str) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=(0, (4, 3)))
    x = [b.predicted for b in one.bins]
    y = [b.observed for b in one.bins]
    below = [b.observed - b.interval[0] for b in one.bins]
    above = [b.interval[1] - b.observed for b in one.bins]
    axes.errorbar(x, y, [below, above], fmt="o", color=colour, markersize=5, linewidth=1.2)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel=one.name, ylabel="fraction true")
    axes.set_aspect("equal")
    told = f"n = {one.n}, Brier {figure(one.brier)}, ECE {figure(one.ece)}" if one.n else "unknown"
    axes.set_title(told, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_cuts(axes: Axes, found: ReviewEvaluation) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="least size (1000 nm³)", ylim=(-0.03, 1.03))
    if found.size is None:
        axes.set_title("size: nothing true was decided", fontsize=9)
        return
    x = [cut.min_size / 1000 for cut in found.size.some]
    for name, colour in (("precision", _BLUE), ("recall", _ORANGE), ("f1", _GREEN)):
        label = "F1" if name == "f1" else name
        axes.plot(x, [getattr(c, name) for c in found.size.some], color=colour, label=label)
    best = found.size.best_f1
    axes.axvline(best.min_size / 1000, color=_GREY, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_title(f"best F1 {figure(best.f1)} from {best.min_size:,.0f} nm³", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="center right")
