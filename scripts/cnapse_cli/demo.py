"""`cnapse demo`: the whole pipeline on tissue that it makes itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cnapse.errors import LayerExistsError

__all__ = ["demo"]

_CONFIG = """\
# The demo's run. Change it and say: cnapse run {file} --redo
output = "run"
resolution = [4, 4, 50]        # nm

[layers]
image = "tissue/image"
cells = "tissue/cells"

[detect]
model = "phantom"              # shipped with cnapse: trained on such tissue of other seeds

[label]
threshold = 0.5
min_voxels = 60
"""
_COLUMNS = ["syn_id", "pre_id", "post_id", "x_pos", "y_pos", "z_pos", "size", "share"]


def demo(
    output: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path("demo"),
    shape: Annotated[tuple[int, int, int], typer.Option(help="Voxels X Y Z.")] = (512, 512, 40),
    seed: Annotated[int, typer.Option(help="Another seed, another tissue.", min=0)] = 2026,
    workers: Annotated[
        int | None, typer.Option(help="Processes. Default: one per core.", min=1)
    ] = None,
) -> None:
    """Make synthetic tissue, find its synapses and partners, compare with the truth."""
    from cnapse.config import load_config
    from cnapse.phantom import PhantomSpec
    from cnapse.runs import open_run
    from cnapse.tables import read_table
    from cnapse_cli import evaluate, picture, run
    from cnapse_cli.phantom import write_phantom

    started = time.monotonic()
    config_file = output / "cnapse.toml"
    if config_file.exists():
        print(f"{config_file} is there already: going on with it")
    elif output.exists() and any(output.iterdir()):
        raise LayerExistsError(f"{output} is not empty, and no demo: choose another folder")
    else:
        output.mkdir(parents=True, exist_ok=True)
    if not (output / "tissue/truth/partners.csv").exists():
        print("1. Synthetic serial-section tissue, with known synapses")
        write_phantom(PhantomSpec(shape=shape, seed=seed), output / "tissue", overwrite=True)
    config_file.write_text(_CONFIG.format(file=config_file))
    print(f"2. cnapse run {config_file}")
    config = load_config(config_file)
    run.run(config_file, workers=workers)
    table = read_table(f"{config.output}/tables/partners")
    print(f"\n3. The synapse table: {len(table)} rows, {output}/run/partners.csv")
    print(table[_COLUMNS].head(8).to_string(index=False))
    print("\n4. Compared with the truth")
    evaluate.evaluate(config_file, truth=output / "tissue/truth")
    drawn = picture.draw(open_run(config), output / "synapse.png")
    print(f"\n5. A picture of synapse {drawn}: {output / 'synapse.png'}")
    print(f"   See it in Neuroglancer: cnapse view {config_file} --synapse {drawn}")
    print(f"   ({time.monotonic() - started:.0f} s)")
