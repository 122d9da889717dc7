"""What commands that show a run have in common: their options, and what to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnapse.errors import ConfigError, RunStateError

if TYPE_CHECKING:
    from cnapse.geometry import Resolution
    from cnapse.runs import LayerName, RunData
    from cnapse.viewing.connections import Connections
    from cnapse.viewing.exhibit import Aim

__all__ = ["CellName", "ConfigPath", "Place", "SynapseId", "aim_of", "known", "tables_if_any"]

ConfigPath = Annotated[Path, typer.Argument(help="The run's cnapse.toml.", show_default=False)]
SynapseId = Annotated[
    int | None, typer.Option("--synapse", help="A synapse, with its cells.", show_default=False)
]
CellName = Annotated[
    str | None,
    typer.Option("--cell", help="A cell by name or id, with its synapses.", show_default=False),
]
Place = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--position", metavar="X Y Z", help="A place, in nm.", show_default=False),
]

_NAMES: tuple[LayerName, ...] = ("image", "probability", "cells", "synapses")


def tables_if_any(run: RunData) -> Connections | None:
    """The tables of a run; None where there are none yet."""
    try:
        return run.connections
    except RunStateError:
        return None


def known(run: RunData) -> list[LayerName]:
    """Layers that are given or that a run makes."""
    made: tuple[LayerName, ...] = ("probability", "synapses")
    return [name for name in _NAMES if run.given(name) or name in made]


def aim_of(
    run: RunData,
    synapse: int | None,
    cell: str | None,
    position: tuple[float, float, float] | None,
) -> Aim:
    """What the options ask for; by default everything, around a synapse.

    Raises
    ------
    ConfigError
        If they ask for more than one thing.
    BoundsError
        If a position lies outside of the volume: there is nothing to be seen.
    """
    from cnapse.viewing.cutout import check_place
    from cnapse.viewing.exhibit import Aim

    if sum(option is not None for option in (synapse, cell, position)) > 1:
        raise ConfigError("give one of --synapse, --cell and --position")
    if synapse is not None:
        return Aim.at_synapse(run.connections, synapse)
    if cell is not None:
        found = run.connections
        return Aim.at_cell(found, found.cell_id(cell))
    if position is not None:
        check_place(position, run.frame, run.layer_path(run.first_layer))
        return Aim(position)
    return Aim.over(run.frame, _middle(run))


def _middle(run: RunData) -> Resolution:
    """A synapse worth looking at; the middle of the volume where there is none."""
    connections = tables_if_any(run)
    if connections is not None and not connections.synapses.empty:
        return connections.position_nm(connections.well_partnered())
    frame = run.frame
    x, y, z = ((a + b) / 2 for a, b in zip(frame.start_nm, frame.stop_nm, strict=True))
    return x, y, z
