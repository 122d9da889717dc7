"""Volumes of any format in `cnapse.volumes.sources` to layers, slab by slab.

1. `plan_ingest` opens the stack, checks all that can be checked without decoding it, and decides
   on the layer. Nothing is written.
2. `ingest` reads one slab of sections, writes its chunks, and notes it in ``.cnapse-ingest.json``.
   A slab is as deep as a chunk of the layer. Of what comes in chunks itself, such as Zarr, it is as
   deep as those, and read some rows at a time, so that each is decoded once. Memory in either case
   is at most x times y of a section times the depth of the layer's chunks, and what decoding takes;
   with a range the same again in the dtype that is read.
3. The layer's ``info`` is written last: what was interrupted does not look like a layer, and the
   same call goes on where it stopped.

Segmentations are stored as uint64 (design: cells and synapses are uint64), uint32 stays uint32.
Images keep their dtype unless a range is given or measured, by which they become uint8; masks of
1 bit become uint8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cnapse.errors import ConfigError, FormatError, LayerExistsError
from cnapse.geometry import Box, Grid, Triple, triple
from cnapse.store import Store, canonical_json, cloud_path, local_path
from cnapse.volumes.ranged import RangedSource, measure_range
from cnapse.volumes.sources import Source, first_voxel, voxel_size
from cnapse.volumes.stored import Kind, load_info
from cnapse.volumes.writer import LayerWriter, build_info, commit_info

__all__ = ["IngestOptions", "IngestPlan", "default_chunk_size", "ingest", "plan_ingest"]

_NOTE = ".cnapse-ingest.json"
_ANISOTROPIC = 4
_SIGNED_LIMIT = np.uint64(2**63 - 1)

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a stack becomes a layer.

    Parameters
    ----------
    kind : {"image", "segmentation"}
    resolution : (x, y, z), optional
        Voxel size in nm; needed where the files do not tell.
    offset : (x, y, z), optional
        Voxel coordinates of the first voxel. Without it the file tells, or it is 0, 0, 0.
    chunk_size : (x, y, z), optional
        Voxels in one file; see `default_chunk_size`.
    encoding : str, optional
        See `cnapse.volumes.writer.create_layer`.
    ignore_metadata
        Whether `resolution` wins even where the files say otherwise.
    value_range : (low, high) or "auto", optional
        Makes uint8 of an image, see `cnapse.volumes.ranged`; ``"auto"`` measures the range.
    """

    kind: Kind = "image"
    resolution: Sequence[float] | None = None
    offset: Triple | None = None
    chunk_size: Triple | None = None
    encoding: str | None = None
    ignore_metadata: bool = False
    value_range: tuple[float, float] | Literal["auto"] | None = None


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """A stack and the layer that it will be; made by `plan_ingest`.

    Parameters
    ----------
    source : Source
    destination : str
        Path of the layer, with its protocol.
    info : dict
        The layer's ``info``.
    slabs : Grid
        The volume in order of z; each is noted when it is done.
    rows : int
        How many rows of a slab are read and written at once.
    """

    source: Source
    destination: str
    info: dict[str, Any]
    slabs: Grid
    rows: int

    def blocks(self, slab: int) -> Grid:
        """What is read and written at once, of one slab."""
        box = self.slabs[slab].write
        return Grid(box, (box.shape[0], self.rows, box.shape[2]))

    @property
    def key(self) -> str:
        """A digest of the input files and the layer: another key is another ingest."""
        content = {
            "files": self.source.identity(),
            "info": self.info,
            "slab": self.slabs.block_shape,
        }
        return hashlib.sha256(canonical_json(content)).hexdigest()


def default_chunk_size(resolution: Sequence[float]) -> Triple:
    """64 x 64 x 64, or 128 x 128 x 16 where sections are at least 4 times as thick as pixels."""
    anisotropic = resolution[2] >= _ANISOTROPIC * max(resolution[:2])
    return (128, 128, 16) if anisotropic else (64, 64, 64)


def plan_ingest(
    source: Source, destination: str | Path, options: IngestOptions | None = None
) -> IngestPlan:
    """Decide on the layer; writes nothing. Decodes nothing but what measuring a range takes.

    Raises
    ------
    ConfigError
        If the voxel size is unknown, or the option contradicts the files.
    FormatError
        If the stack's dtype cannot be stored, or does not go with the encoding.
    """
    options = options or IngestOptions()
    _check_kind(source, options.kind)
    if source.name == cloud_path(destination):
        raise ConfigError(f"{destination} would be written onto itself: use another destination")
    resolution = voxel_size(source, options.resolution, ignore_metadata=options.ignore_metadata)
    bounds = Box.from_shape(source.shape, resolution, first_voxel(source, options.offset))
    source = _ranged(source, options)
    chunk = triple(options.chunk_size or default_chunk_size(resolution))
    info = build_info(
        kind=options.kind,
        dtype=_stored_dtype(source, options.kind),
        bounds=bounds,
        chunk_size=chunk,
        encoding=options.encoding,
    )
    rows, depth = _block(source.chunk_size or source.shape, bounds.shape, chunk)
    slabs = Grid(bounds, (bounds.shape[0], bounds.shape[1], depth))
    return IngestPlan(source, cloud_path(destination), info, slabs, rows)


def _block(stored: Triple, shape: Triple, chunk: Triple) -> tuple[int, int]:
    """Rows and depth of a block, in whole chunks of the layer, that covers a stored chunk.

    As deep as a stored one if that takes no more memory than whole sections would.
    """
    rows = min(_covering(stored[1], chunk[1]), _covering(shape[1], chunk[1]))
    deepest = max(1, shape[1] // rows) * chunk[2]
    return rows, min(_covering(stored[2], chunk[2]), deepest)


def _covering(length: int, step: int) -> int:
    return -(-length // step) * step


def ingest(
    plan: IngestPlan, *, overwrite: bool = False, progress: Progress | None = None
) -> LayerWriter:
    """Write the layer of a plan, or the rest of it if an earlier call was interrupted.

    Parameters
    ----------
    plan : IngestPlan
    overwrite
        Whether a layer, or an unfinished ingest of something else, may be replaced.
    progress : callable, optional
        Called with the number of sections after each slab; those of an earlier call at once.

    Raises
    ------
    LayerExistsError
        If something is there already.
    FormatError
        If a section cannot be decoded: it is named, and there is no layer then.
    """
    store, key = Store(plan.destination), plan.key
    done = _prepare(plan, store, key, overwrite=overwrite)
    writer = LayerWriter(plan.destination, plan.info)
    report = progress or (lambda _: None)
    report(sum(slab.write.shape[2] for slab in plan.slabs[:done]))
    for slab in plan.slabs[done:]:
        for block in plan.blocks(slab.index):
            _copy_block(plan, writer, block.write)
        store.put_json(_NOTE, {"key": key, "slabs": slab.index + 1})
        report(slab.write.shape[2])
    commit_info(plan.destination, plan.info)
    store.delete([_NOTE])
    return writer


def _copy_block(plan: IngestPlan, writer: LayerWriter, box: Box) -> None:
    array = np.empty(box.shape, dtype=writer.dtype, order="F")
    _, row, section = (a - b for a, b in zip(box.start, writer.bounds.start, strict=True))
    plan.source.read_into(array, section, row)
    negative = (
        writer.kind == "segmentation"
        and plan.source.dtype.kind == "i"
        and array.max() > _SIGNED_LIMIT.astype(array.dtype)
    )
    if negative:
        raise FormatError(
            f"{plan.source.name}: labels below 0 at {box}: give background 0 and cells numbers "
            "above it"
        )
    writer.write(array, box)


def _prepare(plan: IngestPlan, store: Store, key: str, *, overwrite: bool) -> int:
    """Make room for the layer; the number of slabs that are there already."""
    local = local_path(plan.destination)
    if local is not None and local.is_file():
        raise LayerExistsError(f"{local} is a file; a layer is a folder: use another path")
    note = store.get_json(_NOTE)
    if store.exists("info"):
        if not overwrite:
            raise LayerExistsError(
                f"{plan.destination}: there is a layer already: use another path, or --overwrite"
            )
        _delete_voxels(plan.destination, store)
    elif note is not None and note["key"] == key:
        return int(note["slabs"])
    elif note is not None and not overwrite:
        raise LayerExistsError(
            f"{plan.destination}: an ingest of other files or options was begun here and not "
            "finished: use another path, or --overwrite"
        )
    store.put_json(_NOTE, {"key": key, "slabs": 0})
    return 0


def _delete_voxels(path: str, store: Store) -> None:
    """Delete a layer's info, then its scales; other things in its folder stay."""
    keys = [scale["key"] for scale in load_info(path)["scales"]]
    store.delete(["info"])
    for key in keys:
        # A key may point to a folder beside the layer: that is not ours.
        if ".." not in key.split("/"):
            store.delete_folder(key)


def _check_kind(source: Source, kind: Kind) -> None:
    # Layers know what they are; other formats do not.
    stated = getattr(source, "kind", kind)
    if stated != kind:
        way_out = "add" if stated == "segmentation" else "leave out"
        raise ConfigError(f"{source.name} is a layer of kind {stated}: {way_out} --segmentation")


def _ranged(source: Source, options: IngestOptions) -> Source:
    wanted = options.value_range
    if wanted is None:
        return source
    if options.kind == "segmentation":
        option = "--auto-range" if wanted == "auto" else "--range"
        raise ConfigError(
            f"{option} is for images, the ids of a segmentation must stay what they are: leave it "
            "out, or leave out --segmentation"
        )
    return RangedSource(source, *(measure_range(source) if wanted == "auto" else wanted))


def _stored_dtype(source: Source, kind: Kind) -> np.dtype[Any]:
    dtype = source.dtype
    if kind == "image":
        if dtype.name in ("float16", "float64", "int64"):
            raise FormatError(
                f"{source.name} has pixels of {dtype}, which Neuroglancer cannot show: convert it "
                "to uint8, uint16 or float32, or add --auto-range to make it uint8"
            )
        return dtype
    if dtype.kind not in "iu":
        raise FormatError(
            f"{source.name} has pixels of {dtype}, but labels are whole numbers: convert it to "
            "uint32 or uint64"
        )
    return dtype if dtype == np.uint32 else np.dtype(np.uint64)
