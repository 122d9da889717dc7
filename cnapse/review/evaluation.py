"""How good a run is, from what reviewers decided about it.

- *Precision* from a stratified sample: of each stratum the beginning of its fixed order that is
  decided without a gap, which is a simple random sample of it.
- *Recall* from boxes that were looked at wholly: the true ones that were predicted, among these and
  those that had to be added.
- *Calibration* of the score and of the doubt: what fraction is true where they say so much (Brier
  1950; expected calibration error: Naeini, Cooper & Hauskrecht 2015), and how well they order.
- *Size*: the least size that gives the best F1.
- *Agreement* of reviewers (Cohen's kappa), and their rate.

A deleted object is false, whatever was said before; unsure ones are told, and count for nothing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnapse.review.decisions import Decision, UndoDecision
from cnapse.review.estimates import (
    Proportion,
    area_under_curve,
    clustered,
    cohens_kappa,
    post_stratified,
    wilson,
)
from cnapse.review.items import Candidates
from cnapse.review.log import DecisionLog, StoredSample
from cnapse.review.standing import Standing, merged_into

__all__ = [
    "Agreement",
    "Bin",
    "BoxCount",
    "Calibration",
    "ReviewEvaluation",
    "SizeCut",
    "SizeCuts",
    "StratumCount",
    "Work",
    "evaluate_review",
]

Floats = npt.NDArray[np.float64]
Basis = Literal["sample", "all"]

_BINS = 10
# From so many of the sample on it is enough to judge by it alone.
_ENOUGH = 50
_SHOWN_CUTS = 60
_KEPT_RECALL = 0.95


@dataclass(frozen=True, slots=True)
class StratumCount:
    """What was found in a stratum: its limits, how many there are, and what was looked at."""

    doubt: tuple[float | None, float | None]
    size: tuple[float | None, float | None]
    population: int
    true: int
    false: int
    unsure: int


@dataclass(frozen=True, slots=True)
class BoxCount:
    """What was found in a box, corners in nm: ``undecided`` are predicted, but not judged."""

    start_nm: tuple[float, float, float]
    stop_nm: tuple[float, float, float]
    found: int
    missed: int
    false: int
    unsure: int
    undecided: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Candidates of like prediction: its mean, what fraction was true, and 95 % of that."""

    low: float
    high: float
    n: int
    predicted: float
    observed: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well a number tells the chance of being true.

    Attributes
    ----------
    name : str
        ``score``, or ``1 - doubt``.
    n : int
    brier, ece : float
        Mean squared error; mean distance of the bins from the truth. 0 is best.
    area : float
        Chance that a true candidate has the higher number than a false one; 0.5 is of no use.
    bins : tuple of Bin
        Those that hold something.
    """

    name: str
    n: int
    brier: float
    ece: float
    area: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class SizeCut:
    """What would be left with a least size in nm3."""

    min_size: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class SizeCuts:
    """As it is, at the best F1, at the best precision that keeps 95 % of the recall; some of all.

    ``absolute``: recall counts what was missed altogether, as the boxes tell; else it is of what
    was found.
    """

    now: SizeCut
    best_f1: SizeCut
    best_precision: SizeCut
    some: tuple[SizeCut, ...]
    absolute: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two reviewers: what both judged, how much of it alike, and Cohen's kappa."""

    first: str
    second: str
    n: int
    alike: int
    kappa: float


@dataclass(frozen=True, slots=True)
class Work:
    """What a reviewer did: decisions, and the seconds of those that were timed."""

    reviewer: str
    decisions: int
    timed: int
    hours: float
    median_seconds: float


@dataclass(frozen=True, slots=True)
class ReviewEvaluation:
    """All of it; what cannot be told is None, or NaN.

    Attributes
    ----------
    candidates, decided : int
    elsewhere : int
        Decided ones that the table does not have: of a run before this one.
    precision : Proportion
    precision_basis : {"sample", "all"}
        ``all``: of whatever was decided, which is no random choice.
    if_unsure : (low, high)
        The precision if all unsure ones were false, and if all were true.
    strata : tuple of StratumCount
    recall : Proportion
    boxes : tuple of BoxCount
    calibration : tuple of Calibration
    calibration_basis : {"sample", "all"}
    size : SizeCuts or None
    errors : mapping of str to int
        Kinds of error among the standing verdicts.
    agreement : tuple of Agreement
    disagreements : int
    work : tuple of Work
    """

    candidates: int
    decided: int
    elsewhere: int
    precision: Proportion
    precision_basis: Basis
    if_unsure: tuple[float, float]
    strata: tuple[StratumCount, ...]
    recall: Proportion
    boxes: tuple[BoxCount, ...]
    calibration: tuple[Calibration, ...]
    calibration_basis: Basis
    size: SizeCuts | None
    errors: Mapping[str, int] = field(default_factory=dict)
    agreement: tuple[Agreement, ...] = ()
    disagreements: int = 0
    work: tuple[Work, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON: what is not known is null."""
        found: dict[str, Any] = _without_nan(asdict(self))
        return found


def evaluate_review(
    log: DecisionLog, candidates: Candidates, sample: StoredSample | None = None
) -> ReviewEvaluation:
    """Judge a run by its log.

    Parameters
    ----------
    log, candidates
    sample : StoredSample, optional
        Default: the one of the log of which most is decided.
    """
    standing = log.standing()
    said = standing.answers
    sample = sample or _best_sample(log, said)
    strata, sampled = _of_sample(sample, said)
    by_sample = sum(s.true + s.false for s in strata) > 0
    boxes = _boxes(standing, candidates, said)
    recall = clustered([b.found for b in boxes], [b.found + b.missed for b in boxes])
    judged = _judged(candidates, said, sampled)
    decisions = list(log.decisions())
    kinds = Counter(one.new.error for one in standing.verdicts.values() if one.new.error)
    return ReviewEvaluation(
        candidates=len(candidates),
        decided=len(said),
        elsewhere=int((candidates.rows_of(list(said)) < 0).sum()),
        precision=_precision(strata) if by_sample else _plain(said.values()),
        precision_basis="sample" if by_sample else "all",
        if_unsure=_if_unsure(strata if by_sample else [_as_stratum(said.values())]),
        strata=tuple(strata),
        recall=recall,
        boxes=tuple(boxes),
        calibration=tuple(
            _calibration(name, values, judged)
            for name, values in (("score", judged.score), ("1 - doubt", 1 - judged.doubt))
        ),
        calibration_basis=judged.basis,
        size=_size_cuts(judged, recall),
        errors=dict(kinds.most_common()),
        agreement=tuple(_agreement(standing)),
        disagreements=len(standing.disagreements),
        work=tuple(_work(decisions, standing.undone)),
    )


# --- precision -----------------------------------------------------------------------------------


def _best_sample(log: DecisionLog, said: Mapping[int, str]) -> StoredSample | None:
    samples = [sample for name in log.samples() if (sample := log.sample(name)) is not None]
    return max(
        samples, key=lambda sample: sum(n for n in _begun(sample, said).values()), default=None
    )


def _begun(sample: StoredSample, said: Mapping[int, str]) -> Counter[int]:
    """How many of each stratum are decided before the first that is not."""
    counts: Counter[int] = Counter()
    ended = set()
    for syn_id, stratum in sample.items:
        if stratum in ended:
            continue
        if syn_id in said:
            counts[stratum] += 1
        else:
            ended.add(stratum)
    return counts


def _of_sample(
    sample: StoredSample | None, said: Mapping[int, str]
) -> tuple[list[StratumCount], dict[int, float]]:
    """What was found in each stratum, and how many candidates each one judged stands for."""
    if sample is None:
        return [], {}
    left = _begun(sample, said)
    found: defaultdict[int, list[int]] = defaultdict(list)
    for syn_id, stratum in sample.items:
        if left[stratum] > 0:
            left[stratum] -= 1
            found[stratum].append(syn_id)
    counts, weights = [], {}
    for number, stratum in enumerate(sample.strata["strata"]):
        ids = found[number]
        told = Counter(said[syn_id] for syn_id in ids)
        population = int(stratum["population"])
        counts.append(
            StratumCount(
                tuple(stratum["doubt"]), tuple(stratum["size"]), population,
                told["true"], told["false"], told["unsure"],
            )
        )  # fmt: skip
        judged = [syn_id for syn_id in ids if said[syn_id] != "unsure"]
        weights.update({syn_id: population / len(judged) for syn_id in judged})
    return counts, weights


def _precision(strata: Sequence[StratumCount]) -> Proportion:
    return post_stratified(
        [s.true for s in strata], [s.true + s.false for s in strata],
        [s.population for s in strata],
    )  # fmt: skip


def _plain(said: Iterable[str]) -> Proportion:
    one = _as_stratum(said)
    n = one.true + one.false
    return Proportion(one.true / n, *wilson(one.true, n), n) if n else Proportion.unknown()


def _as_stratum(said: Iterable[str]) -> StratumCount:
    told = Counter(said)
    return StratumCount(
        (None, None), (None, None), told.total(), told["true"], told["false"], told["unsure"]
    )


def _if_unsure(strata: Sequence[StratumCount]) -> tuple[float, float]:
    looked = [s.true + s.false + s.unsure for s in strata]
    population = [s.population for s in strata]
    worst = post_stratified([s.true for s in strata], looked, population)
    best = post_stratified([s.true + s.unsure for s in strata], looked, population)
    return worst.value, best.value


# --- recall --------------------------------------------------------------------------------------


def _boxes(standing: Standing, candidates: Candidates, said: Mapping[int, str]) -> list[BoxCount]:
    """Each synapse counts in the first box that holds it; merged ones count once."""
    merged = merged_into(standing)
    places = candidates.positions_nm
    counted: set[int] = set()
    taken: set[str] = set()
    counts = []
    for box in standing.boxes:
        start, stop = np.array(box.new.start_nm), np.array(box.new.stop_nm)
        inside = ((places >= start) & (places < stop)).all(axis=1)
        ids = [i for i in candidates.ids[inside].tolist() if merged.get(i, i) not in counted]
        counted.update(merged.get(i, i) for i in ids)
        told = Counter({merged.get(i, i): said.get(i, "undecided") for i in ids}.values())
        added = [
            uuid
            for uuid, one in standing.added.items()
            if uuid not in taken
            and all(a <= p < b for a, p, b in zip(start, one.new.position_nm, stop, strict=True))
        ]
        taken.update(added)
        counts.append(
            BoxCount(
                box.new.start_nm, box.new.stop_nm, told["true"], len(added),
                told["false"], told["unsure"], told["undecided"],
            )
        )  # fmt: skip
    return counts


# --- calibration and size ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Judged:
    """Candidates that are true or false, and how many others each stands for."""

    true: npt.NDArray[np.bool_]
    weight: Floats
    score: Floats
    doubt: Floats
    size: Floats
    basis: Basis


def _judged(
    candidates: Candidates, said: Mapping[int, str], weights: Mapping[int, float]
) -> _Judged:
    plain = sum(answer != "unsure" for answer in said.values())
    basis: Basis = "sample" if len(weights) >= min(_ENOUGH, max(plain, 1)) else "all"
    ids = [i for i in (weights if basis == "sample" else said) if said[i] in ("true", "false")]
    rows = candidates.rows_of(ids)
    ids = [i for i, row in zip(ids, rows, strict=True) if row >= 0]
    rows = rows[rows >= 0]
    columns = candidates.columns
    weight = [weights[i] if basis == "sample" else 1.0 for i in ids]
    return _Judged(
        np.array([said[i] == "true" for i in ids], np.bool_), np.array(weight, np.float64),
        columns["mean_probability"][rows], columns["doubt"][rows], columns["size"][rows], basis,
    )  # fmt: skip


def _calibration(name: str, predicted: Floats, judged: _Judged) -> Calibration:
    known = np.isfinite(predicted)
    p, true, weight = predicted[known], judged.true[known], judged.weight[known]
    if not len(p):
        return Calibration(name, 0, math.nan, math.nan, math.nan, ())
    place = np.clip((p * _BINS).astype(np.int64), 0, _BINS - 1)
    bins = [_bin(i, p, true, weight, place == i) for i in range(_BINS) if (place == i).any()]
    share = [weight[place == i].sum() / weight.sum() for i in range(_BINS) if (place == i).any()]
    error = sum(s * abs(b.predicted - b.observed) for s, b in zip(share, bins, strict=True))
    brier = float(np.average((p - true) ** 2, weights=weight))
    return Calibration(name, len(p), brier, float(error), area_under_curve(p, true), tuple(bins))


def _bin(
    number: int, p: Floats, true: npt.NDArray[np.bool_], weight: Floats, here: npt.NDArray[np.bool_]
) -> Bin:
    w = weight[here]
    observed = float(np.average(true[here], weights=w))
    # Weights that differ tell less than so many alike (Kish).
    effective = float(w.sum() ** 2 / (w**2).sum())
    return Bin(
        number / _BINS, (number + 1) / _BINS, int(here.sum()),
        float(np.average(p[here], weights=w)), observed, wilson(observed * effective, effective),
    )  # fmt: skip


def _size_cuts(judged: _Judged, recall: Proportion) -> SizeCuts | None:
    """All least sizes at once, from the cumulative sums of the sizes in order."""
    if not judged.true.any():
        return None
    order = np.argsort(judged.size, kind="stable")
    size, true, weight = judged.size[order], judged.true[order], judged.weight[order]
    right, wrong = (weight * kind for kind in (true, ~true))
    first = np.searchsorted(size, np.unique(size), side="left")
    tp, fp = (np.cumsum(part[::-1])[::-1][first] for part in (right, wrong))
    absolute = recall.n > 0 and recall.value > 0
    positives = tp[0] / recall.value if absolute else tp[0]
    cuts = [
        SizeCut(
            0.0 if i == 0 else float(size[at]),
            float(t / (t + f)),
            float(t / positives),
            float(2 * t / (t + f + positives)),
        )
        for i, (at, t, f) in enumerate(zip(first, tp, fp, strict=True))
    ]
    enough = [cut for cut in cuts if cut.recall >= _KEPT_RECALL * cuts[0].recall]
    places = np.unique(np.linspace(0, len(cuts) - 1, _SHOWN_CUTS).astype(np.int64))
    return SizeCuts(
        cuts[0],
        max(cuts, key=lambda cut: cut.f1),
        max(enough, key=lambda cut: cut.precision),
        tuple(cuts[i] for i in places),
        absolute,
    )


# --- reviewers -----------------------------------------------------------------------------------


def _agreement(standing: Standing) -> list[Agreement]:
    said: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for by in standing.by_reviewer.values():
        for first, second in combinations(sorted(by), 2):
            said[first, second].append((by[first].new.verdict, by[second].new.verdict))
    return [
        Agreement(
            first, second, len(pairs), sum(a == b for a, b in pairs),
            cohens_kappa([a for a, _ in pairs], [b for _, b in pairs]),
        )
        for (first, second), pairs in sorted(said.items())
    ]  # fmt: skip


def _work(decisions: Iterable[Decision], undone: frozenset[str]) -> list[Work]:
    """By reviewer; what was undone was work, too, but is no decision."""
    made: Counter[str] = Counter()
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for one in decisions:
        if isinstance(one, UndoDecision):
            continue
        made[one.reviewer] += one.uuid not in undone
        if one.seconds > 0:
            seconds[one.reviewer].append(one.seconds)
    return [
        Work(
            name, made[name], len(seconds[name]), sum(seconds[name]) / 3600,
            float(np.median(seconds[name])) if seconds[name] else math.nan,
        )
        for name in sorted(made)
    ]  # fmt: skip


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
