"""Tables of synapses and partners, from wherever a user has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnapse.analysis.synapse_set import SynapseSet
from cnapse.config import load_config
from cnapse.errors import LayerNotFoundError
from cnapse.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_synapses"]

# A run's folder, a folder of two tables, and a folder of tables as parts, in this order.
_PLACES = (
    "tables/{name}",
    "{name}.parquet",
    "{name}.csv",
    "{name}",
)


def read_synapses(which: str, path: str | Path, synapses: str | Path | None = None) -> SynapseSet:
    """Read one side of a comparison.

    Parameters
    ----------
    which
        What messages call it.
    path
        A run's ``cnapse.toml``; a folder with tables ``synapses`` and ``partners`` (CSV, Parquet,
        or folders of parts, also in ``tables/`` as in a run's output); or a table of partners.
    synapses
        Table of synapses, if `path` is a table of partners: it adds the synapses without any.

    Raises
    ------
    LayerNotFoundError
        If there is no table.
    TableError
        If a table cannot be used.
    """
    place = str(path).rstrip("/")
    if place.endswith(".toml"):
        place = load_config(path).output
    partners, found = _tables(which, place)
    if synapses is not None:
        found = read_table(synapses)
    return SynapseSet.from_tables(which, partners, found)


def _tables(which: str, place: str) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The partners at a place, and the synapses beside them if it is a folder of both."""
    if place.endswith((".csv", ".parquet")):
        return read_table(place), None
    partners = _beside(place, "partners")
    if partners is not None:
        return partners, _beside(place, "synapses")
    try:
        return read_table(place), None
    except LayerNotFoundError:
        raise LayerNotFoundError(
            f"no {which} table at {place}: give a cnapse.toml, a run's folder, a folder with "
            "partners.csv or partners.parquet, or a table of partners"
        ) from None


def _beside(place: str, name: str) -> pd.DataFrame | None:
    for pattern in _PLACES:
        try:
            return read_table(f"{place}/{pattern.format(name=name)}")
        except LayerNotFoundError:
            continue
    return None
