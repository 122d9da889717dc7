"""The synapses and partners of one side of a comparison, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.errors import TableError

__all__ = ["PLACE", "POST_PLACE", "SynapseSet", "index_in"]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PLACE = ["x_pos", "y_pos", "z_pos"]
POST_PLACE = ["post_x", "post_y", "post_z"]


@dataclass(frozen=True, slots=True)
class SynapseSet:
    """Synapses, and one row for each postsynaptic partner of each.

    Attributes
    ----------
    which : str
        What messages call it: ``predicted``, ``true``, ``baseline``.
    ids : ndarray of uint64, shape (n,)
        Synapse ids, sorted, each once.
    pre : ndarray of uint64, shape (n,)
        Presynaptic cell of each synapse; 0 = not known.
    places : ndarray of float64, shape (n, 3), or None
        Where each synapse is, nm.
    row : ndarray of int64, shape (m,)
        Index into `ids` of each partner row.
    post : ndarray of uint64, shape (m,)
        Postsynaptic cells, never 0.
    post_places : ndarray of float64, shape (m, 3), or None
        Where each postsynaptic cell is contacted, nm.
    share, size : ndarray of float64, shape (m,), or None
        Share of each partner in its synapse, in any unit; size in nm3.
    """

    which: str
    ids: Ids
    pre: Ids
    places: Floats | None
    row: Int64s
    post: Ids
    post_places: Floats | None
    share: Floats | None
    size: Floats | None

    @classmethod
    def from_tables(
        cls, which: str, partners: pd.DataFrame, synapses: pd.DataFrame | None = None
    ) -> SynapseSet:
        """Check and index a table of partners, and of synapses if there is one.

        Parameters
        ----------
        which
            What messages call it.
        partners : DataFrame
            syn_id and post_id (rows with post_id 0 are no partners), and what else is known of
            pre_id, x_pos.., post_x.., share, size.
        synapses : DataFrame, optional
            syn_id, pre_id, x_pos..: also of synapses without a partner. What it does not have is
            taken from the partners.

        Raises
        ------
        TableError
            If a column is missing, a synapse is there twice, has two presynaptic cells or places,
            or has partners but is not in `synapses`.
        """
        _need(which, partners, ["syn_id", "post_id"])
        if synapses is None:
            _check_one_cell(which, partners)
            synapses = partners.drop_duplicates("syn_id")
        _need(which, synapses, ["syn_id"])
        synapses = _with_columns_of(synapses, partners)
        ids, order = np.unique(synapses["syn_id"].to_numpy(np.uint64), return_index=True)
        if len(ids) != len(synapses):
            twice = synapses.loc[synapses["syn_id"].duplicated(), "syn_id"].iloc[0]
            raise TableError(f"the {which} table of synapses has synapse {twice} twice")
        rows = partners[partners["post_id"].to_numpy() != 0]
        row = index_in(ids, rows["syn_id"].to_numpy(np.uint64))
        if (row < 0).any():
            absent = rows["syn_id"].to_numpy()[row < 0]
            raise TableError(
                f"the {which} partners have synapse {absent[0]} ({len(np.unique(absent))} in all), "
                "which is not in the table of synapses: give two tables of the same run"
            )
        ordered = synapses.iloc[order]
        pre = ordered["pre_id"].to_numpy(np.uint64) if "pre_id" in ordered else np.zeros_like(ids)
        return cls(
            which=which,
            ids=ids,
            pre=pre,
            places=_numbers(which, ordered, PLACE),
            row=row,
            post=rows["post_id"].to_numpy(np.uint64),
            post_places=_numbers(which, rows, POST_PLACE),
            share=_number(which, rows, "share"),
            size=_number(which, rows, "size"),
        )

    def needed_places(self) -> Floats:
        """Places of the synapses.

        Raises
        ------
        TableError
            If they are not known.
        """
        if self.places is None:
            raise TableError(
                f"the {self.which} table has no columns {', '.join(PLACE)}: "
                "synapses match by distance only where their places are known"
            )
        return self.places


def index_in(sorted_ids: Ids, wanted: Ids) -> Int64s:
    """Where ids are in a sorted array; -1 for those that are not."""
    if not len(sorted_ids):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    found: Int64s = np.where(sorted_ids[place] == wanted, place, -1)
    return found


def _need(which: str, table: pd.DataFrame, columns: list[str]) -> None:
    missing = [name for name in columns if name not in table]
    if missing:
        raise TableError(
            f"the {which} table has no column {', '.join(missing)}; "
            f"it has {', '.join(map(str, table))}"
        )


def _check_one_cell(which: str, partners: pd.DataFrame) -> None:
    if "pre_id" not in partners:
        return
    pairs = partners[["syn_id", "pre_id"]].drop_duplicates()
    twice = pairs.loc[pairs["syn_id"].duplicated(), "syn_id"]
    if len(twice):
        raise TableError(
            f"the {which} table has more than one presynaptic cell for synapse {twice.iloc[0]} "
            f"({twice.nunique()} in all)"
        )


def _with_columns_of(synapses: pd.DataFrame, partners: pd.DataFrame) -> pd.DataFrame:
    """Presynaptic cells and places from the rows of partners, if only those have them."""
    # A place is whole or not at all: half of one from another table would be nowhere.
    wanted = [group for group in (["pre_id"], PLACE) if not set(group) <= set(synapses)]
    names = [name for group in wanted if set(group) <= set(partners) for name in group]
    if not names:
        return synapses
    first = partners.drop_duplicates("syn_id").set_index("syn_id")
    if not synapses["syn_id"].isin(first.index).all():
        names = [name for name in names if name == "pre_id"]
    taken = first[names].reindex(synapses["syn_id"], fill_value=0)
    return synapses.assign(**{name: taken[name].to_numpy() for name in names})


def _numbers(which: str, table: pd.DataFrame, names: list[str]) -> Floats | None:
    columns = [_number(which, table, name) for name in names]
    known = [column for column in columns if column is not None]
    return np.stack(known, axis=1) if len(known) == len(names) else None


def _number(which: str, table: pd.DataFrame, name: str) -> Floats | None:
    """A column of finite numbers, or None if the table does not have it."""
    if name not in table:
        return None
    try:
        values: npt.NDArray[Any] = table[name].to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise TableError(f"the {which} table: column {name}: {error}") from error
    if not np.isfinite(values).all():
        empty = int((~np.isfinite(values)).sum())
        raise TableError(
            f"the {which} table: column {name} has {empty} values that are no numbers: "
            "fill them in or leave the column out"
        )
    return values
