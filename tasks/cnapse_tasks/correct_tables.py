"""The corrected tables: the run's rows where nothing changed, and where each row is from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cnapse.names import load_names
from cnapse.partners.doubt import with_doubt
from cnapse.review.apply_partners import Corrected, Reached, with_decisions
from cnapse.review.apply_records import Cells, Conflict, Plan
from cnapse.review.decisions import Decision
from cnapse.store import Store
from cnapse.tables import (
    CORRECTED_PARTNERS,
    CORRECTED_SYNAPSES,
    Schema,
    csv_bytes,
    filled,
    parquet_bytes,
)
from cnapse_tasks import gather
from cnapse_tasks.correct_rows import Rows
from cnapse_tasks.run import PART_BITS, Run
from cnapse_tasks.tabulate import part_name

__all__ = ["Tables", "change_list", "conflict_list", "corrected_tables", "predictions"]

_ADDED_COLUMNS = ["provenance", "reviewer"]
_ROWS_PER_FILE = 1_000_000


@dataclass(frozen=True, slots=True)
class Tables:
    """Both tables: columns of `CORRECTED_SYNAPSES` and `CORRECTED_PARTNERS`."""

    synapses: pd.DataFrame
    partners: pd.DataFrame

    def write(self, store: Store, made: Mapping[str, str]) -> None:
        """Write them as a run does, as parts and as CSV; parts that are no more are deleted."""
        schemas = (CORRECTED_SYNAPSES, CORRECTED_PARTNERS)
        pairs = list(zip(schemas, (self.synapses, self.partners), strict=True))
        numbers = {0} | set(_parts(self.synapses).tolist())
        for schema, table in pairs:
            part, folder = _parts(table), f"tables/{schema.name}"
            for number in sorted(numbers):
                data = parquet_bytes(table[part == number], schema, made)
                store.put(f"{folder}/{part_name(number)}", data)
            kept = {part_name(number) for number in numbers}
            stale = [name for name in store.names(folder) if name not in kept]
            store.delete(f"{folder}/{name}" for name in stale)
            _write_csv(store, table, schema)


def predictions(synapses: pd.DataFrame, partners: pd.DataFrame) -> Callable[[int], Cells]:
    """The cells that tables say of a synapse: presynaptic, postsynaptic ones."""
    pre = dict(zip(synapses["syn_id"].tolist(), synapses["pre_id"].tolist(), strict=True))
    order = np.argsort(partners["syn_id"].to_numpy(np.uint64), kind="stable")
    of = partners["syn_id"].to_numpy(np.uint64)[order]
    posts = partners["post_id"].to_numpy(np.uint64)[order]

    def predicted(syn_id: int) -> Cells:
        low, high = (np.searchsorted(of, np.uint64(syn_id), side) for side in ("left", "right"))
        return int(pre[syn_id]), frozenset(posts[low:high].tolist())

    return predicted


def corrected_tables(
    run: Run, plan: Plan, rows: Rows, redone: set[int]
) -> tuple[Tables, list[Conflict]]:
    """Both tables after all decisions.

    Parameters
    ----------
    run : Run
        Its own tables are read.
    plan : Plan
    rows : Rows
        What was measured and assigned anew.
    redone : set of int
        Synapses whose rows are taken from there; others are there for their places only.

    Returns
    -------
    tables : Tables
    conflicts : list of Conflict
        Partners that are not near their synapse; those that were chosen in an earlier correction
        and were found anew.
    """
    synapses = _with_columns(run.synapses, CORRECTED_SYNAPSES)
    partners = _with_columns(run.partners, CORRECTED_PARTNERS)
    left_out = [*plan.objects.gone(), *redone]
    synapses = _replaced(synapses, rows.synapses, left_out, redone)
    partners = _replaced(partners, rows.partners, left_out, redone)
    chosen = synapses["syn_id"].isin(list(plan.partners))
    of_chosen = partners["syn_id"].isin(list(plan.partners))
    made = with_decisions(
        synapses[chosen].drop(columns=_ADDED_COLUMNS),
        partners[of_chosen].drop(columns=_ADDED_COLUMNS),
        plan.partners,
        _reached(rows.places),
    )
    decided = _named(run, made)
    reviewers = {syn_id: decision.reviewer for syn_id, decision in plan.partners.items()}
    own_rows = decided.partners.assign(reviewer=_looked_up(decided.partners, reviewers))
    before = synapses[chosen].set_index("syn_id")[_ADDED_COLUMNS]
    own = decided.synapses.join(before, on="syn_id")
    synapses = _sorted([synapses[~chosen], own])
    partners = _sorted([partners[~of_chosen], own_rows])
    synapses = _with_provenance(synapses, plan, made)
    conflicts = [
        Conflict(
            plan.partners[syn_id],
            syn_id,
            "partner",
            f"cell {cell} has no voxel around the synapse: its place is the synapse's own",
        )
        for syn_id, cell in made.far
    ]
    conflicts += _lost_choices(run.partners, plan, redone)
    names = (CORRECTED_SYNAPSES.names, CORRECTED_PARTNERS.names)
    return Tables(synapses[names[0]], partners[names[1]]), conflicts


def change_list(plan: Plan) -> bytes:
    """Each decision and what came of it, as CSV."""
    return _csv(
        ("time", "reviewer", "loop", "action", "syn_id", "now", "matched", "what", "uuid"),
        (
            (
                *_who(o.decision, loop=True),
                " ".join(str(i) for i in o.now),
                o.matched,
                o.what,
                o.decision.uuid,
            )
            for o in plan.outcomes
        ),
    )


def conflict_list(conflicts: Iterable[Conflict]) -> bytes:
    """What a person should look at again, as CSV."""
    return _csv(
        ("time", "reviewer", "action", "syn_id", "now", "kind", "what", "uuid"),
        (
            (*_who(c.decision), str(c.now) if c.now else "", c.kind, c.what, c.decision.uuid)
            for c in conflicts
        ),
    )


def _who(decision: Decision, *, loop: bool = False) -> tuple[str, ...]:
    about = str(decision.syn_id) if decision.syn_id else ""
    where = (decision.loop,) if loop else ()
    return decision.time, decision.reviewer, *where, decision.action, about


def _csv(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> bytes:
    return csv_bytes(pd.DataFrame(list(rows), columns=list(names), dtype="str"))


def _lost_choices(partners: pd.DataFrame, plan: Plan, redone: set[int]) -> list[Conflict]:
    """Where the run is a corrected one: cells that people chose for objects that changed again."""
    if "provenance" not in partners:
        return []
    chosen = partners.loc[partners["provenance"] != "predicted", "syn_id"].unique().tolist()
    now_of = {syn_id: plan.objects.resolve(syn_id) for syn_id in chosen}
    return [
        Conflict(
            plan.edited[now],
            now,
            "partner",
            f"cells that were chosen for {syn_id} before were found anew: its voxels changed",
        )
        for syn_id, now in now_of.items()
        if now in redone and now in plan.edited and now not in plan.partners
    ]


def _with_columns(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The table with all columns: of provenance, and those that an older version did not make."""
    if "provenance" not in table:
        table = table.assign(provenance="predicted", reviewer="")
    return filled(table, schema)


def _replaced(
    table: pd.DataFrame, rows: pd.DataFrame, left_out: list[int], redone: set[int]
) -> pd.DataFrame:
    kept = table[~table["syn_id"].isin(left_out)]
    new = rows[rows["syn_id"].isin(list(redone))].drop(columns="digest")
    return _sorted([kept, new.assign(provenance="predicted", reviewer="")])


def _sorted(tables: list[pd.DataFrame]) -> pd.DataFrame:
    # Empty ones have no dtypes worth to be kept.
    filled = [table for table in tables if len(table)] or tables[:1]
    joined = pd.concat(filled, ignore_index=True)
    keys = ["syn_id", "post_id"] if "post_id" in joined else ["syn_id"]
    return joined.sort_values(keys, ignore_index=True)


def _reached(places: pd.DataFrame) -> dict[tuple[int, int], Reached]:
    """Where chosen cells are hit; those that are nowhere near are left out."""
    near = places[places["post_x"].notna()]
    columns = (near[name].tolist() for name in ("syn_id", "post_id", "raw_share"))
    where = near[["post_x", "post_y", "post_z"]].to_numpy(np.float64).tolist()
    return {
        (syn_id, cell): Reached(share, (x, y, z))
        for syn_id, cell, share, (x, y, z) in zip(*columns, where, strict=True)
    }


def _named(run: Run, made: Corrected) -> Corrected:
    """Names, doubt and links of what was corrected; confirmed rows stay as they are."""
    changed = [i for i, how in made.synapse_provenance.items() if how == "corrected"]
    names = load_names(run.config.names)
    synapses, partners = made.synapses, made.partners
    is_new, is_of_new = synapses["syn_id"].isin(changed), partners["syn_id"].isin(changed)
    own = with_doubt(synapses[is_new], gather.limits(run))
    own = own.assign(pre=names.of(own["pre_id"]))
    rows = partners[is_of_new]
    rows = rows.assign(pre=names.of(rows["pre_id"]), post=names.of(rows["post_id"]))
    gather.add_links(run, own, rows)
    return Corrected(_sorted([synapses[~is_new], own]), _sorted([partners[~is_of_new], rows]))


def _with_provenance(synapses: pd.DataFrame, plan: Plan, made: Corrected) -> pd.DataFrame:
    known = synapses["provenance"].tolist()
    reviewers = synapses["reviewer"].tolist()
    for n, syn_id in enumerate(synapses["syn_id"].tolist()):
        found: list[Decision] = []
        if syn_id in plan.edited:
            found.append(plan.edited[syn_id])
            known[n] = "added" if syn_id in plan.added else "corrected"
        if syn_id in plan.partners:
            found.append(plan.partners[syn_id])
            if made.synapse_provenance[syn_id] == "corrected" and known[n] != "added":
                known[n] = "corrected"
        if syn_id in plan.confirmed:
            found.append(plan.confirmed[syn_id])
        if found:
            reviewers[n] = max(found, key=lambda decision: decision.id).reviewer
            known[n] = "confirmed" if known[n] == "predicted" else known[n]
    return synapses.assign(provenance=known, reviewer=reviewers)


def _looked_up(rows: pd.DataFrame, values: Mapping[int, str]) -> list[str]:
    return [values[syn_id] for syn_id in rows["syn_id"].tolist()]


def _parts(table: pd.DataFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    ids = table["syn_id"].to_numpy(np.uint64)
    return ((ids - np.uint64(1)) >> np.uint64(PART_BITS)).astype(np.int64)


def _write_csv(store: Store, table: pd.DataFrame, schema: Schema) -> None:
    """One file, as the run's own; more where a spreadsheet would not take all rows."""
    starts = range(0, max(len(table), 1), _ROWS_PER_FILE)
    several = len(starts) > 1
    for number, start in enumerate(starts):
        name = f"csv/{schema.name}-{number:05d}.csv" if several else f"{schema.name}.csv"
        store.put(name, csv_bytes(table[start : start + _ROWS_PER_FILE], schema))
