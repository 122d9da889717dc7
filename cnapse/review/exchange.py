"""Decisions out of a log and into one: JSON, CSV, a table for CAVE, and edited viewer states.

============ ======================================================================== =========
format       holds                                                                    loses
============ ======================================================================== =========
json         every decision and every sample                                          nothing
csv          every decision; a table of one's own with `syn_id` and `verdict` is read samples
cave         the verdicts that stand, and added synapses                              history
neuroglancer candidates as points of a local layer, to be edited in a viewer          history
============ ======================================================================== =========

What is imported is checked as a whole first: a file with a fault adds nothing. The same file twice
adds nothing the second time, since each decision has, or is given, a uuid that stays the same.
"""

from __future__ import annotations

import json
import uuid as uuids
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from cnapse.errors import ReviewError, storage_error
from cnapse.review.decisions import Decision, parse_decision
from cnapse.review.items import Candidates
from cnapse.review.log import DecisionLog, StoredSample

__all__ = [
    "FORMATS",
    "Context",
    "Format",
    "Imported",
    "add_new",
    "export_bytes",
    "import_decisions",
    "stable_uuid",
]

Format = Literal["json", "csv", "cave", "neuroglancer"]
FORMATS: Final[tuple[Format, ...]] = ("json", "csv", "cave", "neuroglancer")

_KIND: Final = "cnapse decisions"
_VERSION: Final = 1
_NAMESPACE: Final = uuids.UUID("6f1cbb5e-4a0e-5f0c-9a39-8f3a3f1b7c11")
_SHORT: Final = 60


@dataclass(frozen=True, slots=True)
class Context:
    """What an import needs to know beside the file.

    Parameters
    ----------
    candidates : Candidates
    reviewer : str
        Who decided, where the file does not tell.
    unit_nm : (x, y, z)
        nm of a unit of positions in a table for CAVE.
    before : str, optional
        The state that was edited, as it was exported: what was deleted since is false.
    """

    candidates: Candidates
    reviewer: str
    unit_nm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    added : int
        Decisions that are new in the log.
    known : int
        Those that were there already, or say what stands.
    elsewhere : int
        Added ones about synapses that the run's table does not have.
    """

    added: int
    known: int
    elsewhere: int


def stable_uuid(*parts: object) -> str:
    """A uuid that is the same whenever the parts are (RFC 4122, version 5)."""
    return str(uuids.uuid5(_NAMESPACE, json.dumps([str(part) for part in parts])))


# --- out -----------------------------------------------------------------------------------------


def export_bytes(
    log: DecisionLog,
    kind: Format,
    candidates: Candidates,
    *,
    rows: Sequence[int] | None = None,
    unit_nm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> bytes:
    """The log in a format, UTF-8.

    Parameters
    ----------
    log, kind, candidates
    rows : sequence of int, optional
        Of ``neuroglancer``: which candidates; default all.
    unit_nm : (x, y, z)
        Of ``cave`` and ``neuroglancer``: nm of a unit of positions.

    Raises
    ------
    ReviewError
        If there are too many candidates for a viewer's state.
    """
    from cnapse.review import exchange_tables, exchange_viewer

    if kind == "csv":
        return exchange_tables.to_csv(log.decisions(), log.standing().undone)
    if kind == "cave":
        return exchange_tables.to_cave(log.standing(), candidates, unit_nm)
    if kind == "neuroglancer":
        chosen = range(len(candidates)) if rows is None else rows
        return exchange_viewer.to_state(log.standing(), candidates, chosen, unit_nm)
    samples = [sample for name in log.samples() if (sample := log.sample(name)) is not None]
    content = {
        "format": _KIND,
        "version": _VERSION,
        "decisions": [decision.to_json() for decision in log.decisions()],
        "samples": [_sample_json(sample) for sample in samples],
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _sample_json(sample: StoredSample) -> dict[str, Any]:
    items = [[str(syn_id), stratum] for syn_id, stratum in sample.items]
    return {
        "name": sample.name, "seed": sample.seed, "created": sample.created,
        "strata": sample.strata, "items": items,
    }  # fmt: skip


# --- in ------------------------------------------------------------------------------------------


def import_decisions(
    log: DecisionLog, source: str, context: Context, kind: Format | None = None
) -> Imported:
    """Add what a file, or a viewer's link, tells.

    Parameters
    ----------
    log : DecisionLog
    source : str
        A file, or for ``neuroglancer`` all that :func:`cnapse.viewing.state.read_state` takes.
    context : Context
    kind : str, optional
        The format; told by the content if not given.

    Raises
    ------
    ReviewError
        If something in it cannot be taken; then nothing is added.
    LayerNotFoundError, FormatError, StorageError
        If it cannot be read.
    """
    from cnapse.review import exchange_tables, exchange_viewer

    if kind is None:
        kind = "neuroglancer" if "#!" in source else _kind_of(_text(source))
    name = Path(source).name
    if kind == "neuroglancer":
        return add_new(log, exchange_viewer.from_state(source, context, log.standing()), context)
    text = _text(source)
    if kind == "cave":
        rows = exchange_tables.from_cave(text, name, context, log.standing())
        return add_new(log, rows, context)
    if kind == "csv":
        rows = exchange_tables.from_csv(text, name, context, log.standing())
        return add_new(log, rows, context, whole=exchange_tables.is_whole(text))
    decisions, samples = _from_json(text, name)
    done = add_new(log, decisions, context, whole=True)
    for sample in samples:
        log.put_sample(sample.name, sample.seed, sample.strata, sample.items, sample.created)
    return done


def add_new(
    log: DecisionLog,
    decisions: Iterable[Decision | None],
    context: Context,
    *,
    whole: bool = False,
) -> Imported:
    """Append all decisions that are not there yet; None stands for one that is.

    Parameters
    ----------
    log, decisions, context
    whole : bool
        They are as a log had them: one that is there and says something else is an error. Those
        that are made from a foreign file have the time of the import, and differ in it.

    Raises
    ------
    ReviewError
        Then nothing is appended.
    """
    given = list(decisions)
    new, uuids_seen = [], set()
    for decision in given:
        if decision is None:
            continue
        there = log.find(decision.uuid)
        if whole and there is not None and _content(there) != _content(decision):
            raise ReviewError(
                f"decision {decision.uuid} is in the log already, and says something else: a "
                "decision is never changed, so give the changed one a uuid of its own"
            )
        if there is None and decision.uuid not in uuids_seen:
            new.append(decision)
        uuids_seen.add(decision.uuid)
    written = log.append_many(new)
    about = [decision.syn_id for decision in written if decision.syn_id]
    elsewhere = int((context.candidates.rows_of(about) < 0).sum())
    return Imported(len(written), len(given) - len(written), elsewhere)


def _content(decision: Decision) -> dict[str, Any]:
    """All but its place in a log; and of an undo, what the log fills in."""
    kept = decision.to_json()
    for name in ("id", *(("loop", "syn_id") if decision.action == "undo" else ())):
        kept.pop(name)
    return kept


def _text(source: str) -> str:
    try:
        return Path(source).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise storage_error(error, source) from error
    except UnicodeDecodeError as error:
        raise ReviewError(f"{source} is no text in UTF-8: save it as such") from error


def _kind_of(text: str) -> Format:
    begins = text.lstrip()[:1]
    if begins == "{":
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return "json"
        return "neuroglancer" if {"layers", "dimensions"} & set(content) else "json"
    header = text.partition("\n")[0].lower().replace('"', "").strip().split(",")
    return "cave" if "valid" in header and "action" not in header else "csv"


def _from_json(text: str, name: str) -> tuple[list[Decision], list[StoredSample]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReviewError(f"{name} is no JSON: {error}") from error
    if not isinstance(content, Mapping) or content.get("format") != _KIND:
        raise ReviewError(
            f"{name} holds no decisions: expected what `cnapse decisions export` writes, or a "
            "state of Neuroglancer"
        )
    if content.get("version") != _VERSION:
        raise ReviewError(
            f"{name} has version {str(content.get('version'))[:_SHORT]}, known is {_VERSION}: "
            "update cnapse"
        )
    listed = content.get("decisions")
    if not isinstance(listed, list):
        raise ReviewError(f"{name}: `decisions` is no list")
    return (
        [_one(one, f"{name}: decision {i}") for i, one in enumerate(listed, 1)],
        [_stored(one, name) for one in content.get("samples", [])],
    )


def _one(value: object, where: str) -> Decision:
    if not isinstance(value, Mapping):
        raise ReviewError(f"{where} is no JSON object")
    if "uuid" not in value:
        raise ReviewError(f"{where} has no uuid: then it could not be told whether it is new")
    try:
        return parse_decision({**value, "id": 0})
    except ReviewError as error:
        raise ReviewError(f"{where}: {error}") from error


def _stored(value: Any, name: str) -> StoredSample:
    try:
        items = tuple((int(syn_id), int(stratum)) for syn_id, stratum in value["items"])
        return StoredSample(
            str(value["name"]), int(value["seed"]), str(value["created"]),
            {"strata": list(value["strata"]["strata"])}, items,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ReviewError(f"{name}: a sample that cannot be read: {error!r}") from error
