"""The `partners` table as a server asks it: the rows of a synapse, and names of cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnapse.names import Names, load_names
from cnapse.review.items import read_columns
from cnapse.runs import RunData

__all__ = ["PartnerRows"]

_COLUMNS = ["syn_id", "post_id", "post", "share", "raw_share", "post_x", "post_y", "post_z"]


class PartnerRows:
    """Rows of ``partners``, found by synapse; only the columns that are shown are held.

    Parameters
    ----------
    run : RunData

    Raises
    ------
    LayerNotFoundError
        If there is no such table.
    """

    def __init__(self, run: RunData) -> None:
        output = run.config.output
        table = read_columns(f"{output}/tables/partners", _COLUMNS)
        order = np.argsort(table["syn_id"].to_numpy(), kind="stable")
        self._numbers: dict[str, npt.NDArray[Any]] = {
            name: table[name].to_numpy()[order] for name in _COLUMNS if name != "post"
        }
        pre = read_columns(f"{output}/tables/synapses", ["pre_id", "pre"])
        self._named = _names(pre, "pre") | _names(table, "post")
        given: Names = load_names(run.config.names)
        self._named |= dict(zip(given.ids, given.of(given.ids), strict=True))

    @property
    def names(self) -> dict[int, str]:
        """All names, by cell."""
        return self._named

    def name(self, cell: int) -> str:
        """A cell's name; empty where it has none."""
        return self._named.get(cell, "")

    def of(self, syn_id: int) -> list[dict[str, Any]]:
        """A synapse's partners as JSON, the largest share first."""
        rows = self._rows(syn_id)
        at = {name: column[rows] for name, column in self._numbers.items()}
        return [
            {
                "post_id": str(at["post_id"][i]),
                "post": self.name(int(at["post_id"][i])),
                "share": float(at["share"][i]),
                "raw_share": float(at["raw_share"][i]),
                "position_nm": [float(at[f"post_{axis}"][i]) for axis in "xyz"],
            }
            for i in np.argsort(-at["share"], kind="stable")
        ]

    def shares(self, syn_id: int) -> dict[int, float]:
        """A synapse's shares, by cell."""
        rows = self._rows(syn_id)
        cells, shares = (self._numbers[name][rows].tolist() for name in ("post_id", "share"))
        return dict(zip(cells, shares, strict=True))

    def _rows(self, syn_id: int) -> slice:
        ids = self._numbers["syn_id"]
        first, last = (np.searchsorted(ids, np.uint64(syn_id), side) for side in ("left", "right"))
        return slice(int(first), int(last))


def _names(table: pa.Table, column: str) -> dict[int, str]:
    """Names of the cells of a column, but for those called by their id."""
    pairs = table.select([f"{column}_id", column]).group_by([f"{column}_id", column]).aggregate([])
    ids, names = pairs[f"{column}_id"].to_pylist(), pairs[column].to_pylist()
    return {i: name for i, name in zip(ids, names, strict=True) if name and name != str(i)}
