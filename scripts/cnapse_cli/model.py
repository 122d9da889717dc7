"""`cnapse model`: bundles from checkpoints made elsewhere, and what is in a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cnapse.errors import ConfigError, LayerExistsError

__all__ = ["app", "import_model", "info"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Models: import a checkpoint, show what a model is.",
)


@app.command("import")
def import_model(
    checkpoint: Annotated[
        Path, typer.Argument(help="State dict, as torch saves it.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the model.", show_default=False)
    ],
    resolution: Annotated[
        tuple[float, float, float],
        typer.Option(
            metavar="X Y Z", help="Voxel size in nm that it was trained at.", show_default=False
        ),
    ],
    sample: Annotated[
        str | None,
        typer.Option(help="Image to freeze the statistics on: a layer or a file."),
    ] = None,
    statistics: Annotated[
        Literal["frozen", "tile"],
        typer.Option(
            help="Frozen on the sample (tiles leave no trace), or those of each tile as published."
        ),
    ] = "frozen",
    name: Annotated[str, typer.Option(help="What to call it; default the file's name.")] = "",
    device: Annotated[str, typer.Option(help="Where to pool the statistics.")] = "cpu",
    windows: Annotated[int, typer.Option(help="Windows of the sample.", min=1)] = 16,
    window_size: Annotated[int, typer.Option(help="Their side in px.", min=16)] = 512,
    seed: Annotated[int, typer.Option(help="Of their places.", min=0)] = 0,
    tile: Annotated[
        tuple[int, int] | None, typer.Option(metavar="X Y", help="Pixels predicted at a time.")
    ] = None,
    halo: Annotated[int | None, typer.Option(help="Pixels around a tile.", min=0)] = None,
    architecture: Annotated[
        str,
        typer.Option(
            help='"detectem", "unet", or your own as module:Class, whose code is then run.'
        ),
    ] = "detectem",
    options: Annotated[str, typer.Option(help="Keyword arguments of the network, as JSON.")] = "{}",
    sections: Annotated[
        int, typer.Option(help="Neighbouring sections that it is shown; odd.", min=1)
    ] = 1,
    class_names: Annotated[
        list[str] | None,
        typer.Option("--class", help="What an output is; once for each. Default synapse."),
    ] = None,
    mean: Annotated[
        float | None, typer.Option(help="Grey value to take off, with --std. Default grey / 255.")
    ] = None,
    std: Annotated[float | None, typer.Option(help="Grey values to divide by.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model in that folder.")
    ] = False,
) -> None:
    """Make a model of a checkpoint: of detectEM (Cnapse), or of a network of your own."""
    if (output / "model.json").exists() and not overwrite:
        raise LayerExistsError(f"{output} holds a model already: give --overwrite to replace it")
    given = _parsed(options)

    from cnapse.detection.checkpoint import save_bundle
    from cnapse.detection.description import written
    from cnapse.detection.importing import ImportSpec, import_checkpoint
    from cnapse.detection.normalization import ImageNormalization
    from cnapse.detection.sampling import SampleSpec

    normalization = ImageNormalization()
    if (mean is None) != (std is None):
        raise ConfigError("give both --mean and --std, or neither")
    if mean is not None and std is not None:
        normalization = ImageNormalization("standard", mean, std)
    spec = ImportSpec(
        resolution=resolution,
        architecture=architecture,
        options=given,
        statistics=statistics,
        sections=sections,
        classes=tuple(class_names or ["synapse"]),
        normalization=normalization,
        tile=tile,
        halo=halo,
        name=name,
    )
    sampling = SampleSpec(windows, window_size, seed)
    bundle = import_checkpoint(checkpoint, spec, sample=sample, sampling=sampling, device=device)
    bundle = bundle.half() if half else bundle
    save_bundle(bundle, output)
    print(written(bundle))
    print(f"model written to {output}")


@app.command()
def info(
    model: Annotated[
        str, typer.Argument(help="A model's folder, or a shipped one's name.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show a model: network, what it sees, tiles, norms, training data, score, where it is from."""
    from cnapse.detection.checkpoint import load_bundle
    from cnapse.detection.description import described, written

    bundle = load_bundle(model)
    if as_json:
        print(json.dumps(described(bundle), indent=1, allow_nan=False))
    else:
        print(written(bundle))


def _parsed(options: str) -> dict[str, Any]:
    try:
        found = json.loads(options)
    except ValueError as error:
        raise ConfigError(f"--options {options!r} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f'--options {options!r}: give a table, as {{"width": 8}}')
    return found
