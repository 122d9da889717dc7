"""One-to-one matches between predicted and true objects.

Overlaps are counted block by block and added up (:func:`overlaps`, :func:`merge_overlaps`); the
pairs with the largest total intersection over union (IoU) are found by Hungarian assignment, in
each group of objects that overlap by itself. Where the truth is a table of positions, pairs are
found by distance instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from cnapse.analysis.assignment import best_pairs
from cnapse.errors import ConfigError, FormatError, TableError

__all__ = [
    "ObjectMatch",
    "Overlaps",
    "Score",
    "defined",
    "match_by_distance",
    "match_objects",
    "match_overlaps",
    "merge_overlaps",
    "near_pairs",
    "overlaps",
    "ratio",
]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of what was found, what was found wrongly and what was missed."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def precision(self) -> float:
        """Share of the found that is right; NaN if nothing was found."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the truth that was found; NaN if there is nothing to find."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN if nothing was found nor there to find."""
        wrong = self.false_positives + self.false_negatives
        return ratio(2 * self.true_positives, 2 * self.true_positives + wrong)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "precision": defined(self.precision),
            "recall": defined(self.recall),
            "f1": defined(self.f1),
            "true_positives": self.true_positives,
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
        }


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Voxels of the objects of two segmentations and of their intersections; ids are sorted."""

    predicted_ids: Ids
    predicted_voxels: Int64s
    true_ids: Ids
    true_voxels: Int64s
    pair_predicted: Ids
    pair_true: Ids
    pair_voxels: Int64s

    @property
    def iou(self) -> Floats:
        """Intersection over union of each pair."""
        a = self.predicted_voxels[np.searchsorted(self.predicted_ids, self.pair_predicted)]
        b = self.true_voxels[np.searchsorted(self.true_ids, self.pair_true)]
        iou: Floats = self.pair_voxels / (a + b - self.pair_voxels)
        return iou


@dataclass(frozen=True, slots=True)
class ObjectMatch:
    """Pairs of predicted and true objects, and those without a partner.

    Attributes
    ----------
    predicted, true : ndarray of uint64, shape (n,)
        The pairs, sorted by predicted id.
    quality : ndarray of float64, shape (n,)
        IoU of each pair, or its distance in nm.
    unmatched_predicted, unmatched_true : ndarray of uint64
        The others, sorted.
    """

    predicted: Ids
    true: Ids
    quality: Floats
    unmatched_predicted: Ids
    unmatched_true: Ids

    @property
    def score(self) -> Score:
        """Matched objects are true positives."""
        return Score(len(self.predicted), len(self.unmatched_predicted), len(self.unmatched_true))


def overlaps(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Overlaps:
    """Count voxels of objects and of their intersections.

    Parameters
    ----------
    predicted, truth : ndarray of unsigned int, the same shape
        Labels, 0 = background.

    Raises
    ------
    FormatError
        If the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise FormatError(
            f"prediction of shape {predicted.shape} and truth of shape {truth.shape}: "
            "bring both to one box first"
        )
    # One memory order for both, so that the mask below picks the same voxels without a copy.
    p, t = (a.T.ravel() if predicted.flags.f_contiguous else a.ravel() for a in (predicted, truth))
    some = np.flatnonzero((p != 0) | (t != 0))
    p, t = p[some].astype(np.uint64), t[some].astype(np.uint64)
    ones = np.ones(len(some), np.int64)
    return _added(p, ones, t, ones, p, t, ones)


def merge_overlaps(parts: Iterable[Overlaps]) -> Overlaps:
    """Add up the counts of several blocks."""
    every = list(parts)
    none = np.zeros(0, np.uint64)

    def ids(name: str) -> Ids:
        return np.concatenate([none, *(getattr(part, name) for part in every)])

    def counts(name: str) -> Int64s:
        return np.concatenate([none.astype(np.int64), *(getattr(part, name) for part in every)])

    return _added(
        ids("predicted_ids"),
        counts("predicted_voxels"),
        ids("true_ids"),
        counts("true_voxels"),
        ids("pair_predicted"),
        ids("pair_true"),
        counts("pair_voxels"),
    )


def match_objects(
    predicted: npt.NDArray[Any], truth: npt.NDArray[Any], min_iou: float = 0.1
) -> ObjectMatch:
    """Match the objects of two label arrays: :func:`match_overlaps` of :func:`overlaps`.

    `predicted` and `truth` are unsigned int, of one shape (x, y, z), 0 = none.
    """
    return match_overlaps(overlaps(predicted, truth), min_iou)


def match_overlaps(counts: Overlaps, min_iou: float = 0.1) -> ObjectMatch:
    """Match one to one, with the largest total IoU among pairs of at least `min_iou`.

    Raises
    ------
    ConfigError
        If `min_iou` is not above 0 and at most 1.
    """
    if not 0 < min_iou <= 1:
        raise ConfigError(f"min_iou must be above 0 and at most 1, not {min_iou}")
    iou = counts.iou
    good = iou >= min_iou
    p = np.searchsorted(counts.predicted_ids, counts.pair_predicted[good])
    t = np.searchsorted(counts.true_ids, counts.pair_true[good])
    return _matched(counts.predicted_ids, counts.true_ids, p, t, iou[good], iou[good])


def match_by_distance(
    predicted_nm: npt.ArrayLike,
    true_nm: npt.ArrayLike,
    max_nm: float,
    predicted_ids: npt.ArrayLike | None = None,
    true_ids: npt.ArrayLike | None = None,
) -> ObjectMatch:
    """Match positions one to one: as many pairs as possible, then the least total distance.

    Parameters
    ----------
    predicted_nm, true_nm : array_like, shape (n, 3)
        Positions in nm.
    max_nm
        Pairs that are farther apart do not match.
    predicted_ids, true_ids : array_like of int, optional
        Ids of the rows, unique; their numbers from 0 if not given.

    Raises
    ------
    ConfigError
        If `max_nm` is not positive.
    TableError
        If ids occur twice.
    """
    if not max_nm > 0:
        raise ConfigError(f"the largest distance of a match must be positive, not {max_nm} nm")
    a = np.asarray(predicted_nm, np.float64).reshape(-1, 3)
    b = np.asarray(true_nm, np.float64).reshape(-1, 3)
    ids_a, a = _sorted_by_id("predicted", predicted_ids, a)
    ids_b, b = _sorted_by_id("true", true_ids, b)
    p, t = near_pairs(a, b, max_nm).T
    distance = np.linalg.norm(a[p] - b[t], axis=1)
    # Worth more than all distances of a group together, so that the number of pairs comes first.
    worth = 1 + min(len(a), len(b)) - distance / max_nm
    return _matched(ids_a, ids_b, p, t, worth, distance)


def _matched(
    predicted_ids: Ids, true_ids: Ids, p: Int64s, t: Int64s, worth: Floats, quality: Floats
) -> ObjectMatch:
    """One-to-one pairs of the greatest total worth among candidates ``p[i], t[i]``."""
    chosen = best_pairs(p, t, worth)
    chosen = chosen[np.argsort(p[chosen], kind="stable")]
    return ObjectMatch(
        predicted=predicted_ids[p[chosen]],
        true=true_ids[t[chosen]],
        quality=quality[chosen],
        unmatched_predicted=np.delete(predicted_ids, p[chosen]),
        unmatched_true=np.delete(true_ids, t[chosen]),
    )


def _added(
    p: Ids, p_voxels: Int64s, t: Ids, t_voxels: Int64s, a: Ids, b: Ids, voxels: Int64s
) -> Overlaps:
    """Counts by id and by pair of ids; 0 is background."""
    predicted_ids, predicted_voxels = _summed(p, p_voxels)
    true_ids, true_voxels = _summed(t, t_voxels)
    both = (a != 0) & (b != 0)
    row, column = np.searchsorted(predicted_ids, a[both]), np.searchsorted(true_ids, b[both])
    width = max(1, len(true_ids))
    # Counted from 1, because 0 is background to _summed.
    key, pair_voxels = _summed((row * width + column + 1).astype(np.uint64), voxels[both])
    place = key.astype(np.int64) - 1
    return Overlaps(
        predicted_ids=predicted_ids,
        predicted_voxels=predicted_voxels,
        true_ids=true_ids,
        true_voxels=true_voxels,
        pair_predicted=predicted_ids[place // width],
        pair_true=true_ids[place % width],
        pair_voxels=pair_voxels,
    )


def _summed(ids: Ids, voxels: Int64s) -> tuple[Ids, Int64s]:
    """Ids that occur, without 0, and the voxels of each."""
    some = ids != 0
    found, which = np.unique(ids[some], return_inverse=True)
    total = np.zeros(len(found), np.int64)
    np.add.at(total, which, voxels[some])
    return found, total


def _sorted_by_id(which: str, ids: npt.ArrayLike | None, positions: Floats) -> tuple[Ids, Floats]:
    names = np.arange(len(positions)) if ids is None else np.asarray(ids)
    found, order = np.unique(names.astype(np.uint64), return_index=True)
    if len(found) != len(positions):
        raise TableError(f"{len(positions)} {which} positions have {len(found)} different ids")
    return found, positions[order]


def near_pairs(a: Floats, b: Floats, max_nm: float) -> Int64s:
    """Rows of `a` and `b` that are at most so far apart, shape (n, 2)."""
    if not (len(a) and len(b)):
        return np.zeros((0, 2), np.int64)
    # The tree's own limit is as good as its rounding, so the exact test is ours.
    near = cKDTree(a).sparse_distance_matrix(cKDTree(b), 1.001 * max_nm, output_type="ndarray")
    pairs: Int64s = np.stack([near["i"], near["j"]], axis=1).astype(np.int64)
    within = np.linalg.norm(a[pairs[:, 0]] - b[pairs[:, 1]], axis=1) <= max_nm
    kept: Int64s = pairs[within]
    return kept


def ratio(part: int, whole: int) -> float:
    """A share, or NaN of nothing."""
    return part / whole if whole else float("nan")


def defined(value: float) -> float | None:
    """A number for JSON: None for NaN."""
    return None if np.isnan(value) else value
