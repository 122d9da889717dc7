"""How well predicted synapses and partners agree with a truth.

Objects match one to one (:mod:`cnapse.analysis.matching`). Partners are compared as
sets, over the synapses that matched (:func:`partner_scores`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cnapse.analysis.matching import (
    ObjectMatch,
    Overlaps,
    Score,
    defined,
    match_by_distance,
    match_objects,
    match_overlaps,
    merge_overlaps,
    overlaps,
    ratio,
)
from cnapse.errors import TableError

__all__ = [
    "Evaluation",
    "ObjectMatch",
    "Overlaps",
    "PartnerScores",
    "Score",
    "match_by_distance",
    "match_objects",
    "match_overlaps",
    "merge_overlaps",
    "overlaps",
    "partner_scores",
]


@dataclass(frozen=True, slots=True)
class PartnerScores:
    """Presynaptic cells and sets of postsynaptic cells against the truth.

    Attributes
    ----------
    presynaptic_right, presynaptic_known : int
        Matched synapses whose presynaptic cell is the true one, of those whose truth names one.
    matched : Score
        Pairs of synapse and postsynaptic cell, over the matched synapses.
    combined : Score
        The same over all synapses: partners of an unmatched one are false or missed.
    share_error : float
        Mean total variation between predicted and true shares (0 = equal, 1 = no partner in
        common), over the matched synapses with partners in both; NaN if shares are not known.
    """

    presynaptic_right: int
    presynaptic_known: int
    matched: Score
    combined: Score
    share_error: float

    @property
    def presynaptic_accuracy(self) -> float:
        """Share of right presynaptic cells; NaN if none is known."""
        return ratio(self.presynaptic_right, self.presynaptic_known)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "presynaptic_accuracy": defined(self.presynaptic_accuracy),
            "presynaptic_right": self.presynaptic_right,
            "presynaptic_known": self.presynaptic_known,
            "partners": self.matched.to_dict(),
            "partners_combined": self.combined.to_dict(),
            "share_error": defined(self.share_error),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a run."""

    objects: ObjectMatch
    partners: PartnerScores | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        partners = {} if self.partners is None else self.partners.to_dict()
        return {"objects": self.objects.score.to_dict(), **partners}

    def to_text(self) -> str:
        """A table to read."""
        rows = [("synapses", self.objects.score)]
        if self.partners is not None:
            rows += [
                ("partners of matched synapses", self.partners.matched),
                ("partners of all synapses", self.partners.combined),
            ]
        lines = [f"{'':30}{'precision':>10}{'recall':>10}{'F1':>10}  right / false / missed"]
        lines += [f"{name:30}{_score_text(score)}" for name, score in rows]
        if self.partners is not None:
            p = self.partners
            accuracy = f"{_text(p.presynaptic_accuracy):>10}"
            right = f"{p.presynaptic_right} of {p.presynaptic_known} right"
            lines.append(f"{'presynaptic cell':30}{accuracy}{'':20}  {right}")
            lines.append(f"{'error of shares':30}{_text(p.share_error):>10}")
        return "\n".join(lines)


def partner_scores(
    match: ObjectMatch,
    predicted: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    predicted_synapses: pd.DataFrame | None = None,
    true_synapses: pd.DataFrame | None = None,
) -> PartnerScores:
    """Compare the partners of matched synapses.

    Parameters
    ----------
    match
        Which synapses match.
    predicted, truth : DataFrame
        Partner tables: syn_id and post_id; pre_id unless the synapses are given; share if known
        (each synapse's are scaled to add up to 1, so that contact areas do as well).
    predicted_synapses, true_synapses : DataFrame, optional
        syn_id and pre_id of all synapses, also of those without a partner.

    Raises
    ------
    TableError
        If a column is missing.
    """
    right, known = _presynaptic(
        match,
        predicted if predicted_synapses is None else predicted_synapses,
        truth if true_synapses is None else true_synapses,
    )
    p = _partner_rows("predicted", predicted)
    t = _partner_rows("true", truth)
    # Predicted synapses take the names of the true ones they match.
    names = pd.Series(match.true, index=match.predicted, dtype=np.uint64)
    p_matched, t_matched = p["syn_id"].isin(match.predicted), t["syn_id"].isin(match.true)
    renamed = p[p_matched].assign(syn_id=names.reindex(p["syn_id"][p_matched]).to_numpy())
    both = renamed.merge(t[t_matched], on=["syn_id", "post_id"], suffixes=("", "_true"))
    found = len(both)
    return PartnerScores(
        presynaptic_right=right,
        presynaptic_known=known,
        matched=Score(found, len(renamed) - found, int(t_matched.sum()) - found),
        combined=Score(found, len(p) - found, len(t) - found),
        share_error=_share_error(renamed, t[t_matched]),
    )


def _presynaptic(
    match: ObjectMatch, predicted: pd.DataFrame, truth: pd.DataFrame
) -> tuple[int, int]:
    """Matched synapses with the right presynaptic cell, and those whose truth has one."""
    mine = _pre_of("predicted", predicted).reindex(match.predicted, fill_value=0).to_numpy()
    theirs = _pre_of("true", truth).reindex(match.true, fill_value=0).to_numpy()
    known = theirs > 0
    return int((mine[known] == theirs[known]).sum()), int(known.sum())


def _pre_of(which: str, table: pd.DataFrame) -> pd.Series[Any]:
    _need(which, table, ["syn_id", "pre_id"])
    return table.drop_duplicates("syn_id").set_index("syn_id")["pre_id"].astype(np.uint64)


def _partner_rows(which: str, table: pd.DataFrame) -> pd.DataFrame:
    _need(which, table, ["syn_id", "post_id"])
    columns = ["syn_id", "post_id", *(["share"] if "share" in table else [])]
    rows = table[columns].astype({"syn_id": np.uint64, "post_id": np.uint64})
    return rows[rows["post_id"] > 0].drop_duplicates(["syn_id", "post_id"])


def _need(which: str, table: pd.DataFrame, columns: list[str]) -> None:
    missing = [name for name in columns if name not in table]
    if missing:
        raise TableError(
            f"the {which} table has no column {', '.join(missing)}; "
            f"it has {', '.join(map(str, table))}"
        )


def _share_error(predicted: pd.DataFrame, truth: pd.DataFrame) -> float:
    """Mean over synapses of half the sum of absolute differences between shares."""
    if "share" not in predicted or "share" not in truth:
        return float("nan")
    shares = []
    for rows in (predicted, truth):
        total = rows.groupby("syn_id")["share"].transform("sum")
        index = pd.MultiIndex.from_frame(rows[["syn_id", "post_id"]])
        shares.append((rows["share"] / total).set_axis(index))
    common = np.intersect1d(predicted["syn_id"], truth["syn_id"])
    p, t = (s[s.index.get_level_values(0).isin(common)] for s in shares)
    variation = p.sub(t, fill_value=0).abs().groupby(level=0).sum() / 2
    return float(variation.mean()) if len(variation) else float("nan")


def _text(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _score_text(score: Score) -> str:
    numbers = "".join(f"{_text(v):>10}" for v in (score.precision, score.recall, score.f1))
    counts = (score.true_positives, score.false_positives, score.false_negatives)
    return f"{numbers}  {' / '.join(str(n) for n in counts)}"
