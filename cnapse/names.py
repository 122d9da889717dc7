"""Names of cells, a CSV of segment id and name; and lists of cells."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.errors import TableError
from cnapse.store import Store, cloud_path

__all__ = ["Names", "load_cells", "load_names", "load_types"]

_LARGEST = 2**64 - 1
_TYPE = re.compile(r"(cell[ _]?)?types?\d*")
_APART = re.compile(r"[|;]")


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

    @property
    def ids(self) -> list[int]:
        """The cells that have a name."""
        return list(self._names)

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
        If it has fewer than two columns, an id that is no whole number of 64 bits, or an id twice.
    """
    if not path:
        return Names({})
    table = _read(path, "segment id and name")
    if table.shape[1] < 2:
        raise TableError(f"{path}: needs two columns, segment id and name; it has one")
    names: dict[int, str] = {}
    for segment, called in zip(_ids(path, table), table[1].str.strip(), strict=True):
        if segment in names:
            raise TableError(f"{path}: segment id {segment} is there twice")
        names[segment] = called
    return Names(names)


def load_types(path: str) -> dict[int, list[str]]:
    """Read what the columns of the header ``type`` of a CSV of names say of each cell.

    Several types of a cell stand apart by ``|`` or ``;``, or in several such columns (``type``,
    ``type2``). Without a header, or without such a column, there are none.

    Raises
    ------
    LayerNotFoundError, TableError
        As `load_names`.
    """
    if not path:
        return {}
    table = _read(path, "segment id and name")
    header = table.attrs["header"]
    columns = [n for n, name in enumerate(header) if _TYPE.fullmatch(name)]
    cells = _ids(path, table)
    found: dict[int, list[str]] = {}
    for column in columns:
        for cell, text in zip(cells, table[column].tolist(), strict=True):
            words = [word.strip() for word in _APART.split(text)]
            found.setdefault(cell, []).extend(word for word in words if word)
    return {cell: words for cell, words in found.items() if words}


def load_cells(path: str) -> frozenset[int]:
    """Read the segment ids in the first column of a CSV; with or without a header.

    Raises
    ------
    LayerNotFoundError
        If the file is not there.
    TableError
        If it lists nothing, or an id that is no whole number.
    """
    cells = frozenset(_ids(path, _read(path, "segment ids")))
    if not cells:
        raise TableError(f"{path}: lists no cell; give segment ids in the first column")
    return cells


def _read(path: str, what: str) -> pd.DataFrame:
    """A CSV as text, without its header if it has one."""
    folder, _, name = cloud_path(path).rpartition("/")
    data = Store(folder).read(name)
    try:
        table = pd.read_csv(io.BytesIO(data), header=None, dtype="str", keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise TableError(f"{path}: not a CSV of {what}: {error}") from error
    has_header = len(table) > 0 and not str(table.iloc[0, 0]).strip().isdigit()
    header = [str(name).strip().lower() for name in table.iloc[0]] if has_header else []
    table = table.iloc[1:] if has_header else table
    table.attrs["header"] = header
    return table


def _ids(path: str, table: pd.DataFrame) -> list[int]:
    segments = table[0].str.strip()
    # No more digits than 64 bits need; not the likes of ², which count as digits, too.
    wrong = segments[~segments.str.fullmatch(r"0*[0-9]{1,20}")]
    if len(wrong):
        raise TableError(f"{path}: segment id {str(wrong.iloc[0])[:40]!r} is no whole number")
    found = [int(segment) for segment in segments]
    if max(found, default=0) > _LARGEST:
        raise TableError(
            f"{path}: segment id {max(found)} has more than 64 bits: ids are below 2^64"
        )
    return found
