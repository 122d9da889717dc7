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
Indices = npt.NDArray[np.int64]

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

    def section(self, x: Indices, y: Indices, z: int) -> Array:
        """Voxels of a section, in voxels of the layer; 0 outside of its bounds.

        Parameters
        ----------
        x, y : ndarray of int64, shape (n,) and (m,)
            Which columns and rows, ascending; what lies between them is not kept.
        z : int

        Returns
        -------
        ndarray, shape (n, m), of the layer's dtype
        """
        out = np.zeros((len(x), len(y)), self.layer.dtype)
        corners = (int(x[0]), int(y[0]), z), (int(x[-1]) + 1, int(y[-1]) + 1, z + 1)
        for block in self._grid.touching(Box(*corners, self.layer.resolution)):
            start, stop = block.write.start, block.write.stop
            columns, rows = (
                slice(*np.searchsorted(wanted, (start[axis], stop[axis])).tolist())
                for axis, wanted in enumerate((x, y))
            )
            if out[columns, rows].size:
                voxels = self._read(block)[:, :, z - start[2]]
                out[columns, rows] = voxels[np.ix_(x[columns] - start[0], y[rows] - start[1])]
        return out

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
