"""Patches of ground truth as files: HDF5 or TIFF, their coordinates, and lines for training.

HDF5: a group for each patch with the datasets ``image``, ``label`` and, where there is one,
``ignore``, axes z, y, x. Attributes of a dataset, in the same order: ``resolution`` and ``offset``
in nm (`units`); of a group: ``start`` and ``stop`` in voxels, x, y, z.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile

from cnapse.analysis.groundtruth import Annotated
from cnapse.errors import BoundsError, FormatError, LayerExistsError, storage_error
from cnapse.geometry import Box, Triple

__all__ = [
    "PatchWriter",
    "Written",
    "coordinates",
    "open_patches",
    "training_lines",
    "write_patches",
]

Array = npt.NDArray[Any]

_HDF5 = (".h5", ".hdf5", ".hdf")


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_patches` made: patches, those with densities, and the files beside them."""

    patches: int
    drawn: int
    table: Path
    lines: Path


class PatchWriter(Protocol):
    """Writes patches, and knows where each array of each went."""

    def write(self, number: int, patch: Annotated) -> dict[str, str]:
        """Write one; where its image, label and ignore went, by name."""


def open_patches(path: Path) -> PatchWriter:
    """A writer of HDF5 (``.h5``, ``.hdf5``) or of a folder of TIFF.

    Raises
    ------
    LayerExistsError
        If there is something already.
    StorageError
        If it cannot be made.
    """
    if path.exists():
        raise LayerExistsError(f"{path} is there already: give another name, or move it away")
    try:
        if path.suffix.lower() in _HDF5:
            return _Hdf5Patches(path)
        return _TiffPatches(path)
    except OSError as error:
        raise storage_error(error, path) from error


class _Hdf5Patches:
    """One file, a group for each patch, datasets in the order z, y, x."""

    def __init__(self, path: Path) -> None:
        import h5py  # type: ignore[import-untyped]

        self._path = path
        with h5py.File(path, "x"):
            pass

    def write(self, number: int, patch: Annotated) -> dict[str, str]:
        import h5py

        name = f"patch_{number:05d}"
        try:
            with h5py.File(self._path, "a") as file:
                group = file.create_group(name)
                group.attrs["start"], group.attrs["stop"] = patch.box.start, patch.box.stop
                for key, array in patch.arrays.items():
                    node = group.create_dataset(key, data=array.T, compression="gzip")
                    node.attrs["resolution"] = patch.box.resolution[::-1]
                    node.attrs["offset"] = patch.box.start_nm[::-1]
                    node.attrs["units"] = ["nm"] * 3
                    for axis, label in enumerate("zyx"):
                        node.dims[axis].label = label
        except OSError as error:
            raise storage_error(error, self._path) from error
        return {key: f"{self._path.absolute()}:/{name}/{key}" for key in patch.arrays}


class _TiffPatches:
    """A folder, a stack for each array of each patch, with the voxel size as ImageJ has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)

    def write(self, number: int, patch: Annotated) -> dict[str, str]:
        written = {}
        for key, array in patch.arrays.items():
            path = self._folder / f"{key}_{number:05d}.tif"
            _write_tiff(path, array, patch.box)
            written[key] = str(path.absolute())
        return written


def _write_tiff(path: Path, array: Array, box: Box) -> None:
    if array.dtype.itemsize > 1:
        if array.max(initial=0) > np.iinfo(np.uint16).max:
            raise FormatError(
                f"{path}: more than 65,535 objects: write HDF5 instead, to a .h5 file"
            )
        array = array.astype(np.uint16)
    x, y, z = (v / 1000 for v in box.resolution)
    try:
        tifffile.imwrite(
            path,
            np.ascontiguousarray(array.T),
            imagej=True,
            resolution=(1 / x, 1 / y),
            metadata={"axes": "ZYX", "spacing": z, "unit": "um"},
        )
    except OSError as error:
        raise storage_error(error, path) from error


def write_patches(output: Path, patches: Iterable[Annotated]) -> Written:
    """Write patches, and beside them their coordinates (.csv) and the lines for training (.toml).

    Parameters
    ----------
    output : Path
        See `open_patches`.
    patches : iterable of Annotated
        They are written one by one; there must be one.

    Raises
    ------
    BoundsError
        If there is none.
    LayerExistsError
        If there is something already.
    StorageError
        If they cannot be written.
    """
    table, lines = output.with_suffix(".csv"), output.with_suffix(".toml")
    for path in (table, lines):
        if path.exists():
            raise LayerExistsError(f"{path} is there already: give another name, or move it away")
    left = iter(patches)
    first = next(left, None)
    if first is None:
        raise BoundsError(
            "no patch is left: the boxes have none of the sections, or nothing is drawn in them"
        )
    writer = open_patches(output)
    written, rows, drawn = [], [], 0
    for number, patch in enumerate(chain([first], left)):
        places = writer.write(number, patch)
        written.append(places)
        rows.append(coordinates([(places, patch)]))
        drawn += bool(patch.label.any())
    try:
        pd.concat(rows, ignore_index=True).to_csv(table, index=False)
        lines.write_text(training_lines(written), encoding="utf-8")
    except OSError as error:
        raise storage_error(error, output) from error
    return Written(len(written), drawn, table, lines)


def coordinates(rows: Sequence[tuple[Mapping[str, str], Annotated]]) -> pd.DataFrame:
    """One row for each patch: where it was written, its box in voxels, and what is in it."""
    records = []
    for places, patch in rows:
        start: Triple = patch.box.start
        stop: Triple = patch.box.stop
        ignored = 0 if patch.ignore is None else int((patch.ignore != 0).sum())
        records.append(
            {
                **places,
                **{f"start_{axis}": start[i] for i, axis in enumerate("xyz")},
                **{f"stop_{axis}": stop[i] for i, axis in enumerate("xyz")},
                "density_voxels": int((patch.label != 0).sum()),
                "ignored_voxels": ignored,
            }
        )
    return pd.DataFrame(records)


def training_lines(written: Sequence[Mapping[str, str]]) -> str:
    """The patches as ``[[layers]]`` of a training file."""
    keys = {"image": "image", "label": "labels", "ignore": "ignore"}
    blocks = []
    for places in written:
        lines = [f'{keys[name]} = "{place}"' for name, place in places.items()]
        blocks.append("\n".join(["[[layers]]", *lines]))
    return "\n\n".join(blocks) + "\n"
