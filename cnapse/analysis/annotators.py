"""Several people's drawings of the same densities: merged into one, and how well they agree."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnapse.analysis.bootstrap import f1_interval
from cnapse.analysis.matching import (
    Overlaps,
    Score,
    defined,
    match_overlaps,
    merge_overlaps,
    overlaps,
)
from cnapse.analysis.text_table import aligned, figure, interval
from cnapse.errors import ConfigError, FormatError

__all__ = ["MERGES", "Agreement", "Merge", "agreement", "agreement_report", "disputed", "merge"]

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
Merge = Literal["union", "intersection", "majority"]

MERGES: tuple[Merge, ...] = ("union", "intersection", "majority")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two annotators agree; neither is the truth.

    Attributes
    ----------
    names : (str, str)
    voxels, objects : Score
        The second one against the first. F1 is the same the other way round; that of voxels is the
        Dice coefficient.
    interval : (low, high) or None
        Of the F1 of objects, 95 %, bootstrap over objects.
    """

    names: tuple[str, str]
    voxels: Score
    objects: Score
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "annotators": list(self.names),
            "dice": defined(self.voxels.f1),
            "object_f1": defined(self.objects.f1),
            "object_f1_interval_95": None if self.interval is None else list(self.interval),
            "both": self.objects.true_positives,
            "only_first": self.objects.false_negatives,
            "only_second": self.objects.false_positives,
        }


def merge(drawings: Sequence[Array], how: Merge) -> Mask:
    """What several annotators drew, as one mask.

    Parameters
    ----------
    drawings : sequence of ndarray, all of one shape
        0 is none.
    how : {"union", "intersection", "majority"}
        Drawn by any, by all, or by more than half of them.

    Raises
    ------
    ConfigError
        For another way, or a majority of two.
    FormatError
        If there is none, or shapes differ.
    """
    votes = _votes(drawings)
    n = len(drawings)
    match how:
        case "union":
            return np.asarray(votes > 0)
        case "intersection":
            return np.asarray(votes == n)
        case "majority":
            if n == 2:
                raise ConfigError(
                    "a majority of two annotators is both: say union or intersection instead"
                )
            return np.asarray(2 * votes > n)
        case _:
            raise ConfigError(f"merge must be one of {', '.join(MERGES)}, not {how}")


def disputed(drawings: Sequence[Array]) -> Mask:
    """Voxels that some annotators drew and others did not."""
    votes = _votes(drawings)
    return np.asarray((votes > 0) & (votes < len(drawings)))


def agreement(
    boxes: Sequence[Mapping[str, npt.NDArray[np.uint64]]], *, min_iou: float = 0.1, seed: int = 0
) -> list[Agreement]:
    """How well each pair of annotators agrees, over all boxes together.

    Parameters
    ----------
    boxes
        Objects of each annotator, by name, in each box: one shape and the same names in a box.
    min_iou : float
        Least overlap of objects that match, one to one.
    seed : int
        Of the bootstrap.
    """
    names = list(boxes[0]) if boxes else []
    return [
        _agreement((a, b), [overlaps(box[b], box[a]) for box in boxes], min_iou, seed)
        for a, b in itertools.combinations(names, 2)
    ]


def agreement_report(found: Sequence[Agreement], min_iou: float) -> str:
    """A table to read."""
    rows = [
        ["annotators", "Dice", "object F1", "95 % interval", "both", "only first", "only second"]
    ]
    for one in found:
        counts = (
            one.objects.true_positives,
            one.objects.false_negatives,
            one.objects.false_positives,
        )
        rows.append(
            [
                " / ".join(one.names),
                figure(one.voxels.f1),
                figure(one.objects.f1),
                interval(one.interval),
                *map(str, counts),
            ]
        )
    return "\n".join([*aligned(rows), f"objects match one to one from IoU {min_iou:g}"])


def _agreement(
    names: tuple[str, str], parts: Sequence[Overlaps], min_iou: float, seed: int
) -> Agreement:
    # Boxes have their own objects: matched one by one, then added up.
    scores = [match_overlaps(part, min_iou).score for part in parts]
    objects = Score(
        sum(s.true_positives for s in scores),
        sum(s.false_positives for s in scores),
        sum(s.false_negatives for s in scores),
    )
    total = merge_overlaps(parts)
    both = int(total.pair_voxels.sum())
    second, first = int(total.predicted_voxels.sum()), int(total.true_voxels.sum())
    n = (objects.true_positives, objects.false_positives, objects.false_negatives)
    kinds = [np.repeat(row, n) for row in np.eye(3, dtype=np.int64)]
    return Agreement(
        names, Score(both, second - both, first - both), objects, f1_interval(*kinds, seed=seed)
    )


def _votes(drawings: Sequence[Array]) -> npt.NDArray[np.int64]:
    shapes = {drawing.shape for drawing in drawings}
    if len(shapes) != 1:
        raise FormatError(
            f"{len(drawings)} drawings of {len(shapes)} shapes: give at least one, all of one box"
        )
    votes = np.zeros(next(iter(shapes)), np.int64, order="F")
    for drawing in drawings:
        votes += drawing != 0
    return votes
