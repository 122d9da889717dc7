"""Two connectomes, connection by connection: what they share, what is new, what is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.analysis.edges import Correlation, correlation_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "compare_edges"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """The connections of two connectomes; cells are the same if they have the same name.

    Attributes
    ----------
    edges : DataFrame
        pre, post, a, b: the weight in the first and in the second, 0 where there is none; sorted by
        cells.
    common : Correlation
        Of the weights of connections that both have.
    all : Correlation
        Of all pairs of cells that either connects.
    cells_a, cells_b, cells_common : int
        Cells with a connection.
    """

    edges: pd.DataFrame
    common: Correlation
    all: Correlation
    cells_a: int
    cells_b: int
    cells_common: int

    @property
    def shared(self) -> pd.DataFrame:
        """Connections of both."""
        return self.edges[(self.edges["a"] > 0) & (self.edges["b"] > 0)]

    @property
    def gone(self) -> pd.DataFrame:
        """Connections of the first alone, the strongest first."""
        return self._alone("a", "b")

    @property
    def new(self) -> pd.DataFrame:
        """Connections of the second alone, the strongest first."""
        return self._alone("b", "a")

    def _alone(self, there: str, missing: str) -> pd.DataFrame:
        found = self.edges[self.edges[missing] == 0]
        ordered = found.sort_values([there, "pre", "post"], ascending=[False, True, True])
        return ordered.reset_index(drop=True)


def compare_edges(a: pd.DataFrame, b: pd.DataFrame, weight: str = "synapses") -> Comparison:
    """Compare two edge lists.

    Parameters
    ----------
    a, b : DataFrame
        With pre and post (names) and the weight; a pair of cells at most once. Weights that are not
        above 0 are no connection.
    weight : str
        Column that weighs, in both.
    """
    sides = []
    for name, table in (("a", a), ("b", b)):
        side = table.loc[table[weight] > 0, ["pre", "post", weight]]
        sides.append(side.rename(columns={weight: name}).astype({name: "float64"}))
    merged = sides[0].merge(sides[1], on=["pre", "post"], how="outer").fillna({"a": 0.0, "b": 0.0})
    merged = merged.sort_values(["pre", "post"], ignore_index=True)
    x, y = merged["a"].to_numpy(np.float64), merged["b"].to_numpy(np.float64)
    both = (x > 0) & (y > 0)
    cells = [{*side["pre"], *side["post"]} for side in sides]
    return Comparison(
        edges=merged,
        common=correlation_of(x[both], y[both]),
        all=correlation_of(x, y),
        cells_a=len(cells[0]),
        cells_b=len(cells[1]),
        cells_common=len(cells[0] & cells[1]),
    )
