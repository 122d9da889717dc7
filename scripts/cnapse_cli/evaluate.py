"""`cnapse evaluate`: what was predicted against what is true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cnapse.config import Config, load_config
from cnapse.errors import ConfigError, LayerNotFoundError
from cnapse_cli.evaluate_detection import detection, search
from cnapse_cli.evaluate_review import review
from cnapse_cli.figures import write_json

if TYPE_CHECKING:
    import pandas as pd

    from cnapse.analysis.evaluation import Evaluation
    from cnapse.analysis.matching import ObjectMatch
    from cnapse.analysis.partner_evaluation import Matching, PartnerEvaluation
    from cnapse.analysis.synapse_set import SynapseSet
    from cnapse.geometry import Resolution

__all__ = ["app", "evaluate", "evaluate_run", "partners"]

_DEFAULT = "run"


class _RunByDefault(TyperGroup):
    """`cnapse evaluate cnapse.toml` is short for `cnapse evaluate run cnapse.toml`."""

    # The context's class is typer's own copy of click's or click's, by typer's version.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        word = args[0] if args else ""
        # Another word that is no file is a command that was misspelt: the nearest is told.
        is_for_run = word.startswith("-") or "." in word or Path(word).exists()
        if word and is_for_run and word not in {*self.commands, *ctx.help_option_names}:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Compare with what is true: a run, densities, or tables of partners.\n\n"
    "`cnapse evaluate cnapse.toml --truth DIR` is short for `cnapse evaluate run cnapse.toml "
    "--truth DIR`.",
)


@app.command(_DEFAULT)
def evaluate(
    config: Annotated[Path, typer.Argument(help="The run's cnapse.toml.", show_default=False)],
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Folder with a layer `objects`, `synapses.csv` and `partners.csv`, as "
            "`cnapse phantom` writes it; any of them may be missing."
        ),
    ] = None,
    objects: Annotated[
        str | None, typer.Option(help="True synapse objects: a precomputed layer.")
    ] = None,
    synapses: Annotated[
        Path | None, typer.Option(help="True synapses: syn_id, pre_id, x_pos, y_pos, z_pos.")
    ] = None,
    partners: Annotated[
        Path | None, typer.Option(help="True partners: syn_id, pre_id, post_id.")
    ] = None,
    min_iou: Annotated[
        float, typer.Option(help="Least overlap (IoU) of objects that match.", min=0, max=1)
    ] = 0.1,
    max_distance: Annotated[
        float, typer.Option(help="Largest distance in nm, where there is no layer of objects.")
    ] = 300.0,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write the scores to this file.")
    ] = None,
) -> None:
    """A run in short: precision, recall and F1 of its objects and of its sets of partners."""
    if truth is not None:
        if not truth.is_dir():
            raise LayerNotFoundError(f"--truth {truth}: no such folder")
        objects = objects or _if_there(truth / "objects")
        synapses = synapses or _path_if_there(truth / "synapses.csv")
        partners = partners or _path_if_there(truth / "partners.csv")
    result = evaluate_run(
        load_config(config),
        objects=objects,
        synapses=synapses,
        partners=partners,
        min_iou=min_iou,
        max_distance_nm=max_distance,
    )
    print(result.to_text())
    write_json(as_json, result.to_dict())


app.command("detection")(detection)
app.command("search")(search)
app.command("review")(review)


@app.command("partners")
def partners(
    predicted: Annotated[
        str,
        typer.Argument(
            help="A run's cnapse.toml, a run's folder, a folder with tables `synapses` and "
            "`partners`, or a table of partners (.csv, .parquet, or a folder of parts).",
            metavar="PREDICTED",
            show_default=False,
        ),
    ],
    truth: Annotated[
        str,
        typer.Argument(
            help="The truth: a folder or a table, likewise.", metavar="TRUTH", show_default=False
        ),
    ],
    synapses: Annotated[
        str | None,
        typer.Option(
            help="Predicted synapses, where PREDICTED is a table of partners: adds those without."
        ),
    ] = None,
    true_synapses: Annotated[
        str | None, typer.Option(help="True synapses, where TRUTH is a table of partners.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Another prediction, to be shown beside: a table of partners or a folder, such as "
            "the cells that merely touch."
        ),
    ] = None,
    distance: Annotated[
        list[float] | None,
        typer.Option(
            help="Synapses match up to this distance in nm; may be given several times "
            "(default 100, 200, 300 and 400, or none with --objects)."
        ),
    ] = None,
    objects: Annotated[
        str | None,
        typer.Option(help="True synapse objects, a precomputed layer: match by overlap, too."),
    ] = None,
    predicted_objects: Annotated[
        str | None,
        typer.Option(help="Predicted synapse objects; the run's own if PREDICTED is cnapse.toml."),
    ] = None,
    min_iou: Annotated[
        float, typer.Option(help="Least overlap (IoU) of objects that match.", min=0, max=1)
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the 95 % intervals.", min=0)] = 0,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write all figures to this file.")
    ] = None,
) -> None:
    """Synapses, presynaptic cells, sets of partners, shares, and edges from cell to cell.

    The cell ids of both sides must be those of one segmentation. What each figure means is in
    docs/evaluation.md.
    """
    from cnapse.analysis.partner_evaluation import Comparison, evaluate_partners, match_places
    from cnapse.analysis.partner_report import report
    from cnapse.analysis.sources import read_synapses

    ours = read_synapses("predicted", predicted, synapses)
    true = read_synapses("true", truth, true_synapses)
    limits = distance or ([] if objects else [100.0, 200.0, 300.0, 400.0])
    by_overlap = _by_overlap(predicted, predicted_objects, objects, min_iou)
    matchings = [*by_overlap, *match_places(ours, true, limits)]
    comparison = Comparison(
        n_synapses=len(true.ids),
        n_partners=len(true.row),
        predicted=evaluate_partners(ours, true, matchings, seed=seed),
        baseline=None if baseline is None else _baseline(baseline, ours, true, matchings, seed),
    )
    print(report(comparison))
    write_json(as_json, comparison.to_dict())


def evaluate_run(
    config: Config,
    *,
    objects: str | None,
    synapses: Path | None,
    partners: Path | None,
    min_iou: float = 0.1,
    max_distance_nm: float = 300.0,
) -> Evaluation:
    """Score what a run made against a layer of objects or a table of places, and partners."""
    from cnapse.analysis.evaluation import Evaluation
    from cnapse.analysis.matching import match_by_distance
    from cnapse.analysis.partner_scores import partner_scores
    from cnapse.analysis.synapse_set import SynapseSet
    from cnapse.tables import read_table

    true_synapses = None if synapses is None else read_table(synapses)
    if objects is not None:
        path = config.layers.synapses.path if config.layers.synapses else None
        found = path or f"{config.output}/synapses"
        match = _match_layers(found, objects, min_iou, config.resolution)
    elif true_synapses is not None:
        places = ["x_pos", "y_pos", "z_pos"]
        found_synapses = _table(config, "synapses")
        match = match_by_distance(
            found_synapses[places], true_synapses[places], max_distance_nm,
            found_synapses["syn_id"], true_synapses["syn_id"],
        )  # fmt: skip
    else:
        raise ConfigError("nothing to compare with: give --truth, --objects or --synapses")
    if partners is None:
        return Evaluation(match)
    ours = SynapseSet.from_tables(
        "predicted", _table(config, "partners"), _table(config, "synapses")
    )
    true = SynapseSet.from_tables("true", read_table(partners), true_synapses)
    return Evaluation(match, partner_scores(match, ours, true))


def _by_overlap(
    predicted: str, predicted_objects: str | None, objects: str | None, min_iou: float
) -> list[Matching]:
    """The match by overlap, if there are objects to overlap."""
    from cnapse.analysis.partner_evaluation import Matching

    if objects is None:
        if predicted_objects is not None:
            raise ConfigError("--predicted-objects without --objects: give the true layer, too")
        return []
    resolution = None
    if predicted.endswith(".toml"):
        config = load_config(predicted)
        resolution = config.resolution
        given = config.layers.synapses.path if config.layers.synapses else None
        predicted_objects = predicted_objects or given or f"{config.output}/synapses"
    if predicted_objects is None:
        raise ConfigError(
            "--objects needs the predicted layer: give --predicted-objects, or a cnapse.toml"
        )
    match = _match_layers(predicted_objects, objects, min_iou, resolution)
    return [Matching("overlap", min_iou, match)]


def _baseline(
    path: str, ours: SynapseSet, true: SynapseSet, matchings: Sequence[Matching], seed: int
) -> PartnerEvaluation:
    """Another prediction: with our matches if it is about our synapses, else with its own."""
    from cnapse.analysis.partner_evaluation import (
        evaluate_partners,
        match_places,
        of_the_same_synapses,
    )
    from cnapse.analysis.sources import read_synapses

    own = read_synapses("baseline", path)
    same = of_the_same_synapses(own, ours)
    if same is not None:
        return evaluate_partners(same, true, matchings, seed=seed)
    if any(matching.by == "overlap" for matching in matchings):
        raise ConfigError(
            f"--baseline {path} has other synapses than the predicted ones: it can be matched by "
            "--distance only, without --objects"
        )
    limits = [matching.limit for matching in matchings]
    return evaluate_partners(own, true, match_places(own, true, limits), seed=seed)


def _match_layers(
    predicted: str, objects: str, min_iou: float, resolution: Resolution | None
) -> ObjectMatch:
    """Count overlaps block by block, and match."""
    from cnapse.analysis.matching import match_overlaps, merge_overlaps, overlaps
    from cnapse.geometry import Grid
    from cnapse.volumes.reader import open_layer

    found = open_layer(predicted, resolution=resolution, kind="segmentation")
    true = open_layer(objects, resolution=found.resolution, kind="segmentation")
    hull = found.bounds.hull(true.bounds)
    blocks = (block.write for block in Grid(hull, (512, 512, 64)))
    counts = merge_overlaps(overlaps(found.read(box), true.read(box)) for box in blocks)
    return match_overlaps(counts, min_iou)


def _table(config: Config, name: str) -> pd.DataFrame:
    from cnapse.tables import read_table

    return read_table(f"{config.output}/tables/{name}")


def _if_there(path: Path) -> str | None:
    return str(path) if path.exists() else None


def _path_if_there(path: Path) -> Path | None:
    return path if path.exists() else None
