"""Chunks of a layer held in memory, so that the next section of a place is there at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.geometry import Block, Box, Grid, Triple, triple
from cnapse.volumes.reader import Layer

__all__ = ["HeldBlocks"]

Array = npt.NDArray[Any]

# Chunks of one voxel in z are read a few at a time.
_LEAST: Triple = (64, 64, 8)
_MOST: Triple = (512, 512, 64)


class HeldBlocks:
    """Sections of a layer, from blocks of whole chunks that are kept while there is room.

    Parameters
    ----------
    layer : Layer
    most_bytes : int
        What the blocks may take together; those that were not asked for the longest go first.
    """

    def __init__(self, layer: Layer, most_bytes: int) -> None:
        self.layer = layer
        shape = triple(
            [
                min(c * max(1, -(-least // c)), max(c, most))
                for c, least, most in zip(layer.chunk_size, _LEAST, _MOST, strict=True)
            ]
        )
        self._grid = Grid(layer.bounds, shape)
        self._most = most_bytes
        self._held: OrderedDict[int, Array] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        # cloud-volume's reader is not made for several threads.
        self._reading = threading.Lock()

    @property
    def bytes(self) -> int:
        """What is held."""
        return self._bytes

    def section(self, start: tuple[int, int], stop: tuple[int, int], z: int) -> Array:
        """Voxels of a section, in voxels of the layer; 0 outside of its bounds.

        Returns
        -------
        ndarray, shape (x, y), of the layer's dtype
        """
        wanted = Box((*start, z), (*stop, z + 1), self.layer.resolution)
        out = np.zeros(wanted.shape, self.layer.dtype)
        for block in self._grid.touching(wanted):
            both = block.write.intersection(wanted)
            out[both.slices(wanted)] = self._read(block)[both.slices(block.write)]
        section: Array = out[:, :, 0]
        return section

    def _read(self, block: Block) -> Array:
        number = block.index
        with self._lock:
            if number in self._held:
                self._held.move_to_end(number)
                return self._held[number]
        with self._reading:
            with self._lock:
                if number in self._held:
                    return self._held[number]
            read = self.layer.read(block.write)
        with self._lock:
            self._held[number] = read
            self._bytes += read.nbytes
            while self._bytes > self._most and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return read
