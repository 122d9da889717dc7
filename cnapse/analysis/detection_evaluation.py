"""Predicted densities against true ones: all figures of `cnapse evaluate detection`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.analysis.detection_clefts import CleftDistances, cleft_distances
from cnapse.analysis.detection_counts import DetectionCounts, count
from cnapse.analysis.detection_inputs import Kind, Volume, held, stored_levels
from cnapse.analysis.detection_joined import JoinedObjects
from cnapse.analysis.detection_objects import (
    Cut,
    ObjectSource,
    block_grid,
    objects_of,
)
from cnapse.analysis.detection_scores import (
    Matched,
    MatchRule,
    SizeBin,
    average_precision,
    judged,
    precision_recall,
    size_bins,
    voxel_score,
)
from cnapse.analysis.matching import Score, defined
from cnapse.errors import BoundsError
from cnapse.geometry import Box, Grid, Triple

__all__ = ["Comparison", "DetectionEvaluation", "Side", "evaluate_detection", "ignored_voxels"]

Mask = npt.NDArray[np.bool_]
Ignore = Callable[[Box], Mask]

BLOCK = (512, 512, 64)


@dataclass(frozen=True, slots=True)
class Side:
    """A volume, what its values mean, and how objects are made of them.

    Parameters
    ----------
    volume : Volume
    kind : {"probability", "labels", "mask"}
    cut : Cut
    gap_nm : float
        Objects that a gap of at most this parts are one; 0 joins nothing. Limits of size are those
        of the parts.
    """

    volume: Volume
    kind: Kind
    cut: Cut = field(default_factory=Cut)
    gap_nm: float = 0.0

    def objects(self, grid: Grid) -> ObjectSource:
        """Its objects."""
        found = objects_of(self.volume, self.kind, grid, self.cut)
        return JoinedObjects(found, self.gap_nm) if self.gap_nm else found


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared.

    Parameters
    ----------
    predicted, truth : Side
    box : Box
        The voxels that both have.
    levels : Volume, optional
        Predicted probability, for the curve and its average precision.
    ignore : callable, optional
        Which voxels of a box do not count.
    block : (x, y, z)
        What is read at once; no figure depends on it.
    map_cut : Cut, optional
        How objects were made of the probability, where the prediction is their labels.
    """

    predicted: Side
    truth: Side
    box: Box
    levels: Volume | None = None
    ignore: Ignore | None = None
    block: Triple = BLOCK
    map_cut: Cut | None = None

    @property
    def grid(self) -> Grid:
        """The blocks."""
        return block_grid(self.box, self.block)

    def of_the_map(self) -> Comparison:
        """The same with objects cut out of the probability, if there is one."""
        if self.levels is None or self.predicted.kind == "probability":
            return self
        cut = self.map_cut or self.predicted.cut
        side = Side(self.levels, "probability", cut, self.predicted.gap_nm)
        return replace(self, predicted=side)

    def in_memory(self) -> Comparison:
        """The same, with small volumes held in memory, for many passes."""
        predicted = self.predicted
        if predicted.kind == "probability":
            levels = held(stored_levels(predicted.volume), self.box)
            predicted = replace(predicted, volume=levels)
        truth = replace(self.truth, volume=held(self.truth.volume, self.box))
        return replace(self, predicted=predicted, truth=truth)


@dataclass(frozen=True, slots=True)
class DetectionEvaluation:
    """All figures of a comparison, but for the sweep.

    Attributes
    ----------
    counts : DetectionCounts
    voxels : Score
    matched : tuple of Matched
        By each rule; the first one tells which objects are right.
    sizes : tuple of SizeBin
    clefts : CleftDistances
    """

    counts: DetectionCounts
    voxels: Score
    matched: tuple[Matched, ...]
    sizes: tuple[SizeBin, ...]
    clefts: CleftDistances

    @property
    def average_precision(self) -> float | None:
        """Of voxels; None where the prediction is no probability, NaN where nothing is true."""
        return None if self.counts.levels is None else average_precision(self.counts.levels)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        box, average = self.counts.box, self.average_precision
        voxels = {
            **self.voxels.to_dict(),
            "average_precision": None if average is None else defined(average),
        }
        return {
            "box": {
                "start": list(box.start),
                "stop": list(box.stop),
                "resolution": list(box.resolution),
            },
            "ignored_voxels": self.counts.ignored,
            "predicted_objects": len(self.counts.predicted),
            "true_objects": len(self.counts.true),
            "voxels": voxels,
            "objects": [matched.to_dict() for matched in self.matched],
            "by_size": [one.to_dict() for one in self.sizes],
            "cremi_clefts": self.clefts.to_dict(),
            "voxel_curve": _curve(self.counts),
        }


def evaluate_detection(
    comparison: Comparison,
    rules: Sequence[MatchRule],
    *,
    size_edges: Sequence[int] | None = None,
    seed: int = 0,
) -> DetectionEvaluation:
    """Compare, block by block.

    Parameters
    ----------
    comparison : Comparison
    rules
        At least one; the first one decides for the bins of size.
    size_edges
        Of :func:`cnapse.analysis.detection_scores.size_bins`.
    seed : int
        Of the bootstrap.

    Raises
    ------
    ConfigError, FormatError
        If a value or an option cannot be used.
    """
    grid = comparison.grid
    predicted, true = comparison.predicted.objects(grid), comparison.truth.objects(grid)
    levels = None if comparison.levels is None else stored_levels(comparison.levels).read
    counts = count(predicted, true, levels=levels, ignore=comparison.ignore)
    matched = tuple(judged(counts, rule, seed=seed) for rule in rules)
    return DetectionEvaluation(
        counts=counts,
        voxels=voxel_score(counts),
        matched=matched,
        sizes=tuple(size_bins(counts, matched[0].match, size_edges)),
        clefts=cleft_distances(predicted, true, comparison.ignore),
    )


def ignored_voxels(mask: Volume | None, border: Triple, box: Box) -> Ignore | None:
    """Which voxels do not count: those drawn in a mask, and those near a face of the box.

    Parameters
    ----------
    mask : Volume, optional
        All but 0; what it does not reach counts.
    border : (x, y, z)
        Voxels from each face.
    box : Box
        What is compared.

    Raises
    ------
    BoundsError
        If the border leaves nothing.
    """
    if mask is None and not any(border):
        return None
    inner = box.grown(tuple(-n for n in border))
    if inner.empty:
        raise BoundsError(f"a border of {border} voxels leaves nothing of {box}: take less")

    def read(wanted: Box) -> Mask:
        ignored = np.ones(wanted.shape, np.bool_, order="F")
        inside = wanted.intersection(inner)
        if not inside.empty:
            ignored[inside.slices(wanted)] = False
        if mask is not None:
            ignored |= mask.read(wanted) != 0
        return ignored

    return read


def _curve(counts: DetectionCounts) -> list[dict[str, Any]] | None:
    """Precision and recall of voxels at each of the 255 thresholds."""
    if counts.levels is None:
        return None
    precision, recall = precision_recall(counts.levels)
    return [
        {
            "threshold": level / 255,
            "precision": defined(float(precision[level])),
            "recall": defined(float(recall[level])),
        }
        for level in range(1, len(precision))
    ]
