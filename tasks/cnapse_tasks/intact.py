"""Chunks of a run's own layers on local disk, compared with what their tasks wrote.

In buckets gzip and PNG carry checksums. On disk a compressed_segmentation that was cut decodes to
wrong ids, or kills the process; so the record of each task keeps the CRC-32 of its chunks, and who
reads them looks at each once.

What is missing or cut is made again (`cnapse_tasks.recovery`). A whole chunk of other content may
be somebody's correction: it is named, and never replaced.
"""

from __future__ import annotations

import functools
import re
import zlib

from cnapse.checksums import crcs_of_text
from cnapse.errors import DamagedFileError, RunStateError
from cnapse.geometry import Box, Grid, Triple, triple
from cnapse.store import Store
from cnapse.volumes.damage import is_cut
from cnapse.volumes.presence import chunk_boxes
from cnapse.volumes.stored import load_info
from cnapse.volumes.writer import chunk_name
from cnapse_tasks.ledger import Ledger

__all__ = ["KEY", "ChunkCheck", "start_of_chunk"]

KEY = "crc32"
"""Under this name a task's record keeps the checksums of its chunks, x fastest."""

_CHUNK = re.compile("_".join([r"(-?\d+)--?\d+"] * 3))
_MOST_SEEN = 1 << 17
_MOST_RECORDS = 256


class ChunkCheck:
    """Compares the chunks of a layer that a stage made, before they are read.

    Parameters
    ----------
    path : str
        The layer, on local disk.
    ledger : Ledger
        Of the stage that made it.
    grid : Grid
        The blocks of that stage's tasks.
    """

    def __init__(self, path: str, ledger: Ledger, grid: Grid) -> None:
        self.layer = Store(path)
        self.ledger = ledger
        self.grid = grid
        self.info = load_info(path)
        self._seen: set[int] = set()
        self._checksums = functools.lru_cache(_MOST_RECORDS)(self._read_checksums)

    def __call__(self, mip: int, box: Box) -> None:
        """Check the chunks that a box touches; those of coarser mips are only looked at by people.

        Raises
        ------
        DamagedFileError
            If a chunk is missing or cut.
        RunStateError
            If one is whole, but not what was written.
        """
        if mip:
            return
        scale = self.info["scales"][0]
        chunk = triple(scale["chunk_sizes"][0])
        for wanted in chunk_boxes(scale, box):
            place = int(self.grid.bounds.raster_index(wanted.start))
            if place in self._seen:
                continue
            index = int(self.grid.index_of(wanted.start))
            chunks = Grid(self.grid[index].write, chunk)
            self._compare(wanted, index, int(chunks.index_of(wanted.start)))
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(place)

    def _compare(self, chunk: Box, index: int, number: int) -> None:
        """Check chunk `number` of the task `index`."""
        known = self._checksums(index)
        if not known:
            return
        name = chunk_name(self.info["scales"][0]["key"], chunk)
        content = self.layer.get(name)
        if content is not None and zlib.crc32(content) == known[number]:
            return
        # Another worker may have made it again since the record was read.
        self._checksums.cache_clear()
        known = self._checksums(index)
        if not known or (content is not None and zlib.crc32(content) == known[number]):
            return
        path, stage = f"{self.layer.path}/{name}", self.ledger.stage
        if content is None:
            raise DamagedFileError(path, f"it is missing, and task {index} of {stage} wrote it")
        if is_cut(content, self.info, chunk.shape):
            raise DamagedFileError(path, f"it is cut, {len(content)} bytes are left")
        raise RunStateError(
            f"{path} is not what stage {stage} wrote (its checksum differs): if it is damaged, "
            "delete it, and it is made again; to go on from a corrected layer, move that out of "
            f"the output and give it as layers.{self.layer.path.rpartition('/')[2]}"
        )

    def _read_checksums(self, index: int) -> list[int]:
        """What the record of a task tells; nothing in those of earlier versions."""
        text = (self.ledger.record_of(index) or {}).get(KEY)
        return crcs_of_text(text) if isinstance(text, str) else []


def start_of_chunk(name: str) -> Triple | None:
    """Where the chunk of a file begins: ``"0-64_64-128_8-16"`` at (0, 64, 8)."""
    found = _CHUNK.fullmatch(name)
    return triple([int(start) for start in found.groups()]) if found else None
