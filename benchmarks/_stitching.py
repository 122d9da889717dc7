"""Records of blocks with many objects, and the same equivalences as igneous keeps them.

Each pair of neighbouring blocks shares the same number of objects, each by a patch of its face;
all other objects lie inside of one block. What `label` would leave of them is written, and nothing
else: there are no voxels. The tasks of `join` and `stitch` then run as they do in a run, one after
the other.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnapse.config import Config
from cnapse.geometry import Box, Grid, Triple, triple
from cnapse.synapses.components import BlockComponents
from cnapse.volumes.writer import create_layer
from cnapse_tasks import label
from cnapse_tasks.run import Run

Int64s = npt.NDArray[np.int64]

BLOCK: Triple = (512, 512, 64)
_RESOLUTION = (4.0, 4.0, 50.0)
# A patch on a face: 24 voxels, on a lattice that keeps patches apart and off the edges.
_PATCH = (12, 2)
_LATTICE = (16, 4)
_MARGIN = 4


@dataclass(frozen=True, slots=True)
class Size:
    """How many objects and face pairs in how many blocks."""

    blocks: Triple
    objects: int
    pairs: int

    @property
    def grid(self) -> Grid:
        """The blocks."""
        shape = [n * b for n, b in zip(self.blocks, BLOCK, strict=True)]
        return Grid(Box.from_shape(shape, _RESOLUTION), BLOCK, halo_upper=(1, 1, 1))

    @property
    def faces(self) -> int:
        """Pairs of neighbouring blocks."""
        x, y, z = self.blocks
        return 3 * x * y * z - y * z - x * z - x * y

    @property
    def per_face(self) -> int:
        """Objects that pass one face."""
        return math.ceil(self.pairs / self.faces)

    @property
    def inside(self) -> int:
        """Objects inside of one block."""
        passing = self.per_face * self.faces
        return max(0, math.ceil((self.objects - passing) / math.prod(self.blocks)))


def prepare(folder: Path, size: Size) -> Run:
    """A run whose probability map is an info without voxels."""
    return empty_run(folder, size.grid.bounds, label={"min_voxels": 10})


def empty_run(folder: Path, bounds: Box, **sections: object) -> Run:
    """A run over a probability map without voxels, in blocks of `BLOCK`."""
    create_layer(
        folder / "probability",
        kind="image",
        dtype="uint8",
        bounds=bounds,
        chunk_size=BLOCK,
        exist_ok=True,
    )
    return Run(
        Config.from_dict(
            {
                "output": f"file://{folder}/out",
                "resolution": bounds.resolution,
                "block": BLOCK,
                "layers": {"probability": f"file://{folder}/probability"},
                **sections,
            }
        )
    )


def write_records(folder: Path, size: Size) -> tuple[int, int]:
    """Write the records, ours and igneous'; numbers of objects and of face pairs."""
    run = prepare(folder, size)
    store, grid = run.data("label"), label.grid_of(run)
    equivalences = folder / "probability" / "4_4_50" / "ccl" / "equivalences"
    equivalences.mkdir(parents=True)
    labels = pairs = 0
    for block in grid:
        record, met = _record(grid, block.index, size.per_face, size.inside)
        store.put_arrays(f"{block.index:012d}.st", record.to_arrays())
        _write_igneous(equivalences, grid, block.index, record.n, met)
        labels += record.n
        pairs += len(met)
    return labels - pairs, pairs


def igneous_offset() -> int:
    """Between the labels of one task and the next: voxels of a block, overlap included."""
    x, y, z = (b + 1 for b in BLOCK)
    return x * y * z


def _record(
    grid: Grid, index: int, per_face: int, inside: int
) -> tuple[BlockComponents, list[tuple[int, int, int]]]:
    """Record of one block, and which of its labels are which labels of which blocks before it.

    Labels: those on the lower faces by axis, those on the upper ones by axis, those inside.
    """
    write, read = grid[index].write, grid[index].read
    lower = [a for a in range(3) if write.start[a] > grid.bounds.start[a]]
    upper = [a for a in range(3) if read.stop[a] > write.stop[a]]
    steps = (1, grid.shape[0], grid.shape[0] * grid.shape[1])
    first, faces, shells, met = [], [], [], []
    for axis in lower:
        patches = _patches(index, axis, per_face)
        voxels = grid.bounds.raster_index(patches + np.asarray(write.start))
        first.append(voxels[:, 0])
        faces.append(voxels)
        other = index - steps[axis]
        before = _lower_count(grid, other) + _upper_axes(grid, other).index(axis)
        base = len(faces) - 1
        met += [
            (1 + base * per_face + i, other, 1 + before * per_face + i) for i in range(per_face)
        ]
    for axis in upper:
        across = np.zeros(3, np.int64)
        across[axis] = BLOCK[axis]
        patches = _patches(index + steps[axis], axis, per_face) + across + np.asarray(write.start)
        shells.append(grid.bounds.raster_index(patches))
        patches[..., axis] -= 1
        first.append(grid.bounds.raster_index(patches[:, 0]))
    rng = np.random.default_rng([index, 3])
    middle = rng.integers(_MARGIN, np.asarray(BLOCK) - _MARGIN, (inside, 3))
    first.append(grid.bounds.raster_index(middle + np.asarray(write.start)))
    first_voxel = np.concatenate(first)
    face_voxels, face_labels = _sorted_by_voxel(faces, 0)
    shell_voxels, shell_labels = _sorted_by_voxel(shells, len(faces) * per_face)
    voxels = rng.integers(5, 5000, len(first_voxel))
    record = BlockComponents(
        first_voxel, voxels, face_voxels, face_labels, shell_voxels, shell_labels
    )
    return record, met


def _sorted_by_voxel(patches: list[Int64s], before: int) -> tuple[Int64s, npt.NDArray[np.uint32]]:
    if not patches:
        return np.zeros(0, np.int64), np.zeros(0, np.uint32)
    voxels = np.concatenate(patches)
    labels = np.repeat(np.arange(len(voxels), dtype=np.uint32), voxels.shape[1]) + (1 + before)
    order = np.argsort(voxels, axis=None)
    return voxels.ravel()[order], labels.astype(np.uint32)[order]


def _lower_count(grid: Grid, index: int) -> int:
    start = grid[index].write.start
    return sum(a > b for a, b in zip(start, grid.bounds.start, strict=True))


def _upper_axes(grid: Grid, index: int) -> list[int]:
    block = grid[index]
    return [a for a in range(3) if block.read.stop[a] > block.write.stop[a]]


def _patches(index: int, axis: int, count: int) -> Int64s:
    """Patches on the lower face of a block across an axis: voxels (count, 24, 3) in the block."""
    u, v = (a for a in range(3) if a != axis)
    cells = [(BLOCK[a] - 2 * _MARGIN) // step for a, step in zip((u, v), _LATTICE, strict=True)]
    rng = np.random.default_rng([index, axis])
    chosen = rng.choice(cells[0] * cells[1], count, replace=False)
    corner = np.zeros((count, 1, 3), np.int64)
    corner[:, 0, u] = _MARGIN + _LATTICE[0] * (chosen % cells[0])
    corner[:, 0, v] = _MARGIN + _LATTICE[1] * (chosen // cells[0])
    patch = np.zeros((_PATCH[0] * _PATCH[1], 3), np.int64)
    patch[:, u] = np.tile(np.arange(_PATCH[0]), _PATCH[1])
    patch[:, v] = np.repeat(np.arange(_PATCH[1]), _PATCH[0])
    return corner + patch


def _write_igneous(
    folder: Path, grid: Grid, index: int, n: int, met: list[tuple[int, int, int]]
) -> None:
    """What igneous' second pass leaves of a block: each label, and its parent."""
    step = igneous_offset()
    parents = {label: label for label in range(index * step + 1, index * step + n + 1)}
    for own, other, theirs in met:
        parents[other * step + theirs] = other * step + theirs
        parents[index * step + own] = other * step + theirs
    start = grid[index].write.start
    x, y, z = triple([a // b for a, b in zip(start, BLOCK, strict=True)])
    text = json.dumps({str(k): v for k, v in parents.items()})
    (folder / f"{x}-{y}-{z}.json").write_text(text)
