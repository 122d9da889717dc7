"""`cnapse train`: a recipe to a model bundle."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

if TYPE_CHECKING:
    from cnapse.detection.training import Judgement

__all__ = ["train"]


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, train.toml.", show_default=False)],
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, whatever checkpoint is there.")
    ] = False,
) -> None:
    """Train a network and write its model bundle; an interrupted training goes on."""
    # Threads that spin while they wait slow each other down on a busy machine; read by OpenMP
    # when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from cnapse.detection.recipe import load_recipe
    from cnapse.detection.training import Progress
    from cnapse.detection.training import train as train_network
    from cnapse.store import Store

    parsed = load_recipe(recipe)
    steps = parsed.optimizer.steps
    with tqdm(total=steps, desc="train", unit="step", file=sys.stderr, smoothing=0.1) as bar:

        def report(progress: Progress) -> None:
            if bar.n == 0 and progress.step > 1:
                bar.initial = bar.n = progress.step - 1
            bar.update(progress.step - bar.n)
            bar.set_postfix_str(f"loss {progress.loss:.3f}", refresh=False)
            if progress.judgement is not None:
                bar.write(f"step {progress.step}: {_told(progress.judgement)}", file=sys.stderr)

        command = f"cnapse train {recipe.name}"
        bundle = train_network(
            parsed, provenance={"command": command}, restart=restart, report=report
        )
    Store(parsed.output).put("train.toml", recipe.read_bytes())
    score = bundle.provenance["score"] if bundle is not None else None
    print(f"model bundle: {parsed.output}")
    if score is not None:
        print(f"validation: object F1 {score['object_f1']:.3f}, voxel F1 {score['voxel_f1']:.3f}")


def _told(judgement: Judgement) -> str:
    return (
        f"object F1 {judgement.object_f1:.3f} ({judgement.objects_found} found, "
        f"{judgement.objects_false} false, {judgement.objects_missed} missed), "
        f"voxel F1 {judgement.voxel_f1:.3f}"
    )
