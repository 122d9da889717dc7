"""Names of cells: a CSV of segment id and name."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.errors import TableError
from cnapse.store import Store, cloud_path

__all__ = ["Names", "load_names"]


class Names:
    """Names by segment id; a cell without a name is called by its id.

    Parameters
    ----------
    names : mapping of int to str
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = dict(names)

    def __len__(self) -> int:
        return len(self._names)

    def of(self, ids: npt.ArrayLike) -> list[str]:
        """The names of some segment ids."""
        return [self._names.get(i, str(i)) for i in np.asarray(ids, dtype=np.uint64).tolist()]


def load_names(path: str) -> Names:
    """Read a CSV whose first two columns are segment id and name; with or without a header.

    Parameters
    ----------
    path : str
        Local path or in a bucket; empty for no names.

    Raises
    ------
    LayerNotFoundError
        If the file is not there.
    TableError
        If it has fewer than two columns, an id that is no whole number, or an id twice.
    """
    if not path:
        return Names({})
    folder, _, name = cloud_path(path).rpartition("/")
    data = Store(folder).read(name)
    try:
        table = pd.read_csv(io.BytesIO(data), header=None, dtype="str", keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise TableError(f"{path}: not a CSV of segment id and name: {error}") from error
    if table.shape[1] < 2:
        raise TableError(f"{path}: needs two columns, segment id and name; it has one")
    rows = list(zip(table[0].str.strip(), table[1].str.strip(), strict=True))
    if rows and not rows[0][0].isdigit():
        rows = rows[1:]
    names: dict[int, str] = {}
    for segment, called in rows:
        if not segment.isdigit():
            raise TableError(f"{path}: segment id {segment!r} is no whole number")
        if int(segment) in names:
            raise TableError(f"{path}: segment id {segment} is there twice")
        names[int(segment)] = called
    return Names(names)
