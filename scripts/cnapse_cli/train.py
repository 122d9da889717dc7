"""`cnapse train`: a model bundle from annotated volumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train"]


def train(
    config: Annotated[Path, typer.Argument(help="Training file (TOML).")],
    redo: Annotated[
        bool, typer.Option("--redo", help="Start over, instead of going on where it stopped.")
    ] = False,
) -> None:
    """Train the network on annotated volumes and write a model bundle."""
    from cnapse.detection.settings import load_train_config

    settings = load_train_config(config)

    from cnapse.detection.training import train as train_model

    result = train_model(settings, redo=redo, progress=sys.stderr.isatty())
    if result.stopped is not None:
        print(f"stopped at step {result.stopped}: nothing better since step {result.step}")
    if result.score is not None:
        objects = result.score.objects
        print(
            f"object F1 {result.score.object_f1:.3f} ({objects.true_positives} found, "
            f"{objects.false_positives} false, {objects.false_negatives} missed), voxel F1 "
            f"{result.score.voxel_f1:.3f} at step {result.step}"
        )
    print(f"model written to {settings.output}")
