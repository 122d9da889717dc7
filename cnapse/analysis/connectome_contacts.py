"""Areas of contact between the cells of a connectome, from a table.

How many synapses two cells have says more beside how much they touch. The area of contact has no
direction, so the matrix is symmetric unless the table says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cnapse.analysis.connectome import DENSE_GB, Connectome, dense_refused
from cnapse.errors import TableError
from cnapse.interchange.columns import as_ids, as_numbers
from cnapse.interchange.files import TableFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from scipy import sparse

__all__ = ["Contacts", "read_contacts"]

_AREA = "area_nm2"
_IDS, _NAMES = ("pre_id", "post_id"), ("pre", "post")


@dataclass(frozen=True, slots=True)
class Contacts:
    """Areas of contact between cells, in the order of a connectome's cells.

    Attributes
    ----------
    labels : list of str
        The cells.
    pre, post : ndarray of int32, shape (n,)
        Rows and columns of the entries.
    area_nm2 : ndarray of float64, shape (n,)
    unknown : int
        Rows of the table with a cell that the connectome has not.
    """

    labels: list[str]
    pre: npt.NDArray[np.int32]
    post: npt.NDArray[np.int32]
    area_nm2: npt.NDArray[np.float64]
    unknown: int

    def matrix(self, *, largest_gb: float = DENSE_GB) -> pd.DataFrame:
        """A row and a column for each cell, nm2; 0 where cells do not touch.

        Raises
        ------
        TableError
            If it is larger than `largest_gb`.
        """
        import pandas as pd

        dense_refused(len(self.labels), largest_gb)
        matrix = np.zeros((len(self.labels), len(self.labels)))
        matrix[self.pre, self.post] = self.area_nm2
        return pd.DataFrame(matrix, index=self.labels, columns=self.labels)

    def sparse(self) -> sparse.coo_array:
        """The same, with the entries alone."""
        from scipy import sparse

        n = len(self.labels)
        return sparse.coo_array((self.area_nm2, (self.pre, self.post)), shape=(n, n))


def read_contacts(path: str | Path, connectome: Connectome) -> Contacts:
    """Read a table of contacts: pre_id, post_id (or pre, post: names) and area_nm2.

    Rows of one pair are added up. A pair that stands in one direction only counts in both. Ids of
    one cell are put together, and contacts within a cell are left out.

    Parameters
    ----------
    path
        CSV, Parquet or Feather, or a folder of such parts.
    connectome : Connectome

    Raises
    ------
    LayerNotFoundError
        If it is not there.
    TableError
        If it lacks columns, or an area is no number from 0.
    """
    files = TableFiles(path)
    ends = next((ends for ends in (_IDS, _NAMES) if {*ends} <= {*files.names}), None)
    if ends is None or _AREA not in files.names:
        raise TableError(
            f"--contacts {files.path}: needs the columns pre_id, post_id (or pre, post) and "
            f"{_AREA}; it has {', '.join(files.names[:20])}"
        )
    engine, cells = connectome.synapses.engine, connectome.tables.cells
    number = engine.number()
    kind = pa.uint64() if ends == _IDS else pa.string()
    schema = pa.schema([("a", kind), ("b", kind), ("area", pa.float64())])
    given, pairs = f"contacts_{number}", f"contact_pairs_{number}"
    engine.load(given, schema, _batches(files, ends, schema))
    known = (
        f"SELECT unnest(ids) AS key, cell, named FROM {cells}"  # noqa: S608 - names are ours
        if ends == _IDS
        else f"SELECT label AS key, cell, named FROM {cells}"  # noqa: S608
    )
    shown = "TRUE" if connectome.thresholds.unnamed else "x.named AND y.named"
    engine.run(
        f"CREATE TABLE {pairs} AS WITH known AS ({known}), "  # noqa: S608
        f"summed AS (SELECT a, b, sum(area ORDER BY area) AS area FROM {given} GROUP BY a, b), "
        "mirrored AS (SELECT a, b, area FROM summed UNION ALL "
        "SELECT s.b, s.a, s.area FROM summed AS s "
        "ANTI JOIN summed AS t ON t.a = s.b AND t.b = s.a) "
        "SELECT x.cell AS pre, y.cell AS post, sum(area ORDER BY area) AS area FROM mirrored "
        f"JOIN known AS x ON x.key = a JOIN known AS y ON y.key = b "
        f"WHERE x.cell <> y.cell AND {shown} GROUP BY 1, 2 ORDER BY 1, 2"
    )
    (unknown,) = engine.row(
        f"WITH known AS ({known}) SELECT count(*) FROM {given} "  # noqa: S608
        "WHERE a NOT IN (SELECT key FROM known) OR b NOT IN (SELECT key FROM known)"
    )
    table = engine.table(f"SELECT pre, post, area FROM {pairs} ORDER BY pre, post")  # noqa: S608
    pre, post, area = (table.column(name).to_numpy() for name in ("pre", "post", "area"))
    return Contacts(connectome.labels(), pre, post, area, int(unknown))


def _batches(
    files: TableFiles, ends: tuple[str, str], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    types = {**dict.fromkeys(ends, pa.string()), _AREA: pa.float64()}
    for batch in files.batches([*ends, _AREA], types):
        area = as_numbers(batch.column(_AREA), f"{files.path}, column {_AREA!r}")
        bad = ~(np.isfinite(area) & (area >= 0))
        if bad.any():
            raise TableError(
                f"{files.path}: an area is {area[bad][0]:g}: areas are numbers of nm2, 0 or more"
            )
        cells = [
            pa.array(as_ids(batch.column(end), f"{files.path}, column {end!r}"))
            if ends == _IDS
            else pc.utf8_trim_whitespace(pc.fill_null(batch.column(end).cast(pa.string()), ""))
            for end in ends
        ]
        yield pa.RecordBatch.from_arrays([*cells, pa.array(area)], schema=schema)
