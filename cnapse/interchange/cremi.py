"""Synaptic partners of a CREMI file as lines.

The format is that of the CREMI challenge (cremi.org; package ``cremi``, ``CremiFile``): in
``/annotations`` the datasets ``ids``, ``locations`` (z, y, x in nm, counted from the attribute
``offset`` of the group), ``types``, and ``presynaptic_site/partners``, pairs of a presynaptic and a
postsynaptic id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, LayerNotFoundError, TableError
from cnapse.interchange.source import SourceOptions
from cnapse.store import cloud_path, local_path
from cnapse.viewing.annotations import AnnotationSchema, AnnotationTable

__all__ = ["CremiSource"]

_IDS = "annotations/ids"
_LOCATIONS = "annotations/locations"
_PARTNERS = "annotations/presynaptic_site/partners"


class CremiSource:
    """The pairs of a CREMI file: no cells and no sizes are in it.

    Parameters
    ----------
    path
        An HDF5 file on this machine.
    options : SourceOptions
        `columns` have no place here; `resolution` is what the layer stores positions in.

    Raises
    ------
    ConfigError
        If columns are named.
    LayerNotFoundError
        If there is no such file.
    TableError
        If it is no HDF5 file, or has no partners.
    """

    format = "cremi"
    skipped = without_cell = 0

    def __init__(self, path: str | Path, options: SourceOptions) -> None:
        self.path = cloud_path(path)
        local = local_path(path)
        if options.columns:
            raise ConfigError(f"{self.path}: a CREMI file has no columns: leave --columns out")
        if local is None:
            raise ConfigError(f"{self.path}: copy the HDF5 file to this machine first")
        if not local.is_file():
            raise LayerNotFoundError(f"no file at {local}: check the path")
        self.schema = AnnotationSchema(
            "POINT" if options.points else "LINE", unit_nm=options.resolution or (1.0, 1.0, 1.0)
        )
        self._points = self._read(local, points=options.points)

    def parts(self) -> Iterator[AnnotationTable]:
        """All pairs; their ids count from 1 in the order of the file."""
        yield AnnotationTable(np.arange(1, len(self._points) + 1, dtype=np.uint64), self._points)

    def _read(self, local: Path, *, points: bool) -> npt.NDArray[np.float64]:
        """Positions in nm, x, y, z."""
        import h5py  # type: ignore[import-untyped]

        try:
            with h5py.File(local, "r") as file:
                missing = [name for name in (_IDS, _LOCATIONS, _PARTNERS) if name not in file]
                if missing:
                    raise TableError(
                        f"{self.path} has no dataset {', '.join(missing)}: a CREMI file with "
                        "synaptic partners has"
                    )
                ids = np.asarray(file[_IDS][()])
                places = np.asarray(file[_LOCATIONS][()], np.float64)
                offset = np.asarray(file["annotations"].attrs.get("offset", (0, 0, 0)), np.float64)
                pairs = np.asarray(file[_PARTNERS][()])
        except OSError as error:
            raise TableError(f"{self.path} cannot be read as HDF5: {error}") from error
        pairs = pairs.reshape(-1, 2)
        if places.shape != (len(ids), 3) or offset.shape != (3,):
            raise TableError(
                f"{self.path}: {_LOCATIONS} has shape {places.shape} and the offset "
                f"{offset.shape}: expected {(len(ids), 3)} and (3,), in the order z, y, x"
            )
        ends = (places + offset)[self._rows(ids, pairs)][..., ::-1]
        return np.ascontiguousarray(ends[:, 0] if points else ends)

    def _rows(self, ids: npt.NDArray[Any], pairs: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """Rows of the ids in pairs, shape (n, 2)."""
        order = np.argsort(ids, kind="stable")
        known = ids[order]
        at = np.searchsorted(known, pairs)
        there = at < len(known)
        there[there] = known[at[there]] == pairs[there]
        if not there.all():
            raise TableError(
                f"{self.path}: {_PARTNERS} names id {pairs[~there][0]}, which is not in {_IDS}"
            )
        rows: npt.NDArray[np.intp] = order[at]
        return rows
