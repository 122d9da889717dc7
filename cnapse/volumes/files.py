"""Whole volumes into memory, for the commands that work on plain files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import FormatError
from cnapse.geometry import Box
from cnapse.store import local_path
from cnapse.volumes.reader import open_layer
from cnapse.volumes.sources import first_voxel, open_source, voxel_size

__all__ = ["read_volume"]


def read_volume(
    path: str | Path, *, resolution: Sequence[float] | None = None, check_names: bool = True
) -> tuple[npt.NDArray[Any], Box]:
    """Read a whole volume: an image stack or a precomputed layer.

    Parameters
    ----------
    path
        What `open_source` opens, or any layer that `open_layer` opens.
    resolution : (x, y, z), optional
        Voxel size in nm. A layer is read at it (default: its finest). A stack needs it where the
        file does not tell; it begins at voxel 0, 0, 0 unless the file tells otherwise.
    check_names
        Whether the numbers in the names of sections must count up without a gap.

    Returns
    -------
    array : ndarray, shape (x, y, z), Fortran order
        Of the dtype that is stored.
    box : Box
        The voxels that it holds.

    Raises
    ------
    LayerNotFoundError, FormatError, ResolutionError, ConfigError
        One line that names the file and the way out.
    """
    if _is_layer(path):
        layer = open_layer(path, resolution=resolution)
        return layer.read(layer.bounds), layer.bounds
    source = open_source(path, check_names=check_names)
    box = Box.from_shape(source.shape, voxel_size(source, resolution), first_voxel(source, None))
    try:
        array = np.empty(source.shape, dtype=source.dtype, order="F")
    except (MemoryError, ValueError) as error:  # beyond 64 bits it is the latter
        raise FormatError(
            f"{path} has {' x '.join(map(str, source.shape))} voxels, more than memory holds: "
            "bring it in with `cnapse ingest` and give the layer to `cnapse run`"
        ) from error
    source.read_into(array, 0)
    return array, box


def _is_layer(path: str | Path) -> bool:
    """Whether a path is a layer: in a bucket, named so, or a folder with an info."""
    local = local_path(path)
    return local is None or "://" in str(path) or (local / "info").is_file()
