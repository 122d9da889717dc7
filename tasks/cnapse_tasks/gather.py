"""The tables that people read, one task a part of the ids: partners, names, links, flags."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from cnapse.names import Names, load_names
from cnapse.partners.assignment import ASSIGNED
from cnapse.partners.doubt import DoubtLimits, with_doubt
from cnapse.store import Store, canonical_json
from cnapse.tables import (
    PARTNERS,
    SYNAPSES,
    SynapseFlag,
    empty_table,
    parquet_bytes,
    read_part,
)
from cnapse.viewing.scene import LinkMaker
from cnapse_tasks.assign import covers_cleft, described
from cnapse_tasks.run import Run
from cnapse_tasks.tabulate import cost, indices, part_name, prepare

# The tasks are those of `tabulate`: one a part.
__all__ = [
    "add_links",
    "complete",
    "components",
    "cost",
    "execute",
    "forget",
    "how_made",
    "indices",
    "limits",
    "prepare",
]

_OF_COVERAGE = SynapseFlag.WEAK_PRESYNAPTIC | SynapseFlag.NO_PRESYNAPTIC_CELL
_ADDED = [name for name in ASSIGNED if name not in ("syn_id", "flags")]


def components(run: Run) -> Mapping[str, object]:
    """Names, public addresses, and what sizes and probabilities are compared with."""
    digest = ""
    if run.config.names:
        folder, _, name = run.config.names.rpartition("/")
        digest = hashlib.sha256(Store(folder).read(name)).hexdigest()
    return {
        "names": digest,
        "link": run.config.link.model_dump(exclude={"output"}),
        "doubt": asdict(limits(run)),
    }


def limits(run: Run) -> DoubtLimits:
    """What sizes and probabilities are compared with."""
    label = run.config.label
    return DoubtLimits(label.min_voxels, label.max_voxels, label.threshold, cleft=covers_cleft(run))


def forget(run: Run) -> None:
    """Take away the tables that were made public."""
    run.output.delete_folder("tables")


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Put one part of both tables together."""
    measured = read_part(run.output, f"measures/{part_name(index)}")
    synapses, partners = complete(
        run, measured, _assigned(run, index, "synapses"), _assigned(run, index, "partners")
    )
    made = how_made(run)
    for schema, table in ((SYNAPSES, synapses), (PARTNERS, partners)):
        data = parquet_bytes(table, schema, made)
        run.output.put(f"tables/{schema.name}/{part_name(index)}", data)
    return {"synapses": len(synapses), "rows": len(partners)}


def how_made(run: Run) -> dict[str, str]:
    """What stands in the metadata of both tables."""
    return {"cnapse_assign": canonical_json(described(run)).decode()}


def complete(
    run: Run, measured: pd.DataFrame, assigned: pd.DataFrame | None, rows: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables, from what measuring and assignment say of some synapses.

    Parameters
    ----------
    run : Run
    measured : DataFrame
        Rows of `SYNAPSES` as `tabulate` leaves them.
    assigned, rows : DataFrame or None
        What assignment says of each synapse, and of its partners, sorted; None for nothing.

    Returns
    -------
    synapses, partners : DataFrame
        Columns of `SYNAPSES` and `PARTNERS`.
    """
    names = load_names(run.config.names)
    synapses = measured
    if covers_cleft(run):
        # The cell under most of the object says nothing here; assignment looked for it anew.
        flags = synapses["flags"].to_numpy(np.uint32)
        synapses["flags"] = flags & ~np.uint32(_OF_COVERAGE)
    synapses = _with_assignment(synapses, assigned)
    synapses = with_doubt(synapses, limits(run))
    synapses["pre"] = names.of(synapses["pre_id"])
    partners = _partners(synapses, rows, names)
    add_links(run, synapses, partners)
    return synapses, partners


def _assigned(run: Run, part: int, table: str) -> pd.DataFrame | None:
    """What the assign tasks left for a part, sorted; None if nothing."""
    store = run.data("assign")
    folder = f"{table}/{part:012d}"

    def frames() -> Iterator[pd.DataFrame]:
        for name in store.names(folder):
            arrays = store.get_arrays(f"{folder}/{name}")
            if arrays is not None:
                yield pd.DataFrame(arrays)

    found = list(frames())
    if not found:
        return None
    keys = ["syn_id", "post_id"] if table == "partners" else ["syn_id"]
    return pd.concat(found, ignore_index=True).sort_values(keys, ignore_index=True)


def _with_assignment(synapses: pd.DataFrame, assigned: pd.DataFrame | None) -> pd.DataFrame:
    """The synapses with what assignment says of each."""
    if assigned is None:
        return synapses
    added = assigned.set_index("syn_id").loc[synapses["syn_id"]]
    filled: dict[str, Any] = {name: added[name].to_numpy() for name in _ADDED}
    measured = synapses["pre_fraction"].to_numpy(np.float64)
    filled["pre_fraction"] = np.where(
        np.isnan(filled["pre_fraction"]), measured, filled["pre_fraction"]
    )
    flags = synapses["flags"].to_numpy(np.uint32) | added["flags"].to_numpy(np.uint32)
    return synapses.assign(**filled, flags=flags)


def _partners(synapses: pd.DataFrame, rows: pd.DataFrame | None, names: Names) -> pd.DataFrame:
    """The partner rows with what they take over from their synapse."""
    if rows is None:
        return empty_table(PARTNERS)
    taken = ["pre", "pre_id", "x_pos", "y_pos", "z_pos", "lost", "n_partners", "flags"]
    source = synapses.set_index("syn_id").loc[rows["syn_id"], taken]
    taken_over: dict[str, Any] = {name: source[name].to_numpy() for name in taken}
    return rows.assign(**taken_over, post=names.of(rows["post_id"]), link="")[PARTNERS.names]


def add_links(run: Run, synapses: pd.DataFrame, partners: pd.DataFrame) -> None:
    """Fill the columns `link`: the synapse in the middle, its cells selected."""
    maker = LinkMaker(run.config.link, run.config.resolution)
    posts = partners.groupby("syn_id")["post_id"].agg(list).to_dict()
    places = synapses[["x_pos", "y_pos", "z_pos"]].to_numpy(np.float64).tolist()
    ids = zip(synapses["syn_id"].tolist(), synapses["pre_id"].tolist(), strict=True)
    links = {
        syn_id: maker.link(place, syn_id, pre_id, posts.get(syn_id, []))
        for place, (syn_id, pre_id) in zip(places, ids, strict=True)
    }
    synapses["link"] = synapses["syn_id"].map(links).astype("str")
    partners["link"] = partners["syn_id"].map(links).astype("str")
