"""Training patches from corrections, so that the next network learns from them.

A box that was looked at wholly gives its whole content. Around candidates that are decided
elsewhere there is a patch each: a true one is drawn, a false one is nothing, and what is not
decided, unsure, or of a wrong extent does not count. What was missed there, and nobody looked for,
counts as nothing: boxes are the better ground truth.

A missed synapse that was added is drawn where the layer has an object at its place, as the one that
`cnapse apply` writes has; else the voxels around its place do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnapse.analysis.groundtruth import Annotated, Tiling, annotated, patch_boxes
from cnapse.errors import ReviewError
from cnapse.geometry import Box, Resolution, triple
from cnapse.review.items import Candidates
from cnapse.review.standing import Standing, merged_into
from cnapse.runs import RunData

__all__ = ["Plan", "plan_patches", "read_patches"]

# Sections beyond an object, so that its ends are learnt, too.
_BEYOND = 2
_AROUND_ADDED_NM = 150.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Where patches are cut.

    Attributes
    ----------
    boxes : tuple of Box
        Patches of boxes that were looked at wholly.
    around : tuple of Box
        Patches around candidates.
    """

    boxes: tuple[Box, ...]
    around: tuple[Box, ...]

    def __len__(self) -> int:
        return len(self.boxes) + len(self.around)


def plan_patches(run: RunData, candidates: Candidates, standing: Standing, tiling: Tiling) -> Plan:
    """Choose patches: those of boxes overlap as `tiling` says; a candidate in a patch needs none.

    Parameters
    ----------
    run, candidates, standing
    tiling : Tiling
        Without a depth, a patch around a candidate has its sections and two more at each end.

    Raises
    ------
    ReviewError
        If nothing is decided.
    """
    bounds = run.layer("image").bounds.intersection(run.layer("synapses").bounds)
    whole = [
        Box.from_nm(one.new.start_nm, one.new.stop_nm, bounds.resolution).clamped(bounds)
        for one in standing.boxes
    ]
    boxes = tuple(patch for box in whole for patch in patch_boxes(box, tiling))
    said = standing.answers
    decided = sorted(i for i, answer in said.items() if answer in ("true", "false"))
    around: list[Box] = []
    for row in candidates.rows_of(decided):
        if row < 0:
            continue
        extent = _extent(candidates, int(row), bounds.resolution).clamped(bounds)
        if not extent.empty and not any(box.contains(extent) for box in (*whole, *around)):
            around.append(_patch_of(extent, bounds, tiling))
    if not boxes and not around:
        raise ReviewError(
            "no patch to cut: decide candidates as true or false, or finish a box, in "
            "`cnapse review`"
        )
    return Plan(boxes, tuple(around))


def _extent(candidates: Candidates, row: int, resolution: Resolution) -> Box:
    start, stop = (
        triple([int(candidates.columns[f"{end}_{axis}"][row]) for axis in "xyz"])
        for end in ("start", "stop")
    )
    return Box(start, stop, resolution)


def _patch_of(extent: Box, bounds: Box, tiling: Tiling) -> Box:
    """A patch with an object in its middle, moved and cut so that it is in the layers."""
    depth = tiling.depth or extent.shape[2] + 2 * _BEYOND
    start, stop = [], []
    for a, b, low, high, size in zip(
        extent.start, extent.stop, bounds.start, bounds.stop,
        (tiling.patch, tiling.patch, depth), strict=True,
    ):  # fmt: skip
        first = max(low, min((a + b - size) // 2, high - size))
        start.append(first)
        stop.append(min(first + size, high))
    return Box(triple(start), triple(stop), bounds.resolution)


def read_patches(
    run: RunData, candidates: Candidates, standing: Standing, plan: Plan
) -> Iterator[Annotated]:
    """Read patches one by one: image, what is true, and what does not count.

    Raises
    ------
    FormatError
        If the image is not uint8.
    ConfigError, LayerNotFoundError, StorageError
        If a layer is missing or cannot be read.
    """
    said = standing.answers | _of_wrong_extent(standing)
    # An object that lies at the place of a missed synapse, and is no candidate, was made for it.
    said |= {
        found: "true"
        for one in standing.added.values()
        if (found := _object_at(run, one.new.position_nm)) and candidates.rows_of([found])[0] < 0
    }
    undrawn = [
        one.new.position_nm
        for one in standing.added.values()
        if said.get(_object_at(run, one.new.position_nm)) != "true"
    ]
    group = merged_into(standing)
    for box in (*plan.boxes, *plan.around):
        yield _read(run, box, said, group, undrawn)


def _read(
    run: RunData,
    box: Box,
    said: Mapping[int, str],
    group: Mapping[int, int],
    undrawn: Sequence[Resolution],
) -> Annotated:
    image = run.layer("image").read(box)
    objects = run.layer("synapses").read(box)
    here = np.unique(objects)
    here = here[here != 0]
    kind = [said.get(int(i), "open") for i in here]
    true = here[np.array([k == "true" for k in kind], np.bool_)]
    other = here[np.array([k not in ("true", "false") for k in kind], np.bool_)]
    label = np.where(np.isin(objects, true), objects, 0).astype(np.uint64)
    for i in true.tolist():
        if group.get(i, i) != i:
            label[label == i] = group[i]
    ignore = np.isin(objects, other)
    for place in undrawn:
        ignore |= _near(place, box) & (label == 0)
    return annotated(box, image, [label], "union", ignore=ignore if ignore.any() else None)


def _near(place_nm: Resolution, box: Box) -> npt.NDArray[np.bool_]:
    """Voxels of a box around the place of a missed synapse."""
    axes = [
        (np.arange(a, b) + 0.5) * h - p
        for a, b, h, p in zip(box.start, box.stop, box.resolution, place_nm, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    near: npt.NDArray[np.bool_] = x**2 + y**2 + z**2 <= _AROUND_ADDED_NM**2
    return near


def _object_at(run: RunData, place_nm: Resolution) -> int:
    layer = run.layer("synapses")
    voxel = [int(p // h) for p, h in zip(place_nm, layer.bounds.resolution, strict=True)]
    box = Box(triple(voxel), triple([v + 1 for v in voxel]), layer.bounds.resolution)
    return int(layer.read(box)[0, 0, 0]) if layer.bounds.contains(box) else 0


def _of_wrong_extent(standing: Standing) -> dict[int, str]:
    """A synapse is there, but not in these voxels."""
    return {
        i: "unsure"
        for i, one in standing.verdicts.items()
        if one.new.verdict == "true" and one.new.error == "wrong_extent"
    }
