"""What there is to review: the columns of ``synapses`` as arrays, filtered, ordered, paged.

A million candidates take some 200 MB and a filter takes milliseconds: each order is sorted once and
kept, and a selection walks it with a mask.
"""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cnapse.errors import LayerNotFoundError, ReviewError, RunStateError, TableError
from cnapse.geometry import Resolution, Triple
from cnapse.review.decisions import ErrorKind
from cnapse.review.standing import Standing
from cnapse.review.strata import Strata, stratified
from cnapse.runs import RunData
from cnapse.store import Store
from cnapse.tables import flag_names, parse_flags

__all__ = [
    "ORDERS",
    "VERDICT_FILTERS",
    "Candidates",
    "Filter",
    "Order",
    "VerdictFilter",
    "read_columns",
]

Order = Literal["doubt", "size", "score", "cell", "random", "place", "stratified"]
ORDERS: Final[tuple[Order, ...]] = (
    "doubt", "size", "score", "cell", "random", "place", "stratified",
)  # fmt: skip
VerdictFilter = Literal["open", "decided", "true", "false", "unsure"]
VERDICT_FILTERS: Final[tuple[VerdictFilter, ...]] = ("open", "decided", "true", "false", "unsure")

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NUMBERS: Final[dict[str, Any]] = {
    "syn_id": np.uint64, "pre_id": np.uint64, "size": np.float64, "x_pos": np.float64,
    "y_pos": np.float64, "z_pos": np.float64, "sections": np.int32, "voxels": np.int64,
    "start_x": np.int64, "start_y": np.int64, "start_z": np.int64, "stop_x": np.int64,
    "stop_y": np.int64, "stop_z": np.int64, "mean_probability": np.float64,
    "n_partners": np.int32, "flags": np.uint32, "doubt": np.float64,
}  # fmt: skip
_TEXTS: Final = ("pre", "doubts")
# The highest first: what is worth a look comes first.
_DESCENDING: Final = frozenset({"doubt", "size"})
_SORTED_BY: Final = {
    "doubt": "doubt",
    "size": "size",
    "score": "mean_probability",
    "cell": "pre_id",
}
# Neighbours in this order are neighbours in the tissue, so that their tiles are in the cache.
_CUBE_NM: Final = 2000.0
_KEPT_SEEDS: Final = 4


@dataclass(frozen=True, slots=True)
class Filter:
    """Which candidates; what is None does not matter.

    Parameters
    ----------
    verdict : {"open", "decided", "true", "false", "unsure"}, optional
    error : str, optional
        The kind of error of the standing verdict.
    cell : int, optional
        Id of a cell, presynaptic or postsynaptic.
    min_size, max_size : float, optional
        nm3, both included.
    min_doubt, max_doubt, min_score, max_score : float, optional
        Both included; a doubt or score that is not known is in no range.
    flag : str, optional
        Names of flags joined by ``|``: any of them.
    box_nm : (start, stop), optional
        Positions in this box: from start on, below stop.
    """

    verdict: VerdictFilter | None = None
    error: ErrorKind | None = None
    cell: int | None = None
    min_size: float | None = None
    max_size: float | None = None
    min_doubt: float | None = None
    max_doubt: float | None = None
    min_score: float | None = None
    max_score: float | None = None
    flag: str | None = None
    box_nm: tuple[Resolution, Resolution] | None = None


class Candidates:
    """All synapses of a run, one a row, in the order of the table.

    Parameters
    ----------
    columns : mapping of str to array
        Columns of :data:`cnapse.tables.SYNAPSES`.
    posts : (rows, post_ids), optional
        Row of the synapse and postsynaptic cell of each row of ``partners``.
    """

    def __init__(
        self, columns: Mapping[str, Array], posts: tuple[Array, Array] | None = None
    ) -> None:
        n = len(columns["syn_id"])
        self._columns: dict[str, Array] = {
            name: np.ascontiguousarray(columns[name], dtype) for name, dtype in _NUMBERS.items()
        }
        self._texts = {name: _strings(columns[name]) for name in _TEXTS}
        ids = self._columns["syn_id"]
        self._by_id: Indices = np.argsort(ids, kind="stable")
        self._sorted_ids: npt.NDArray[np.uint64] = ids[self._by_id]
        if n and (self._sorted_ids[1:] == self._sorted_ids[:-1]).any():
            raise ReviewError("a synapse is twice in the table `synapses`: run `cnapse run` again")
        rows, cells = posts or (np.empty(0, np.int64), np.empty(0, np.uint64))
        order = np.argsort(cells, kind="stable")
        self._post_cells = np.asarray(cells, np.uint64)[order]
        self._post_rows = np.asarray(rows, np.int64)[order]
        self._orders: dict[tuple[str, int], Indices] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(cls, run: RunData) -> Candidates:
        """Read them from a run's tables: only the columns that are needed.

        Raises
        ------
        RunStateError
            If there are none yet.
        TableError
            If the tables cannot be read.
        """
        output = run.config.output
        try:
            synapses = read_columns(f"{output}/tables/synapses", [*_NUMBERS, *_TEXTS])
            partners = read_columns(f"{output}/tables/partners", ["syn_id", "post_id"])
        except LayerNotFoundError as error:
            raise RunStateError(
                f"{output} has no tables yet: finish the run first with `cnapse run`"
            ) from error
        return cls._of(
            {name: synapses[name].to_numpy() for name in _NUMBERS if name in synapses.column_names}
            | {name: synapses[name] for name in _TEXTS if name in synapses.column_names},
            (partners["syn_id"].to_numpy(), partners["post_id"].to_numpy()),
        )

    @classmethod
    def from_tables(
        cls, synapses: pd.DataFrame, partners: pd.DataFrame | None = None
    ) -> Candidates:
        """Make them of both tables; a column that an older run lacks is unknown, or 0."""
        return cls._of(
            {c: synapses[c].to_numpy() for c in [*_NUMBERS, *_TEXTS] if c in synapses},
            None
            if partners is None
            else (partners["syn_id"].to_numpy(), partners["post_id"].to_numpy()),
        )

    @classmethod
    def _of(cls, known: Mapping[str, Any], pairs: tuple[Array, Array] | None) -> Candidates:
        n = len(known["syn_id"])
        columns = {c: known[c] if c in known else _unknown(c, n) for c in [*_NUMBERS, *_TEXTS]}
        if pairs is None or not n:
            return cls(columns)
        ids = np.asarray(columns["syn_id"], np.uint64)
        order = np.argsort(ids, kind="stable")
        wanted, posts = (np.asarray(values, np.uint64) for values in pairs)
        places = np.minimum(np.searchsorted(ids[order], wanted), n - 1)
        here = ids[order][places] == wanted
        return cls(columns, (order[places[here]], posts[here]))

    # --- single ones ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._sorted_ids)

    @property
    def columns(self) -> Mapping[str, Array]:
        """Columns of numbers by name; not to be written."""
        return self._columns

    @property
    def ids(self) -> npt.NDArray[np.uint64]:
        """Ids, row by row."""
        return self._columns["syn_id"]

    @functools.cached_property
    def positions_nm(self) -> npt.NDArray[np.float64]:
        """Positions, shape (n, 3), nm, x, y, z."""
        return np.stack([self._columns[f"{axis}_pos"] for axis in "xyz"], axis=1)

    def rows_of(self, syn_ids: Sequence[int] | npt.NDArray[np.uint64]) -> Indices:
        """Rows of the synapses `syn_ids`; -1 for those that are not in the table."""
        wanted = np.asarray(syn_ids, np.uint64)
        if not len(self):
            return np.full(len(wanted), -1, np.int64)
        places = np.minimum(np.searchsorted(self._sorted_ids, wanted), len(self) - 1)
        found: Indices = np.where(self._sorted_ids[places] == wanted, self._by_id[places], -1)
        return found

    def row(self, syn_id: int) -> int:
        """The row of a synapse.

        Raises
        ------
        ReviewError
            If it is not in the table.
        """
        found = int(self.rows_of([syn_id])[0]) if 0 <= syn_id < 2**64 else -1
        if found < 0:
            raise ReviewError(f"synapse {syn_id} is not in the table of this run")
        return found

    def position_nm(self, syn_id: int) -> Resolution:
        """Where a synapse is."""
        row = self.row(syn_id)
        x, y, z = (float(self._columns[f"{axis}_pos"][row]) for axis in "xyz")
        return x, y, z

    def extent(self, syn_id: int) -> tuple[Triple, Triple]:
        """Bounding box of a synapse in voxels of the run: first, and one past the last."""
        row = self.row(syn_id)
        a, b, c, d, e, f = (
            int(self._columns[f"{end}_{axis}"][row]) for end in ("start", "stop") for axis in "xyz"
        )
        return (a, b, c), (d, e, f)

    # --- many -----------------------------------------------------------------------------------

    def select(
        self,
        order: Order = "doubt",
        where: Filter | None = None,
        *,
        descending: bool | None = None,
        seed: int = 0,
        standing: Standing | None = None,
    ) -> Indices:
        """Rows of the candidates that a filter leaves, in an order.

        Parameters
        ----------
        order : str
            ``cell`` is by id of the presynaptic cell, ``place`` from neighbour to neighbour,
            ``stratified`` as :mod:`cnapse.review.strata` tells. Equal ones stay in the order of the
            table, and what is not known comes last.
        where : Filter, optional
        descending : bool, optional
            Default: for doubt and size. Turns ``random``, ``place`` and ``stratified`` around, too.
        seed : int
            Of ``random`` and ``stratified``.
        standing : Standing, optional
            What was decided; nothing if not given.

        Returns
        -------
        ndarray of int64, shape (n,)

        Raises
        ------
        TableError
            For a flag that there is not.
        """
        down = order in _DESCENDING if descending is None else descending
        rows = self._ordered(order, down, seed)
        mask = self._mask(where or Filter(), standing or Standing())
        return rows if mask is None else rows[mask[rows]]

    def prepare(self) -> None:
        """Sort every order now, so that no later question waits for it; about 1 s a million."""
        for order in ORDERS:
            self.select(order)

    def page(
        self,
        rows: Sequence[int] | Indices,
        standing: Standing | None = None,
        leases: Mapping[int, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Rows as JSON: ids as strings, what is not known as None, flags by name."""
        verdicts = {} if standing is None else standing.verdicts
        return [self._json(int(row), verdicts, leases or {}) for row in rows]

    def _json(
        self, row: int, verdicts: Mapping[int, Any], leases: Mapping[int, str]
    ) -> dict[str, Any]:
        at = {name: column[row].item() for name, column in self._columns.items()}
        verdict = verdicts.get(at["syn_id"])
        return {
            "syn_id": str(at["syn_id"]),
            "pre": self._texts["pre"][row].as_py() or "",
            "pre_id": str(at["pre_id"]),
            "size": at["size"],
            "sections": at["sections"],
            "doubt": _known(at["doubt"]),
            "doubts": self._texts["doubts"][row].as_py() or "",
            "score": _known(at["mean_probability"]),
            "position_nm": [at["x_pos"], at["y_pos"], at["z_pos"]],
            "n_partners": at["n_partners"],
            "flags": [name for name in flag_names(at["flags"]).split("|") if name],
            "verdict": verdict and verdict.new.verdict,
            "error": verdict and verdict.new.error,
            "by": verdict and verdict.reviewer,
            "leased_by": leases.get(at["syn_id"]),
        }

    # --- filters --------------------------------------------------------------------------------

    def _mask(self, where: Filter, standing: Standing) -> Mask | None:
        """Rows that a filter leaves; None for all."""
        columns = self._columns
        parts: list[Mask] = []
        for name, low, high in (
            ("size", where.min_size, where.max_size),
            ("doubt", where.min_doubt, where.max_doubt),
            ("mean_probability", where.min_score, where.max_score),
        ):
            parts += [] if low is None else [columns[name] >= low]
            parts += [] if high is None else [columns[name] <= high]
        if where.flag is not None:
            parts.append((columns["flags"] & np.uint32(parse_flags(where.flag))) != 0)
        if where.cell is not None:
            parts.append(self._of_cell(where.cell))
        if where.box_nm is not None:
            for axis, low, high in zip("xyz", *where.box_nm, strict=True):
                parts += [columns[f"{axis}_pos"] >= low, columns[f"{axis}_pos"] < high]
        if where.verdict is not None or where.error is not None:
            parts.append(self._decided(where.verdict, where.error, standing))
        return np.logical_and.reduce(parts) if parts else None

    def _of_cell(self, cell: int) -> Mask:
        if not 0 <= cell < 2**64:
            return np.zeros(len(self), np.bool_)
        mask: Mask = self._columns["pre_id"] == np.uint64(cell)
        first, last = (
            int(np.searchsorted(self._post_cells, np.uint64(cell), side=side))
            for side in ("left", "right")
        )
        mask[self._post_rows[first:last]] = True
        return mask

    def _decided(
        self, verdict: VerdictFilter | None, error: ErrorKind | None, standing: Standing
    ) -> Mask:
        wrong = {i: one.new.error for i, one in standing.verdicts.items()}
        ids = [
            syn_id
            for syn_id, answer in standing.answers.items()
            if verdict in (None, "open", "decided", answer)
            and (error is None or verdict == "open" or wrong.get(syn_id) == error)
        ]
        rows = self.rows_of(np.array(ids, np.uint64))
        mask = np.zeros(len(self), np.bool_)
        mask[rows[rows >= 0]] = True
        if verdict != "open":
            return mask
        # What is open has no error.
        return ~mask if error is None else np.zeros_like(mask)

    # --- orders ---------------------------------------------------------------------------------

    def _ordered(self, order: Order, descending: bool, seed: int) -> Indices:
        if order in _SORTED_BY:
            return self._sorted(_SORTED_BY[order], descending)
        rows = self._by_place if order == "place" else self._shuffled(order, seed)
        return rows[::-1] if descending else rows

    def _sorted(self, column: str, descending: bool) -> Indices:
        key = (column, int(descending))
        with self._lock:
            if key not in self._orders:
                values = self._columns[column]
                # -uint64 wraps around; ~ turns its order around.
                if descending:
                    values = -values if values.dtype.kind == "f" else ~values
                self._orders[key] = np.argsort(values, kind="stable")
            return self._orders[key]

    def _shuffled(self, order: str, seed: int) -> Indices:
        key = (order, seed)
        with self._lock:
            if key not in self._orders:
                shuffles = [k for k in self._orders if k[0] in ("random", "stratified")]
                for old in shuffles[: max(0, len(shuffles) - _KEPT_SEEDS + 1)]:
                    del self._orders[old]
                self._orders[key] = (
                    stratified(self.stratum, seed)
                    if order == "stratified"
                    else np.random.default_rng(seed).permutation(len(self)).astype(np.int64)
                )
            return self._orders[key]

    @functools.cached_property
    def strata(self) -> Strata:
        """Strata by doubt and size."""
        return Strata.of(self._columns["doubt"], self._columns["size"])

    @functools.cached_property
    def stratum(self) -> Indices:
        """The stratum of each row."""
        return self.strata.number(self._columns["doubt"], self._columns["size"])

    @functools.cached_property
    def _by_place(self) -> Indices:
        """Along the Z-order curve (Morton 1966) through cubes, x fastest."""
        cubes = np.floor(self.positions_nm / _CUBE_NM)
        if not len(cubes):
            return np.empty(0, np.int64)
        places = np.clip(cubes - cubes.min(axis=0), 0, 2**21 - 1).astype(np.uint64)
        code = _spread(places[:, 0]) | _spread(places[:, 1]) << 1 | _spread(places[:, 2]) << 2
        return np.argsort(code, kind="stable")


def _spread(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """21 bits with two zeros after each."""
    for shift, mask in (
        (32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3), (2, 0x1249249249249249),
    ):  # fmt: skip
        values = (values | values << np.uint64(shift)) & np.uint64(mask)
    return values


def _strings(values: Any) -> pa.Array:
    """Text as bytes in one piece: a Python string each would be the most of the memory."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    return pa.array(values, pa.string(), from_pandas=True)


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _unknown(name: str, n: int) -> Array:
    if name in _TEXTS:
        return np.full(n, "", object)
    dtype = np.dtype(_NUMBERS[name])
    return np.full(n, np.nan if dtype.kind == "f" else 0, dtype)


def read_columns(folder: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of the Parquet parts of a table; links alone would be most of its bytes.

    Raises
    ------
    LayerNotFoundError
        If there is no part.
    TableError
        If one cannot be read.
    """
    store = Store(folder)
    names = [n for n in store.names() if n.endswith(".parquet") and "/" not in n]
    if not names:
        raise LayerNotFoundError(f"no table at {folder}")
    parts = []
    for name in names:
        try:
            file = pq.ParquetFile(io.BytesIO(store.read(name)), page_checksum_verification=True)
            parts.append(file.read([c for c in columns if c in file.schema_arrow.names]))
        except (pa.ArrowException, OSError, ValueError) as error:
            said = " ".join(str(error).split())
            raise TableError(f"{folder}/{name} is not a table that can be read: {said}") from error
    return pa.concat_tables(parts, promote_options="default")
