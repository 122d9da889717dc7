"""A box of image and objects for painting programs, and what was painted in them.

Such programs hold small numbers only, so objects are numbered 1, 2, ... in the box, and a JSON file
beside them tells which is which. A TIFF (labels, z y x; the image is a second one) opens in napari,
Fiji and VAST, a folder of precomputed layers in Neuroglancer and webKnossos. A number that is not
in the list is a new object; 0 erases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import FormatError, LayerExistsError, LayerNotFoundError, storage_error
from cnapse.geometry import Box, triple
from cnapse.review.apply_repaint import Repaint, repaint_of
from cnapse.store import Store
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer

__all__ = ["Sheet", "painted", "sheet_of", "write_for_editor"]

Array = npt.NDArray[Any]
Point = tuple[float, float, float]

_TIFF = (".tif", ".tiff")
_SIDECAR = "repaint.json"
_FORMAT = "cnapse repaint"
_CHUNK = (128, 128, 16)
_SMALL = np.iinfo(np.uint16).max


@dataclass(frozen=True, slots=True)
class Sheet:
    """The objects of a box by small numbers.

    Attributes
    ----------
    box : Box
    labels : ndarray of uint16 or uint32, shape ``box.shape``
    known : mapping of int to (id, place in nm)
        The object of each number, and one of its voxels.
    """

    box: Box
    labels: Array
    known: Mapping[int, tuple[int, Point]]

    @property
    def digest(self) -> str:
        """Of box, numbers and ids, to see whether the layer is what it was."""
        ids = {number: syn_id for number, (syn_id, _) in self.known.items()}
        content = np.asarray(self.labels, "<u4").tobytes(order="F")
        return hashlib.sha256(repr((self.box, ids)).encode() + content).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """What stands beside the labels."""
        return {
            "format": _FORMAT,
            "version": 1,
            "start": list(self.box.start),
            "stop": list(self.box.stop),
            "resolution": list(self.box.resolution),
            "sha256": self.digest,
            "synapses": {str(number): str(syn_id) for number, (syn_id, _) in self.known.items()},
            "note": "numbers that are not listed are new synapses, 0 is none; x y z in voxels",
        }


def sheet_of(labels: npt.NDArray[np.uint64], box: Box) -> Sheet:
    """Number the objects of a box by their ids.

    Parameters
    ----------
    labels : ndarray of uint64, shape ``box.shape``
    box : Box
    """
    ids, numbers = np.unique(labels, return_inverse=True)
    if len(ids) and ids[0] != 0:
        ids, numbers = np.concatenate([np.zeros(1, np.uint64), ids]), numbers + 1
    small = numbers.reshape(labels.shape).astype(np.uint16 if len(ids) <= _SMALL else np.uint32)
    known: dict[int, tuple[int, Point]] = {}
    for number, syn_id in enumerate(ids.tolist()):
        if syn_id:
            voxels = np.argwhere(small == number)
            voxel = voxels[len(voxels) // 2] + np.asarray(box.start)
            x, y, z = ((voxel + 0.5) * np.asarray(box.resolution)).tolist()
            known[number] = (syn_id, (x, y, z))
    return Sheet(box, np.asfortranarray(small), known)


def write_for_editor(path: Path, sheet: Sheet, image: Array | None) -> list[str]:
    """Write labels, image and list for a painting program; the names of what was written.

    Parameters
    ----------
    path : Path
        A ``.tif``, beside which the others are put, or a folder for precomputed layers.
    sheet : Sheet
    image : ndarray, shape (x, y, z), optional

    Raises
    ------
    LayerExistsError
        If there is something already.
    """
    if path.suffix.lower() in _TIFF:
        return _write_tiffs(path, sheet, image)
    if path.exists():
        raise LayerExistsError(f"{path}: it is there already: delete it or give another name")
    layers = {"labels": sheet.labels.astype(np.uint32)}
    if image is not None:
        layers["image"] = image
    for name, array in layers.items():
        writer = create_layer(
            path / name,
            kind="image" if name == "image" else "segmentation",
            dtype=array.dtype,
            bounds=sheet.box,
            chunk_size=triple([min(c, n) for c, n in zip(_CHUNK, sheet.box.shape, strict=True)]),
        )
        writer.write(array, sheet.box)
    Store(path).put_json(_SIDECAR, sheet.to_json())
    return [*layers, _SIDECAR]


def painted(path: Path, before: npt.NDArray[np.uint64], frame: Box) -> tuple[Repaint, Box]:
    """What was painted since a box was written for an editor.

    Parameters
    ----------
    path : Path
        What `write_for_editor` was given, or a TIFF of labels with the list beside it.
    before : ndarray of uint64
        The layer's ids over :func:`box_of` the list.
    frame : Box
        Full bounds of the layer.

    Raises
    ------
    LayerNotFoundError, FormatError
        One line.
    """
    box = box_of(path, frame)
    sheet = sheet_of(before, box)
    if _sidecar(path).get("sha256") != sheet.digest:
        raise FormatError(
            f"{path}: the synapses in {box} are not those that were exported: the run was made "
            "again since; export the box again and paint that"
        )
    drawn = _read_labels(path, box)
    return repaint_of(sheet.labels.astype(np.int64), drawn, box, sheet.known), box


def box_of(path: Path, frame: Box) -> Box:
    """The box that was exported.

    Raises
    ------
    LayerNotFoundError
        If the list beside the labels is not there.
    FormatError
        If it is none, or of another layer.
    """
    found = _sidecar(path)
    try:
        box = Box(triple(found["start"]), triple(found["stop"]), found["resolution"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{_beside(path)}: this is no list of `cnapse repaint export`") from error
    if box.empty or not frame.contains(box):
        raise FormatError(f"{path}: the box {box} does not lie in the layer, {frame}")
    return box


def _beside(path: Path) -> Path:
    return path.with_suffix(".json") if path.suffix.lower() in _TIFF else path / _SIDECAR


def _sidecar(path: Path) -> dict[str, Any]:
    beside = _beside(path)
    found = Store(beside.absolute().parent).get_json(beside.name)
    if found is None:
        raise LayerNotFoundError(
            f"{beside} is not there: it tells where {path.name} lies; keep it beside what "
            "`cnapse repaint export` wrote"
        )
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise FormatError(f"{beside}: this is no list of `cnapse repaint export`")
    return found


def _write_tiffs(path: Path, sheet: Sheet, image: Array | None) -> list[str]:
    import tifffile

    files = {path: sheet.labels}
    if image is not None:
        files[path.with_name(f"{path.stem}-image{path.suffix}")] = image
    for file in (*files, _beside(path)):
        if file.exists():
            raise LayerExistsError(f"{file}: it is there already: delete it or give another name")
    x, _, z = sheet.box.resolution
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        for file, array in files.items():
            tifffile.imwrite(
                file,
                np.ascontiguousarray(array.T),
                imagej=array.dtype != np.uint32,
                resolution=(1e3 / x, 1e3 / sheet.box.resolution[1]),
                metadata={"axes": "ZYX", "spacing": z / 1e3, "unit": "um"},
                # Else three sections would be taken for red, green and blue.
                photometric="minisblack",
            )
    except OSError as error:
        raise storage_error(error, path) from error
    Store(path.absolute().parent).put_json(_beside(path).name, sheet.to_json())
    return [*(file.name for file in files), _beside(path).name]


def _read_labels(path: Path, box: Box) -> npt.NDArray[np.int64]:
    """What was painted, shape ``box.shape``."""
    if path.suffix.lower() in _TIFF:
        array = _read_tiff(path)
        where, shape = str(path), box.shape
    else:
        layer = open_layer(path / "labels", resolution=box.resolution, kind="segmentation")
        where, shape = f"{path}/labels", box.shape
        array = layer.read(layer.bounds)
    if array.shape != shape:
        raise FormatError(
            f"{where} has {array.shape} voxels (x, y, z), the box that was exported has {shape}: "
            "save all of it, neither cropped nor scaled"
        )
    if array.dtype.kind not in "ui" or (array.size and int(array.min()) < 0):
        raise FormatError(
            f"{where} holds {array.dtype}, or numbers below 0: save labels as whole numbers from 0 "
            "on, not as colours"
        )
    return array.astype(np.int64)


def _read_tiff(path: Path) -> Array:
    import tifffile

    try:
        array = np.asarray(tifffile.imread(path))
    except FileNotFoundError as error:
        raise LayerNotFoundError(f"{path} is not there") from error
    except OSError as error:
        raise storage_error(error, path) from error
    except (tifffile.TiffFileError, ValueError) as error:
        raise FormatError(f"{path} is not a TIFF that can be read: {error}") from error
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise FormatError(f"{path} has {array.ndim} axes: save labels as one stack, z y x")
    return array.T
