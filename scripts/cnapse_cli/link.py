"""`cnapse link`: the address that shows a run to everyone, for layers that are public."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cnapse.errors import ConfigError
from cnapse_cli.seeing import CellName, ConfigPath, Place, SynapseId, aim_of

if TYPE_CHECKING:
    from cnapse.runs import RunData
    from cnapse.viewing.scene import Json

__all__ = ["link"]

# What a viewer fetches a state from.
_FETCHED = ("gs://", "s3://", "http://", "https://")


def link(
    config: ConfigPath,
    synapse: SynapseId = None,
    cell: CellName = None,
    position: Place = None,
    viewer: Annotated[
        str | None,
        typer.Option(
            help="neuroglancer, spelunker, or any other's address; default link.viewer.",
            show_default=False,
        ),
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="Keep the scene in a file of the output.")
    ] = False,
) -> None:
    """Print the address that shows a run, a synapse or a cell to everyone: for public layers."""
    from cnapse.runs import open_run
    from cnapse.viewing.scene import link as link_to

    run = open_run(config)
    page = viewer or run.config.link.viewer
    public = _public_layers(run)
    if not page or not any(public.values()):
        raise ConfigError(
            f"{config}: nothing is public: give addresses of layers as link.image, link.cells and "
            "link.synapses (gs://, s3:// or https://), or use `cnapse view`"
        )
    state = _state(run, public, synapse, cell, position)
    typer.echo(link_to(page, _kept(run, state) if short else state))


def _public_layers(run: RunData) -> dict[str, str]:
    from cnapse.viewing.scene import LAYERS

    return {name: getattr(run.config.link, name, "") for name in LAYERS}


def _state(
    run: RunData,
    public: Mapping[str, str],
    synapse: int | None,
    cell: str | None,
    position: tuple[float, float, float] | None,
) -> Json:
    from cnapse.viewing.scene import View, scene

    aim = aim_of(run, synapse, cell, position)
    return scene(
        public,
        run.config.resolution,
        aim.position_nm,
        aim.selection,
        view=View(nm_per_pixel=aim.nm_per_pixel, shown=aim.shown),
        additions=_public_additions(run),
    )


def _public_additions(run: RunData) -> dict[str, Sequence[str]]:
    """Lines, names and meshes of the output, by its public address."""
    from cnapse.viewing.additions import additions_of

    public, output = run.config.link.output.rstrip("/"), run.config.output
    if not public:
        return {}
    return {
        layer: [public + path.removeprefix(output) for path in paths]
        for layer, paths in additions_of(output).items()
    }


def _kept(run: RunData, state: Json) -> str:
    """Keep the scene in the output; the address of its file."""
    from cnapse.viewing.state import write_state

    output = run.config.output
    public = run.config.link.output.rstrip("/") or output
    if not public.startswith(_FETCHED):
        raise ConfigError(
            f"--short: no browser elsewhere can read {output}: give its public address as "
            "link.output (gs://, s3:// or https://), or leave out --short"
        )
    return f"{public}/{write_state(output, state)}"
