"""`cnapse report`: a page about a run that can be sent to somebody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnapse.config import load_config
from cnapse_cli.seeing import ConfigPath

__all__ = ["report"]


def report(
    config: ConfigPath,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="HTML file to write. Default: report.html in the run's output.",
            show_default=False,
        ),
    ] = None,
    pictures: Annotated[
        int, typer.Option(help="Synapses at random, and as many doubtful ones.", min=0, max=200)
    ] = 12,
    seed: Annotated[int, typer.Option(help="Chooses those at random.", min=0)] = 0,
) -> None:
    """Write a page about a run: what was done, what it found, and what looks doubtful."""
    from cnapse.analysis.report.page import Options, write_report
    from cnapse_tasks.history import run_history
    from cnapse_tasks.run import Run

    run = Run(load_config(config))
    options = Options(pictures=pictures, seed=seed)
    path = write_report(run, run_history(run), options, output or "")
    typer.echo(f"report: {path.removeprefix('file://')}")
