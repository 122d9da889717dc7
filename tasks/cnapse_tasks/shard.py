"""Sharded copies of the layers that a run makes, below ``sharded``; each task packs one shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnapse.volumes.sharded import shard_grid, sharded_info, write_shard
from cnapse.volumes.writer import commit_info
from cnapse_tasks.pyramid import Made, made_layers
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost


class _Shards(NamedTuple):
    """The shards of one scale of a layer; `first` is the number of the task of the first one."""

    name: Made
    info: Mapping[str, Any]
    mip: int
    first: int
    tasks: int


def components(run: Run) -> Mapping[str, object]:
    """Which layers."""
    return {"layers": made_layers(run)}


def indices(run: Run) -> Sequence[int]:
    """One task a shard, over layers and their scales."""
    shards = _shards(run)
    return range(shards[-1].first + shards[-1].tasks if shards else 0)


def cost(run: Run) -> Cost:
    """Everything is read and written once; the scales made before tell how many shards."""
    size = {"probability": 1, "synapses": 8}
    volume = sum(size[name] for name in made_layers(run)) * run.frame.voxels
    return Cost(None, len(made_layers(run)) * run.frame.voxels, volume, volume)


def prepare(run: Run) -> None:
    """Create the layers."""
    for name in made_layers(run):
        commit_info(path_of(run, name), sharded_info(run.layer_path(name)))


def forget(run: Run) -> None:
    """Take the layers away."""
    run.output.delete_folder("sharded")


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Pack one shard."""
    own = next(s for s in _shards(run) if s.first <= index < s.first + s.tasks)
    source, target = run.layer_path(own.name), path_of(run, own.name)
    shard = index - own.first
    if own.mip == 0:
        run.check_chunks(own.name, shard_grid(own.info, 0)[shard].write)
    return {"chunks": write_shard(source, target, own.info, own.mip, shard)}


def path_of(run: Run, name: Made) -> str:
    """Where the sharded copy of a layer is."""
    return f"{run.output.path}/sharded/{name}"


def _shards(run: Run) -> list[_Shards]:
    found: list[_Shards] = []
    first = 0
    for name in made_layers(run):
        info = sharded_info(run.layer_path(name))
        for mip in range(len(info["scales"])):
            count = len(shard_grid(info, mip))
            found.append(_Shards(name, info, mip, first, count))
            first += count
    return found
