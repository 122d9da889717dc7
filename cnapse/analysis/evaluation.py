"""How well the objects of a run, and their partners, agree with a truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnapse.analysis.matching import ObjectMatch, Score
from cnapse.analysis.partner_scores import PartnerScores
from cnapse.analysis.text_table import aligned, counts, figure

__all__ = ["Evaluation"]


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
        rows = [
            ["", "precision", "recall", "F1", "right / false / missed"],
            _row("synapses", self.objects.score),
        ]
        if self.partners is not None:
            p = self.partners
            rows += [
                _row("partners of matched synapses", p.matched),
                _row("partners of all synapses", p.combined),
                [
                    "presynaptic cell",
                    figure(p.presynaptic_accuracy),
                    "",
                    "",
                    f"{p.presynaptic_right} of {p.presynaptic_known} right",
                ],
            ]
            if p.shares is not None:
                rows.append(["error of shares", figure(p.shares.mean)])
        return "\n".join(aligned(rows))


def _row(name: str, score: Score) -> list[str]:
    numbers = [figure(value) for value in (score.precision, score.recall, score.f1)]
    return [name, *numbers, counts(score)]
