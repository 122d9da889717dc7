"""The stages of meshes and skeletons: pieces of objects block by block, then whole objects.

One of each kind for each layer, so that what is changed of synapses leaves the cells' meshes alone.
Whole objects lie under ``meshes`` and ``skeletons``, never in a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnapse.config import MeshesSection
from cnapse.geometry import Box
from cnapse.viewing.additions import Segmented, addition_name
from cnapse_tasks import igneous
from cnapse_tasks.meshing import (
    Pieces,
    Target,
    keep_pieces,
    pieces_of,
    put_shard,
    read_labels,
    target,
    with_rim,
)
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost

__all__ = ["Fusing", "Piecing", "meshes", "skeletons", "surfaces", "wires"]

Make = Callable[[npt.NDArray[np.uint64], Box], Pieces]
Fused = tuple[bytes, bytes]
"""Data of an object, and the entry that tells of it: one file, or one entry of a shard, each."""


@dataclass(frozen=True, slots=True)
class Piecing:
    """A stage whose tasks each make the pieces of one block's objects.

    Parameters
    ----------
    name : str
        Of the stage.
    layer : {"cells", "synapses"}
    make : callable
        From the labels of a box to pieces.
    closed : bool
        Whether surfaces are closed where the volume ends.
    """

    name: str
    layer: Segmented
    make: Make
    closed: bool

    def components(self, run: Run) -> Mapping[str, object]:
        """Voxels, blocks and shards."""
        return target(run, self.layer).components(run)

    def indices(self, run: Run) -> Sequence[int]:
        """One task a block."""
        return range(len(target(run, self.layer).grid))

    def cost(self, run: Run) -> Cost:
        """The layer is read once."""
        return target(run, self.layer).cost()

    def prepare(self, run: Run) -> None:
        """Nothing to create."""

    def execute(self, run: Run, index: int) -> Mapping[str, object]:
        """Make the pieces of one block."""
        own = target(run, self.layer)
        labels, box = read_labels(run, own, index)
        if not labels.any():
            return {"objects": 0}
        if self.closed:
            labels, box = with_rim(labels, box, own.grid.bounds)
        pieces = self.make(labels, box)
        keep_pieces(run.data(self.name), index, own, pieces)
        return {"objects": len(pieces)}


@dataclass(frozen=True, slots=True)
class Fusing:
    """A stage whose tasks each fuse the pieces of one shard's objects.

    Parameters
    ----------
    kind : {"meshes", "skeletons"}
    layer : {"cells", "synapses"}
    source : str
        The stage of the pieces.
    fuse : callable
        From an object's pieces to what is stored of it; None for nothing.
    info : callable
        The ``info`` of the folder, but for its shards.
    """

    kind: Literal["meshes", "skeletons"]
    layer: Segmented
    source: str
    fuse: Callable[[list[Any], Target, MeshesSection], Fused | None]
    info: Callable[[Target], dict[str, object]]

    @property
    def folder(self) -> str:
        """Where it lies in the output."""
        return addition_name(self.kind, self.layer)

    def components(self, run: Run) -> Mapping[str, object]:
        """Levels, and how it is stored."""
        section = _section(run)
        own = {"lod": section.lod} if self.kind == "meshes" else {}
        return {**own, "sharded": section.sharded}

    def indices(self, run: Run) -> Sequence[int]:
        """One task a shard."""
        return range(target(run, self.layer).shards)

    def cost(self, run: Run) -> Cost:
        """Only pieces."""
        return Cost(target(run, self.layer).shards, 0, 0, 0)

    def prepare(self, run: Run) -> None:
        """Nothing to create."""

    def forget(self, run: Run) -> None:
        """Take the folder away."""
        run.output.delete_folder(self.folder)

    def execute(self, run: Run, index: int) -> Mapping[str, object]:
        """Fuse the objects of one shard."""
        own, section = target(run, self.layer), _section(run)
        pieces = pieces_of(run.data(self.source), index)
        objects: dict[int, Fused] = {}
        for label in sorted(pieces):
            fused = self.fuse(pieces.pop(label), own, section)
            if fused is not None:
                objects[label] = fused
        if section.sharded:
            put_shard(run.output, self.folder, own, objects)
        else:
            run.output.put_all(self._files(objects))
        return {"objects": len(objects)}

    def _files(self, objects: Mapping[int, Fused]) -> list[tuple[str, bytes]]:
        files = []
        for label, (data, entry) in objects.items():
            if self.kind == "skeletons":
                files.append((f"{self.folder}/{label}", entry))
            else:
                files += [(f"{self.folder}/{label}", data), (f"{self.folder}/{label}.index", entry)]
        return files

    def finish(self, run: Run) -> None:
        """Write the ``info``: what has none, the viewer does not show."""
        own = target(run, self.layer)
        sharding = {"sharding": own.sharding} if _section(run).sharded else {}
        run.output.put_json(f"{self.folder}/info", {**self.info(own), **sharding})


def surfaces(layer: Segmented) -> Piecing:
    """The stage that meshes the blocks of a layer."""
    return Piecing(f"mesh_{layer}", layer, igneous.block_surfaces, closed=True)


def wires(layer: Segmented) -> Piecing:
    """The stage that makes skeletons of the blocks of a layer."""
    return Piecing(f"skeletonize_{layer}", layer, igneous.block_wires, closed=False)


def meshes(layer: Segmented) -> Fusing:
    """The stage that fuses the meshes of a layer."""
    return Fusing("meshes", layer, surfaces(layer).name, _fused_mesh, _mesh_info)


def skeletons(layer: Segmented) -> Fusing:
    """The stage that fuses the skeletons of a layer."""
    return Fusing("skeletons", layer, wires(layer).name, _fused_skeleton, _skeleton_info)


def _section(run: Run) -> MeshesSection:
    return run.config.meshes or MeshesSection()


def _fused_mesh(pieces: list[Any], own: Target, section: MeshesSection) -> Fused | None:
    made = igneous.multires_mesh(
        [igneous.Surface(*piece) for piece in pieces], own.resolution, section.lod
    )
    if made is None:
        return None
    manifest, data = made
    return data, manifest


def _mesh_info(own: Target) -> dict[str, object]:
    x, y, z = (h / igneous.UNITS_PER_VOXEL for h in own.resolution)
    return {
        "@type": "neuroglancer_multilod_draco",
        "vertex_quantization_bits": igneous.QUANTIZATION_BITS,
        "transform": [x, 0, 0, 0, 0, y, 0, 0, 0, 0, z, 0],
        "lod_scale_multiplier": igneous.UNITS_PER_VOXEL,
    }


def _fused_skeleton(
    pieces: list[Any],
    own: Target,  # noqa: ARG001 - as of meshes
    section: MeshesSection,  # noqa: ARG001
) -> Fused | None:
    entry = igneous.fused_skeleton([igneous.Wire(*piece) for piece in pieces])
    return None if entry is None else (b"", entry)


def _skeleton_info(own: Target) -> dict[str, object]:  # noqa: ARG001 - as of meshes
    return {
        "@type": "neuroglancer_skeletons",
        "transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
        "vertex_attributes": [{"id": "radius", "data_type": "float32", "num_components": 1}],
    }
