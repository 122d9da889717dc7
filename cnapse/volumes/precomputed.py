"""Precomputed layers as sources, at their own resolution: to chunk or encode them anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.geometry import Box, Resolution, Triple
from cnapse.store import canonical_json, local_path
from cnapse.volumes.reader import open_layer
from cnapse.volumes.sources import file_identity

__all__ = ["LayerSource", "is_precomputed"]


def is_precomputed(path: str | Path) -> bool:
    """Whether a path is named as a layer, or a folder with an info."""
    local = local_path(path)
    named = str(path).startswith("precomputed://")
    return named or ("://" not in str(path) and local is not None and (local / "info").is_file())


class LayerSource:
    """The finest scale of a layer.

    Raises
    ------
    LayerNotFoundError, FormatError
        As `cnapse.volumes.reader.open_layer`.
    """

    def __init__(self, path: str | Path) -> None:
        self._layer = open_layer(path)
        bounds = self._layer.bounds
        self.name = self._layer.path
        self.kind = self._layer.kind
        self.shape: Triple = bounds.shape
        self.dtype: np.dtype[Any] = self._layer.dtype
        self.resolution: Resolution | None = self._layer.resolution
        x, y, z = (float(v) for v in bounds.start)
        self.begin: Resolution | None = (x, y, z)
        self.chunk_size: Triple | None = self._layer.chunk_size

    def read_into(self, out: npt.NDArray[Any], start: int, row: int = 0) -> None:
        """Fill ``out[x, y, z]`` from section `start` and `row` on, a row of chunks at a time."""
        bounds, step = self._layer.bounds, self._layer.chunk_size[1]
        first = bounds.start[2] + start
        for y in range(0, out.shape[1], step):
            rows = out[:, y : y + step]
            begin = (bounds.start[0], bounds.start[1] + row + y, first)
            rows[...] = self._layer.read(Box.from_shape(rows.shape, bounds.resolution, begin))

    def identity(self) -> list[list[object]]:
        """The layer's path and info; of a local one also when the info was written."""
        local = local_path(self.name)
        info = [self.name, canonical_json(self._layer.info).decode()]
        return [[*info, *(file_identity(local / "info") if local else [])]]
