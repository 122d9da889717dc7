"""Requests and work of the stages that lay things beside the layers for the viewer.

All of it is expected from synapses; meshes are given by their `cost` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from cnapse_tasks.planning.requests import Counted, Requests
from cnapse_tasks.planning.scene import Scene
from cnapse_tasks.survey import BUNDLE_PARTS

__all__ = ["VIEWER_LOADS"]

# Witvliet's and Kasthuri's tissue has two to three partners a synapse.
_LINES_PER_SYNAPSE = 2.5
# By id, by three relationships, and one level of space; more only for crowded places.
_INDEXES = 5
_LINE_BYTES = 70
_SHARD_BYTES = 50e6


def _properties(scene: Scene) -> tuple[int, Counted]:
    names = 2 if scene.run.config.names else 0
    grid, scatter = scene.run.grid("measure"), scene.scatter
    # Parts are known from the records they were made of.
    files = scatter.occupied(grid) * scene.parts_of(grid, scatter.in_block(grid))
    requests = Requests(get=2 * scene.parts + names, put=2, list=scene.pages(files))
    return 1, _tables(scene, requests)


def _survey(scene: Scene) -> tuple[int, Counted]:
    bundles = _bundles(scene)
    requests = Requests(get=2 * scene.parts, put=bundles, list=bundles * scene.pages(scene.parts))
    return bundles, _tables(scene, requests)


def _annotate(scene: Scene) -> tuple[int, Counted]:
    bundles = _bundles(scene)
    requests = Requests(
        get=2 * scene.parts + bundles,
        put=bundles * _shards(scene),
        list=bundles * scene.pages(scene.parts),
    )
    return bundles, _tables(scene, requests)


def _fuse(scene: Scene) -> tuple[int, Counted]:
    shards = _shards(scene)
    requests = Requests(get=shards * (1 + _bundles(scene)), put=shards, list=shards)
    return shards, _tables(scene, requests)


def _tables(scene: Scene, requests: Requests) -> Counted:
    work = {"part": float(scene.parts), "synapse": scene.scatter.synapses}
    return Counted(voxels=0, requests=requests, work=work)


def _bundles(scene: Scene) -> int:
    return -(-scene.parts // BUNDLE_PARTS)


def _shards(scene: Scene) -> int:
    lines = _LINES_PER_SYNAPSE * scene.scatter.synapses
    return _INDEXES * max(1, math.ceil(lines * _LINE_BYTES / _SHARD_BYTES))


VIEWER_LOADS: dict[str, Callable[[Scene], tuple[int, Counted]]] = {
    "properties": _properties,
    "survey": _survey,
    "annotate": _annotate,
    "fuse_annotations": _fuse,
}
