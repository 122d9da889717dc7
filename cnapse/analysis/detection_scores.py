"""Scores of detection from the counts of `cnapse.analysis.detection_counts`.

**What does not count.** A true object that lies mostly under the ignore mask (or, if asked for,
touches a face of the box) is neither found nor missed. A predicted object is no false positive if
it lies there itself, or matches such a true object; if it matches a true object that counts, it
counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.analysis.bootstrap import f1_interval
from cnapse.analysis.detection_counts import DetectionCounts, Int64s, ObjectSums
from cnapse.analysis.matching import (
    ObjectMatch,
    Overlaps,
    Score,
    defined,
    match_by_distance,
    match_overlaps,
    ratio,
)
from cnapse.errors import ConfigError
from cnapse.geometry import Box

__all__ = [
    "MatchRule",
    "Matched",
    "SizeBin",
    "average_precision",
    "judged",
    "precision_recall",
    "size_bins",
    "voxel_score",
]

Ids = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_QUARTILES = (25, 50, 75)


@dataclass(frozen=True, slots=True)
class MatchRule:
    """Which objects match, and which do not count.

    Parameters
    ----------
    by : {"overlap", "distance"}
    limit : float
        Least IoU, or largest distance of the centres of mass in nm.
    skip_touching : bool
        Whether objects that touch a face of the box do not count.
    """

    by: str = "overlap"
    limit: float = 0.1
    skip_touching: bool = False

    @property
    def name(self) -> str:
        """For the head of a column."""
        return f"IoU {self.limit:g}" if self.by == "overlap" else f"{self.limit:g} nm"


@dataclass(frozen=True, slots=True)
class Matched:
    """Objects that match by one rule, without those that do not count.

    Attributes
    ----------
    rule : MatchRule
    match : ObjectMatch
    interval : (low, high) or None
        Of the F1, 95 %.
    not_counted : (int, int)
        Predicted and true objects that do not count.
    """

    rule: MatchRule
    match: ObjectMatch
    interval: tuple[float, float] | None
    not_counted: tuple[int, int]

    @property
    def score(self) -> Score:
        """Of objects."""
        return self.match.score

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        limit = "min_iou" if self.rule.by == "overlap" else "max_nm"
        found = {"by": self.rule.by, limit: self.rule.limit, **self.score.to_dict()}
        quality = float(np.mean(self.match.quality)) if len(self.match.quality) else None
        mean = "mean_iou" if self.rule.by == "overlap" else "mean_nm"
        return {
            **found,
            "f1_interval_95": None if self.interval is None else list(self.interval),
            mean: quality,
            "not_counted_predicted": self.not_counted[0],
            "not_counted_true": self.not_counted[1],
        }


@dataclass(frozen=True, slots=True)
class SizeBin:
    """Objects of some sizes: the found of the true, and the right of the predicted.

    Attributes
    ----------
    least : int
        Smallest size in voxels.
    below : int or None
        First size that is too large; None where there is no limit.
    """

    least: int
    below: int | None
    true: int
    found: int
    predicted: int
    right: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "least_voxels": self.least,
            "below_voxels": self.below,
            "true": self.true,
            "found": self.found,
            "recall": defined(ratio(self.found, self.true)),
            "predicted": self.predicted,
            "right": self.right,
            "precision": defined(ratio(self.right, self.predicted)),
        }


def judged(counts: DetectionCounts, rule: MatchRule, *, seed: int = 0) -> Matched:
    """Match one to one by a rule.

    Parameters
    ----------
    counts : DetectionCounts
    rule : MatchRule
    seed : int
        Of the bootstrap over objects.
    """
    match, not_counted = match_counted(counts, rule)
    n = [len(match.predicted), len(match.unmatched_predicted), len(match.unmatched_true)]
    kinds = [np.repeat(row, n) for row in np.eye(3, dtype=np.int64)]
    return Matched(rule, match, f1_interval(*kinds, seed=seed), not_counted)


def match_counted(counts: DetectionCounts, rule: MatchRule) -> tuple[ObjectMatch, tuple[int, int]]:
    """The match of what counts, and how many predicted and true objects do not."""
    no_truth = _excused(counts.true, counts.box, rule)
    predicted, true = counts.predicted.ids, counts.true.ids
    match = _matched(counts, rule, predicted, true[~no_truth])
    left = match.unmatched_predicted
    excused = predicted[_excused(counts.predicted, counts.box, rule)]
    beside = _matched(counts, rule, left, true[no_truth]).predicted
    wrong = left[~np.isin(left, np.concatenate([excused, beside]))]
    return replace(match, unmatched_predicted=wrong), (len(left) - len(wrong), int(no_truth.sum()))


def voxel_score(counts: DetectionCounts) -> Score:
    """Voxels of objects against voxels of objects, outside of the ignore mask."""
    both = int(counts.visible.pair_voxels.sum())
    predicted = int(counts.visible.predicted_voxels.sum())
    return Score(both, predicted - both, int(counts.visible.true_voxels.sum()) - both)


def precision_recall(levels: Int64s) -> tuple[Floats, Floats]:
    """Precision and recall of voxels at each threshold ``level / 255``.

    Parameters
    ----------
    levels : ndarray of int, shape (2, 256)
        False and true voxels by stored probability.

    Returns
    -------
    (ndarray, ndarray) of float64, shape (256,)
        NaN where nothing is predicted or nothing is true.
    """
    false, true = (np.cumsum(row[::-1])[::-1] for row in levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        return true / (true + false), true / levels[1].sum()


def average_precision(levels: Int64s) -> float:
    """Sum over thresholds of precision times gain of recall; NaN if nothing is true.

    Exact for stored probabilities, which have 256 levels. No interpolation, as in
    `sklearn.metrics.average_precision_score`.
    """
    if not levels[1].sum():
        return float("nan")
    precision, recall = precision_recall(levels)
    gain = recall - np.append(recall[1:], 0.0)
    some = gain > 0
    return float(np.sum(precision[some] * gain[some]))


def size_bins(
    counts: DetectionCounts, match: ObjectMatch, edges: Sequence[int] | None = None
) -> list[SizeBin]:
    """Recall by true size, and precision by predicted size.

    Parameters
    ----------
    counts : DetectionCounts
    match
        Of :func:`judged`.
    edges : sequence of int, optional
        Voxels at which a bin ends and the next begins; default the quartiles of the true sizes.

    Raises
    ------
    ConfigError
        If the edges do not rise, or are not positive.
    """
    found, missed = (_sizes(counts.true, ids) for ids in (match.true, match.unmatched_true))
    right, wrong = (
        _sizes(counts.predicted, ids) for ids in (match.predicted, match.unmatched_predicted)
    )
    true, predicted = np.concatenate([found, missed]), np.concatenate([right, wrong])
    if edges is None:
        edges = _quartiles(true)
    if any(a >= b for a, b in zip([0, *edges], edges, strict=False)):
        listed = ", ".join(map(str, edges))
        raise ConfigError(f"the edges of the bins of size must be positive and rise, not {listed}")
    ends = [None, *edges, None]
    return [
        SizeBin(low or 1, high, *(_within(s, low, high) for s in (true, found, predicted, right)))
        for low, high in itertools.pairwise(ends)
    ]


def _quartiles(sizes: Int64s) -> list[int]:
    if not len(sizes):
        return []
    # A bin that would begin at 1 is the first one anyway.
    return [int(v) for v in np.unique(np.rint(np.percentile(sizes, _QUARTILES))) if v > 1]


def _within(sizes: Int64s, low: int | None, high: int | None) -> int:
    inside = np.ones(len(sizes), np.bool_)
    if low is not None:
        inside &= sizes >= low
    if high is not None:
        inside &= sizes < high
    return int(inside.sum())


def _sizes(sums: ObjectSums, ids: Ids) -> Int64s:
    return sums.voxels[np.searchsorted(sums.ids, ids)]


def _excused(sums: ObjectSums, box: Box, rule: MatchRule) -> Mask:
    """Objects mostly under the ignore mask, or at a face of the box."""
    excused: Mask = 2 * sums.outside < sums.voxels
    if rule.skip_touching:
        touching = (sums.start == box.start) | (sums.stop == box.stop)
        excused = excused | touching.any(axis=1)
    return excused


def _matched(counts: DetectionCounts, rule: MatchRule, predicted: Ids, true: Ids) -> ObjectMatch:
    """Match some of the objects."""
    if rule.by == "overlap":
        return match_overlaps(among(counts.overlaps, predicted, true), rule.limit)
    ours, theirs = (
        sums.centres_nm(counts.box)[np.isin(sums.ids, ids)]
        for sums, ids in ((counts.predicted, predicted), (counts.true, true))
    )
    return match_by_distance(ours, theirs, rule.limit, predicted, true)


def among(counts: Overlaps, predicted: Ids, true: Ids) -> Overlaps:
    """The counts of some of the objects; ids are sorted."""
    p, t = np.isin(counts.predicted_ids, predicted), np.isin(counts.true_ids, true)
    pair = np.isin(counts.pair_predicted, predicted) & np.isin(counts.pair_true, true)
    return Overlaps(
        counts.predicted_ids[p],
        counts.predicted_voxels[p],
        counts.true_ids[t],
        counts.true_voxels[t],
        counts.pair_predicted[pair],
        counts.pair_true[pair],
        counts.pair_voxels[pair],
    )
