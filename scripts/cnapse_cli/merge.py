"""`cnapse merge`: join objects that are one synapse cut in two, and go on from the joined ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from cnapse.config import load_config
from cnapse.errors import ConfigError, LayerExistsError
from cnapse.geometry import Grid, Triple
from cnapse.store import Store

if TYPE_CHECKING:
    from cnapse.runs import RunData
    from cnapse.synapses.merging import Merges
    from cnapse.volumes.reader import Layer

__all__ = ["config_from_objects", "merge", "merged_config", "write_merged"]

_BLOCK: Triple = (512, 512, 64)
# Pairs that follow each other in the list mostly lie in the same chunks.
_CACHE_BYTES = 1 << 28
_MADE = ("cnapse.toml", "merges.csv", "synapses/info")


def merge(
    config: Annotated[
        Path, typer.Argument(help="The cnapse.toml of a finished run.", show_default=False)
    ],
    gap_nm: Annotated[
        float,
        typer.Option(
            help="Join objects of one presynaptic cell whose nearest voxels are at most so far "
            "apart (nm, from centre to centre).",
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Folder to write to.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the pairs as CSV; write nothing.")
    ] = False,
) -> None:
    """Join objects that are one synapse cut in two; write a layer and a cnapse.toml to go on from.

    The folder gets the layer `synapses`, the list `merges.csv`, and a `cnapse.toml` whose run
    measures the joined objects and finds their partners.
    """
    from cnapse.runs import open_run
    from cnapse.synapses.merging import merges

    if output is None and not dry_run:
        raise ConfigError("-o is missing: give a folder to write to, or --dry-run")
    folder = None if output is None else _free_folder(output)
    run = open_run(load_config(config))
    table, layer = run.synapses, _source(run)
    found = merges(table, layer.read, gap_nm, run.config.resolution)
    kept = len(set(found.mapping.values()))
    said = (
        f"{len(table)} synapses, {len(found.pairs)} pairs within {gap_nm:g} nm: "
        f"{len(found.mapping) + kept} objects become {kept}"
    )
    if dry_run or folder is None:
        sys.stdout.write(_csv(found))
        print(said, file=sys.stderr)
        return
    print(said)
    if not found.mapping:
        print(f"Nothing to join, nothing written: {config} stays as it is")
        return
    write_merged(layer, f"{folder}/synapses", found.mapping, run.config.block or _BLOCK)
    store = Store(folder)
    store.put("merges.csv", _csv(found).encode())
    made = merged_config(run, folder)
    note = f"# `cnapse merge {config} --gap-nm {gap_nm:g}`: joined objects, listed in merges.csv."
    store.put("cnapse.toml", f"{note}\n{made}\n".encode())
    print(f"Then: cnapse run {folder / 'cnapse.toml'}")


def write_merged(
    layer: Layer, destination: str | Path, mapping: Mapping[int, int], block: Triple
) -> None:
    """Write a layer with some ids replaced; it is a layer only once all its chunks are there.

    Parameters
    ----------
    layer : Layer
        Objects; the copy has its bounds, voxel size, chunks, dtype and encoding.
    destination
        Path of the copy. What an earlier call left unfinished there is written over.
    mapping : mapping of int to int
        The id that replaces another one.
    block : (x, y, z)
        What is read and written at once, brought to whole chunks.
    """
    from cnapse.synapses.merging import merged
    from cnapse.volumes.writer import LayerWriter, build_info, commit_info

    info = build_info(
        kind="segmentation",
        dtype=layer.dtype,
        bounds=layer.bounds,
        chunk_size=layer.chunk_size,
        encoding=layer.info["scales"][layer.mip]["encoding"],
    )
    writer = LayerWriter(destination, info)
    x, y, z = (max(1, b // c) * c for b, c in zip(block, layer.chunk_size, strict=True))
    for part in tqdm(Grid(layer.bounds, (x, y, z)), desc="merge    ", unit="block"):
        writer.write(merged(layer.read(part.write), mapping), part.write)
    commit_info(destination, info)


def merged_config(run: RunData, folder: Path) -> str:
    """The text of a configuration that starts from the joined objects in a folder."""
    place = folder.absolute()
    return config_from_objects(run, str(place / "synapses"), str(place / "run"))


def config_from_objects(run: RunData, synapses: str, output: str) -> str:
    """The text of a configuration that starts from other objects.

    Keys are the user's own, with absolute paths. The map that the run made is given as a layer, so
    that objects keep their probabilities; the public address of the old objects is left out.
    """
    from cnapse.viewing.exhibit import present_layers

    values = run.config.model_dump(exclude_unset=True, exclude_none=True)
    path = run.layer_path("probability")
    found = {} if run.given("probability") else present_layers({"probability": path})
    # Detection is over: a mask has done its work.
    given = {name: layer for name, layer in values["layers"].items() if name != "mask"}
    layers = {
        **given,
        **{name: {"path": path} for name in found},
        "synapses": {"path": synapses},
    }
    values |= {"output": output, "layers": layers}
    for name in ("synapses", "output"):
        values.get("link", {}).pop(name, None)
    return _toml(values)


def _free_folder(output: str) -> Path:
    """Refuse a folder in which there is a merge already; one that was left half is done again."""
    if "://" in output:
        raise ConfigError(f"-o {output}: give a folder on this machine's disk")
    for name in _MADE:
        if (Path(output) / name).exists():
            raise LayerExistsError(
                f"-o {output}: there is {name} already: delete the folder or choose another one"
            )
    return Path(output)


def _source(run: RunData) -> Layer:
    """The objects, opened so that chunks read for one pair serve the next."""
    from cnapse.volumes.reader import open_layer

    section = run.given("synapses")
    return open_layer(
        run.layer_path("synapses"),
        resolution=run.config.resolution,
        kind="segmentation",
        fill_missing=bool(section and section.fill_missing),
        cache_bytes=_CACHE_BYTES,
    )


def _csv(found: Merges) -> str:
    text: str = found.pairs.to_csv(index=False, lineterminator="\n")
    return text


def _toml(values: Mapping[str, Any], table: str = "") -> str:
    """The content of a TOML file: tables of strings, numbers and lists of numbers."""
    inner = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
        if name not in inner
    ]
    if table and lines:
        lines.insert(0, f"\n[{table}]")
    tables = [_toml(value, f"{table}.{name}" if table else name) for name, value in inner.items()]
    return "\n".join([*lines, *(text for text in tables if text)])
