"""`cnapse demo`: the whole pipeline on tissue that it makes itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from cnapse.errors import LayerExistsError, TableError
from cnapse.store import Store

__all__ = ["demo"]

_CONFIG = """\
# The demo's run. Change it and say: cnapse run {file} --redo
{made_by}
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
_DECIMALS = {"x_pos": 0, "y_pos": 0, "z_pos": 0, "size": 0, "share": 2}
_ROWS = 8
_MADE_BY = "# Made by: cnapse demo"


def demo(
    output: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path("demo"),
    shape: Annotated[tuple[int, int, int], typer.Option(metavar="X Y Z", help="Voxels.")] = (
        512,
        512,
        40,
    ),
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
    _prepare(output, config_file, f"{_MADE_BY} --shape {' '.join(map(str, shape))} --seed {seed}")
    if not (output / "tissue/truth/partners.csv").exists():
        print("1. Make serial-section tissue whose synapses are known")
        write_phantom(PhantomSpec(shape=shape, seed=seed), output / "tissue", overwrite=True)
    print(f"\n2. Find synapses and partners: cnapse run {config_file}")
    config = load_config(config_file)
    run.run(config_file, workers=workers)
    table = read_table(f"{config.output}/tables/partners")
    if table.empty:
        raise TableError(f"no partners in {shape} voxels: delete {output}, give a larger --shape")
    print("\n3. The table of partners begins so (places in nm, sizes in nm³)")
    print(_first_rows(table))
    print("\n4. Compare with the truth")
    evaluate.evaluate(config_file, truth=output / "tissue/truth")
    print("\n5. Look at one")
    drawn = picture.draw(open_run(config), output / "synapse.png")
    print(f"   a picture of synapse {drawn}: {output / 'synapse.png'}")
    print(f"   in Neuroglancer: cnapse view {config_file} --synapse {drawn}")
    print(f"\nDone in {time.monotonic() - started:.0f} s; all of it is in {output}/")


def _prepare(output: Path, config_file: Path, made_by: str) -> None:
    """Begin a demo in a folder, or go on with the one that is there.

    The configuration comes first, so that a demo that was stopped is known as one.
    """
    if config_file.exists():
        text = config_file.read_text()
        if _MADE_BY in text and made_by not in text.splitlines():
            raise LayerExistsError(
                f"{output} holds a demo of another shape or seed: choose another folder"
            )
        print(f"{config_file} is there already: going on with it")
        return
    if output.exists() and any(output.iterdir()):
        raise LayerExistsError(f"{output} is not empty, and no demo: choose another folder")
    Store(output).put(config_file.name, _CONFIG.format(file=config_file, made_by=made_by).encode())


def _first_rows(table: pd.DataFrame) -> str:
    shown = {
        name: table[name].head(_ROWS).map(lambda v, n=name: f"{v:,.{_DECIMALS[n]}f}")
        if name in _DECIMALS
        else table[name].head(_ROWS).astype(str)
        for name in _COLUMNS
    }
    text = pd.DataFrame(shown).to_string(index=False)
    left = len(table) - _ROWS
    return f"{text}\n... and {left} more rows" if left > 0 else text
