"""What can be brought in as a layer: a stack of sections, whatever its format.

A format is a class with the members of `Source`, and a line in `open_source`. Axes are turned to
x, y, z in there; everything behind it knows no other order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError
from cnapse.geometry import Box, Resolution, Triple, format_resolution

__all__ = ["Source", "file_identity", "open_source", "voxel_size"]

# Files hold rationals and rounded numbers.
_SAME = 1e-3
_SMALLEST_CREDIBLE_NM = 0.05


class Source(Protocol):
    """A volume that is read section by section.

    Attributes
    ----------
    name : str
        For messages: where it is.
    shape : (x, y, z)
    dtype : numpy.dtype
        In native byte order.
    resolution : (x, y, z) or None
        Voxel size in nm where the file tells it for all three axes.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> Triple: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def resolution(self) -> Resolution | None: ...  # noqa: D102

    def read_into(self, out: npt.NDArray[Any], start: int) -> None:
        """Fill ``out[x, y, z]`` with sections from `start` on, holding one in memory at a time.

        Raises
        ------
        FormatError
            If a section cannot be decoded.
        """

    def identity(self) -> list[list[object]]:
        """What tells this input from another: path, size and time of change of each file."""


def open_source(path: str | Path, *, check_names: bool = True) -> Source:
    """Open an image stack and check all of it that can be checked without decoding.

    Parameters
    ----------
    path
        A multi-page TIFF or BigTIFF, a folder of TIFF sections, or a pattern that finds them.
    check_names
        Whether the numbers in the names of sections must count up without a gap.

    Raises
    ------
    LayerNotFoundError
        If there is nothing there.
    FormatError
        If a section is missing, damaged, in colour, or differs in shape or dtype: it is named.
    """
    if "://" in str(path):
        raise ConfigError(f"{path}: image stacks are read from disk: copy it here first")
    from cnapse.volumes.tiff import open_tiff

    return open_tiff(path, check_names=check_names)


def voxel_size(
    source: Source, given: Sequence[float] | None, *, ignore_metadata: bool = False
) -> Resolution:
    """The voxel size in nm, from an option or from the file; never guessed.

    Parameters
    ----------
    source : Source
    given : (x, y, z), optional
        From the option ``--resolution``; it wins where it agrees with the file within 0.1 %.
    ignore_metadata
        Whether it wins in any case.

    Raises
    ------
    ConfigError
        If neither tells, both tell differently, or it looks like micrometres.
    """
    stated = source.resolution
    if given is None:
        if stated is None:
            raise ConfigError(
                f"{source.name} does not tell its voxel size: give --resolution X Y Z in nm, "
                "as in --resolution 4.6 4.6 50"
            )
        return stated
    wanted = Box((0, 0, 0), (0, 0, 0), _three(given)).resolution
    if any(v < _SMALLEST_CREDIBLE_NM for v in wanted):
        in_nm = " ".join(f"{v * 1000:g}" for v in wanted)
        raise ConfigError(
            f"--resolution {_spaced(wanted)} looks like micrometres: give nm, {in_nm}"
        )
    if stated and not ignore_metadata and not np.allclose(stated, wanted, rtol=_SAME, atol=0):
        raise ConfigError(
            f"--resolution says {format_resolution(wanted)}, but {source.name} says "
            f"{format_resolution(stated)}: correct the option, or add --ignore-metadata"
        )
    return wanted


def _three(values: Sequence[float]) -> Resolution:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _spaced(values: Sequence[float]) -> str:
    return " ".join(f"{v:g}" for v in values)


def file_identity(path: Path) -> list[object]:
    """Path, size in bytes and time of change of a file."""
    status = path.stat()
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]
