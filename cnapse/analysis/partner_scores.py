"""Presynaptic cells, sets of partners and shares of matched synapses against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.analysis.bootstrap import f1_interval
from cnapse.analysis.matching import ObjectMatch, Score, defined, ratio
from cnapse.analysis.synapse_set import SynapseSet, index_in

__all__ = ["Intervals", "PartnerScores", "ShareError", "partner_scores"]

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ShareError:
    """Total variation between predicted and true shares (0 = equal, 1 = no partner in common)."""

    mean: float
    median: float
    percentile_95: float
    synapses: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "mean": self.mean,
            "median": self.median,
            "percentile_95": self.percentile_95,
            "synapses": self.synapses,
        }


@dataclass(frozen=True, slots=True)
class Intervals:
    """95 % bootstrap intervals of three F1s, over synapses; None where there is no F1."""

    synapses: Interval
    partners: Interval
    combined: Interval


@dataclass(frozen=True, slots=True)
class PartnerScores:
    """Presynaptic cells and sets of postsynaptic cells against the truth.

    Attributes
    ----------
    presynaptic_right, presynaptic_known : int
        Matched synapses whose presynaptic cell is the true one, of those whose truth names one.
    exact_sets, matched_synapses : int
        Matched synapses whose set of partners is just the true one, of all matched.
    matched : Score
        Pairs of synapse and postsynaptic cell, over the matched synapses.
    combined : Score
        Pairs of all synapses: right if the synapse matches and both cells are the true ones (the
        postsynaptic alone where the truth names no presynaptic cell).
    shares : ShareError or None
        Over the matched synapses with partners in both; None where shares are not known.
    intervals : Intervals
        Of the F1 of synapses, `matched` and `combined`.
    """

    presynaptic_right: int
    presynaptic_known: int
    exact_sets: int
    matched_synapses: int
    matched: Score
    combined: Score
    shares: ShareError | None
    intervals: Intervals

    @property
    def presynaptic_accuracy(self) -> float:
        """Share of right presynaptic cells; NaN if none is known."""
        return ratio(self.presynaptic_right, self.presynaptic_known)

    @property
    def exact_accuracy(self) -> float:
        """Share of sets that are just right; NaN if nothing matched."""
        return ratio(self.exact_sets, self.matched_synapses)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "presynaptic_accuracy": defined(self.presynaptic_accuracy),
            "presynaptic_right": self.presynaptic_right,
            "presynaptic_known": self.presynaptic_known,
            "partners": _with_interval(self.matched, self.intervals.partners),
            "exact_sets": self.exact_sets,
            "exact_accuracy": defined(self.exact_accuracy),
            "partners_combined": _with_interval(self.combined, self.intervals.combined),
            "share_error": None if self.shares is None else self.shares.to_dict(),
        }


def partner_scores(
    match: ObjectMatch, predicted: SynapseSet, truth: SynapseSet, *, seed: int = 0
) -> PartnerScores:
    """Compare the partners of matched synapses.

    Parameters
    ----------
    match
        Which synapses match. One that a side's tables do not have counts as without partners.
    predicted, truth
        The two sides. Shares of each synapse are scaled to add up to 1, so that contact areas do
        as well; two rows of one synapse and cell count once, their shares together.
    seed
        Of the bootstrap.
    """
    n = len(match.predicted)
    code = _post_codes(predicted, truth)
    p = _Side(predicted, match.predicted, code[: len(predicted.post)])
    t = _Side(truth, match.true, code[len(predicted.post) :])
    width = int(code.max(initial=-1)) + 1
    mine, theirs = p.matched_keys(width), t.matched_keys(width)
    common = _per(np.intersect1d(mine, theirs) // max(width, 1), n)
    found, wanted = (_per(keys // max(width, 1), n) for keys in (mine, theirs))
    known = t.pre > 0
    right = known & (p.pre == t.pre)
    both_cells = np.where(right | ~known, common, 0)
    loose_p, loose_t = p.loose_counts(), t.loose_counts()
    matched = _score(common, found - common, wanted - common)
    units = (
        np.concatenate([both_cells, np.zeros(len(loose_p) + len(loose_t), np.int64)]),
        np.concatenate([found - both_cells, loose_p, np.zeros(len(loose_t), np.int64)]),
        np.concatenate([wanted - both_cells, np.zeros(len(loose_p), np.int64), loose_t]),
    )
    objects = match.score
    return PartnerScores(
        presynaptic_right=int(right.sum()),
        presynaptic_known=int(known.sum()),
        exact_sets=int(((common == found) & (common == wanted)).sum()),
        matched_synapses=n,
        matched=matched,
        combined=_score(*units),
        shares=_share_error(p, t, width, n),
        intervals=Intervals(
            synapses=f1_interval(*_object_units(objects), seed=seed),
            partners=f1_interval(common, found - common, wanted - common, seed=seed),
            combined=f1_interval(*units, seed=seed),
        ),
    )


class _Side:
    """One side's rows, by the number of the match that their synapse belongs to."""

    def __init__(self, synapses: SynapseSet, matched: npt.NDArray[np.uint64], code: Int64s) -> None:
        where = index_in(synapses.ids, matched)
        there = where >= 0
        number = np.full(len(synapses.ids), -1)
        number[where[there]] = np.flatnonzero(there)
        self.pre = np.zeros(len(matched), np.uint64)
        self.pre[there] = synapses.pre[where[there]]
        self.number = number
        self.row = synapses.row
        self.code = code
        self.share = synapses.share

    def matched_keys(self, width: int) -> Int64s:
        """Different pairs of match and postsynaptic cell, as one sorted number each."""
        of = self.number[self.row]
        keys: Int64s = np.unique(of[of >= 0] * width + self.code[of >= 0])
        return keys

    def loose_counts(self) -> Int64s:
        """Numbers of partners of the synapses that match nothing."""
        width = int(self.code.max(initial=-1)) + 1
        rows = np.unique(self.row * width + self.code) // max(width, 1)
        return _per(rows, len(self.number))[self.number < 0]

    def shares(self, width: int, n: int) -> tuple[Int64s, Floats, Floats]:
        """Keys of the matched rows, their part of the synapse's total, and that total."""
        of = self.number[self.row]
        some = of >= 0
        given = np.zeros(0) if self.share is None else self.share[some]
        total = np.bincount(of[some], given, minlength=n).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            part = given / total[of[some]]
        return of[some] * width + self.code[some], part, total


def _share_error(p: _Side, t: _Side, width: int, n: int) -> ShareError | None:
    """Half the sum of absolute differences between shares, per synapse."""
    if p.share is None or t.share is None:
        return None
    (p_keys, p_part, p_total), (t_keys, t_part, t_total) = p.shares(width, n), t.shares(width, n)
    comparable = (p_total > 0) & (t_total > 0)
    if not comparable.any():
        return None
    keys, inverse = np.unique(np.concatenate([p_keys, t_keys]), return_inverse=True)
    part = np.concatenate([p_part, -t_part])
    difference = np.abs(np.bincount(inverse, part, minlength=len(keys)))
    variation = np.bincount(keys // width, difference, minlength=n)[comparable] / 2
    return ShareError(
        mean=float(variation.mean()),
        median=float(np.median(variation)),
        percentile_95=float(np.percentile(variation, 95)),
        synapses=len(variation),
    )


def _post_codes(predicted: SynapseSet, truth: SynapseSet) -> Int64s:
    """Small numbers for the postsynaptic cells of both: ids would overflow a key."""
    both = np.concatenate([predicted.post, truth.post])
    codes: Int64s = np.unique(both, return_inverse=True)[1].astype(np.int64)
    return codes


def _per(numbers: Int64s, n: int) -> Int64s:
    return np.bincount(numbers, minlength=n).astype(np.int64)


def _score(right: Int64s, false: Int64s, missed: Int64s) -> Score:
    return Score(int(right.sum()), int(false.sum()), int(missed.sum()))


def _object_units(score: Score) -> list[Int64s]:
    counts = [score.true_positives, score.false_positives, score.false_negatives]
    return [np.repeat(column, counts) for column in np.eye(3, dtype=np.int64)]


def _with_interval(score: Score, interval: Interval) -> dict[str, Any]:
    return {**score.to_dict(), "f1_interval": None if interval is None else list(interval)}
