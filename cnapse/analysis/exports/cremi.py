"""The rows of a connectome as annotations of a CREMI file (cremi.org; package ``cremi``).

The format knows places and pairs of them, no cells and no sizes. Who the cells are stands in its
comments, one a place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cnapse.analysis.exports.export import Export

__all__ = ["write_cremi"]

_VERSION = "0.2"
_PRE, _POST = "presynaptic_site", "postsynaptic_site"
_PLACES = (("x_pos", "y_pos", "z_pos"), ("post_x", "post_y", "post_z"))
_CHUNK = 1 << 12


def write_cremi(export: Export, folder: Path) -> None:
    """``cremi.h5``: ids, types, locations (z, y, x in nm), partners and comments (cell names).

    Rows of one synapse that follow each other share their presynaptic place.

    Raises
    ------
    TableError
        If the table has no places.
    """
    import h5py  # type: ignore[import-untyped]

    export.need("cremi")
    with h5py.File(folder / "cremi.h5", "w") as file:
        file.attrs["file_format"] = _VERSION
        annotations = file.create_group("annotations")
        annotations.attrs["offset"] = (0.0, 0.0, 0.0)
        text = h5py.string_dtype()
        columns = {
            name: annotations.create_dataset(
                name,
                (0, *shape),
                maxshape=(None, *shape),
                dtype=dtype,
                chunks=(_CHUNK, *shape),
                compression="gzip",
            )
            for name, dtype, shape in (
                ("ids", np.uint64, ()),
                ("types", text, ()),
                ("locations", np.float64, (3,)),
                ("comments/target_ids", np.uint64, ()),
                ("comments/comments", text, ()),
                ("presynaptic_site/partners", np.uint64, (2,)),
            )
        }
        for part in _parts(export.connectome.kept_batches()):
            for name, values in part.items():
                _append(columns[name], values)


def _append(dataset: Any, values: Any) -> None:
    before = dataset.shape[0]
    dataset.resize(before + len(values), axis=0)
    if len(values):
        dataset[before:] = values


def _parts(batches: Iterator[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """What to append, by dataset. Places are numbered from 1: a synapse, then its partners."""
    last = 0
    before: tuple[object, ...] | None = None
    before_id = 0
    for batch in batches:
        n = batch.num_rows
        places = [_locations(batch, names) for names in _PLACES]
        cells = [batch.column(end).to_pylist() for end in ("pre", "post")]
        synapses = list(
            zip(batch.column("syn_id").to_pylist(), cells[0], *places[0].T.tolist(), strict=True)
        )
        ids: list[int] = []
        kinds: list[str] = []
        locations: list[npt.NDArray[np.float64]] = []
        comments: list[str] = []
        partners: list[tuple[int, int]] = []
        for row in range(n):
            if synapses[row][0] is None or synapses[row] != before:
                last += 1
                before, before_id = synapses[row], last
                ids.append(last)
                kinds.append(_PRE)
                locations.append(places[0][row])
                comments.append(cells[0][row])
            last += 1
            ids.append(last)
            kinds.append(_POST)
            locations.append(places[1][row])
            comments.append(cells[1][row])
            partners.append((before_id, last))
        yield {
            "ids": np.array(ids, np.uint64),
            "types": kinds,
            "locations": np.array(locations).reshape(-1, 3),
            "comments/target_ids": np.array(ids, np.uint64),
            "comments/comments": comments,
            "presynaptic_site/partners": np.array(partners, np.uint64).reshape(-1, 2),
        }


def _locations(batch: pa.RecordBatch, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Places as z, y, x in nm; where there are no postsynaptic ones, those of the synapse."""
    there = names if names[0] in batch.schema.names else _PLACES[0]
    axes = [pc.fill_null(batch.column(name), float("nan")).to_numpy(False) for name in there]
    return np.stack(axes[::-1], axis=1)
