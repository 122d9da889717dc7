"""`cnapse groundtruth`: drawings of one or several annotators as patches to train on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from cnapse.errors import BoundsError, ConfigError
from cnapse_cli.figures import write_json

if TYPE_CHECKING:
    import numpy.typing as npt

    from cnapse.analysis.annotators import Merge
    from cnapse.analysis.detection_inputs import Volume
    from cnapse.analysis.groundtruth import Annotated as AnnotatedBox
    from cnapse.analysis.groundtruth import Tiling
    from cnapse.geometry import Box

    Drawings = Mapping[str, npt.NDArray[np.uint64]]

__all__ = ["groundtruth"]


class MergeName(StrEnum):
    """How several drawings become one."""

    UNION = "union"
    INTERSECTION = "intersection"
    MAJORITY = "majority"


def groundtruth(
    image: Annotated[
        str | None,
        typer.Argument(
            help="EM: TIFF, HDF5 (file.h5:/dataset), Zarr, PNG sections or a precomputed layer.",
            show_default=False,
        ),
    ] = None,
    drawings: Annotated[
        list[str] | None,
        typer.Argument(
            help="What each annotator drew: labels or a mask, likewise.",
            metavar="DRAWING...",
            show_default=False,
        ),
    ] = None,
    from_review: Annotated[
        Path | None,
        typer.Option(
            help="A run's cnapse.toml, instead of IMAGE and DRAWINGs: patches from what its "
            "reviewers decided.",
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="With --from-review: the log (default: review/log.sqlite in the run's output)."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Patches to write: an HDF5 file (.h5) or a folder of TIFF; without it only the "
            "agreement is told.",
        ),
    ] = None,
    merge: Annotated[
        MergeName, typer.Option(help="Which voxels count as drawn: by any, by all, by most.")
    ] = MergeName.UNION,
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="Box to take, start and stop in voxels: X,Y,Z,X,Y,Z; may be given several times "
            "(default: what all volumes share)."
        ),
    ] = None,
    sections: Annotated[
        str | None, typer.Option(help="Sections to take, by z, as in 3,7,10-14 (default: all).")
    ] = None,
    patch: Annotated[int, typer.Option(help="Side of a patch in pixels.", min=1)] = 320,
    overlap: Annotated[
        int, typer.Option(help="Overlap of neighbouring patches in pixels.", min=0)
    ] = 32,
    depth: Annotated[
        int | None,
        typer.Option(help="Sections of a patch (default: all that follow one another).", min=1),
    ] = None,
    ignore: Annotated[
        str | None, typer.Option(help="Volume of what is not to count: all but 0.")
    ] = None,
    ignore_disputed: Annotated[
        bool,
        typer.Option("--ignore-disputed", help="Voxels on which annotators differ do not count."),
    ] = False,
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", help="Leave out patches in which nothing is drawn.")
    ] = False,
    resolution: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="X Y Z", help="Voxel size in nm. Needed where the files do not tell it."
        ),
    ] = None,
    min_iou: Annotated[
        float, typer.Option(help="Least overlap (IoU) of objects that agree.", min=0, max=1)
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the 95 % intervals.", min=0)] = 0,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write the agreement to this file.")
    ] = None,
) -> None:
    """Merge annotators' drawings, tell how well they agree, and cut patches to train on.

    Beside the patches go their coordinates (.csv) and the lines for `cnapse train` (.toml).
    """
    from cnapse.analysis.annotators import agreement, agreement_report
    from cnapse.analysis.detection_inputs import open_volume
    from cnapse.analysis.groundtruth import Tiling, annotated, in_sections, parse_sections

    tiling = Tiling(patch, overlap, depth)
    if from_review is not None:
        if image is not None:
            raise ConfigError("--from-review takes image and labels from the run: give no IMAGE")
        _from_review(from_review, log, output, tiling, skip_empty=skip_empty)
        return
    if image is None or not drawings:
        raise ConfigError("give IMAGE and one DRAWING or more, or --from-review cnapse.toml")
    em = open_volume(image, resolution)
    voxel = em.bounds.resolution
    volumes = {_name(path, drawings): open_volume(path, voxel) for path in drawings}
    hidden = None if ignore is None else open_volume(ignore, voxel)
    chosen = None if sections is None else parse_sections(sections)
    boxes = _boxes(box, [em, *volumes.values()])
    by_annotator = [_objects(volumes, one) for one in boxes]
    if len(volumes) > 1:
        shown = [
            {name: in_sections(a, one, chosen) for name, a in found.items()}
            for one, found in zip(boxes, by_annotator, strict=True)
        ]
        agreed = agreement(shown, min_iou=min_iou, seed=seed)
        print(agreement_report(agreed, min_iou))
        write_json(as_json, {"agreement": [one.to_dict() for one in agreed]})
    elif output is None:
        raise ConfigError("one annotator has nobody to agree with: give --output, or a second one")
    if output is None:
        return
    how: dict[str, Merge] = {"union": "union", "intersection": "intersection"}
    whole = [
        annotated(
            one, em.read(one), list(found.values()), how.get(merge.value, "majority"),
            ignore=None if hidden is None else hidden.read(one) != 0,
            ignore_disputed=ignore_disputed,
        )
        for one, found in zip(boxes, by_annotator, strict=True)
    ]  # fmt: skip
    _write(output, whole, tiling, chosen, skip_empty=skip_empty)


def _write(
    output: Path,
    whole: Sequence[AnnotatedBox],
    tiling: Tiling,
    sections: Sequence[range] | None,
    *,
    skip_empty: bool,
) -> None:
    """Cut and write patches, their coordinates and the lines for training."""
    from cnapse.analysis.groundtruth import patch_boxes

    _write_patches(
        output,
        (
            part
            for one in whole
            for box in patch_boxes(one.box, tiling, sections)
            for part in [one.part(box)]
            if not skip_empty or part.label.any()
        ),
    )


def _write_patches(output: Path, patches: Iterable[AnnotatedBox]) -> None:
    from cnapse.analysis.groundtruth_files import write_patches

    done = write_patches(output, patches)
    print(
        f"{done.patches} patches written to {output}, {done.drawn} of them with densities; "
        f"coordinates in {done.table}, lines for `cnapse train` in {done.lines}"
    )


def _from_review(
    config: Path, log: Path | None, output: Path | None, tiling: Tiling, *, skip_empty: bool
) -> None:
    """Patches from what reviewers decided about a run."""
    from cnapse.review.items import Candidates
    from cnapse.review.log import DecisionLog, log_path
    from cnapse.review.patches import plan_patches, read_patches
    from cnapse.runs import open_run

    if output is None:
        raise ConfigError("--from-review makes patches: give --output")
    run = open_run(config)
    candidates = Candidates.load(run)
    with DecisionLog(log_path(run.config.output, log), create=False) as opened:
        standing = opened.standing()
    plan = plan_patches(run, candidates, standing, tiling)
    print(
        f"{len(plan.boxes)} patches of boxes that were looked at wholly, "
        f"{len(plan.around)} around decided candidates"
    )
    patches = read_patches(run, candidates, standing, plan)
    _write_patches(output, (one for one in patches if not skip_empty or one.label.any()))


def _boxes(given: Sequence[str] | None, volumes: Sequence[Volume]) -> list[Box]:
    """The boxes to take, at the image's resolution."""
    from cnapse.analysis.detection_inputs import common_box
    from cnapse.analysis.groundtruth import parse_box

    shared = volumes[0].bounds
    for volume in volumes[1:]:
        shared = shared.intersection(common_box(volumes[0], volume))
    if shared.empty:
        raise BoundsError(
            f"{', '.join(v.name for v in volumes)} share no voxel: check their offsets"
        )
    if not given:
        return [shared]
    boxes = [parse_box(text, shared.resolution) for text in given]
    for box in boxes:
        if not shared.contains(box):
            raise BoundsError(
                f"--box {box} reaches out of what the volumes share, {shared}: make it smaller"
            )
    return boxes


def _objects(volumes: Mapping[str, Volume], box: Box) -> Drawings:
    """The objects of each annotator in a box: ids as drawn, or components of a mask."""
    from cnapse.analysis.detection_inputs import kind_of
    from cnapse.synapses.components import label_box

    found = {}
    for name, volume in volumes.items():
        values = volume.read(box)
        labels = kind_of(volume, None, truth=True) == "labels"
        found[name] = (values if labels else label_box(values != 0)[0]).astype(np.uint64)
    return found


def _name(path: str, every: Sequence[str]) -> str:
    """What an annotator is called: the file's name, or the whole path where names repeat."""
    short = Path(path.rstrip("/")).name
    names = [Path(other.rstrip("/")).name for other in every]
    return short if names.count(short) == 1 else path
