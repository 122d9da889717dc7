"""A small piece of a run's own inputs, as layers of a folder, for measuring."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.config import Config
from cnapse.errors import RunStateError
from cnapse.geometry import Box, Triple, triple
from cnapse.runs import LayerName
from cnapse.volumes.writer import create_layer
from cnapse_tasks.run import Run

__all__ = ["choose_box", "copied", "halved"]

Array = npt.NDArray[Any]

_PROBE: Triple = (64, 64, 4)
_PLACES = (0.5, 0.25, 0.75)


def choose_box(run: Run, shape: Triple) -> Box:
    """Where to measure: of some places over the region the one with most in it.

    Parameters
    ----------
    run : Run
    shape : (x, y, z)
        Of the box; it is smaller where the region is, and begins with a storage chunk of the run's
        first layer.

    Raises
    ------
    RunStateError
        If there is nothing but zeros at all of them.
    """
    found = [(_content(run, box), -n, box) for n, box in enumerate(_places(run, shape))]
    content, _, box = max(found, key=lambda one: one[:2])
    if content == 0:
        raise RunStateError(
            f"nothing to measure: {run.layer_path(run.first_layer)} has only zeros at "
            f"{len(found)} places of {run.region}: give [bounds] where there is tissue"
        )
    return box


def _places(run: Run, shape: Triple) -> Iterator[Box]:
    region = run.region
    if run.has_cells:
        common = region.intersection(run.layer("cells").bounds)
        region = region if common.empty else common
    size = triple([min(n, m) for n, m in zip(shape, region.shape, strict=True)])
    for z in _PLACES:
        for y in _PLACES:
            for x in _PLACES:
                at = zip(region.start, region.shape, size, (x, y, z), strict=True)
                start = _on_chunk(run, triple([a + round((n - m) * f) for a, n, m, f in at]))
                yield Box.from_shape(size, region.resolution, start).clamped(run.frame)


def _on_chunk(run: Run, place: Triple) -> Triple:
    axes = zip(place, run.frame.start, run.chunk, strict=True)
    return triple([low + (a - low) // c * c for a, low, c in axes])


def _content(run: Run, box: Box) -> float:
    """How much of a small box in the middle is not 0, in the layers that the run starts from."""
    middle = [(a + b - n) // 2 for a, b, n in zip(box.start, box.stop, _PROBE, strict=True)]
    probe = Box.from_shape(_PROBE, box.resolution, middle).clamped(box)
    share = float(np.mean(run.layer(run.first_layer).read(probe) != 0))
    # Of a map nearly all may be 0: cells tell where the tissue is.
    if run.has_cells:
        share += float(np.mean(run.layer("cells").read(probe) != 0))
    return share


def copied(
    run: Run, names: list[LayerName], box: Box, folder: Path, chunk: Triple | None = None
) -> tuple[Config, int]:
    """A run like another on a copy of some of its layers.

    Parameters
    ----------
    run : Run
    names : list of str
        Layers to copy.
    box : Box
    folder : Path
        The layers and the output go there.
    chunk : (x, y, z), optional
        Of the copies; default: that of the run's layers.

    Returns
    -------
    config : Config
        Of the same parameters, for the box alone.
    bytes : int
        That were read, decoded.
    """
    size = 0
    for name in names:
        array = run.layer(name).read(box)
        size += array.nbytes
        _write_layer(run, name, array, box, folder, chunk or run.chunk)
    return _config(run, names, folder), size


def _write_layer(
    run: Run, name: LayerName, array: Array, box: Box, folder: Path, chunk: Triple
) -> None:
    kind = run.layer(name).kind
    writer = create_layer(folder / name, kind=kind, dtype=array.dtype, bounds=box, chunk_size=chunk)
    writer.write(array, box)


def _config(run: Run, names: list[LayerName], folder: Path) -> Config:
    values = run.config.model_dump(mode="json")
    layers = {}
    for name in names:
        section = run.given(name)
        kept = section.model_dump() if section is not None else {}
        layers[name] = {**kept, "path": f"file://{folder}/{name}", "fill_missing": False}
    # The copies have one channel, the whole of them counts, and nobody is named.
    label = {key: value for key, value in values["label"].items() if key != "channel"}
    changed = {
        "output": f"file://{folder}/run",
        "layers": layers,
        "bounds": None,
        "names": "",
        "label": label,
        "detect": {**values["detect"], "device": "cpu"},
    }
    return Config.from_dict({**values, **changed})


def halved(box: Box, chunk: Triple, axes: tuple[int, ...] = (0, 1)) -> Triple:
    """Blocks of half a box in some axes, in whole chunks."""
    return triple(
        [
            math.ceil(n / (2 if axis in axes else 1) / c) * c
            for axis, (n, c) in enumerate(zip(box.shape, chunk, strict=True))
        ]
    )
