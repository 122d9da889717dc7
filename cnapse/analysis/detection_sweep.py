"""Thresholds, connectivities and least sizes tried against a truth."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnapse.analysis.detection_counts import DetectionCounts, ObjectSums, count
from cnapse.analysis.detection_evaluation import Comparison
from cnapse.analysis.detection_objects import Cut
from cnapse.analysis.detection_scores import Matched, MatchRule, among, judged, voxel_score
from cnapse.analysis.matching import Score
from cnapse.errors import ConfigError

__all__ = ["Trial", "best", "spread", "sweep"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One cut of the map, and how it scores."""

    cut: Cut
    objects: Matched
    voxels: Score

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "threshold": self.cut.threshold,
            "connectivity": self.cut.connectivity,
            "min_voxels": self.cut.min_voxels,
            "objects": self.objects.to_dict(),
            "voxels": self.voxels.to_dict(),
        }


def spread(first: float = 0.05, last: float = 0.95, step: float = 0.05) -> list[float]:
    """Thresholds at even steps."""
    n = round((last - first) / step) + 1
    return [round(first + i * step, 6) for i in range(n)]


def sweep(
    comparison: Comparison,
    rule: MatchRule,
    thresholds: Sequence[float],
    *,
    connectivities: Iterable[int] = (26,),
    min_voxels: Sequence[int] = (1,),
    seed: int = 0,
) -> list[Trial]:
    """Try all combinations, in the order given: connectivity, threshold, least size.

    Least sizes cost nothing: whole objects are counted once, and small ones left out; but where
    objects are joined, those that are joined depend on them.

    Raises
    ------
    ConfigError
        If the prediction is no probability, or there is nothing to try.
    """
    if comparison.predicted.kind != "probability":
        raise ConfigError(
            f"{comparison.predicted.volume.name} is no probability: there is no threshold to try; "
            "give a probability map (or --kind probability if it is one)"
        )
    if not thresholds or not min_voxels:
        raise ConfigError("nothing to try: give at least one threshold and one size")
    here = comparison.in_memory()
    true = here.truth.objects(here.grid)
    passes = (
        [(least, (least,)) for least in min_voxels] if here.predicted.gap_nm else [(1, min_voxels)]
    )
    trials = []
    for connectivity, threshold, (first, leasts) in itertools.product(
        connectivities, thresholds, passes
    ):
        cut = replace(
            here.predicted.cut, threshold=threshold, connectivity=connectivity, min_voxels=first
        )
        predicted = replace(here.predicted, cut=cut).objects(here.grid)
        counts = count(predicted, true, ignore=here.ignore)
        for least in leasts:
            kept = at_least(counts, least)
            trials.append(
                Trial(
                    replace(cut, min_voxels=least),
                    judged(kept, rule, seed=seed),
                    voxel_score(kept),
                )
            )
    return trials


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial of the highest F1 of objects, then of voxels.

    Then of the threshold nearest 0.5, the connectivity nearest 26 and the smallest least size.
    None if no F1 is defined.
    """

    def worth(trial: Trial) -> tuple[float, ...]:
        voxels, cut = float(np.nan_to_num(trial.voxels.f1)), trial.cut
        middle = -abs(cut.threshold - 0.5)
        return trial.objects.score.f1, voxels, middle, cut.connectivity, -cut.min_voxels

    known = [trial for trial in trials if not np.isnan(trial.objects.score.f1)]
    return max(known, key=worth, default=None)


def at_least(counts: DetectionCounts, voxels: int) -> DetectionCounts:
    """The counts without predicted objects of fewer voxels."""
    kept = counts.predicted.voxels >= voxels
    ids, true = counts.predicted.ids[kept], counts.true.ids
    sums = counts.predicted
    return replace(
        counts,
        overlaps=among(counts.overlaps, ids, true),
        visible=among(counts.visible, ids, true),
        predicted=ObjectSums(
            ids,
            sums.voxels[kept],
            sums.outside[kept],
            sums.sums[kept],
            sums.start[kept],
            sums.stop[kept],
        ),
    )
