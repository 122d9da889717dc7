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
from cnapse.geometry import Box, Resolution, Triple, format_resolution, triple

__all__ = ["Source", "file_identity", "first_voxel", "open_source", "voxel_size"]

# Files hold rationals and rounded numbers.
_SAME = 1e-3
_SMALLEST_CREDIBLE_NM = 0.05


class Source(Protocol):
    """A volume that is read by sections, or by some rows of each.

    Attributes
    ----------
    name : str
        For messages: where it is.
    shape : (x, y, z)
    dtype : numpy.dtype
        In native byte order.
    resolution : (x, y, z) or None
        Voxel size in nm where the file tells it for all three axes.
    begin : (x, y, z) or None
        Where the first voxel is, in voxels, where the file tells it.
    chunk_size : (x, y, z) or None
        What is decoded at once, counted from the first voxel; None where it is whole sections.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> Triple: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def resolution(self) -> Resolution | None: ...  # noqa: D102
    @property
    def begin(self) -> Resolution | None: ...  # noqa: D102

    @property
    def chunk_size(self) -> Triple | None: ...  # noqa: D102

    def read_into(self, out: npt.NDArray[Any], start: int, row: int = 0) -> None:
        """Fill ``out[x, y, z]`` with sections from `start` on, each from y = `row` on.

        As many sections and rows as `out` has, and whole rows; little more is held in memory.

        Raises
        ------
        FormatError
            If a section cannot be decoded.
        """

    def identity(self) -> list[list[object]]:
        """What tells this input from another: path, size and time of change of each file."""


def open_source(
    path: str | Path,
    *,
    check_names: bool = True,
    dataset: str | None = None,
    axes: str | None = None,
    ignore_metadata: bool = False,
) -> Source:
    """Open a volume and check all of it that can be checked without decoding.

    Parameters
    ----------
    path
        A multi-page TIFF or BigTIFF, a folder of TIFF or PNG sections, a pattern that finds them;
        an HDF5 file, a Zarr, OME-Zarr or N5 folder, each also with a dataset behind a colon, as in
        ``file.h5:/main``; a precomputed layer.
    check_names
        Whether the numbers in the names of sections must count up without a gap.
    dataset
        Path inside of an HDF5 file or a Zarr or N5 folder.
    axes
        Order of the axes of an array, the fastest last, as in ``"zyx"``; needed where the format
        has none and the file does not tell.
    ignore_metadata
        Whether `axes` may contradict the file.

    Raises
    ------
    LayerNotFoundError
        If there is nothing there.
    ConfigError
        If the dataset or the axes are not told, or do not fit.
    FormatError
        If a section is missing, damaged, in colour, or differs in shape or dtype: it is named.
    """
    from cnapse.volumes.precomputed import LayerSource, is_precomputed

    layer = is_precomputed(path)
    if layer and not (dataset or axes):
        return LayerSource(path)
    if "://" in str(path) and not layer:
        raise ConfigError(f"{path}: image stacks are read from disk: copy it here first")
    place, inside = _split(path)
    if dataset is not None and inside is not None:
        raise ConfigError(f"{path} names a dataset, and so does --dataset {dataset}: leave one out")
    named = inside or dataset
    from cnapse.volumes.hdf5 import is_hdf5, open_hdf5

    if is_hdf5(place):
        return open_hdf5(place, named, axes, ignore_metadata=ignore_metadata)
    from cnapse.volumes.zarr import is_zarr, open_zarr

    if is_zarr(place):
        return open_zarr(place, named, axes, ignore_metadata=ignore_metadata)
    if named or axes:
        option = "--dataset" if named else "--axes"
        raise ConfigError(
            f"{path}: {option} is for HDF5, Zarr and N5, which this is not: leave it out"
        )
    if _is_png(place):
        from cnapse.volumes.png import open_png

        return open_png(place, check_names=check_names)
    from cnapse.volumes.tiff import open_tiff

    return open_tiff(place, check_names=check_names)


def _is_png(place: Path) -> bool:
    """Whether a file or pattern ends so, or a folder has such files and no TIFF."""
    if not place.is_dir():
        return place.suffix.lower() == ".png"
    endings = {p.suffix.lower() for p in place.iterdir() if not p.name.startswith(".")}
    return ".png" in endings and not any(e in endings for e in (".tif", ".tiff", ".btf", ".tf8"))


def _split(path: str | Path) -> tuple[Path, str | None]:
    """A path, and the dataset behind a colon; a colon in a name that is there stays."""
    place = Path(path).expanduser()
    if place.exists() or ":" not in str(place):
        return place, None
    left, _, right = str(place).rpartition(":")
    return (Path(left), right) if Path(left).exists() and right else (place, None)


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


def first_voxel(source: Source, given: Sequence[int] | None) -> Triple:
    """Coordinates of the first voxel, from an option or from the file, else 0, 0, 0.

    Raises
    ------
    ConfigError
        If the file says that it lies between voxels.
    """
    if given is not None:
        return triple(given)
    if source.begin is None:
        return (0, 0, 0)
    x, y, z = (round(v) for v in source.begin)
    if not np.allclose(source.begin, (x, y, z), rtol=0, atol=_SAME):
        raise ConfigError(
            f"{source.name} says that it begins at {_spaced(source.begin)} voxels, which are no "
            "whole numbers: give --offset X Y Z"
        )
    return x, y, z


def _three(values: Sequence[float]) -> Resolution:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _spaced(values: Sequence[float]) -> str:
    return " ".join(f"{v:g}" for v in values)


def file_identity(path: Path) -> list[object]:
    """Path, size in bytes and time of change of a file."""
    status = path.stat()
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]
