"""Predicted synapses and partners against true ones: all figures of `cnapse evaluate partners`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnapse.analysis.cremi import CREMI_NM, cremi_score
from cnapse.analysis.edges import LEAST_SYNAPSES, EdgeScores, edge_scores
from cnapse.analysis.matching import ObjectMatch, Score, match_by_distance
from cnapse.analysis.partner_scores import PartnerScores, partner_scores
from cnapse.analysis.synapse_set import SynapseSet, index_in

__all__ = [
    "HUMAN_AGREEMENT",
    "HUMAN_NOTE",
    "Comparison",
    "Matched",
    "Matching",
    "PartnerEvaluation",
    "evaluate_partners",
    "match_places",
    "of_the_same_synapses",
]

# Distance in nm and F1 between two people.
HUMAN_AGREEMENT = ((100.0, 0.76), (300.0, 0.87))
HUMAN_NOTE = "two annotators of polyadic fly synapses, 20 T-bars"

# Places of the same synapse in two tables of one run differ by the digits of a CSV at most.
_SAME_NM = 1.0


@dataclass(frozen=True, slots=True)
class Matching:
    """Which synapses match, and by what.

    Attributes
    ----------
    by : str
        ``distance`` or ``overlap``.
    limit : float
        Largest distance in nm, or least IoU.
    match : ObjectMatch
    """

    by: str
    limit: float
    match: ObjectMatch

    @property
    def label(self) -> str:
        """``100 nm`` or ``IoU 0.1``."""
        return f"{self.limit:g} nm" if self.by == "distance" else f"IoU {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Matched:
    """Scores of one matching."""

    matching: Matching
    scores: PartnerScores

    @property
    def synapses(self) -> Score:
        """Matched synapses are right, the others false or missed."""
        return self.matching.match.score

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        key = "max_nm" if self.matching.by == "distance" else "min_iou"
        interval = self.scores.intervals.synapses
        return {
            "by": self.matching.by,
            key: self.matching.limit,
            "synapses": {
                **self.synapses.to_dict(),
                "f1_interval": None if interval is None else list(interval),
            },
            **self.scores.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class PartnerEvaluation:
    """One predicted side against the truth.

    Attributes
    ----------
    n_synapses, n_partners : int
        Of the predicted side.
    matched : tuple of Matched
    edges : EdgeScores
    cremi : Score or None
    notes : tuple of str
        What was left out, and why.
    """

    n_synapses: int
    n_partners: int
    matched: tuple[Matched, ...]
    edges: EdgeScores
    cremi: Score | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        cremi = self.cremi
        return {
            "n_synapses": self.n_synapses,
            "n_partners": self.n_partners,
            "matchings": [one.to_dict() for one in self.matched],
            "edges": self.edges.to_dict(),
            "cremi": None if cremi is None else {"max_nm": CREMI_NM, **cremi.to_dict()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was predicted, and perhaps a baseline, against one truth."""

    n_synapses: int
    n_partners: int
    predicted: PartnerEvaluation
    baseline: PartnerEvaluation | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "truth": {"n_synapses": self.n_synapses, "n_partners": self.n_partners},
            "predicted": self.predicted.to_dict(),
            "baseline": None if self.baseline is None else self.baseline.to_dict(),
            "human_agreement": {
                "what": HUMAN_NOTE,
                "f1": [{"max_nm": nm, "f1": f1} for nm, f1 in HUMAN_AGREEMENT],
            },
        }


def match_places(
    predicted: SynapseSet, truth: SynapseSet, distances_nm: Sequence[float]
) -> list[Matching]:
    """Match synapses one to one by the distance of their places, at each of several limits.

    Raises
    ------
    ConfigError
        If a distance is not positive.
    TableError
        If a side does not know its places.
    """
    a, b = predicted.needed_places(), truth.needed_places()
    return [
        Matching("distance", limit, match_by_distance(a, b, limit, predicted.ids, truth.ids))
        for limit in distances_nm
    ]


def evaluate_partners(
    predicted: SynapseSet,
    truth: SynapseSet,
    matchings: Sequence[Matching],
    *,
    least_synapses: Sequence[int] = LEAST_SYNAPSES,
    seed: int = 0,
) -> PartnerEvaluation:
    """All figures of one predicted side.

    Parameters
    ----------
    predicted, truth
        With the cell ids of one segmentation.
    matchings
        Of the synapses of both sides: `match_places`, or overlaps of their objects.
    least_synapses
        Thresholds on the number of synapses of an edge.
    seed
        Of the bootstrap intervals.
    """
    return PartnerEvaluation(
        n_synapses=len(predicted.ids),
        n_partners=len(predicted.row),
        matched=tuple(
            Matched(one, partner_scores(one.match, predicted, truth, seed=seed))
            for one in matchings
        ),
        edges=edge_scores(predicted, truth, least_synapses=least_synapses),
        cremi=cremi_score(predicted, truth),
        notes=tuple(_left_out(predicted, truth)),
    )


def of_the_same_synapses(other: SynapseSet, predicted: SynapseSet) -> SynapseSet | None:
    """Another table's partners as those of the predicted synapses, if it is about the same ones.

    It is if each of its ids is a predicted one and at the same place (within 1 nm), or has no
    place. A synapse that it lacks then has no partners, and presynaptic cells that it does not
    name are the predicted ones.

    Returns
    -------
    SynapseSet or None
        With ids and places of `predicted`; None if the synapses are others.
    """
    index = index_in(predicted.ids, other.ids)
    if (index < 0).any():
        return None
    if other.places is not None and predicted.places is not None:
        away = np.linalg.norm(other.places - predicted.places[index], axis=1)
        if (away > _SAME_NM).any():
            return None
    pre = predicted.pre.copy()
    pre[index] = np.where(other.pre > 0, other.pre, pre[index])
    return replace(other, ids=predicted.ids, pre=pre, places=predicted.places, row=index[other.row])


def _left_out(predicted: SynapseSet, truth: SynapseSet) -> list[str]:
    """A line for each figure that a table lacks a column for."""
    needs = (
        ("share", "share", "error of shares"),
        ("size", "size", "edges by size"),
        ("places", "x_pos, y_pos, z_pos", "CREMI score"),
        ("post_places", "post_x, post_y, post_z", "CREMI score"),
    )
    notes = []
    for name, columns, figure in needs:
        without = [s.which for s in (predicted, truth) if getattr(s, name) is None]
        if without:
            tables = " and ".join(without)
            verb = "tables have" if len(without) > 1 else "table has"
            notes.append(f"{figure} left out: the {tables} {verb} no {columns}")
    if len(truth.ids) and not truth.pre.any():
        notes.append("presynaptic cells left out: the true table names none (no pre_id)")
    return notes
