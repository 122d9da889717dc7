"""The corrected layer: chunks that nobody touched are copied as files, the others written anew."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnapse.errors import storage_error
from cnapse.geometry import Box, Grid
from cnapse.review.apply_objects import Objects
from cnapse.store import Store, local_path
from cnapse.volumes.reader import Layer
from cnapse.volumes.resample import Ratio
from cnapse.volumes.writer import GZIPPED, LayerWriter, build_info, chunk_name, commit_info

__all__ = ["LayerCopy", "Written"]

_ENCODINGS = ("compressed_segmentation", "compresso", "raw")
_CSEG_BLOCK = [8, 8, 8]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Written:
    """What was done to a layer.

    Attributes
    ----------
    total : int
        Storage chunks that it has.
    again : int
        Those whose voxels were changed, and written, this time.
    touched : int
        Those whose voxels differ from the source's in all.
    digests : mapping of chunk number to str
        What was done to each that may differ; for the next time.
    """

    total: int
    again: int
    touched: int
    digests: Mapping[int, str]


class LayerCopy:
    """A layer of synapses and its corrected copy.

    Parameters
    ----------
    source : Layer
    path : str
        Of the copy.
    """

    def __init__(self, source: Layer, path: str) -> None:
        scale = source.info["scales"][source.mip]
        # A file is the same chunk in both layers only if both store the same voxels alike.
        self._same_files = (
            source.ratio == Ratio()
            and not scale.get("sharding")
            and source.dtype == np.uint64
            and scale["encoding"] in _ENCODINGS
            and scale.get("compressed_segmentation_block_size", _CSEG_BLOCK) == _CSEG_BLOCK
        )
        self.source = source
        self.info = build_info(
            kind="segmentation",
            dtype=np.uint64,
            bounds=source.bounds,
            chunk_size=source.chunk_size,
            encoding=scale["encoding"] if self._same_files else None,
        )
        self._from, self._to = Store(source.path), Store(path)
        self._from_key: str = scale["key"]
        self._key: str = self.info["scales"][0]["key"]
        self._writer = LayerWriter(path, self.info)
        self.grid = Grid(source.bounds, source.chunk_size)

    def write(
        self,
        objects: Objects,
        known: Mapping[int, str],
        dirty: Collection[int],
        progress: Progress,
    ) -> Written:
        """Make the layer, or bring it to what decisions say now.

        Parameters
        ----------
        objects : Objects
            After all edits.
        known : mapping of chunk number to str
            `Written.digests` of the last time.
        dirty : collection of int
            Chunks whose files may be anything.
        progress : callable
            Told how many chunks are done, of how many.
        """
        edits = objects.edits()
        there = {f"{self._key}/{name}" for name in self._to.names(self._key)}
        again = 0
        digests: dict[int, str] = {}
        for block in self.grid:
            index, name = block.index, chunk_name(self._key, block.write)
            is_sound = name in there and index not in dirty
            edit = edits.get(index)
            if edit is None:
                if not is_sound or index in known:
                    self._copy(block.write)
            elif is_sound and known.get(index, "").partition(" ")[0] == edit:
                digests[index] = known[index]
            else:
                differs = self._edit(objects, block.write)
                again += differs
                digests[index] = f"{edit} {'changed' if differs else 'same'}"
            progress(index + 1, len(self.grid))
        if self._to.get_json("info") != self.info:
            commit_info(self._to.path, self.info)
        touched = sum(digest.endswith(" changed") for digest in digests.values())
        return Written(len(self.grid), again, touched, digests)

    def _edit(self, objects: Objects, box: Box) -> bool:
        """Write a chunk with what is done to it; whether that changes a voxel."""
        before = self.source.read(box)
        after = objects.applied(before, box)
        if np.array_equal(before, after):
            self._copy(box)
            return False
        self._writer.write(after, box)
        return True

    def _copy(self, box: Box) -> None:
        """Take a chunk over as it is: its file, else its voxels."""
        if self._same_files and self._copied(box):
            return
        self._writer.write(np.asfortranarray(self.source.read(box).astype(np.uint64)), box)

    def _copied(self, box: Box) -> bool:
        source, target = chunk_name(self._from_key, box), chunk_name(self._key, box)
        near, far = local_path(self._from.path), local_path(self._to.path)
        if near is not None and far is not None:
            return _copy_file(near / source, far / target)
        content = self._from.get(source)
        if content is None:
            return False
        encoding: str = self.info["scales"][0]["encoding"]
        self._to.put_all([(target, content)], compress=encoding in GZIPPED)
        return True


def _copy_file(source: Path, target: Path) -> bool:
    """Copy a file so that it appears whole or not at all; whether there is one."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        part.replace(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return True
