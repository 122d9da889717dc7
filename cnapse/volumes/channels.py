"""Layers with a channel for each class of a model, and the names of these in their info.

The names stand under `channel_names`, which other programs pass over. Chunks are raw.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, FormatError, LayerExistsError
from cnapse.geometry import Box, Grid, Triple, triple
from cnapse.store import Store, cloud_path
from cnapse.volumes.stored import load_info
from cnapse.volumes.writer import build_info, chunk_name, commit_info

__all__ = ["ChannelsWriter", "build_channels", "channel_names", "chosen_channel", "create_channels"]

Levels = npt.NDArray[np.uint8]

_NAMES = "channel_names"
# What is looked for if nothing is said.
_PREFERRED = ("synapse", "density")


class ChannelsWriter:
    """Writes whole chunks of a layer of uint8 with several channels, or one.

    Parameters
    ----------
    path : str
        With its protocol.
    info : dict
        As `build_channels` makes it.
    """

    def __init__(self, path: str, info: Mapping[str, Any]) -> None:
        self.path = path
        self.info = info
        scale = info["scales"][0]
        self.chunk_size: Triple = triple(scale["chunk_sizes"][0])
        self._folder = scale["key"]
        self._store = Store(path)

    def write(self, levels: Levels, box: Box) -> list[int]:
        """Write the chunks of a box, which begins at chunk borders and ends there or at the rim.

        Parameters
        ----------
        levels : ndarray of uint8, shape (x, y, z, channels)
        box : Box

        Returns
        -------
        list of int
            As `cnapse.volumes.writer.LayerWriter.write`.

        Raises
        ------
        FormatError
            If dtype or shape do not fit.
        """
        shape = (*box.shape, self.info["num_channels"])
        if levels.dtype != np.uint8 or levels.shape != shape:
            raise FormatError(
                f"{self.path}: an array of shape {levels.shape} and dtype {levels.dtype} does not "
                f"fill {box}, which takes uint8 of shape {shape}"
            )
        chunks = [block.write for block in Grid(box, self.chunk_size)]
        named = {
            chunk_name(self._folder, chunk): levels[chunk.slices(box)].tobytes(order="F")
            for chunk in chunks
        }
        self._store.put_all(
            named.items(),
            compress=True,
            content_type="application/octet-stream",
        )
        return [zlib.crc32(content) for content in named.values()]


def build_channels(bounds: Box, chunk_size: Triple, names: Sequence[str]) -> dict[str, Any]:
    """The info of a layer of uint8 with so many channels; names only where there are several."""
    info = build_info(kind="image", dtype="uint8", bounds=bounds, chunk_size=chunk_size)
    named = {_NAMES: list(names)} if len(names) > 1 else {}
    return {**info, "num_channels": len(names), **named}


def create_channels(
    path: str, *, bounds: Box, chunk_size: Triple, names: Sequence[str]
) -> ChannelsWriter:
    """Create a layer of several channels, or open the one that is there for writing.

    Raises
    ------
    LayerExistsError
        If there is one that differs.
    """
    info = build_channels(bounds, chunk_size, names)
    if not Store(path).exists("info"):
        commit_info(path, info)
    elif _told(load_info(path)) != _told(info):
        raise LayerExistsError(
            f"{cloud_path(path)} is a layer already, with other voxels or classes: delete it, or "
            "choose another output"
        )
    return ChannelsWriter(cloud_path(path), info)


def channel_names(info: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a layer's channels; none where nobody gave them any."""
    return tuple(info.get(_NAMES, ()))


def chosen_channel(
    names: Sequence[str], count: int, wanted: str | int | None, where: str, key: str
) -> int:
    """The number of the channel that is meant.

    Parameters
    ----------
    names : sequence of str
        Of the channels, if they have any.
    count : int
        How many there are.
    wanted : str, int or None
        Name or number; None for "synapse", else "density", else the first of those with names, or
        the only one.
    where, key : str
        What has the channels, and where one is chosen, for messages.

    Raises
    ------
    ConfigError
        If there is no such channel, or one must be chosen.
    """
    if wanted is None:
        if count > 1 and not names:
            raise ConfigError(
                f"{where} has {count} channels: choose one with {key}, 0 to {count - 1}"
            )
        return next((names.index(name) for name in _PREFERRED if name in names), 0)
    if wanted in names:
        return names.index(str(wanted))
    if isinstance(wanted, int) and wanted < count:
        return wanted
    if count == 1:
        raise ConfigError(f"{key} = {wanted!r}: {where} has one channel only: leave {key} out")
    known = ", ".join(names) or f"numbers 0 to {count - 1}"
    raise ConfigError(f"{key} = {wanted!r}: {where} has no such channel; it has {known}")


def _told(info: Mapping[str, Any]) -> list[Any]:
    scale = info["scales"][0]
    keys = ("size", "voxel_offset", "resolution", "chunk_sizes", "encoding")
    found = [info.get(key) for key in ("data_type", "num_channels", _NAMES)]
    return [*found, *(scale.get(key) for key in keys)]
