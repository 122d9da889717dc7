"""A connectome as figures need it: cells, their types, weights; and the order to show them in."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, TableError
from cnapse.names import load_types
from cnapse.store import Store, cloud_path

if TYPE_CHECKING:
    import pandas as pd

    from cnapse.analysis.connectome import Connectome, Weight

__all__ = ["Graph", "cell_types", "graph_of"]

Sparse = Any
Order = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Graph:
    """Cells and the weights of their connections.

    Attributes
    ----------
    cells : tuple of str
        Names, or ids as text.
    types : tuple of str
        One a cell; empty where it has none.
    weights : sparse array of float64, shape (n, n)
        From row (presynaptic) to column (postsynaptic).
    unit : str
        Of the weights: ``synapses`` or ``nm³``.
    of_all : int
        Cells of the connectome that these are taken from.
    """

    cells: tuple[str, ...]
    types: tuple[str, ...]
    weights: Sparse
    unit: str
    of_all: int

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def outgoing(self) -> npt.NDArray[np.float64]:
        """Sum of the weights of each row."""
        return np.asarray(self.weights.sum(axis=1), dtype=np.float64).reshape(-1)

    @property
    def incoming(self) -> npt.NDArray[np.float64]:
        """Sum of the weights of each column."""
        return np.asarray(self.weights.sum(axis=0), dtype=np.float64).reshape(-1)

    def reordered(self, order: Order | Sequence[int]) -> Graph:
        """The cells of these numbers, in this order, with the connections among them."""
        chosen = np.asarray(order, dtype=np.int64)
        return replace(
            self,
            cells=tuple(self.cells[i] for i in chosen),
            types=tuple(self.types[i] for i in chosen),
            weights=self.weights[chosen][:, chosen],
        )

    def strongest(self, most: int) -> Graph:
        """At most so many cells, those with the largest weights; in their order."""
        if len(self) <= most:
            return self
        total = self.outgoing + self.incoming
        chosen = np.argsort(-total, kind="stable")[:most]
        return self.reordered(np.sort(chosen))

    def without_strays(self) -> Graph:
        """Without the cells that have no connection."""
        return self.reordered(np.flatnonzero(self.outgoing + self.incoming))

    @property
    def said(self) -> str:
        """``60 of 302 cells, 1,234 connections``."""
        of = f" of {self.of_all:,}" if self.of_all > len(self) else ""
        edges = self.weights.nnz
        return (
            f"{len(self):,}{of} cell{'s' * (len(self) != 1)}, "
            f"{edges:,} connection{'s' * (edges != 1)}"
        )


def graph_of(
    connectome: Connectome, of: Weight = "synapses", types: Mapping[str, str] | None = None
) -> Graph:
    """The graph of a connectome, its cells in their order.

    Parameters
    ----------
    connectome : Connectome
    of
        What weighs: the number of synapses, or their summed size.
    types : mapping of str to str, optional
        By cell, as `cell_types` gives them.

    Raises
    ------
    TableError
        If there are no sizes to weigh by.
    """
    cells = tuple(connectome.labels())
    known = types or {}
    return Graph(
        cells=cells,
        types=tuple(known.get(cell, "") for cell in cells),
        weights=connectome.sparse(of).tocsr().astype(np.float64),
        unit="synapses" if of == "synapses" else "nm³",
        of_all=len(cells),
    )


def cell_types(cells: pd.DataFrame, *, names: str = "", types: str = "") -> dict[str, str]:
    """The type of each cell, by its name.

    Parameters
    ----------
    cells : DataFrame
        As `cnapse.analysis.connectome.Connectome.cells` gives them.
    names : str
        CSV of segment id and name, perhaps with a column ``type``.
    types : str
        CSV with the columns ``cell`` (name or id) and ``type``; more than ``names`` says.

    Returns
    -------
    dict of str to str
        Cells that have a type. Of several of a cell, the first.

    Raises
    ------
    TableError
        If a file cannot be read, or `types` has no such columns.
    """
    by_id = {str(cell): words[0] for cell, words in load_types(names).items()} if names else {}
    by_name = _read_types(types) if types else {}
    found: dict[str, str] = {}
    for cell, ids in zip(cells["cell"], cells["ids"], strict=True):
        keys = [str(cell), *(str(i) for i in ids)]
        said = [by_name[key] for key in keys if key in by_name]
        said += [by_id[key] for key in keys if key in by_id]
        if said and said[0]:
            found[str(cell)] = said[0]
    if (names and by_id) or types:
        _check_any(found, cells, types or names)
    return found


def _check_any(found: Mapping[str, str], cells: pd.DataFrame, path: str) -> None:
    if len(cells) and not found:
        raise TableError(
            f"{path}: none of its cells is in the table, which has {len(cells)}, such as "
            f"{', '.join(cells['cell'].head(3))}: give names or ids of the table"
        )


def _read_types(path: str) -> dict[str, str]:
    import pandas as pd

    folder, _, name = cloud_path(path).rpartition("/")
    data = Store(folder).read(name)
    try:
        table = pd.read_csv(io.BytesIO(data), dtype="str", keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise TableError(f"{path}: not a CSV of cell and type: {error}") from error
    columns = {str(column).strip().lower(): column for column in table.columns}
    cell = next((columns[n] for n in ("cell", "name", "id") if n in columns), None)
    if cell is None or "type" not in columns:
        raise ConfigError(
            f"{path}: has the columns {', '.join(map(str, table.columns))}: give a header with "
            "cell and type"
        )
    words = (text.strip() for text in table[columns["type"]])
    return dict(zip(table[cell].str.strip(), words, strict=True))
