"""`cnapse evaluate`: a run against what is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnapse.config import Config, load_config
from cnapse.errors import ConfigError, LayerNotFoundError

if TYPE_CHECKING:
    import pandas as pd

    from cnapse.analysis.evaluation import Evaluation, ObjectMatch

__all__ = ["evaluate", "evaluate_run"]


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
    """Precision, recall and F1 of the objects and of the sets of partners."""
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
    if as_json is not None:
        as_json.write_text(json.dumps(result.to_dict(), indent=1) + "\n")


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
    from cnapse.analysis.evaluation import Evaluation, match_by_distance, partner_scores
    from cnapse.tables import read_table

    true_synapses = None if synapses is None else read_table(synapses)
    if objects is not None:
        match = _match_layers(config, objects, min_iou)
    elif true_synapses is not None:
        found = _table(config, "synapses")
        places = ["x_pos", "y_pos", "z_pos"]
        match = match_by_distance(
            found[places], true_synapses[places], max_distance_nm,
            found["syn_id"], true_synapses["syn_id"],
        )  # fmt: skip
    else:
        raise ConfigError("nothing to compare with: give --truth, --objects or --synapses")
    if partners is None:
        return Evaluation(match)
    return Evaluation(
        match,
        partner_scores(
            match,
            _table(config, "partners"),
            read_table(partners),
            predicted_synapses=_table(config, "synapses"),
            true_synapses=true_synapses,
        ),
    )


def _match_layers(config: Config, objects: str, min_iou: float) -> ObjectMatch:
    """Count overlaps block by block, and match."""
    from cnapse.analysis.evaluation import match_overlaps, merge_overlaps, overlaps
    from cnapse.geometry import Grid
    from cnapse.volumes.reader import open_layer

    path = config.layers.synapses.path if config.layers.synapses else f"{config.output}/synapses"
    found = open_layer(path, resolution=config.resolution, kind="segmentation")
    true = open_layer(objects, resolution=config.resolution, kind="segmentation")
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
