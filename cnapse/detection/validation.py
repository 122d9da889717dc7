"""How well a model does on volumes that were held out: its objects, its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnapse.analysis.matching import Score, match_objects
from cnapse.detection.checkpoint import ModelBundle
from cnapse.detection.datasets import AnnotatedVolume
from cnapse.detection.inference import detect_whole, fitting_tile, with_tile
from cnapse.detection.tta import Augmentation
from cnapse.geometry import Box, Resolution
from cnapse.synapses.components import threshold_mask
from cnapse.synapses.merging import joined

__all__ = ["Criteria", "ModelScore", "compare", "predict", "score"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Criteria:
    """What counts as found.

    Parameters
    ----------
    threshold : float
        Probability from which a voxel counts.
    min_voxels : int
        Smaller predicted objects are dropped.
    min_iou : float
        Intersection over union from which a predicted object is a true one.
    gap_nm : float
        Objects, predicted and drawn, that a gap of at most this parts are one: see
        `cnapse.synapses.merging`. 0 for components as they are.
    """

    threshold: float = 0.5
    min_voxels: int = 20
    min_iou: float = 0.1
    gap_nm: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelScore:
    """Counts of voxels and objects of all volumes together, and the cross entropy of the voxels."""

    voxels: Score
    objects: Score
    cross_entropy: float

    @property
    def voxel_f1(self) -> float:
        """F1 of the voxels; 0 where nothing was found."""
        return _or_zero(self.voxels.f1)

    @property
    def object_f1(self) -> float:
        """F1 of the objects; 0 where nothing was found."""
        return _or_zero(self.objects.f1)

    @property
    def total(self) -> float:
        """What the best checkpoint has most of."""
        return self.voxel_f1 + self.object_f1

    def to_dict(self) -> dict[str, Any]:
        """For JSON and checkpoints."""
        return {
            "voxel_f1": self.voxel_f1,
            "object_f1": self.object_f1,
            "cross_entropy": self.cross_entropy,
            "voxels": asdict(self.voxels),
            "objects": asdict(self.objects),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelScore:
        """The record that `to_dict` wrote."""
        voxels, objects = Score(**values["voxels"]), Score(**values["objects"])
        return cls(voxels, objects, values["cross_entropy"])


def score(
    bundle: ModelBundle,
    volumes: Sequence[AnnotatedVolume],
    criteria: Criteria | None = None,
    *,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
) -> ModelScore:
    """Run a model on annotated volumes and compare: see `compare`."""
    found = predict(bundle, volumes, precision=precision, device=device)
    return compare(found, volumes, criteria, resolution=bundle.resolution)


def predict(
    bundle: ModelBundle,
    volumes: Sequence[AnnotatedVolume],
    *,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
    augment: Augmentation = "none",
) -> list[Array]:
    """Probability of each volume, uint8, shape (x, y, z); parameters as in `detect_whole`."""
    found = []
    for volume in volumes:
        bounds = Box.from_shape(volume.image.shape, bundle.resolution)
        fitting = with_tile(bundle, fitting_tile(bundle, bounds, max(bundle.tile)))
        found.append(
            detect_whole(volume.image, fitting, precision=precision, device=device, augment=augment)
        )
    return found


def compare(
    probability: Sequence[Array],
    volumes: Sequence[AnnotatedVolume],
    criteria: Criteria | None = None,
    *,
    resolution: Resolution = (1.0, 1.0, 1.0),
) -> ModelScore:
    """Compare probabilities with the truth: voxels, and objects one to one.

    Predicted objects are 26-connected components of the voxels above the threshold; the pairs with
    the largest total IoU count (`cnapse.analysis.matching`). Where the volume is to be ignored,
    nothing is predicted and nothing is true.

    Parameters
    ----------
    probability : sequence of ndarray of uint8, shape (x, y, z)
    volumes : sequence of AnnotatedVolume
    criteria : Criteria, optional
    resolution : (x, y, z)
        Voxel size, nm; it counts where the criteria join objects.
    """
    criteria = criteria or Criteria()
    voxels, objects = np.zeros(3, np.int64), np.zeros(3, np.int64)
    entropy, counted = 0.0, 0
    for values, volume in zip(probability, volumes, strict=True):
        counts = np.ones(values.shape, bool) if volume.ignore is None else ~volume.ignore
        found = threshold_mask(values, criteria.threshold) & counts
        truth = volume.objects > 0
        voxels += [np.sum(found & truth), np.sum(found & ~truth), np.sum(truth & ~found)]
        predicted = _components(found, criteria.min_voxels)
        matched = match_objects(
            joined(predicted, criteria.gap_nm, resolution),
            joined(volume.objects, criteria.gap_nm, resolution),
            criteria.min_iou,
        ).score
        objects += [matched.true_positives, matched.false_positives, matched.false_negatives]
        entropy += _entropy(values[counts], truth[counts])
        counted += int(counts.sum())
    return ModelScore(
        Score(*(int(n) for n in voxels)),
        Score(*(int(n) for n in objects)),
        entropy / max(1, counted),
    )


def _components(found: npt.NDArray[np.bool_], min_voxels: int) -> Array:
    import cc3d

    # cc3d fails on boxes one voxel thick.
    labels: Array = cc3d.connected_components(np.pad(found, 1), connectivity=26)[1:-1, 1:-1, 1:-1]
    voxels = np.bincount(labels.ravel(order="K"))
    return np.where(voxels[labels] < min_voxels, 0, labels)


def _entropy(values: Array, truth: npt.NDArray[np.bool_]) -> float:
    """Sum of the cross entropies; 0 and 255 stand for half a level."""
    levels = np.clip(np.arange(256), 0.5, 254.5) / 255
    right = np.where(truth, levels[values], 1 - levels[values])
    return float(-np.log(right).sum())


def _or_zero(value: float) -> float:
    return 0.0 if np.isnan(value) else value
