"""Decisions as tables: CSV, whole or made by hand, and one for CAVE.

A cell that a spreadsheet would take for a formula gets a quotation mark before it, which reading
takes off again (OWASP, CSV injection).
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from cnapse.errors import ReviewError
from cnapse.review.decisions import (
    Decision,
    VerdictDecision,
    parse_decision,
    timestamp,
)
from cnapse.review.exchange import Context, stable_uuid
from cnapse.review.items import Candidates
from cnapse.review.standing import Standing

__all__ = ["from_cave", "from_csv", "is_whole", "to_cave", "to_csv", "verdict_of"]

_COLUMNS: Final = (
    "id", "uuid", "time", "reviewer", "loop", "action", "syn_id", "x_nm", "y_nm", "z_nm",
    "verdict", "error", "note", "stands", "seconds", "origin", "old", "new",
)  # fmt: skip
_POSITION: Final = ("pt_position_x", "pt_position_y", "pt_position_z")
_CAVE: Final = ("id", "target_id", *_POSITION, "valid", "user", "created", "tag", "note")
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_NUMBER: Final = re.compile(r"-?[0-9.]+(e[+-]?[0-9]+)?\Z")
# The markers of a split are one cell.
_LARGEST_CELL: Final = 1 << 26
_VALID: Final = {
    "true": "true", "t": "true", "1": "true", "yes": "true",
    "false": "false", "f": "false", "0": "false", "no": "false", "": "unsure",
}  # fmt: skip

Row = Mapping[str, str]


# --- out -----------------------------------------------------------------------------------------


def to_csv(decisions: Iterable[Decision], undone: Collection[str]) -> bytes:
    """All decisions, one a row; ``old`` and ``new`` as JSON."""
    return _written(_COLUMNS, (_row(one, one.uuid not in undone) for one in decisions))


def _row(decision: Decision, stands: bool) -> dict[str, object]:
    found = decision.to_json()
    place = found.pop("position_nm") or ("", "", "")
    new, old = found["new"], found["old"]
    told = {name: new.get(name) for name in ("verdict", "error", "note")}
    return {
        **found,
        **dict(zip(("x_nm", "y_nm", "z_nm"), place, strict=True)),
        **told,
        "stands": "yes" if stands else "no",
        "old": "" if old is None else json.dumps(old),
        "new": json.dumps(new),
    }


def to_cave(
    standing: Standing, candidates: Candidates, unit_nm: tuple[float, float, float]
) -> bytes:
    """What stands, as a table that refers to one of synapses by ``target_id``.

    ``valid`` is true or false, and empty for unsure; an added synapse has ``target_id`` 0.
    """
    rows: list[dict[str, object]] = []
    rows += [
        {
            "id": decision.id,
            "target_id": decision.syn_id,
            **_position(decision.position_nm or _place(candidates, decision.syn_id), unit_nm),
            "valid": "" if decision.new.verdict == "unsure" else decision.new.verdict,
            "user": decision.reviewer,
            "created": decision.time,
            "tag": decision.new.error or "",
            "note": decision.new.note,
        }
        for decision in standing.verdicts.values()
    ]
    rows += [
        {
            "id": decision.id,
            "target_id": 0,
            **_position(decision.new.position_nm, unit_nm),
            "valid": "true",
            "user": decision.reviewer,
            "created": decision.time,
            "tag": "added",
            "note": decision.new.note,
        }
        for decision in standing.added.values()
    ]
    return _written(_CAVE, sorted(rows, key=lambda row: int(str(row["id"]))))


def _place(candidates: Candidates, syn_id: int) -> tuple[float, float, float] | None:
    known = candidates.rows_of([syn_id])[0] >= 0
    return candidates.position_nm(syn_id) if known else None


def _position(
    place: tuple[float, float, float] | None, unit_nm: tuple[float, float, float]
) -> dict[str, object]:
    if place is None:
        return dict.fromkeys(_POSITION, "")
    return {name: p / unit for name, p, unit in zip(_POSITION, place, unit_nm, strict=True)}


def _written(columns: tuple[str, ...], rows: Iterable[Mapping[str, object]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return out.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = repr(value) if isinstance(value, float) else str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.match(text) else text


# --- in ------------------------------------------------------------------------------------------


def is_whole(text: str) -> bool:
    """Whether a CSV holds decisions as a log has them, and not just verdicts."""
    return {"uuid", "action", "new"} <= set(text.partition("\n")[0].strip().split(","))


def from_csv(text: str, name: str, context: Context, standing: Standing) -> list[Decision | None]:
    """Decisions of `to_csv`, or verdicts of a table with ``syn_id`` and ``verdict``.

    None for a row that says what stands.

    Raises
    ------
    ReviewError
        With the line and what is wrong with it.
    """
    whole = is_whole(text)
    needed = ("uuid", "action", "new") if whole else ("syn_id", "verdict")
    digest = hashlib.sha256(text.encode()).hexdigest()
    found: list[Decision | None] = []
    for i, (where, row) in enumerate(_rows(text, name, needed)):
        with _at(where):
            key = ("csv", digest, i)
            found.append(_whole(row) if whole else _own(row, key, name, context, standing))
    return found


def _own(
    row: Row, key: tuple[object, ...], name: str, context: Context, standing: Standing
) -> Decision | None:
    """The verdict of a row of a table of one's own."""
    by = row.get("reviewer") or context.reviewer
    told = {column: row.get(column) or "" for column in ("verdict", "error", "note")}
    return verdict_of(
        context, standing, row["syn_id"].strip(), by, told, f"csv:{name}",
        stable_uuid(*key, by), row.get("time"),
    )  # fmt: skip


def _whole(row: Row) -> Decision:
    place = [row.get(axis) or "" for axis in ("x_nm", "y_nm", "z_nm")]
    return parse_decision(
        {
            **{key: row[key] for key in ("uuid", "time", "reviewer", "loop", "action")},
            "syn_id": row.get("syn_id") or "0",
            "position_nm": place if all(place) else None,
            "old": json.loads(row["old"]) if row.get("old") else None,
            "new": json.loads(row["new"]),
            "seconds": row.get("seconds") or 0.0,
            "origin": row.get("origin") or "",
        }
    )


def verdict_of(
    context: Context,
    standing: Standing,
    syn_id: str,
    reviewer: str,
    told: Mapping[str, str],
    origin: str,
    uuid: str,
    when: str | None = None,
) -> VerdictDecision | None:
    """A verdict that a foreign file tells; None where this reviewer's stands and says the same.

    Raises
    ------
    ReviewError
        If it is none, or the run has no such synapse.
    """
    made = parse_decision(
        {
            "uuid": uuid, "time": when or timestamp(), "reviewer": reviewer, "action": "verdict",
            "syn_id": syn_id, "origin": origin,
            "new": {
                "verdict": told["verdict"].strip().lower(),
                "error": told["error"].strip() or None, "note": told["note"],
            },
        }
    )  # fmt: skip
    if not isinstance(made, VerdictDecision):
        raise ReviewError(f"a {made.action} is no verdict")
    place = context.candidates.position_nm(made.syn_id)
    own = standing.by_reviewer.get(made.syn_id, {}).get(made.reviewer)
    if own is not None and own.new == made.new:
        return None
    before = standing.verdicts.get(made.syn_id)
    old = None if before is None else before.to_json()["new"]
    return made.model_copy(update={"position_nm": place, "old": old})


def from_cave(text: str, name: str, context: Context, standing: Standing) -> list[Decision | None]:
    """Verdicts and added synapses of a table with ``target_id`` (or ``id``) and ``valid``.

    None for a row that says what stands.

    Raises
    ------
    ReviewError
        With the line and what is wrong with it.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()
    found: list[Decision | None] = []
    for i, (where, row) in enumerate(_rows(text, name, ("valid",))):
        uuid = stable_uuid("cave", digest, i, context.reviewer)
        with _at(where):
            found.append(_of_cave(row, uuid, name, context, standing))
    return found


def _of_cave(
    row: Row, uuid: str, name: str, context: Context, standing: Standing
) -> Decision | None:
    target = (row["target_id"] if "target_id" in row else row.get("id", "")).strip()
    answer = _VALID.get(row["valid"].strip().lower())
    if answer is None:
        raise ReviewError(f"valid is {row['valid']!r}: expected true, false or nothing")
    by, note = row.get("user") or context.reviewer, row.get("note") or ""
    origin, when = f"cave:{name}", row.get("created") or None
    if target not in ("", "0"):
        tag = row.get("tag") or ""
        told = {"verdict": answer, "error": tag, "note": note}
        return verdict_of(context, standing, target, by, told, origin, uuid, when)
    place = [p * unit for p, unit in zip(_numbers(row), context.unit_nm, strict=True)]
    same = [
        one
        for one in standing.added.values()
        if one.reviewer == by
        and all(abs(a - b) < 1e-3 for a, b in zip(one.new.position_nm, place, strict=True))
    ]
    if same or answer != "true":
        return None
    return parse_decision(
        {
            "uuid": uuid, "time": when or timestamp(), "reviewer": by, "action": "add_synapse",
            "position_nm": place, "origin": origin, "new": {"position_nm": place, "note": note},
        }
    )  # fmt: skip


def _numbers(row: Row) -> list[float]:
    """A position in three columns, or in one as ``[x, y, z]``."""
    words = [row.get(name, "") for name in _POSITION]
    if not all(words):
        words = re.split(r"[\s,]+", row.get("pt_position", "").strip(" []()"))
    try:
        x, y, z = (float(word) for word in words)
    except ValueError:
        raise ReviewError(
            "no synapse, and no position: give target_id, or pt_position_x, _y and _z"
        ) from None
    return [x, y, z]


def _rows(text: str, name: str, needed: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Each row by its columns, and where it is for errors."""
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        if not any(header):
            raise ReviewError(f"{name} is empty: expected a header and a row for each decision")
        if missing := [column for column in needed if column not in header]:
            raise ReviewError(
                f"{name} has no column {', '.join(missing)}: expected a table of `cnapse decisions "
                "export`, one for CAVE (target_id, valid), or one with syn_id and verdict"
            )
        for row in reader:
            where = f"{name}: line {reader.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                raise ReviewError(f"{where} has {len(row)} cells, the header has {len(header)}")
            yield where, {key: _plain(cell) for key, cell in zip(header, row, strict=True)}
    except csv.Error as error:
        raise ReviewError(f"{name}: line {reader.line_num}: {error}") from error


def _plain(cell: str) -> str:
    """The cell without the mark that `_cell` puts before formulas."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


@contextlib.contextmanager
def _at(where: str) -> Iterator[None]:
    """Errors tell the line."""
    try:
        yield
    except ReviewError as error:
        raise ReviewError(f"{where}: {error}") from error
    except (ValueError, KeyError, RecursionError) as error:
        raise ReviewError(f"{where}: {type(error).__name__}: {error}") from error
