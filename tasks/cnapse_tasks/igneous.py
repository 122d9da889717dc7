"""The only module that imports igneous (GPL-3): mips, meshes and skeletons."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnapse.faults import remote_errors
from cnapse.geometry import Box, Grid, Triple, triple
from cnapse.remote import cloud_volume, prepare, reachable
from cnapse.store import local_path
from cnapse.volumes.stored import load_info

__all__ = [
    "QUANTIZATION_BITS",
    "UNITS_PER_VOXEL",
    "Surface",
    "Wire",
    "add_scales",
    "block_surfaces",
    "block_wires",
    "downsample",
    "downsampling_grid",
    "fused_skeleton",
    "multires_mesh",
]

QUANTIZATION_BITS = 16
"""Of the vertices of a mesh, within its fragment."""

UNITS_PER_VOXEL = 4
"""Meshes are stored in quarters of a voxel: igneous drops what is thinner than one unit."""

_ANISOTROPIC = 1.5
# A task holds mip 0 of its block and the coarser ones: 2^27 voxels of 8 bytes are 1 GB.
_LARGEST_TASK_VOXELS = 1 << 27
# Small objects keep all faces: simplified, the smallest would vanish.
_FEW_FACES = 500
_SIMPLIFIED = 100
_DRACO_LEVEL = 7
# igneous' command line has these; nm.
_TEASAR = {
    "scale": 1.5,
    "const": 300,
    "pdrf_scale": 100_000,
    "pdrf_exponent": 4,
    "soma_acceptance_threshold": 3500,
    "soma_detection_threshold": 750,
    "soma_invalidation_scale": 1,
    "soma_invalidation_const": 300,
}
_DUST_VOXELS = 100
_TWIG_NM = 500.0


def factor_of(resolution: Sequence[float]) -> Triple:
    """How much coarser each mip is: sections stay apart where they are thick."""
    x, _, z = resolution
    return (2, 2, 1) if z > _ANISOTROPIC * x else (2, 2, 2)


def levels_of(bounds: Box, chunk: Triple, wanted: int) -> int:
    """Number of coarser mips worth having: not beyond one chunk, nor what one task can hold."""
    factor = factor_of(bounds.resolution)
    levels = 0
    while levels < wanted:
        scaled = [c * f**levels for c, f in zip(chunk, factor, strict=True)]
        one_chunk = all(n <= s for n, s in zip(bounds.shape, scaled, strict=True))
        next_voxels = scaled[0] * scaled[1] * scaled[2] * factor[0] * factor[1] * factor[2]
        if one_chunk or next_voxels > _LARGEST_TASK_VOXELS:
            break
        levels += 1
    return levels


def downsampling_grid(bounds: Box, chunk: Triple, levels: int) -> Grid:
    """The blocks of the tasks: one chunk of the coarsest mip each."""
    factor = factor_of(bounds.resolution)
    return Grid(bounds, triple([c * f**levels for c, f in zip(chunk, factor, strict=True)]))


def add_scales(path: str, chunk: Triple, levels: int) -> None:
    """Write the coarser scales into the info of a layer; those that are there stay."""
    from igneous.downsample_scales import create_downsample_scales

    if levels:
        volume = cloud_volume(path, mip=0)
        factor = factor_of([float(v) for v in volume.resolution])
        shape = [c * f**levels for c, f in zip(chunk, factor, strict=True)]
        with remote_errors(path), contextlib.redirect_stdout(io.StringIO()):  # it prints a warning
            create_downsample_scales(
                reachable(path),
                0,
                shape,
                preserve_chunk_size=True,
                factor=factor,
                max_mips=levels,
            )


def downsample(path: str, grid: Grid, index: int, levels: int, *, sparse: bool) -> None:
    """Make the coarser mips of one block.

    Parameters
    ----------
    path : str
        A layer that :func:`add_scales` has prepared.
    grid : Grid
        Of :func:`downsampling_grid`.
    index : int
        The block's.
    levels : int
    sparse : bool
        Leave background out of the mode, so that thin objects stay visible from afar.
    """
    from igneous.tasks import DownsampleTask

    made = min(levels, len(load_info(path)["scales"]) - 1)
    block = _with_rim(grid, index, levels)
    if block is None or made == 0:
        return
    prepare()
    with remote_errors(path):
        DownsampleTask(
            layer_path=reachable(path),
            mip=0,
            # Of a whole block also at the rim: igneous tells how many mips it is good for.
            shape=[max(pair) for pair in zip(grid.block_shape, block.shape, strict=True)],
            offset=list(block.start),
            sparse=sparse,
            compress=_compress(path),
            factor=factor_of(grid.bounds.resolution),
            max_mips=made,
        )


def _with_rim(grid: Grid, index: int, levels: int) -> Box | None:
    """A block with what is left beyond it, if that is too thin for `levels`; None for such a rest.

    tinybrain refuses planes of fewer voxels than the factor of the coarsest mip.
    """
    own, bounds = grid[index].write, grid.bounds
    least = 1 << levels
    axes = zip(own.start, own.stop, bounds.start, bounds.stop, strict=True)
    if any(a > low and b == high and b - a < least for a, b, low, high in axes):
        return None
    pairs = zip(own.stop, bounds.stop, strict=True)
    stop = triple([high if high - b < least else b for b, high in pairs])
    return Box(own.start, stop, own.resolution)


def _compress(path: str) -> bool | None:
    """None leaves it to the encoding: gzip for what does not compress itself.

    On disk never: gzip'd files read as missing from plain servers and as zeros in tensorstore.
    """
    return None if local_path(path) is None else False


# --- meshes and skeletons -------------------------------------------------------------------------
#
# igneous' own tasks write into the layer they read, gzip'd and file by file, and every task of a
# shard reads the index of all blocks. So reading, writing and sorting by shard are ours; how a mesh
# is made, simplified, fused and put into the format is igneous'.


class Surface(NamedTuple):
    """A triangle mesh.

    Parameters
    ----------
    vertices : ndarray of float32, shape (n, 3)
        x, y, z in nm.
    faces : ndarray of uint32, shape (m, 3)
    """

    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.uint32]


class Wire(NamedTuple):
    """A skeleton.

    Parameters
    ----------
    vertices : ndarray of float32, shape (n, 3)
        x, y, z in nm.
    edges : ndarray of uint32, shape (m, 2)
    radii : ndarray of float32, shape (n,)
        Distance to the cell's boundary in nm.
    """

    vertices: npt.NDArray[np.float32]
    edges: npt.NDArray[np.uint32]
    radii: npt.NDArray[np.float32]


def block_surfaces(labels: npt.NDArray[np.uint64], box: Box) -> dict[int, Surface]:
    """The surfaces of all objects of a block, where a voxel of them meets one of another.

    Parameters
    ----------
    labels : ndarray of uint64, [x, y, z]
        One voxel more on the upper side than the block, so that surfaces of neighbours meet; at
        the rim of the volume a layer of 0, where surfaces shall close.
    box : Box
        Of `labels`.
    """
    import fastremap
    import zmesh

    small, numbers = fastremap.renumber(np.asfortranarray(labels), in_place=False)
    ids = {int(new): int(old) for old, new in numbers.items()}
    mesher = zmesh.Mesher(box.resolution)
    mesher.mesh(small)
    offset = np.asarray(box.start_nm)
    found: dict[int, Surface] = {}
    for number in sorted(mesher.ids(), key=lambda n: ids[n]):
        mesh = mesher.get(number, reduction_factor=0, max_error=0, voxel_centered=True)
        if len(mesh.faces) > _FEW_FACES:
            mesh = mesher.get(
                number,
                reduction_factor=_SIMPLIFIED,
                max_error=max(box.resolution[:2]),
                voxel_centered=True,
            )
        mesher.erase(number)
        vertices = (mesh.vertices + offset).astype(np.float32)
        found[ids[number]] = Surface(vertices, np.asarray(mesh.faces, np.uint32))
    return found


def multires_mesh(
    pieces: Sequence[Surface], resolution: Sequence[float], levels: int, *, least: int = 128
) -> tuple[bytes, bytes] | None:
    """One object's mesh in Neuroglancer's multi-resolution format.

    Parameters
    ----------
    pieces : sequence of Surface
        Of all blocks, in their order.
    resolution : (x, y, z)
        Of the voxels that the mesh was made of, in nm.
    levels : int
        Coarser ones at most; there are fewer for small objects.
    least : int
        Voxels in the plane below which a part of a mesh is not split further.

    Returns
    -------
    (manifest, data) of bytes, or None for a mesh without a face.
    """
    from cloudvolume import Mesh
    from igneous.tasks.mesh.multires import process_mesh

    units = np.asarray(resolution, np.float64) / UNITS_PER_VOXEL
    meshes = [Mesh(piece.vertices.copy(), piece.faces, None) for piece in pieces]
    whole = Mesh.concatenate(*meshes).consolidate()
    if not len(whole.faces):
        return None
    thick = max(1.0, resolution[2] / resolution[0])
    side = least * UNITS_PER_VOXEL
    volume: Any = SimpleNamespace(
        meta=SimpleNamespace(resolution=lambda _mip: units),
        mesh=SimpleNamespace(
            meta=SimpleNamespace(mip=0, info={"vertex_quantization_bits": QUANTIZATION_BITS})
        ),
    )
    manifest, data = process_mesh(
        volume, 0, whole, levels, (side, side, max(1, round(side / thick))), _DRACO_LEVEL
    )
    return None if manifest is None else (manifest.to_binary(), data)


def block_wires(labels: npt.NDArray[np.uint64], box: Box) -> dict[int, Wire]:
    """The skeletons of all objects of a block.

    Parameters
    ----------
    labels : ndarray of uint64, [x, y, z]
        One voxel more on the upper side than the block: there, skeletons of neighbours meet.
    box : Box
        Of `labels`.
    """
    import kimimaro

    skeletons = kimimaro.skeletonize(
        np.asfortranarray(labels),
        teasar_params=dict(_TEASAR),
        anisotropy=box.resolution,
        dust_threshold=_DUST_VOXELS,
        progress=False,
        fix_branching=True,
        fix_borders=True,
        parallel=1,
    )
    offset = np.asarray(box.start_nm) + np.asarray(box.resolution) / 2
    return {
        int(cell): Wire(
            (skeleton.vertices + offset).astype(np.float32),
            np.asarray(skeleton.edges, np.uint32),
            np.asarray(skeleton.radius, np.float32),
        )
        for cell, skeleton in sorted(skeletons.items())
    }


def fused_skeleton(pieces: Sequence[Wire]) -> bytes | None:
    """One cell's skeleton in Neuroglancer's format, short twigs taken off; None for an empty one.

    Parameters
    ----------
    pieces : sequence of Wire
        Of all blocks, in their order.
    """
    import kimimaro
    from cloudvolume import Skeleton

    skeletons = [Skeleton(w.vertices.copy(), w.edges, w.radii) for w in pieces]
    whole = Skeleton.simple_merge(skeletons).consolidate()
    whole.extra_attributes = [a for a in whole.extra_attributes if a["id"] == "radius"]
    whole = kimimaro.postprocess(whole, dust_threshold=0, tick_threshold=_TWIG_NM)
    return None if whole.empty() else bytes(whole.to_precomputed())
