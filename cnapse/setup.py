"""A first ``cnapse.toml`` for some layers: what they tell is filled in, the rest is asked for."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnapse.config import Config
from cnapse.errors import ConfigError, FormatError, ResolutionError
from cnapse.geometry import Box, Resolution, Triple, format_resolution, triple
from cnapse.runs import LAYER_KINDS, LayerName, RunData
from cnapse.store import local_path
from cnapse.volumes.reader import Layer, open_layer

__all__ = ["Draft", "draft"]

MODEL = "phantom"
MODEL_RESOLUTION: Resolution = (4.0, 4.0, 50.0)

_BLOCK: Triple = (512, 512, 64)
_DETECT_BLOCK: Triple = (1024, 1024, 16)
# Beyond this a network sees something else: 4 and 4.6 nm look alike, 4 and 8 nm do not.
_OTHER_SIZE = 1.6

_TEXT = """\
# A run of cnapse. All keys: docs/configuration.md of cnapse.
output = {output}
{resolution:<31}# nm per voxel, x y z; the layers have:
{scales}
{names}{block:<31}# voxels a task works on: whole chunks of {chunk}

[layers]
{layers}

# Every voxel counts. These ({size:,.1f} million) are in all layers:
# [bounds]
# start = {start}
# stop = {stop}
{detect}
[label]
{binary}threshold = 0.5                # a voxel counts from this probability on
min_voxels = 1                 # objects with fewer voxels are dropped: raise it after a first look
# max_voxels = 100000
{assign}"""

_NAMES = '# names = "names.csv"          # segment id, name; without it cells go by their ids\n'

_NO_CELLS = (
    '# cells = "cells"              # a segmentation: without it there are no tables, only synapses'
)

_MASK = '# mask = "mask"                # a layer: only where it is not 0 synapses are looked for'

_ASSIGN = """\

[assign]
preset = "cnapse"              # or "witvliet": the two published sets of parameters
method = "harmonic"            # solved exactly; "montecarlo" for random walks, as published
"""

_DETECT = """\

[detect]
model = {model}              # shipped, but knows synthetic tissue only: train on your own data
{block:<31}# and as much more as the model's tiles take
# zero_is_missing = true       # if image value 0 means that there is no image
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """A configuration's text, and what only a person knows.

    Parameters
    ----------
    text : str
        A valid ``cnapse.toml``.
    unknown : tuple of str
        One line for each thing that could not be known from the layers.
    """

    text: str
    unknown: tuple[str, ...]


def draft(layers: Mapping[LayerName, str], *, output: str, folder: Path) -> Draft:
    """Draft the configuration of a run on some layers.

    Parameters
    ----------
    layers : mapping of name to path
        At least one of image, probability and synapses; with synapses also cells. Local paths
        count from the working folder.
    output : str
        Where the run shall write, as it is to stand in the file.
    folder : Path
        Where the file will lie: paths below it are written relative to it.

    Raises
    ------
    ConfigError
        If there is no layer that a run can start from, or nothing to do for it.
    LayerNotFoundError, FormatError
        If a layer is not there, empty, or of the other kind.
    ResolutionError
        If the layers have no voxel size at which all can be read.
    BoundsError
        If they do not overlap.
    """
    _check_start(layers)
    scales = {name: _scales(path, name) for name, path in layers.items()}
    resolution = _working_resolution(scales)
    config = Config.from_dict(
        {
            "output": output,
            "resolution": resolution,
            "layers": dict(layers),
            "detect": {"model": MODEL},
        }
    )
    run = RunData(config)
    run.check_overlap()
    return Draft(_text(run, scales, folder), tuple(_unknown(run)))


def _check_start(layers: Mapping[LayerName, str]) -> None:
    if not {"image", "probability", "synapses"}.intersection(layers):
        raise ConfigError(
            "there is no layer to start from: give --image (EM), --probability (a map that is "
            "there already) or --synapses (objects that are there already), and --cells for "
            "their cells and partners"
        )
    if "synapses" in layers and "cells" not in layers:
        raise ConfigError(
            "with --synapses alone there is nothing left to do: give --cells, whose synapses they "
            "are"
        )


def _scales(path: str, name: LayerName) -> list[Layer]:
    """A layer at each of its stored scales."""
    finest = open_layer(path, kind=LAYER_KINDS[name])
    if finest.bounds.empty:
        raise FormatError(f"layer {finest.path} is empty: {finest.bounds}")
    return [open_layer(path, mip=mip) for mip in range(len(finest.info["scales"]))]


def _working_resolution(scales: Mapping[LayerName, Sequence[Layer]]) -> Resolution:
    """The finest scale of synapses or probability; the image's one nearest to the model's."""
    first: LayerName = "image"
    for name in ("probability", "synapses"):
        first = name if name in scales else first
    fitting = [layer for layer in scales[first] if _all_open_at(scales, layer.resolution)]
    if not fitting:
        found = "; ".join(f"{name} has {_listed(own)}" for name, own in scales.items())
        raise ResolutionError(
            f"no scale of {first} can be read from all layers: {found}; bring the layers to voxel "
            "sizes that are whole multiples of each other"
        )
    if first == "image":
        return min(fitting, key=lambda layer: _distance(layer.resolution)).resolution
    return min(fitting, key=lambda layer: math.prod(layer.resolution)).resolution


def _distance(resolution: Resolution) -> float:
    """How far voxels are from those that the shipped model was trained on."""
    return sum(abs(math.log(a / b)) for a, b in zip(resolution, MODEL_RESOLUTION, strict=True))


def _all_open_at(scales: Mapping[LayerName, Sequence[Layer]], resolution: Resolution) -> bool:
    try:
        for own in scales.values():
            own[0].at(resolution)
    except ResolutionError:
        return False
    return True


def _listed(layers: Sequence[Layer]) -> str:
    return ", ".join(format_resolution(layer.resolution) for layer in layers)


def _text(run: RunData, scales: Mapping[LayerName, Sequence[Layer]], folder: Path) -> str:
    common = _common(run)
    block = _block(run.frame, run.chunk)
    paths = {name: _relative(run.layer_path(name), folder) for name in scales}
    detected = run.first_layer == "image"
    lines = [f"{name} = {_quoted(path)}" for name, path in paths.items()]
    has_cells = run.given("cells") is not None
    detect = _block(run.frame, run.chunk, _DETECT_BLOCK)
    return _TEXT.format(
        output=_quoted(run.config.output),
        resolution=f"resolution = {_numbers(run.config.resolution)}",
        scales="\n".join(f"#   {name}: {_listed(own)}" for name, own in scales.items()),
        block=f"block = {_numbers(block)}",
        chunk=_numbers(run.chunk),
        names=_NAMES if has_cells else "",
        layers="\n".join(lines + ([] if has_cells else [_NO_CELLS]) + [_MASK] * detected),
        size=common.voxels / 1e6,
        start=_numbers(common.start),
        stop=_numbers(common.stop),
        detect=_DETECT.format(model=_quoted(MODEL), block=f"block = {_numbers(detect)}")
        if detected
        else "",
        binary="# binary = true                # the map is hand-drawn\n"
        if run.first_layer == "probability"
        else "",
        assign=_ASSIGN if has_cells else "",
    )


def _common(run: RunData) -> Box:
    """The voxels that every layer has."""
    box = run.frame
    for name in LAYER_KINDS:
        if name != "direction" and run.given(name) is not None:
            box = box.intersection(run.layer(name).bounds)
    return box


def _block(frame: Box, chunk: Triple, near: Triple = _BLOCK) -> Triple:
    """Whole chunks, near what a worker holds easily, and not larger than the volume."""
    return triple(
        [
            max(1, min(round(wanted / c), math.ceil(n / c))) * c
            for wanted, c, n in zip(near, chunk, frame.shape, strict=True)
        ]
    )


def _relative(path: str, folder: Path) -> str:
    """A path as it is to stand in the file: short where the layer lies below its folder."""
    local = local_path(path)
    if local is None:
        return path
    plain = Path(os.path.normpath(local))
    below = folder.absolute()
    return str(plain.relative_to(below) if plain.is_relative_to(below) else plain)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(repr(int(v) if v == int(v) else v) for v in values) + "]"


def _unknown(run: RunData) -> list[str]:
    """What only a person can say, the most important first."""
    notes = []
    if run.first_layer == "image":
        if (dtype := run.layer("image").dtype) != "uint8":
            notes.append(
                f"layers.image: it has pixels of {dtype}, detection takes uint8: make it so with "
                "`cnapse ingest IMAGE LAYER --auto-range`"
            )
        notes.append(f"detect.model: {_model_note(run)}")
    common, frame = _common(run), run.frame
    if common.voxels < frame.voxels:
        share = f"{100 * common.voxels / frame.voxels:.0f} %"
        notes.append(
            f"bounds: all layers together cover {share} of {run.first_layer}; take the [bounds] in "
            "the file if the rest does not matter"
        )
    if run.first_layer == "probability":
        notes.append("label.binary: true if the map is hand-drawn, so that all but 0 counts")
    if run.first_layer != "synapses":
        notes.append("label.min_voxels: how small an object may be; look at `size` after a run")
    if run.given("cells") is None:
        notes.append("layers.cells: without cells a run finds where synapses are, but not whose")
    else:
        notes.append("names: the cells' names, a CSV of segment id and name")
    if run.given("image") is None:
        notes.append("layers.image: nothing but `cnapse picture` and `cnapse view` would show it")
    return notes


def _model_note(run: RunData) -> str:
    known = "the shipped model knows synthetic tissue only; train your own with `cnapse train`"
    h = run.config.resolution
    if all(max(a / b, b / a) <= _OTHER_SIZE for a, b in zip(h, MODEL_RESOLUTION, strict=True)):
        return known
    return (
        f"there is none for voxels of {format_resolution(h)} (the shipped one is for "
        f"{format_resolution(MODEL_RESOLUTION)}); train your own with `cnapse train`"
    )
