"""The figures of `cnapse evaluate detection` and `cnapse evaluate search` as text."""

from __future__ import annotations

from collections.abc import Sequence

from cnapse.analysis.detection_clefts import CREMI_FALSE_NM, CleftDistances, Distances
from cnapse.analysis.detection_evaluation import DetectionEvaluation
from cnapse.analysis.detection_scores import Matched, SizeBin
from cnapse.analysis.detection_sweep import Trial, best
from cnapse.analysis.matching import ratio
from cnapse.analysis.text_table import aligned, figure, interval
from cnapse.geometry import Box, format_resolution

__all__ = ["report", "search_report", "sweep_report"]

Row = list[str]


def report(result: DetectionEvaluation) -> str:
    """A table to read."""
    parts = [
        _what(result),
        aligned(_totals(result)),
        aligned(_voxel_rows(result)),
        aligned(_object_rows(result.matched)),
        aligned(_size_rows(result.sizes)),
        aligned(_cleft_rows(result.clefts)),
        _notes(result),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def sweep_report(trials: Sequence[Trial], rule: str) -> str:
    """One line for each threshold, the best marked."""
    top = best(trials)
    rows = [["threshold", *_TRIAL_HEAD, "voxel F1"]]
    rows += [_marked([f"{t.cut.threshold:g}", *_trial(t)], mark=t is top) for t in trials]
    return "\n".join([f"thresholds (objects by {rule}; * highest F1)", *aligned(rows)])


def search_report(trials: Sequence[Trial], rule: str) -> str:
    """For each threshold the best connectivity and least size, the best of all marked."""
    top = best(trials)
    if top is None:
        return "no trial has an F1: nothing is true and nothing was found"
    rows = [["threshold", "connectivity", "min voxels", *_TRIAL_HEAD, "voxel F1"]]
    for threshold in sorted({trial.cut.threshold for trial in trials}):
        chosen = best([t for t in trials if t.cut.threshold == threshold])
        if chosen is None:
            continue
        cut = chosen.cut
        named = [f"{cut.threshold:g}", str(cut.connectivity), str(cut.min_voxels)]
        rows.append(_marked([*named, *_trial(chosen)], mark=chosen is top))
    head = f"{len(trials)} trials, the best of each threshold (objects by {rule}; * best of all)"
    return "\n".join([head, *aligned(rows), "", *_search_notes(trials, top)])


_TRIAL_HEAD = ("objects", "precision", "recall", "F1", "95 % interval", "right/false/missed")


def _trial(trial: Trial) -> Row:
    score = trial.objects.score
    return [
        str(score.true_positives + score.false_positives),
        *(figure(v) for v in (score.precision, score.recall, score.f1)),
        interval(trial.objects.interval),
        _counts(trial.objects),
        figure(trial.voxels.f1),
    ]


def _marked(row: Row, *, mark: bool) -> Row:
    return [*row, "*"] if mark else row


def _search_notes(trials: Sequence[Trial], top: Trial) -> list[str]:
    notes = ["chosen on this truth, so its score here flatters: judge it on another part"]
    for name in ("threshold", "min_voxels"):
        tried = sorted({getattr(t.cut, name) for t in trials})
        value = getattr(top.cut, name)
        at_end = value == tried[-1] or (name == "threshold" and value == tried[0])
        if len(tried) > 1 and at_end:
            notes.append(f"the best {name} {value:g} is at the end of what was tried: try further")
    return notes


def _what(result: DetectionEvaluation) -> list[str]:
    box = result.counts.box
    lines = [f"compared: {_size(box)} from {', '.join(map(str, box.start))}"]
    if result.counts.ignored:
        share = 100 * ratio(result.counts.ignored, box.voxels)
        lines.append(f"ignored: {result.counts.ignored} voxels ({share:.1f} %)")
    return lines


def _size(box: Box) -> str:
    return f"{' x '.join(map(str, box.shape))} voxels of {format_resolution(box.resolution)}"


def _totals(result: DetectionEvaluation) -> list[Row]:
    counts = result.counts
    sides = (counts.predicted, counts.true)
    return [
        ["", "predicted", "true"],
        ["objects", *(str(len(side)) for side in sides)],
        ["their voxels", *(str(int(side.voxels.sum())) for side in sides)],
    ]


def _voxel_rows(result: DetectionEvaluation) -> list[Row]:
    score = result.voxels
    head = ["", "precision", "recall", "F1"]
    row = ["voxels", *(figure(v) for v in (score.precision, score.recall, score.f1))]
    if result.average_precision is None:
        return [head, row]
    return [[*head, "average precision"], [*row, figure(result.average_precision)]]


def _object_rows(matched: Sequence[Matched]) -> list[Row]:
    scores = [m.score for m in matched]
    rows = [
        ["objects matched within", *(m.rule.name for m in matched)],
        ["precision", *(figure(s.precision) for s in scores)],
        ["recall", *(figure(s.recall) for s in scores)],
        ["F1", *(figure(s.f1) for s in scores)],
        ["95 % interval", *(interval(m.interval) for m in matched)],
        ["right/false/missed", *(_counts(m) for m in matched)],
    ]
    if any(any(m.not_counted) for m in matched):
        left_out = ("/".join(map(str, m.not_counted)) for m in matched)
        rows.append(["not counted, predicted/true", *left_out])
    return rows


def _counts(matched: Matched) -> str:
    score = matched.score
    return f"{score.true_positives}/{score.false_positives}/{score.false_negatives}"


def _size_rows(sizes: Sequence[SizeBin]) -> list[Row]:
    rows = [["by size, voxels", "true", "found", "recall", "predicted", "right", "precision"]]
    for one in sizes:
        name = f">= {one.least}" if one.below is None else f"{one.least} to {one.below - 1}"
        rows.append(
            [
                name,
                str(one.true),
                str(one.found),
                figure(ratio(one.found, one.true)),
                str(one.predicted),
                str(one.right),
                figure(ratio(one.right, one.predicted)),
            ]
        )
    return rows


def _cleft_rows(clefts: CleftDistances) -> list[Row]:
    far = f"beyond {CREMI_FALSE_NM:g} nm"
    return [
        ["CREMI clefts, nm", "mean", "largest", "voxels", far],
        _distance_row("ADGT: predicted to true", clefts.to_truth),
        _distance_row("ADF: true to predicted", clefts.to_prediction),
        ["score: mean of both", _nm(clefts.cremi)],
    ]


def _distance_row(name: str, one: Distances) -> Row:
    return [name, _nm(one.mean), _nm(one.largest), str(one.voxels), str(one.false)]


def _nm(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"  # noqa: PLR0124


def _notes(result: DetectionEvaluation) -> list[str]:
    first = result.matched[0].rule.name
    notes = [f"by size: each object in the bin of its own size, matched within {first}"]
    if result.average_precision is None:
        notes.append("average precision left out: the prediction is no probability")
    return notes
