"""Layers as they are stored: their info, their scales, and the voxels of a box of one scale.

CloudVolume does the work; its exceptions become ours here. It is imported where it is used, since
that takes a second.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cnapse.errors import (
    CnapseError,
    FormatError,
    LayerNotFoundError,
    ResolutionError,
    storage_error,
)
from cnapse.faults import is_of_a_client, remote_error
from cnapse.geometry import Box, Resolution, Triple, triple
from cnapse.remote import cloud_volume, tried_again
from cnapse.store import cloud_path, local_path
from cnapse.volumes.presence import missing_chunks

if TYPE_CHECKING:
    from cloudvolume import CloudVolume

__all__ = ["SMALLEST_CREDIBLE_NM", "Kind", "StoredLayer", "load_info"]

SMALLEST_CREDIBLE_NM = 0.05
"""A smaller voxel size is one that was given in micrometres."""

Kind = Literal["image", "segmentation"]
Array = npt.NDArray[Any]

_NO_OFFSET = (0, 0, 0)
_MESSAGE_LENGTH = 300
# What codecs raise on bytes that are not theirs; the rest is disk or network.
_DAMAGE = (ValueError, IndexError, RuntimeError, EOFError, zlib.error, gzip.BadGzipFile)
# CloudVolume paints its messages.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class StoredLayer:
    """A layer as stored: its info, and a CloudVolume for each mip that was asked for.

    Parameters
    ----------
    path : str
        With its protocol.
    info : dict
        As `load_info` gives it.
    fill_missing : bool
        Whether missing chunks stand for 0.
    channel : int
        The one that is read.
    cache_bytes : int
        Memory for decoded chunks, per mip.
    check : callable, optional
        Called with mip and box before voxels are read; raises if chunks are not as written.
    """

    path: str
    info: dict[str, Any]
    fill_missing: bool
    channel: int
    cache_bytes: int
    check: Callable[[int, Box], None] | None = None
    volumes: dict[tuple[int, bool], CloudVolume] = field(default_factory=dict)
    missing: int = 0
    """How many chunks were not there and were read as 0, counted at each read."""

    def resolution(self, mip: int) -> Resolution:
        """Voxel size of a mip in nm."""
        x, y, z = (float(v) for v in self.info["scales"][mip]["resolution"])
        return x, y, z

    @property
    def resolutions(self) -> list[Resolution]:
        """Voxel size in nm of every mip."""
        return [self.resolution(mip) for mip in range(len(self.info["scales"]))]

    def bounds(self, mip: int) -> Box:
        """All voxels of a mip: each has its own offset."""
        scale = self.info["scales"][mip]
        start = scale.get("voxel_offset", (0, 0, 0))
        return Box.from_shape(scale["size"], self.resolution(mip), start)

    def chunk_size(self, mip: int) -> Triple:
        """Storage chunk of a mip."""
        return triple(self.info["scales"][mip]["chunk_sizes"][0])

    def volume(self, mip: int, *, filled: bool = False) -> CloudVolume:
        """The CloudVolume of a mip: one opened at another mip checks against the wrong bounds."""
        if (mip, filled) not in self.volumes:
            self.volumes[mip, filled] = cloud_volume(
                self.path,
                mip=mip,
                provenance={},
                fill_missing=filled,
                lru_bytes=self.cache_bytes,
                lru_encoding="raw",
            )
        return self.volumes[mip, filled]

    def download(self, mip: int, box: Box) -> Array:
        """The voxels, shape (x, y, z), of a box inside the bounds of a mip.

        With `fill_missing`, chunks that are not there are 0 and are counted in `missing`.

        Raises
        ------
        LayerNotFoundError
            If a chunk is missing.
        FormatError
            If a chunk is damaged.
        StorageError
            If a chunk cannot be read or fetched.
        """
        if self.check is not None:
            self.check(mip, box)
        try:
            return self._downloaded(mip, box)
        except MemoryError:
            raise
        except Exception as error:
            # Codecs and the clients of buckets raise whatever they like.
            raise self._reading_error(error, mip, box) from error

    def _downloaded(self, mip: int, box: Box) -> Array:
        from cloudvolume.exceptions import EmptyFileException, EmptyVolumeException
        from cloudvolume.lib import Bbox

        volume, bbox = self.volume(mip), Bbox(box.start, box.stop)
        try:
            cutout = tried_again()(volume.download, bbox)
        except (EmptyVolumeException, EmptyFileException):
            if not self.fill_missing:
                raise
            cutout = self._filled(mip, box)
        return np.asarray(cutout)[..., self.channel]

    def _filled(self, mip: int, box: Box) -> Array:
        """The voxels of a box of which chunks are missing; CloudVolume does not say how many."""
        from cloudvolume.lib import Bbox

        volume = self.volume(mip, filled=True)
        self.missing += missing_chunks(volume, self.info["scales"][mip], box)
        return np.asarray(tried_again()(volume.download, Bbox(box.start, box.stop)))

    def _reading_error(self, error: Exception, mip: int, box: Box) -> CnapseError:
        from cloudvolume.exceptions import (
            DecodingError,
            EmptyFileException,
            EmptyVolumeException,
            InfoUnavailableError,
        )

        if isinstance(error, (EmptyVolumeException, EmptyFileException)):
            return LayerNotFoundError(
                f"{self.path}: chunk {_chunk_of(error, box)} is missing: copy the layer again; if "
                "missing chunks stand for 0, open it with fill_missing (for a layer in "
                'cnapse.toml: { path = "...", fill_missing = true })'
            )
        local = local_path(self.path) is not None
        if local and isinstance(error, OSError) and not isinstance(error, _DAMAGE):
            return storage_error(error, error.filename or self.path)
        if isinstance(error, InfoUnavailableError):
            return _opening_error(self.path, error)
        if local or isinstance(error, (*_DAMAGE, DecodingError)):
            encoding = self.info["scales"][mip]["encoding"]
            return FormatError(
                f"{self.path}: a chunk in {box} is damaged or not {encoding}, copy the layer "
                f"again: {_one_line(error)}"
            )
        if not is_of_a_client(error):
            raise error
        return remote_error(error, f"{self.path} ({box})")


def load_info(path: str | Path) -> dict[str, Any]:
    """The ``info`` of a layer, checked to describe a volume.

    Raises
    ------
    LayerNotFoundError
        If there is no layer.
    FormatError
        If its info is damaged or describes something else than a volume.
    ResolutionError
        If its voxel size cannot be in nm.
    StorageError
        If it cannot be read or fetched.
    """
    text = cloud_path(path)
    local = local_path(text)
    if local is not None:
        _check_local(local)
    try:
        info: dict[str, Any] = tried_again()(cloud_volume, text, provenance={}).info
    except FileNotFoundError as error:
        raise LayerNotFoundError(f"{text}: no such layer") from error
    except Exception as error:
        # Whatever the network, the credentials or the JSON were up to.
        raise _opening_error(text, error) from error
    return _checked_info(text, info)


def _opening_error(path: str, error: Exception) -> CnapseError:
    from cloudvolume.exceptions import InfoUnavailableError, UnsupportedProtocolError

    if isinstance(error, OSError) and local_path(path) is not None:
        return storage_error(error, error.filename or path)

    if isinstance(error, InfoUnavailableError):
        hint = "check the path"
        if path.startswith("http"):
            hint += ", and that it may be read: it looks the same where the server answers 403"
        return LayerNotFoundError(f"{path}: no such layer: there is no file named info; {hint}")
    if isinstance(error, UnsupportedProtocolError):
        return LayerNotFoundError(
            f"{path}: unknown kind of path: give a folder, gs://, s3://, https:// or file://"
        )
    if isinstance(error, (AttributeError, ValueError, KeyError, IndexError, TypeError)):
        return FormatError(f"{path}: its info does not describe a volume: {_one_line(error)}")
    if not is_of_a_client(error):
        raise error
    return remote_error(error, path)


def _check_local(folder: Path) -> None:
    """Say what is wrong with a path on disk, better than a missing info can."""
    try:
        _check_layer_folder(folder)
    except CnapseError:
        raise
    except OSError as error:
        raise storage_error(error, folder) from error


def _check_layer_folder(folder: Path) -> None:
    if (folder / "info").is_file():
        return
    if folder.is_file():
        raise FormatError(
            f"{folder} is a file, not a layer: a layer is a folder with a file named info; "
            "bring image stacks in with `cnapse ingest`"
        )
    if not folder.is_dir():
        raise LayerNotFoundError(f"{folder}: no such layer: there is no such folder")
    inside = sorted(p.parent.name for p in folder.glob("*/info"))
    hint = f"did you mean {folder / inside[0]}?" if inside else "give the folder that has one"
    raise LayerNotFoundError(f"{folder} is a folder without a file named info, so no layer: {hint}")


def _checked_info(path: str, info: dict[str, Any]) -> dict[str, Any]:
    try:
        return _credible(path, info)
    except CnapseError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {_one_line(error)}"
        raise FormatError(f"{path}: its info does not describe a volume: {said}") from error


def _credible(path: str, info: dict[str, Any]) -> dict[str, Any]:
    if info.get("type") not in ("image", "segmentation") or not info.get("scales"):
        raise FormatError(
            f"{path}: its info describes no volume (type {info.get('type')!r}): "
            "an image or a segmentation is needed"
        )
    if any(min(scale["size"]) < 1 for scale in info["scales"][:1]):
        raise FormatError(
            f"{path} is empty: its info says a size of {info['scales'][0]['size']} voxels: "
            "make the layer again from a volume that has some"
        )
    if int(info.get("num_channels", 1)) < 1:
        raise FormatError(f"{path}: its info says {info['num_channels']} channels: one is needed")
    for scale in info["scales"]:
        for key in ("size", "resolution", "voxel_offset"):
            if len(scale.get(key, _NO_OFFSET)) != len(_NO_OFFSET):
                raise FormatError(f"{path}: its info has {key} {scale[key]}: x, y, z are needed")
        if min(scale["resolution"]) <= 0:
            raise ResolutionError(
                f"{path}: its info has resolution {scale['resolution']}: voxel sizes are above 0, "
                "in nm; write it there as it is"
            )
        if min(scale["resolution"]) < SMALLEST_CREDIBLE_NM:
            raise ResolutionError(
                f"{path}: the resolution {scale['resolution']} in its info looks like micrometres: "
                f"write it there in nm, {[1000 * v for v in scale['resolution']]}"
            )
    return info


def _chunk_of(error: Exception, box: Box) -> str:
    """The chunk that CloudVolume missed; some of its paths give the box instead."""
    return str(error.args[0]) if error.args else str(box)


def _one_line(error: BaseException) -> str:
    return " ".join(_COLOUR.sub("", str(error)).split())[:_MESSAGE_LENGTH]
