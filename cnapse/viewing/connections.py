"""The two tables of a run, asked about one synapse or one cell."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cnapse.errors import TableError
from cnapse.geometry import Resolution
from cnapse.tables import read_table
from cnapse.viewing.scene import PartnerLine, Selection

__all__ = ["Connections"]

_POSITION = ("x_pos", "y_pos", "z_pos")
_TARGET = ("post_x", "post_y", "post_z")
_TYPICAL_PARTNERS = (2, 4)


@dataclass(frozen=True)
class Connections:
    """Synapses and partners.

    Parameters
    ----------
    synapses, partners : DataFrame
        As :data:`cnapse.tables.SYNAPSES` and :data:`cnapse.tables.PARTNERS` describe them.
    """

    synapses: pd.DataFrame
    partners: pd.DataFrame

    @classmethod
    def read(cls, output: str) -> Connections:
        """Read the tables of a run from its output folder.

        Raises
        ------
        LayerNotFoundError
            If there are none.
        """
        return cls(read_table(f"{output}/tables/synapses"), read_table(f"{output}/tables/partners"))

    def synapse(self, syn_id: int) -> pd.Series[Any]:
        """The row of a synapse.

        Raises
        ------
        TableError
            If it is not there.
        """
        rows = self.synapses[self.synapses["syn_id"] == np.uint64(syn_id)]
        if rows.empty:
            examples = ", ".join(str(i) for i in self.synapses["syn_id"].head(3))
            hint = (
                f"there are {len(self.synapses)}, such as {examples}" if examples else "it is empty"
            )
            raise TableError(f"synapse {syn_id} is not in the table: {hint}")
        return rows.iloc[0]

    def position_nm(self, syn_id: int) -> Resolution:
        """Where a synapse is."""
        row = self.synapse(syn_id)
        x, y, z = (float(row[column]) for column in _POSITION)
        return x, y, z

    def partners_of(self, syn_id: int) -> pd.DataFrame:
        """The partners of a synapse, the largest share first."""
        rows = self.partners[self.partners["syn_id"] == np.uint64(syn_id)]
        return rows.sort_values(["share", "post_id"], ascending=[False, True], ignore_index=True)

    def cell_id(self, name: str) -> int:
        """The segment id of a cell given by its name or id.

        Raises
        ------
        TableError
            If no synapse has such a cell.
        """
        for side in ("pre", "post"):
            found = self.partners[self.partners[side] == name]
            if not found.empty:
                return int(found[f"{side}_id"].iloc[0])
        alone = self.synapses[self.synapses["pre"] == name]
        if not alone.empty:
            return int(alone["pre_id"].iloc[0])
        if name.isdigit():
            return int(name)
        known = {*self.synapses["pre"], *self.partners["post"]}
        close = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "give a name or an id from the tables"
        raise TableError(f"no synapse has a cell {name!r}: {hint}")

    def synapses_of(self, cell: int) -> list[int]:
        """Synapses that a cell makes or receives, the largest first.

        Raises
        ------
        TableError
            If there is none.
        """
        received = self.partners.loc[self.partners["post_id"] == np.uint64(cell), "syn_id"]
        mine = self.synapses[
            (self.synapses["pre_id"] == np.uint64(cell)) | self.synapses["syn_id"].isin(received)
        ]
        if mine.empty:
            raise TableError(f"cell {cell} has no synapse in the tables")
        ordered = mine.sort_values(["size", "syn_id"], ascending=[False, True])
        return [int(i) for i in ordered["syn_id"]]

    def well_partnered(self) -> int:
        """A synapse to show: two to four partners, none of them small, nothing doubtful, large.

        Raises
        ------
        TableError
            If there is no synapse at all.
        """
        if self.synapses.empty:
            raise TableError("the table has no synapse to show")
        least = self.partners.groupby("syn_id")["share"].min()
        table = self.synapses
        fewest, most = _TYPICAL_PARTNERS
        rank = pd.DataFrame(
            {
                "typical": table["n_partners"].between(fewest, most),
                "clean": table["flags"] == 0,
                "even": table["syn_id"].map(least).fillna(0.0).gt(0.1),
                "sections": table["sections"].clip(upper=3),
                "partners": table["n_partners"].clip(upper=most),
                "size": table["size"],
            }
        )
        best = rank.sort_values(rank.columns.tolist(), ascending=False, kind="stable").index[0]
        return int(table.loc[best, "syn_id"])

    def selection(self, syn_id: int) -> Selection:
        """A synapse with its cells."""
        posts = [int(i) for i in self.partners_of(syn_id)["post_id"]]
        return Selection(int(self.synapse(syn_id)["pre_id"]), posts, [syn_id])

    def lines(
        self, *, near_nm: Sequence[float], longest: int, syn_ids: Iterable[int] | None = None
    ) -> list[PartnerLine]:
        """Partners as lines, of some synapses or of all; at most `longest`, the nearest first."""
        rows = self.partners
        if syn_ids is not None:
            rows = rows[rows["syn_id"].isin(list(syn_ids))]
        offset = rows[list(_POSITION)].to_numpy(np.float64) - np.asarray(near_nm, dtype=np.float64)
        order = np.argsort((offset**2).sum(axis=1), kind="stable")[:longest]
        return [_line(row) for row in rows.iloc[order].to_dict("records")]


def _line(row: dict[Any, Any]) -> PartnerLine:
    (a, b, c), (x, y, z) = ([float(row[n]) for n in names] for names in (_POSITION, _TARGET))
    return PartnerLine(
        name=f"{row['syn_id']}/{row['post_id']}",
        pre_id=int(row["pre_id"]),
        post_id=int(row["post_id"]),
        pre_nm=(a, b, c),
        post_nm=(x, y, z),
        text=f"{row['pre']} → {row['post']}  {100 * row['share']:.0f} %",
    )
