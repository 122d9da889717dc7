"""`cnapse view`: a run in Neuroglancer, served from this machine."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from typing import Annotated

import typer

from cnapse_cli.seeing import (
    CellName,
    ConfigPath,
    Place,
    SynapseId,
    aim_of,
    known,
    tables_if_any,
)

__all__ = ["view"]


def view(
    config: ConfigPath,
    synapse: SynapseId = None,
    cell: CellName = None,
    position: Place = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 0,
    bind: Annotated[
        str, typer.Option(help="Address to listen on; another lets other machines in.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Show a run in Neuroglancer, served from this machine; needs no internet."""
    from cnapse.runs import open_run
    from cnapse.viewing.additions import additions_of
    from cnapse.viewing.exhibit import Exhibit, fitting, measured_contrast, present_layers
    from cnapse.viewing.scene import View
    from cnapse.viewing.server import LayerServer

    run = open_run(config)
    paths = present_layers({name: run.layer_path(name) for name in known(run)})
    exhibit = Exhibit(paths, fitting(additions_of(run.config.output), paths))
    aim = aim_of(run, synapse, cell, position)
    look = View(
        contrast=measured_contrast(run.layer("image"), aim.position_nm)
        if "image" in paths
        else None,
        channel=run.probability_channel if "probability" in paths else 0,
        binary=run.config.label.binary,
    )
    with (
        contextlib.suppress(KeyboardInterrupt),
        LayerServer(exhibit.folders, port=port, bind=bind) as server,
    ):
        address = exhibit.show(
            server, run.config.resolution, aim, connections=tables_if_any(run), view=look
        )
        typer.echo(f"{', '.join(paths)} at\n{address}")
        if server.for_others:
            typer.echo("Warning: whoever has this link can read these layers, from other machines.")
        typer.echo("Ctrl-C stops serving.")
        if browser:
            webbrowser.open(address)
        threading.Event().wait()
    typer.echo("\nstopped")
