"""Coarser scales of the layers that a run makes, so that Neuroglancer can show them from afar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from cnapse.geometry import Grid
from cnapse_tasks import igneous
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost

Made = Literal["probability", "synapses"]


def components(run: Run) -> Mapping[str, object]:
    """How many levels."""
    return {"levels": levels(run)}


def levels(run: Run) -> int:
    """Number of coarser mips."""
    return igneous.levels_of(run.frame, run.chunk, run.config.pyramid.levels)


def made_layers(run: Run) -> list[Made]:
    """The layers that this run makes."""
    names: list[Made] = []
    if run.first_layer == "image":
        names.append("probability")
    if run.first_layer != "synapses":
        names.append("synapses")
    return names


def grid_of(run: Run) -> Grid:
    """The blocks of one layer."""
    return igneous.downsampling_grid(run.frame, run.chunk, levels(run))


def indices(run: Run) -> Sequence[int]:
    """One task a block and layer."""
    return range(len(made_layers(run)) * len(grid_of(run)) if levels(run) else 0)


def cost(run: Run) -> Cost:
    """Each layer is read once; what is written adds up to a third of it at most."""
    size = {"probability": 1, "synapses": 8}
    layers = made_layers(run) if levels(run) else []
    read = sum(size[name] for name in layers) * run.frame.voxels
    return Cost(len(indices(run)), len(layers) * run.frame.voxels, read, read // 3)


def prepare(run: Run) -> None:
    """Write the scales into the layers' infos."""
    for name in made_layers(run):
        igneous.add_scales(run.layer_path(name), run.chunk, levels(run))


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Make the mips of one block of one layer."""
    grid = grid_of(run)
    name = made_layers(run)[index // len(grid)]
    block = index % len(grid)
    path = run.layer_path(name)
    run.check_chunks(name, grid[block].write)
    igneous.downsample(path, grid, block, levels(run), sparse=name == "synapses")
    return {"voxels": grid[block].write.voxels}
