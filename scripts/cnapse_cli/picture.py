"""`cnapse picture`: a synapse, a cell's synapses or a sample of all as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from cnapse.errors import ConfigError
from cnapse_cli.seeing import CellName, ConfigPath, SynapseId

if TYPE_CHECKING:
    from cnapse.runs import RunData

__all__ = ["draw", "picture"]


def picture(
    config: ConfigPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")] = Path(
        "synapse.png"
    ),
    synapse: SynapseId = None,
    cell: CellName = None,
    sheet: Annotated[
        int | None,
        typer.Option(help="A contact sheet of so many synapses.", min=1, show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the synapses of a contact sheet.")] = 0,
) -> None:
    """Draw a synapse, a cell's synapses (--cell), or a sample of all (--sheet)."""
    from cnapse.runs import open_run

    if synapse is not None and (cell is not None or sheet is not None):
        raise ConfigError("give --synapse alone, or --cell and --sheet")
    if output.suffix.lower() != ".png":
        raise ConfigError(f"--output {output}: a picture is written as .png")
    run = open_run(config)
    if cell is None and sheet is None:
        print(f"synapse {draw(run, output, synapse)} drawn in {output}")
        return
    print(f"{_draw_sheet(run, output, cell, sheet, seed)} synapses drawn in {output}")


def draw(run: RunData, output: Path, synapse: int | None = None) -> int:
    """Draw one synapse of a run, a well-partnered one by default; which it was."""
    from cnapse.viewing.picture import draw_run_picture

    syn_id = run.connections.well_partnered() if synapse is None else synapse
    draw_run_picture(run, [syn_id], output)
    return syn_id


def _draw_sheet(
    run: RunData,
    output: Path,
    cell: str | None,
    sheet: int | None,
    seed: int,
) -> int:
    from cnapse.viewing.picture import draw_run_picture

    connections = run.connections
    most = sheet or 25
    if cell is None:
        title = "Synapses"
        chosen = _sample([int(i) for i in connections.synapses["syn_id"]], most, seed)
    else:
        found = connections.synapses_of(connections.cell_id(cell))
        chosen = found[:most]
        title = f"{cell}: {len(chosen)} of {len(found)} synapses"
    draw_run_picture(run, chosen, output, title=title)
    return len(chosen)


def _sample(ids: list[int], count: int, seed: int) -> list[int]:
    """Some of the ids, in their order."""
    order = np.random.default_rng(seed).permutation(len(ids))[:count]
    return [ids[i] for i in np.sort(order)]
