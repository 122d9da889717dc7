"""`cnapse evaluate detection` and `cnapse evaluate search`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cnapse.errors import ConfigError, LayerNotFoundError, storage_error
from cnapse_cli.detection_options import (
    Border,
    GapNm,
    IgnoreOption,
    Json,
    KindName,
    KindOption,
    MinIou,
    Predicted,
    ResolutionOption,
    Seed,
    SkipTouching,
    Start,
    Stop,
    Three,
    TrueMin,
    Truth,
    TruthKind,
    TruthKindName,
)
from cnapse_cli.figures import write_json

if TYPE_CHECKING:
    from cnapse.analysis.detection_evaluation import Comparison, DetectionEvaluation, Side
    from cnapse.analysis.detection_inputs import Kind, Volume
    from cnapse.analysis.detection_objects import Cut
    from cnapse.analysis.detection_scores import MatchRule
    from cnapse.analysis.detection_sweep import Trial
    from cnapse.config import Config
    from cnapse.geometry import Resolution

__all__ = ["detection", "search"]


def detection(
    predicted: Predicted,
    truth: Truth,
    resolution: ResolutionOption = None,
    kind: KindOption = None,
    truth_kind: TruthKind = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Cut of a probability (default 0.5, or as in cnapse.toml)."),
    ] = None,
    connectivity: Annotated[
        int | None, typer.Option(help="How voxels touch: 6, 18 or 26 (default 26).")
    ] = None,
    min_voxels: Annotated[
        int | None, typer.Option(help="Smaller predicted objects are dropped (default 1).", min=1)
    ] = None,
    max_voxels: Annotated[
        int | None, typer.Option(help="Larger predicted objects are dropped.", min=1)
    ] = None,
    true_min_voxels: TrueMin = 1,
    gap_nm: GapNm = 0.0,
    start: Start = None,
    stop: Stop = None,
    ignore: IgnoreOption = None,
    border: Border = (0, 0, 0),
    skip_touching: SkipTouching = False,
    min_iou: MinIou = 0.1,
    distance: Annotated[
        list[float] | None,
        typer.Option(
            help="Also match centres of mass up to this distance in nm; may be given several times "
            "(default 100 and 300)."
        ),
    ] = None,
    size_bin: Annotated[
        list[int] | None,
        typer.Option(help="Voxels at which a bin of size begins (default: the true quartiles)."),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Also try the thresholds 0.05, 0.1, ... 0.95.")
    ] = False,
    curve: Annotated[
        Path | None,
        typer.Option(help="Draw precision against recall, and F1 against threshold: a PNG."),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="Draw what is false and what was missed: a PNG.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="EM for the gallery (default: the run's, or none).")
    ] = None,
    most: Annotated[
        int, typer.Option(help="The gallery shows so many of each, the largest.", min=1)
    ] = 20,
    seed: Seed = 0,
    as_json: Json = None,
) -> None:
    """Densities: voxels, objects by overlap and by distance, sizes, CREMI cleft distances.

    What each figure means is in docs/evaluation.md.
    """
    from cnapse.analysis.detection_evaluation import evaluate_detection
    from cnapse.analysis.detection_report import report, sweep_report
    from cnapse.analysis.detection_scores import MatchRule
    from cnapse.analysis.detection_sweep import spread
    from cnapse.analysis.detection_sweep import sweep as try_thresholds

    set_by_hand = {
        "threshold": threshold,
        "connectivity": connectivity,
        "min_voxels": min_voxels,
        "max_voxels": max_voxels,
    }
    comparison = _comparison(
        predicted, truth, resolution, _kind(kind), _kind(truth_kind), set_by_hand, true_min_voxels,
        start, stop, ignore, border, gap_nm,
    )  # fmt: skip
    rule = MatchRule("overlap", min_iou, skip_touching)
    distances = [100.0, 300.0] if distance is None else distance
    rules = [rule, *(MatchRule("distance", nm, skip_touching) for nm in distances)]
    result = evaluate_detection(comparison, rules, size_edges=size_bin, seed=seed)
    print(report(result))
    values = result.to_dict()
    if sweep or curve is not None:
        swept = comparison.of_the_map()
        trials = try_thresholds(
            swept, rule, spread(), connectivities=(swept.predicted.cut.connectivity,),
            min_voxels=(swept.predicted.cut.min_voxels,), seed=seed,
        )  # fmt: skip
        print(f"\n{sweep_report(trials, rule.name)}")
        values["sweep"] = [trial.to_dict() for trial in trials]
        _draw_curve(curve, trials, result, rule, comparison)
    _draw_gallery(gallery, predicted, image, comparison, result, most)
    write_json(as_json, values)


def search(
    predicted: Predicted,
    truth: Truth,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Thresholds to try (default 0.1, 0.15, ... 0.9); several times."),
    ] = None,
    min_voxels: Annotated[
        list[int] | None,
        typer.Option(help="Least sizes to try (default 1, 25, 50, 100, 200, 400); several times."),
    ] = None,
    connectivity: Annotated[
        list[int] | None,
        typer.Option(help="Connectivities to try (default 6, 18 and 26); several times."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(help="Write the best into the [label] section of this cnapse.toml."),
    ] = None,
    resolution: ResolutionOption = None,
    kind: KindOption = None,
    truth_kind: TruthKind = None,
    true_min_voxels: TrueMin = 1,
    gap_nm: GapNm = 0.0,
    start: Start = None,
    stop: Stop = None,
    ignore: IgnoreOption = None,
    border: Border = (0, 0, 0),
    skip_touching: SkipTouching = False,
    min_iou: MinIou = 0.1,
    seed: Seed = 0,
    as_json: Json = None,
) -> None:
    """Threshold, connectivity and least size of the best object F1 against a truth."""
    from cnapse.analysis.detection_report import search_report
    from cnapse.analysis.detection_scores import MatchRule
    from cnapse.analysis.detection_sweep import best, spread, sweep

    comparison = _comparison(
        predicted, truth, resolution, _kind(kind), _kind(truth_kind), {}, true_min_voxels,
        start, stop, ignore, border, gap_nm,
    )  # fmt: skip
    rule = MatchRule("overlap", min_iou, skip_touching)
    trials = sweep(
        comparison.of_the_map(),
        rule,
        spread(0.1, 0.9) if threshold is None else threshold,
        connectivities=connectivity or [6, 18, 26],
        min_voxels=min_voxels or [1, 25, 50, 100, 200, 400],
        seed=seed,
    )
    print(search_report(trials, rule.name))
    write_json(as_json, {"trials": [trial.to_dict() for trial in trials]})
    top = best(trials)
    if top is None:
        if write is not None:
            raise ConfigError(f"no trial has an F1: {write} was left alone")
        return
    _settle(write, top)


def _settle(write: Path | None, top: Trial) -> None:
    """Write the best trial, or say what to write."""
    from cnapse.analysis.detection_settings import label_lines, write_label_section

    chosen = {
        "threshold": top.cut.threshold,
        "connectivity": top.cut.connectivity,
        "min_voxels": top.cut.min_voxels,
    }
    lines = "\n".join(label_lines(chosen))
    if write is None:
        print(f"\nfor cnapse.toml (or let --write cnapse.toml do it):\n\n{lines}")
        return
    from cnapse.config import load_config

    if load_config(write).label.binary:
        raise ConfigError(f"{write}: label.binary = true has no threshold: take it out first")
    write_label_section(write, chosen)
    print(f"\nwritten to {write}:\n\n{lines}")


# --- what is compared -----------------------------------------------------------------------------


def _comparison(
    predicted: str,
    truth: str,
    resolution: Resolution | None,
    kind: Kind | None,
    truth_kind: Kind | None,
    set_by_hand: Mapping[str, Any],
    true_min_voxels: int,
    start: Three | None,
    stop: Three | None,
    ignore: str | None,
    border: Three,
    gap_nm: float,
) -> Comparison:
    """Open everything and bring it to one box."""
    from cnapse.analysis.detection_evaluation import Comparison, Side, ignored_voxels
    from cnapse.analysis.detection_inputs import common_box, kind_of, open_volume
    from cnapse.analysis.detection_objects import Cut

    given = {name: value for name, value in set_by_hand.items() if value is not None}
    if predicted.endswith(".toml"):
        side, levels, map_cut = _of_run(predicted, resolution, kind, given)
    else:
        volume = open_volume(predicted, resolution)
        known = kind_of(volume, kind, truth=False)
        side = Side(volume, known, Cut(**given))
        levels, map_cut = (volume if known == "probability" else None), None
    if min(border) < 0:
        raise ConfigError(f"--border must be at least 0 voxels, not {border}")
    voxel = side.volume.bounds.resolution
    true = open_volume(truth, voxel)
    true_side = Side(true, kind_of(true, truth_kind, truth=True), Cut(min_voxels=true_min_voxels))
    box = common_box(side.volume, true, start, stop)
    mask = None if ignore is None else open_volume(ignore, voxel)
    hidden = ignored_voxels(mask, border, box)
    side, true_side = (replace(one, gap_nm=gap_nm) for one in (side, true_side))
    return Comparison(side, true_side, box, levels, hidden, map_cut=map_cut)


def _kind(name: KindName | TruthKindName | None) -> Kind | None:
    kinds: dict[str, Kind] = {"probability": "probability", "labels": "labels", "mask": "mask"}
    return None if name is None else kinds[name.value]


def _of_run(
    path: str, resolution: Resolution | None, kind: Kind | None, given: Mapping[str, Any]
) -> tuple[Side, Volume | None, Cut]:
    """A run's objects, its probability and its cut; objects anew where a parameter was given."""
    from cnapse.analysis.detection_evaluation import Side
    from cnapse.analysis.detection_objects import Cut
    from cnapse.config import load_config

    if kind is not None or resolution is not None:
        raise ConfigError(f"{path} tells what its volumes are: leave out --kind and --resolution")
    config = load_config(path)
    label = config.label
    levels = None if label.binary else _run_layer(config, "probability")
    stated = {
        "threshold": label.threshold,
        "connectivity": label.connectivity,
        "min_voxels": label.min_voxels,
        "max_voxels": label.max_voxels,
    }
    cut = Cut(**{**stated, **given})
    objects = None if given else _run_layer(config, "synapses")
    if objects is not None:
        # Their sizes were judged when they were whole; the box may cut some off.
        return Side(objects, "labels", replace(cut, min_voxels=1, max_voxels=None)), levels, cut
    if levels is None:
        raise LayerNotFoundError(
            f"{path}: neither its layer synapses nor its probability is there: run it first"
        )
    return Side(levels, "probability", cut), levels, cut


def _run_layer(config: Config, name: Literal["image", "probability", "synapses"]) -> Volume | None:
    """A layer of a run, if it is there."""
    from cnapse.analysis.detection_inputs import open_volume
    from cnapse.runs import RunData

    given = getattr(config.layers, name)
    path = given.path if given else f"{config.output}/{name}"
    try:
        channel = RunData(config).probability_channel if name == "probability" else None
        fill = bool(given and given.fill_missing)
        return open_volume(path, config.resolution, fill_missing=fill, channel=channel)
    except LayerNotFoundError:
        if given:
            raise
        return None


# --- what is written ------------------------------------------------------------------------------


def _draw_curve(
    path: Path | None,
    trials: Sequence[Trial],
    result: DetectionEvaluation,
    rule: MatchRule,
    comparison: Comparison,
) -> None:
    if path is None or result.counts.levels is None:
        return
    from cnapse.analysis.detection_curve import draw_curve

    names = f"{Path(comparison.predicted.volume.name).name} against "
    names += Path(comparison.truth.volume.name).name
    drawn = draw_curve(
        trials,
        result.counts.levels,
        rule.name,
        title=names,
        threshold=comparison.predicted.cut.threshold,
    )
    _put(path, drawn)


def _draw_gallery(
    path: Path | None,
    predicted: str,
    image: str | None,
    comparison: Comparison,
    result: DetectionEvaluation,
    most: int,
) -> None:
    if path is None:
        if image is not None:
            raise ConfigError("--image is for the gallery: give --gallery FILE.png, too")
        return
    from cnapse.analysis.detection_gallery import draw_errors, error_tiles
    from cnapse.analysis.detection_inputs import open_volume
    from cnapse.config import load_config

    em = None
    if image is not None:
        em = open_volume(image, comparison.box.resolution)
    elif predicted.endswith(".toml"):
        config = load_config(predicted)
        em = _run_layer(config, "image") if config.layers.image else None
    false, missed = error_tiles(comparison, result, em, most)
    score = result.matched[0].score
    title = f"Errors of detection, matched within {result.matched[0].rule.name}"
    totals = (score.false_positives, score.false_negatives)
    _put(path, draw_errors(false, missed, title=title, totals=totals))


def _put(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise storage_error(error, path) from error
    print(f"\ndrawn: {path}")
