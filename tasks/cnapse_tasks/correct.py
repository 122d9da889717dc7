"""What reviewers decided, made into a corrected layer and tables beside the run's own.

1. Decisions are worked out (:mod:`cnapse.review.apply`); the run is only read.
2. A note of the chunks that may be written goes first, so that a killed call can be gone on with.
3. The layer: changed chunks anew, all others as they are (:mod:`cnapse_tasks.correct_layer`).
4. Rows of changed synapses (:mod:`cnapse_tasks.correct_rows`); all others are the run's.
5. Cells that reviewers chose, where each row is from, and both tables
   (:mod:`cnapse_tasks.correct_tables`).
6. The record, last: by it the next call knows what it need not do again.

The same run and the same log give the same bytes, whatever was in the folder before, and however
often a call was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cnapse.errors import ConfigError, DamagedFileError, LayerExistsError, LayerNotFoundError
from cnapse.review.apply import make_plan
from cnapse.review.apply_carry import Carrier
from cnapse.review.apply_objects import Objects
from cnapse.review.apply_records import Conflict, Plan, Predictions, Settings, Source
from cnapse.review.decisions import Decision
from cnapse.review.standing import standing
from cnapse.store import Store, canonical_json, cloud_path, local_path
from cnapse.tables import parquet_bytes, read_part
from cnapse_tasks import assign, gather, measure, tabulate
from cnapse_tasks.correct_layer import LayerCopy, Progress, Written
from cnapse_tasks.correct_rows import COMPUTED, Rows, Work, compute_rows
from cnapse_tasks.correct_tables import (
    Tables,
    change_list,
    conflict_list,
    corrected_tables,
    predictions,
)
from cnapse_tasks.exclusive import LOCK, alone_in
from cnapse_tasks.outputs import APPLIED
from cnapse_tasks.run import Run

__all__ = ["Done", "Request", "correct"]

# Of the way in which it is done; a change makes all that was applied be done again.
_VERSION = 1
_BEGUN = ".cnapse/applying.json"
_ROWS = ".cnapse/apply"
# The presynaptic cell that was chosen, if one was, and cells whose places are asked for.
_Asked = tuple[int | None, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Parameters
    ----------
    output : str
        Folder to write to; may be empty for a dry run.
    config : str
        The text of its ``cnapse.toml``.
    repaints : str
        Folder of repainted boxes, beside the log.
    unsure
        Whether synapses of which a reviewer was not sure are kept.
    dry_run : bool
        Write nothing.
    """

    output: str
    config: str
    repaints: str
    unsure: Literal["keep", "drop"] = "keep"
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, or would be.

    Attributes
    ----------
    plan : Plan
    conflicts : list of Conflict
    blocks, blocks_again, blocks_touched : int
        Storage chunks of the layer; those written with changes this time (of a dry run: that might
        be); those that differ from the run's in all (0 in a dry run).
    synapses, synapses_again : int
        Synapses there are now; those measured and assigned this time.
    provenance : mapping of str to int
        How many synapses are of each; empty in a dry run.
    """

    plan: Plan
    conflicts: list[Conflict]
    blocks: int
    blocks_again: int
    blocks_touched: int
    synapses: int
    synapses_again: int
    provenance: Mapping[str, int]


def correct(
    run: Run,
    decisions: Sequence[Decision],
    request: Request,
    progress: Progress | None = None,
) -> Done:
    """Apply a log of decisions to a finished run.

    Parameters
    ----------
    run : Run
        Its layers and tables are only read.
    decisions : sequence of Decision
        All of the log, in its order.
    request : Request
    progress : callable, optional
        Told how many chunks of the layer are done, of how many.

    Raises
    ------
    RunStateError
        If the run has no tables, or another process corrects in the same folder.
    LayerExistsError
        If the folder holds something else.
    ConfigError
        If it is the run's own output.
    """
    # A dry run needs no folder; where none is given, nothing is known of an earlier call.
    out = Store(request.output) if request.output else None
    if out is not None:
        _check_folder(run, out)
    with contextlib.nullcontext() if out is None or request.dry_run else alone_in(out):
        return _correct(run, decisions, request, out, progress or _unseen)


def _correct(
    run: Run,
    decisions: Sequence[Decision],
    request: Request,
    out: Store | None,
    progress: Progress,
) -> Done:
    table, partners = run.synapses, run.partners
    layer = run.layer("synapses")
    carrier = Carrier(table, layer.bounds, layer.read)
    objects = Objects(layer.bounds, layer.chunk_size, layer.read, carrier.extent_of)
    label = run.config.label
    predicted = predictions(table, partners)
    has_map = measure.has_probability(run)
    plan = make_plan(
        standing(decisions),
        decisions,
        Source(
            objects,
            carrier,
            predicted,
            run.layer("probability").read if has_map else None,
            Store(request.repaints),
        ),
        Settings(request.unsure, label.threshold, label.min_voxels),
    )
    fingerprint = _fingerprint(run)
    known = _Known.none(fingerprint) if out is None else _Known.read(out, fingerprint)
    work = _work(plan, predicted)
    digests = {one.digest for one in work.all}
    rows = known.rows.of(digests)
    had = set(rows.synapses["digest"])
    missing = [one for one in work.all if one.digest not in had]
    count = len(set(table["syn_id"].tolist()) - objects.gone() | objects.changed)
    if out is None or request.dry_run:
        edits = objects.edits()
        blocks = [i for i, e in edits.items() if known.digests.get(i, "").partition(" ")[0] != e]
        return Done(
            plan, plan.conflicts, len(objects.grid), len(blocks), 0, count, len(missing), {}
        )
    dirty = _begin(out, run, known, objects)
    copy = LayerCopy(layer, f"{out.path}/synapses")
    written = copy.write(objects, known.digests, dirty, progress)
    rows = rows.joined(compute_rows(run, objects, missing))
    _keep_rows(out, rows)
    tables, far = corrected_tables(run, plan, rows, work.redone)
    conflicts = [*plan.conflicts, *far]
    tables.write(out, gather.how_made(run))
    out.put("changes.csv", change_list(plan))
    out.put("conflicts.csv", conflict_list(conflicts))
    out.put("cnapse.toml", request.config.encode())
    _end(out, run, known.fingerprint, written, decisions)
    return _done(plan, conflicts, written, tables, len(missing))


# --- what is to be made ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Works:
    """Synapses to be measured and assigned, and those of them whose rows are taken from there."""

    all: list[Work]
    redone: set[int]


def _work(plan: Plan, predicted: Predictions) -> _Works:
    objects = plan.objects
    asked: dict[int, _Asked] = dict.fromkeys(objects.changed, (None, ()))
    for syn_id, added in plan.added.items():
        if added.new.pre_id:
            asked[syn_id] = (added.new.pre_id, ())
    redone = set(objects.changed)
    for syn_id, decision in plan.partners.items():
        pre_id = decision.new.pre_id
        posts = {partner.post_id for partner in decision.new.partners}
        if syn_id in objects.changed:
            asked[syn_id] = (pre_id, tuple(sorted(posts)))
            continue
        was, cells = predicted(syn_id)
        if was != pre_id:
            redone.add(syn_id)
            asked[syn_id] = (pre_id, tuple(sorted(posts)))
        elif posts - cells:
            asked[syn_id] = (None, tuple(sorted(posts - cells)))
    return _Works(
        [
            Work(syn_id, pre_id, posts, _digest([syn_id, objects.digest(syn_id), pre_id, posts]))
            for syn_id, (pre_id, posts) in sorted(asked.items())
        ],
        redone,
    )


def _unseen(done: int, total: int) -> None:
    """Show no progress."""


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _fingerprint(run: Run) -> str:
    """A digest of all of the run that corrected rows and chunks depend on."""
    tables = {}
    for name in ("synapses", "partners"):
        for part in run.output.names(f"tables/{name}"):
            path = f"tables/{name}/{part}"
            tables[path] = hashlib.sha256(run.output.read(path)).hexdigest()
    layer = run.layer("synapses")
    return _digest(
        {
            "version": _VERSION,
            "tables": tables,
            "layer": [layer.path, layer.info["scales"][layer.mip], str(layer.dtype)],
            "frame": [layer.bounds.start, layer.bounds.stop, layer.bounds.resolution],
            "probability": measure.has_probability(run),
            "threshold": [run.config.label.threshold, run.config.label.min_voxels],
            "weak": tabulate.components(run)["weak_presynaptic"],
            "cells": run.layer_identity("cells"),
            "assign": assign.described(run),
            "gather": gather.components(run),
        }
    )


# --- what is there --------------------------------------------------------------------------------


def _check_folder(run: Run, out: Store) -> None:
    """Refuse a folder that holds anything but earlier corrections of this run."""
    own = cloud_path(run.config.output)
    layers = [run.layer_path("synapses"), run.layer_path("probability")]
    taken = [own, *(cloud_path(path) for path in layers)]
    if out.path in taken or f"{out.path}/synapses" in taken:
        raise ConfigError(
            f"-o {_shown(out)}: that is where the run itself lies, which is never changed: give "
            "another folder"
        )
    record = _json(out, _BEGUN) or _json(out, APPLIED)
    if record is None:
        folder = local_path(out.path)
        occupied = (
            any(found.name != LOCK for found in folder.iterdir())
            if folder and folder.is_dir()
            else _occupied(out)
        )
        if folder is not None and folder.is_file():
            raise LayerExistsError(f"-o {folder}: there is a file: give a folder")
        if occupied:
            raise LayerExistsError(
                f"-o {_shown(out)}: there is something else in this folder: give an empty or a new "
                "one"
            )
    elif record.get("source") != own:
        raise LayerExistsError(
            f"-o {_shown(out)}: it holds the corrections of {record.get('source')}, this run is "
            f"{own}: give another folder"
        )


def _occupied(out: Store) -> bool:
    return local_path(out.path) is None and bool(out.names())


def _shown(out: Store) -> str:
    return str(local_path(out.path) or out.path)


def _json(out: Store, name: str) -> dict[str, Any] | None:
    """A record of ours; a damaged one is none."""
    try:
        found = out.get_json(name)
    except DamagedFileError:
        return {}
    return found if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True)
class _Known:
    """What an earlier call left, as far as it is of the same run."""

    fingerprint: str
    same_run: bool
    """Whether what is there, finished or not, is of the run as it is now."""
    digests: Mapping[int, str]
    dirty: frozenset[int]
    """Chunks that a call which was killed may have written."""
    rows: Rows

    @classmethod
    def none(cls, fingerprint: str) -> _Known:
        """Nothing is there that could be used."""
        return cls(fingerprint, False, {}, frozenset(), Rows.none())

    @classmethod
    def read(cls, out: Store, fingerprint: str) -> _Known:
        record, begun = _json(out, APPLIED), _json(out, _BEGUN)
        found = begun or record
        if found is None or found.get("fingerprint") != fingerprint:
            return cls.none(fingerprint)
        digests = {int(i): str(d) for i, d in (record or {}).get("blocks", {}).items()}
        dirty = frozenset(int(i) for i in (begun or {}).get("blocks", []))
        if begun is not None and (record or {}).get("fingerprint") != fingerprint:
            digests = {}
        return cls(fingerprint, True, digests, dirty, _read_rows(out))


def _begin(out: Store, run: Run, known: _Known, objects: Objects) -> frozenset[int]:
    """Note which chunks may be written; chunks whose files are not to be trusted are returned."""
    may_be = sorted({*known.dirty, *known.digests, *objects.edits()})
    note = {
        "source": cloud_path(run.config.output),
        "fingerprint": known.fingerprint,
        "blocks": may_be,
    }
    local = local_path(out.path)
    if local is not None and known.dirty:
        # Halves of files that a killed call left.
        for part in local.rglob(".*.part"):
            part.unlink(missing_ok=True)
    if not known.same_run:
        # The note goes away last: without it the folder would be someone else's.
        out.put_json(_BEGUN, {**note, "fingerprint": "", "blocks": []})
        out.delete([APPLIED])
        for folder in ("synapses", "tables", "csv", _ROWS):
            out.delete_folder(folder)
    out.put_json(_BEGUN, note)
    return known.dirty


def _end(
    out: Store, run: Run, fingerprint: str, written: Written, decisions: Sequence[Decision]
) -> None:
    out.put_json(
        APPLIED,
        {
            "source": cloud_path(run.config.output),
            "fingerprint": fingerprint,
            "decisions": {one.uuid: _digest(one.to_json()) for one in decisions},
            "blocks": {str(index): digest for index, digest in written.digests.items()},
        },
    )
    out.delete([_BEGUN])


def _keep_rows(out: Store, rows: Rows) -> None:
    for schema, table in zip(COMPUTED.values(), rows.tables(), strict=True):
        out.put(f"{_ROWS}/{schema.name}.parquet", parquet_bytes(table, schema))


def _read_rows(out: Store) -> Rows:
    """Rows that an earlier call left; none if one file is missing or damaged."""
    store = out.child(_ROWS)
    try:
        return Rows(*(read_part(store, f"{name}.parquet") for name in COMPUTED))
    except (LayerNotFoundError, DamagedFileError):
        return Rows.none()


def _done(
    plan: Plan, conflicts: list[Conflict], written: Written, tables: Tables, again: int
) -> Done:
    return Done(
        plan,
        conflicts,
        written.total,
        written.again,
        written.touched,
        len(tables.synapses),
        again,
        dict(Counter(tables.synapses["provenance"].tolist())),
    )
