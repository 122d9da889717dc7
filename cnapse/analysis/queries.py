"""Questions to a table of partners that is larger than memory.

`Synapses` narrows a table step by step and reads only what is asked for: the synapses of a cell,
between two cells, in a box. Parquet on this machine is read in place (DuckDB skips the row groups
that cannot hold an answer); other tables are copied to a temporary file when they are opened.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from cnapse.analysis.queries_engine import MEMORY_GB, Engine, in_frame
from cnapse.analysis.queries_layout import Layout, Reading
from cnapse.analysis.queries_open import open_table, partners_path
from cnapse.errors import ConfigError, TableError
from cnapse.names import Names, load_names

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Reading", "Side", "Synapses"]

Side = Literal["either", "pre", "post"]

_SUGGESTIONS = 100_000


@dataclass(frozen=True, slots=True)
class _Condition:
    """A condition on a row: text of ours, and values that are bound to its question marks."""

    text: str
    bound: tuple[object, ...] = ()


@dataclass(frozen=True)
class Synapses:
    """Rows of a table of partners: one per synapse and postsynaptic cell.

    Made by `open`; each question gives a narrower one, and nothing is read before rows are asked
    for. All of them share what was opened, which ends with `close`, or with the ``with`` block.

    Attributes
    ----------
    path : str
        The table.
    layout : Layout
        What it was read as, and its columns.
    """

    path: str
    layout: Layout
    _engine: Engine
    _names: Names
    _conditions: tuple[_Condition, ...] = ()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        names: str = "",
        reading: Reading | None = None,
        memory_gb: float = MEMORY_GB,
        verify: bool = False,
    ) -> Synapses:
        """Open a table.

        Parameters
        ----------
        path
            A run's ``cnapse.toml`` or folder; or a table of partners as Parquet, Feather or CSV, a
            file or a folder of parts, local or in a bucket: cnapse's, one with the columns syn_id,
            pre, post and size (names instead of ids, as in Yim et al. 2024), or one of CAVE,
            neuPrint, FlyWire or Synaptor.
        names : str
            CSV of segment id and name. Where it is given, it alone names the ids of the table.
        reading : Reading, optional
            What the columns are, where they do not tell.
        memory_gb : float
            The most that the database holds in memory.
        verify : bool
            Read Parquet once from end to end to check its checksums.

        Raises
        ------
        LayerNotFoundError
            If there is no table.
        TableError
            If it cannot be read, or has no cells.
        ConfigError
            If the options do not go with it.
        """
        known = load_names(names)
        place = partners_path(path)
        engine = Engine(memory_gb, place)
        try:
            layout = open_table(engine, place, reading or Reading(), known, verify=verify)
        except BaseException:
            engine.close()
            raise
        return cls(place, layout, engine, known)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was copied; the table stays, and so do results."""
        self._engine.close()

    def of_cell(self, cell: int | str, side: Side = "either") -> Synapses:
        """The rows of a cell.

        Parameters
        ----------
        cell
            An id: this segment alone. A name: every segment that has it. Text of digits is an id.
        side
            Where the cell is presynaptic, postsynaptic, or either.

        Raises
        ------
        TableError
            If neither the list of names nor the table has a cell of that name.
        ConfigError
            For another side.
        """
        if side not in ("either", "pre", "post"):
            raise ConfigError(f"side {side!r}: there are either, pre and post")
        ends = ("pre", "post") if side == "either" else (side,)
        found = [self._is(end, cell) for end in ends]
        self._check_known(cell)
        return self._narrowed(
            _Condition(
                " OR ".join(f"({one.text})" for one in found),
                tuple(value for one in found for value in one.bound),
            )
        )

    def between(self, pre: int | str, post: int | str) -> Synapses:
        """The rows from one cell to another; cells as for `of_cell`.

        Raises
        ------
        TableError
            As `of_cell`.
        """
        return self.of_cell(pre, "pre").of_cell(post, "post")

    def in_box(self, start: Sequence[float], stop: Sequence[float]) -> Synapses:
        """The rows of synapses whose place lies in a box.

        Parameters
        ----------
        start, stop : (x, y, z)
            Nanometres; from `start` up to, and without, `stop`.

        Raises
        ------
        TableError
            If the table has no places, or of unknown unit.
        ConfigError
            If the box is empty.
        """
        axes = ("x_pos", "y_pos", "z_pos")
        if not {*axes} <= {*self.layout.names}:
            raise TableError(
                f"{self.path}, read as {self.layout.format}, has no places in nm: give "
                "--resolution X Y Z if its places are in voxels, or a table with x_pos, y_pos "
                "and z_pos"
            )
        if len(start) != 3 or len(stop) != 3 or not all(map(float.__lt__, *_floats(start, stop))):
            raise ConfigError(
                f"box {_shown(start)} to {_shown(stop)}: give x y z of a corner and, larger in "
                "each, x y z of the opposite one, in nm"
            )
        box = zip(axes, *_floats(start, stop), strict=True)
        return self._narrowed(
            *(_Condition(f"{axis} >= ? AND {axis} < ?", (a, b)) for axis, a, b in box)
        )

    def at_least(self, *, size: float | None = None, share: float | None = None) -> Synapses:
        """The rows whose size (nm3) or share is at least so much.

        Raises
        ------
        TableError
            If the table has none.
        """
        found = self
        for name, least in (("size", size), ("share", share)):
            if least is None:
                continue
            if name not in self.layout.names:
                raise TableError(f"{self.path} has no column {name}: leave its threshold out")
            found = found._narrowed(_Condition(f"{name} >= ?", (float(least),)))
        return found

    def count(self) -> int:
        """How many rows."""
        return int(self._engine.row(f"SELECT count(*) FROM ({self._query()})", self._bound)[0])  # noqa: S608

    def to_pandas(self) -> pd.DataFrame:
        """The rows, in the order of the table.

        Returns
        -------
        DataFrame
            Columns of :data:`cnapse.tables.PARTNERS`, as far as the table has them; always pre,
            pre_id, post and post_id. A cell without a name is called by its id; one without an id
            has none (``<NA>``).
        """
        import pyarrow as pa

        return in_frame(pa.Table.from_batches(list(self.batches())))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of `to_pandas`, some at a time, as Arrow."""
        batches = self._engine.batches(self._query(), self._bound)
        return map(self._called, batches) if len(self._names) else batches

    def edges(self) -> pd.DataFrame:
        """The edge list of these rows; see `cnapse.analysis.connectome.Connectome.edges`."""
        from cnapse.analysis.connectome import connectome_of

        return connectome_of(self).edges()

    def write(self, path: str | Path) -> int:
        """Write the rows of `to_pandas`, however many; whole or not at all.

        Parameters
        ----------
        path
            Local, by its ending ``.csv`` or ``.parquet``.

        Returns
        -------
        int
            Rows written.

        Raises
        ------
        TableError
            For another ending.
        StorageError
            If the file cannot be written.
        """
        from cnapse.analysis.exports.rows import write_rows

        return write_rows(self.batches(), path)

    @property
    def engine(self) -> Engine:
        """The database that holds the views ``synapse_rows`` and ``keyed_rows``."""
        return self._engine

    @property
    def where(self) -> tuple[str, tuple[object, ...]]:
        """The condition on rows of ``keyed_rows`` in SQL, and the values bound to it."""
        text = " AND ".join(f"({one.text})" for one in self._conditions)
        return text or "TRUE", self._bound

    @property
    def _bound(self) -> tuple[object, ...]:
        return tuple(value for one in self._conditions for value in one.bound)

    def _narrowed(self, *conditions: _Condition) -> Synapses:
        return replace(self, _conditions=(*self._conditions, *conditions))

    def _query(self) -> str:
        """Rows under their columns, in the order of the table: a join would lose it."""
        columns = []
        ends = ["pre", "pre_id", "post", "post_id"]
        for name in dict.fromkeys(["syn_id", *ends, *self.layout.names]):
            if name in ("pre", "post"):
                columns.append(
                    f"coalesce(nullif({name}_name, ''), "
                    f"CAST(nullif({name}_key, 0) AS VARCHAR), '') AS {name}"
                )
            elif name in ("pre_id", "post_id"):
                columns.append(f"nullif({name.removesuffix('_id')}_key, 0) AS {name}")
            elif name in self.layout.names:
                columns.append(f"r.{name} AS {name}")
        return f"SELECT {', '.join(columns)} FROM keyed_rows AS r WHERE {self.where[0]}"  # noqa: S608

    def _called(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with names of the list in place of the ids."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for end in ("pre", "post"):
            cells = batch.column(f"{end}_id")
            named = pa.array(self._names.of(cells.fill_null(0).to_numpy()))
            values = pc.if_else(cells.is_valid(), named, batch.column(end))
            batch = batch.set_column(batch.schema.get_field_index(end), end, values)
        return batch

    def _is(self, end: str, cell: int | str) -> _Condition:
        """Whether a cell is at an end of a row."""
        text = str(cell).strip()
        if text.isascii() and text.isdigit():
            if not 0 < int(text) < 1 << 64:
                raise ConfigError(f"cell {text}: ids are from 1 to 2^64-1")
            return self._has_id(end, (int(text),))
        listed = tuple(i for i, name in self._names_of() if name == text)
        named = _Condition(f"{end}_name = ?", (text,))
        if not listed:
            return named
        ids = self._has_id(end, listed)
        return _Condition(f"{named.text} OR {ids.text}", (*named.bound, *ids.bound))

    def _has_id(self, end: str, ids: tuple[int, ...]) -> _Condition:
        # The table's own column, if it has one, lets row groups be skipped.
        column = f"{end}_id" if f"{end}_id" in self.layout.names else f"{end}_key"
        marks = ", ".join("CAST(? AS UBIGINT)" for _ in ids)
        return _Condition(f"{column} IN ({marks})", ids)

    def _names_of(self) -> Iterator[tuple[int, str]]:
        ids = self._names.ids
        return zip(ids, self._names.of(ids), strict=True)

    def _check_known(self, cell: int | str) -> None:
        """Refuse a name that nothing has: a misspelt one would look like a silent cell."""
        text = str(cell).strip()
        if (text.isascii() and text.isdigit()) or text in {name for _, name in self._names_of()}:
            return
        either = "SELECT 1 FROM keyed_rows WHERE pre_name = ? OR post_name = ? LIMIT 1"
        if self._engine.rows(either, (text, text)):
            return
        known = {name for _, name in self._names_of()}
        for end in ("pre", "post"):
            query = f"SELECT DISTINCT {end}_name FROM keyed_rows LIMIT {_SUGGESTIONS}"  # noqa: S608
            known |= {name for (name,) in self._engine.rows(query)}
        close = difflib.get_close_matches(text, sorted(known - {""}), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "give a name or an id of the table"
        raise TableError(f"{self.path} has no cell called {text!r}: {hint}")


def _floats(start: Sequence[float], stop: Sequence[float]) -> tuple[list[float], list[float]]:
    return [float(value) for value in start], [float(value) for value in stop]


def _shown(place: Sequence[float]) -> str:
    with contextlib.suppress(TypeError, ValueError):
        return " ".join(f"{float(value):g}" for value in place)
    return str(place)
