"""What the stages of meshes and skeletons share: voxels, blocks, shards, and pieces of objects.

A layer's blocks are meshed one by one, and each leaves its objects' pieces in one file for each
shard they belong to. Then the pieces of one shard are fused, whatever blocks they come from.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.config import MeshesSection
from cnapse.geometry import Box, Grid, Resolution, Triple
from cnapse.store import Store
from cnapse.viewing.additions import Segmented
from cnapse_tasks import igneous
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost

__all__ = [
    "Pieces",
    "Target",
    "keep_pieces",
    "pieces_of",
    "put_shard",
    "read_labels",
    "target",
    "with_rim",
]

Pieces = Mapping[int, tuple[npt.NDArray[Any], ...]]
"""By object, the arrays of a piece of it, all pieces in the same order."""

# A voxel in the plane is at most so large, unless the layer's own is.
_VOXEL_NM: Mapping[Segmented, float] = {"cells": 16.0, "synapses": 8.0}
# A task has 2^24 voxels, 8 bytes each: half a GB with what zmesh needs.
_BLOCKS: tuple[Triple, Triple] = ((512, 512, 64), (256, 256, 256))
# As many blocks' objects are fused by one task, in 2 GB.
_SHARD_VOXELS = 1 << 31
_MINISHARD_BITS = 6


@dataclass(frozen=True, slots=True)
class Target:
    """A layer of which meshes or skeletons are made.

    Parameters
    ----------
    layer : {"cells", "synapses"}
    grid : Grid
        The blocks, in voxels of the size at which it is meshed.
    shard_bits : int
        Objects are spread over 2^shard_bits shards.
    """

    layer: Segmented
    grid: Grid
    shard_bits: int

    @property
    def resolution(self) -> Resolution:
        """Voxel size in nm."""
        return self.grid.bounds.resolution

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return 1 << self.shard_bits

    @property
    def sharding(self) -> dict[str, object]:
        """The format's specification of the shards."""
        return {
            "@type": "neuroglancer_uint64_sharded_v1",
            "preshift_bits": 0,
            "hash": "murmurhash3_x86_128",
            "minishard_bits": _MINISHARD_BITS,
            "shard_bits": self.shard_bits,
            # gzip would write the time into each.
            "minishard_index_encoding": "raw",
            "data_encoding": "raw",
        }

    def components(self, run: Run) -> dict[str, object]:
        """What a record keeps of voxels, blocks and shards."""
        bounds = self.grid.bounds
        return {
            "layer": run.layer_identity(self.layer),
            "resolution": list(self.resolution),
            "bounds": [list(bounds.start), list(bounds.stop)],
            "block": list(self.grid.block_shape),
            "shard_bits": self.shard_bits,
        }

    def cost(self) -> Cost:
        """Each block is read once; what is written depends on the objects."""
        voxels = self.grid.bounds.voxels
        return Cost(len(self.grid), voxels, 8 * voxels, 0)


def target(run: Run, layer: Segmented) -> Target:
    """How a layer is meshed: the voxels that count, brought to the size that suits it."""
    section = run.config.meshes or MeshesSection()
    finest = run.config.resolution
    factor = igneous.factor_of(finest)
    halvings = _halvings(finest, layer) if section.mip is None else section.mip
    x, y, z = (h * f**halvings for h, f in zip(finest, factor, strict=True))
    own = run.region
    if run.given(layer) is not None:
        own = own.intersection(run.layer(layer).bounds)
    bounds = own.at((x, y, z))
    block = section.shape or _BLOCKS[0 if factor[2] == 1 else 1]
    bits = max(0, bounds.voxels - 1) // _SHARD_VOXELS
    return Target(layer, Grid(bounds, block, halo_upper=(1, 1, 1)), bits.bit_length())


def _halvings(resolution: Resolution, layer: Segmented) -> int:
    halvings = 0
    while max(resolution[:2]) * 2 ** (halvings + 1) <= _VOXEL_NM[layer]:
        halvings += 1
    return halvings


def read_labels(run: Run, target: Target, index: int) -> tuple[npt.NDArray[np.uint64], Box]:
    """A block with one voxel more on its upper sides, where the volume goes on."""
    box = target.grid[index].read
    labels = run.layer(target.layer).at(target.resolution).read(box)
    return labels.astype(np.uint64, copy=False), box


def with_rim(
    labels: npt.NDArray[np.uint64], box: Box, bounds: Box
) -> tuple[npt.NDArray[np.uint64], Box]:
    """The same with a layer of 0 on each side on which it ends with the volume."""
    low = [int(a == b) for a, b in zip(box.start, bounds.start, strict=True)]
    high = [int(a == b) for a, b in zip(box.stop, bounds.stop, strict=True)]
    return np.pad(labels, list(zip(low, high, strict=True))), box.grown(low, high)


# --- pieces -------------------------------------------------------------------------------------


def keep_pieces(store: Store, block: int, target: Target, pieces: Pieces) -> None:
    """Write the pieces of a block's objects, a file for each shard."""
    shards: dict[int, list[int]] = defaultdict(list)
    for label in sorted(pieces):
        shards[_shard_of(target, label)].append(label)
    for shard, labels in shards.items():
        arrays: dict[str, npt.NDArray[Any]] = {"labels": np.array(labels, np.uint64)}
        for n, columns in enumerate(zip(*(pieces[label] for label in labels), strict=True)):
            arrays[f"{n}.counts"] = np.array([len(column) for column in columns], np.int64)
            arrays[f"{n}.values"] = np.concatenate(columns)
        store.put_arrays(f"{shard:08d}/{block:012d}.st", arrays)


def pieces_of(store: Store, shard: int) -> dict[int, list[tuple[npt.NDArray[Any], ...]]]:
    """By object of a shard, its pieces in the order of the blocks."""
    found: dict[int, list[tuple[npt.NDArray[Any], ...]]] = defaultdict(list)
    folder = f"{shard:08d}"
    for name in sorted(store.names(folder)):
        arrays = store.get_arrays(f"{folder}/{name}")
        if arrays is not None:
            for label, piece in _unpacked(arrays):
                found[label].append(piece)
    return found


def _unpacked(
    arrays: Mapping[str, npt.NDArray[Any]],
) -> Iterator[tuple[int, tuple[npt.NDArray[Any], ...]]]:
    columns = []
    for n in range(len(arrays) // 2):
        stops = np.cumsum(arrays[f"{n}.counts"])[:-1]
        columns.append(np.split(arrays[f"{n}.values"], stops))
    yield from zip(arrays["labels"].tolist(), zip(*columns, strict=True), strict=True)


# --- shards -------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _specification(shard_bits: int) -> Any:
    from cloudvolume.datasource.precomputed.sharding import ShardingSpecification

    return ShardingSpecification(
        "neuroglancer_uint64_sharded_v1",
        preshift_bits=0,
        hash="murmurhash3_x86_128",
        minishard_bits=_MINISHARD_BITS,
        shard_bits=shard_bits,
        minishard_index_encoding="raw",
        data_encoding="raw",
    )


def _shard_of(target: Target, label: int) -> int:
    place = _specification(target.shard_bits).compute_shard_location(np.uint64(label))
    return int(place.shard_number, 16)


def put_shard(
    store: Store, folder: str, target: Target, objects: Mapping[int, tuple[bytes, bytes]]
) -> None:
    """Write a shard file; nothing for a shard without an object.

    Parameters
    ----------
    store : Store
    folder : str
    target : Target
    objects : mapping of int to (data, entry)
        What the entry of an object tells lies at its end; the data before it.
    """
    from cloudvolume.datasource.precomputed.sharding import synthesize_shard_files

    whole = {np.uint64(label): data + entry for label, (data, entry) in sorted(objects.items())}
    entries = {np.uint64(label): len(entry) for label, (_, entry) in objects.items()}
    files = synthesize_shard_files(_specification(target.shard_bits), whole, entries)
    store.put_all([(f"{folder}/{name}", data) for name, data in files.items()])
