"""`cnapse view` and `cnapse link`: a run in Neuroglancer, from this machine or from the web."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnapse.errors import ConfigError, RunStateError

if TYPE_CHECKING:
    from cnapse.geometry import Resolution
    from cnapse.runs import LayerName, RunData
    from cnapse.viewing.connections import Connections
    from cnapse.viewing.exhibit import Aim

__all__ = ["link", "view"]

ConfigPath = Annotated[Path, typer.Argument(help="The run's cnapse.toml.", show_default=False)]
SynapseId = Annotated[
    int | None, typer.Option("--synapse", help="A synapse, with its cells.", show_default=False)
]
CellName = Annotated[
    str | None,
    typer.Option("--cell", help="A cell by name or id, with its synapses.", show_default=False),
]

_NAMES: tuple[LayerName, ...] = ("image", "probability", "cells", "synapses")


def view(
    config: ConfigPath,
    synapse: SynapseId = None,
    cell: CellName = None,
    position: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="A place, X Y Z in nm.", show_default=False),
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 0,
    bind: Annotated[
        str, typer.Option(help="Address to listen on; another lets other machines in.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Show a run in Neuroglancer, served from this machine; needs no internet."""
    from cnapse.runs import open_run
    from cnapse.viewing.exhibit import exhibit, local_folders, measured_contrast, present_layers
    from cnapse.viewing.server import LayerServer

    run = open_run(config)
    paths = present_layers({name: run.layer_path(name) for name in _known(run)})
    connections = _connections_if_any(run)
    aim = _aim(run, connections, synapse, cell, position)
    contrast = measured_contrast(run.layer("image"), aim.position_nm) if "image" in paths else None
    with (
        contextlib.suppress(KeyboardInterrupt),
        LayerServer(local_folders(paths), port=port, bind=bind) as server,
    ):
        address = exhibit(
            server,
            paths,
            run.config.resolution,
            aim,
            connections=connections,
            contrast=contrast,
            channel=run.probability_channel if "probability" in paths else 0,
        )
        typer.echo(f"{', '.join(paths)} at\n{address}")
        if server.for_others:
            typer.echo("Warning: whoever has this link can read these layers, from other machines.")
        typer.echo("Ctrl-C stops serving.")
        if browser:
            webbrowser.open(address)
        threading.Event().wait()
    typer.echo("\nstopped")


def link(config: ConfigPath, synapse: SynapseId = None) -> None:
    """Print the address that shows a run, or a synapse, to everyone: for public layers."""
    from cnapse.runs import open_run
    from cnapse.viewing.scene import LAYERS, LinkMaker, scene
    from cnapse.viewing.scene import link as address_of

    run = open_run(config)
    section = run.config.link
    public = {name: getattr(section, name, "") for name in LAYERS}
    if not section.viewer or not any(public.values()):
        raise ConfigError(
            f"{config}: nothing is public: give addresses of layers as link.image, link.cells and "
            "link.synapses (gs://, s3:// or https://), or use `cnapse view`"
        )
    resolution = run.config.resolution
    if synapse is None:
        state = scene(public, resolution, _middle(run, _connections_if_any(run)))
        typer.echo(address_of(section.viewer, state))
        return
    connections = run.connections
    picked = connections.selection(synapse)
    place = connections.position_nm(synapse)
    maker = LinkMaker(section, resolution)
    typer.echo(maker.link(place, synapse, picked.pre_id, picked.post_ids))


def _connections_if_any(run: RunData) -> Connections | None:
    try:
        return run.connections
    except RunStateError:
        return None


def _known(run: RunData) -> list[LayerName]:
    """Layers that are given or that a run makes."""
    made: tuple[LayerName, ...] = ("probability", "synapses")
    return [name for name in _NAMES if run.given(name) or name in made]


def _aim(
    run: RunData,
    connections: Connections | None,
    synapse: int | None,
    cell: str | None,
    position: tuple[float, float, float] | None,
) -> Aim:
    """What the options ask for; by default everything, around a synapse."""
    from cnapse.viewing.exhibit import Aim

    if sum(option is not None for option in (synapse, cell, position)) > 1:
        raise ConfigError("give one of --synapse, --cell and --position")
    if synapse is not None:
        return Aim.at_synapse(run.connections, synapse)
    if cell is not None:
        found = run.connections
        return Aim.at_cell(found, found.cell_id(cell))
    if position is not None:
        return Aim(position)
    return Aim.over(run.frame, _middle(run, connections))


def _middle(run: RunData, connections: Connections | None) -> Resolution:
    """A synapse worth looking at; the middle of the volume where there is none."""
    if connections is not None and not connections.synapses.empty:
        return connections.position_nm(connections.well_partnered())
    frame = run.frame
    x, y, z = ((a + b) / 2 for a, b in zip(frame.start_nm, frame.stop_nm, strict=True))
    return x, y, z
