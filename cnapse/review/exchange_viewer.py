"""Candidates as points of a local layer of Neuroglancer, and what was edited in such layers.

What an edited state tells, in local annotation layers of any name:

- a point of one's own is a missed synapse, unless it says otherwise;
- a point whose description begins with ``true``, ``false`` or ``unsure`` is the verdict on the
  candidate it was exported for, or else on the nearest within 300 nm; the rest is the note;
- a point that was exported and is gone is ``false``: told from the state as it was exported;
- a box with the description ``done`` was looked at wholly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from cnapse.errors import ReviewError
from cnapse.geometry import Resolution
from cnapse.review.decisions import Decision, parse_decision
from cnapse.review.exchange import Context, stable_uuid
from cnapse.review.exchange_tables import verdict_of
from cnapse.review.items import Candidates
from cnapse.review.standing import Standing
from cnapse.viewing.state import read_state
from cnapse.viewing.viewed import ViewedAnnotation, ViewedState

__all__ = ["LAYER", "from_state", "to_state"]

LAYER: Final = "candidates"
"""Name of the layer that is exported."""

_MOST: Final = 5000
_NEAR_NM: Final = 300.0
_EXPORTED: Final = re.compile(r"syn-(\d{1,20})\Z")
_SAYS: Final = re.compile(r"(true|false|unsure)\b[\s:,;.-]*", re.IGNORECASE)
_YELLOW: Final = "#f0e442"


def to_state(
    standing: Standing, candidates: Candidates, rows: Sequence[int], unit_nm: Resolution
) -> bytes:
    """A state with a local layer that has a point for each candidate.

    Parameters
    ----------
    standing, candidates
    rows : sequence of int
        Which candidates.
    unit_nm : (x, y, z)
        What the viewer counts in.

    Raises
    ------
    ReviewError
        If there are too many for a viewer.
    """
    if len(rows) > _MOST:
        raise ReviewError(
            f"{len(rows):,} candidates are too many to edit in a viewer: give --limit, at most "
            f"{_MOST:,}"
        )
    dimensions = {
        axis: [float(f"{nm * 1e-9:.12g}"), "m"] for axis, nm in zip("xyz", unit_nm, strict=True)
    }
    points = [_point(candidates, int(row), standing, unit_nm) for row in rows]
    state: dict[str, Any] = {"dimensions": dimensions}
    if points:
        state["position"] = points[0]["point"]
    state["layers"] = [
        {
            "type": "annotation",
            "name": LAYER,
            "source": {
                "url": "local://annotations",
                "transform": {"outputDimensions": dimensions},
            },
            "tool": "annotatePoint",
            "tab": "annotations",
            "annotationColor": _YELLOW,
            "annotations": points,
        }
    ]
    return (json.dumps(state, indent=1, allow_nan=False) + "\n").encode()


def _point(
    candidates: Candidates, row: int, standing: Standing, unit_nm: Resolution
) -> dict[str, Any]:
    syn_id = int(candidates.ids[row])
    verdict = standing.verdicts.get(syn_id)
    said = [] if verdict is None else [verdict.new.verdict, verdict.new.note]
    return {
        "type": "point",
        "id": f"syn-{syn_id}",
        "point": [float(v) for v in candidates.positions_nm[row] / unit_nm],
        "description": ": ".join(word for word in said if word),
    }


def from_state(source: str, context: Context, standing: Standing) -> list[Decision]:
    """What was edited in a state.

    Parameters
    ----------
    source : str
        See :func:`cnapse.viewing.state.read_state`.
    context : Context
    standing : Standing
        What says the same as this is left out.

    Raises
    ------
    ReviewError
        If an annotation says what cannot be taken.
    LayerNotFoundError, FormatError, ConfigError, StorageError
        If the state cannot be read.
    """
    state = read_state(source)
    found = [_decided(one, source, context, standing) for one in state.annotations]
    if context.before is not None:
        found += _deleted(state, read_state(context.before), source, context, standing)
    return [one for one in found if one is not None]


def _decided(
    one: ViewedAnnotation, source: str, context: Context, standing: Standing
) -> Decision | None:
    where = f"{source[:60]}: layer {one.layer!r}, annotation {one.id!r}"
    origin = f"neuroglancer:{_name(source)}"
    try:
        return _decision(one, origin, context, standing)
    except ReviewError as error:
        raise ReviewError(f"{where}: {error}") from error


def _decision(
    one: ViewedAnnotation, origin: str, context: Context, standing: Standing
) -> Decision | None:
    said = one.description.strip()
    if one.kind == "axis_aligned_bounding_box":
        return _box(one, origin, context) if said.lower() == "done" else None
    if one.kind not in ("point", "ellipsoid"):
        return None
    exported = _EXPORTED.match(one.id)
    answer = _SAYS.match(said)
    if answer is None:
        return None if exported else _added(one, origin, context)
    syn_id = int(exported[1]) if exported else _nearest(one.points_nm[0], context.candidates)
    word, note = answer[1].lower(), said[answer.end() :]
    if syn_id is None and word == "true":
        return _added(one, origin, context)
    if syn_id is None:
        raise ReviewError(f"it says {word}, but no candidate is within {_NEAR_NM:g} nm of it")
    uuid = stable_uuid("neuroglancer", one.id, syn_id, word, note, context.reviewer)
    told = {"verdict": word, "error": "", "note": note}
    return verdict_of(context, standing, str(syn_id), context.reviewer, told, origin, uuid)


def _added(one: ViewedAnnotation, origin: str, context: Context) -> Decision:
    place = one.points_nm[0]
    # Related segments are cells if they are cells of the table: a layer may relate others.
    related = [segment for group in one.segments for segment in group]
    cells = np.isin(np.array(related, np.uint64), context.candidates.columns["pre_id"])
    pre_id = next((cell for cell, known in zip(related, cells, strict=True) if known), 0)
    return parse_decision(
        {
            "uuid": stable_uuid("neuroglancer", one.id, "added", context.reviewer, *place),
            "reviewer": context.reviewer,
            "action": "add_synapse",
            "position_nm": place,
            "origin": origin,
            "new": {"position_nm": place, "pre_id": pre_id, "note": one.description.strip()},
        }
    )


def _box(one: ViewedAnnotation, origin: str, context: Context) -> Decision:
    a, b = np.array(one.points_nm)
    start, stop = np.minimum(a, b).tolist(), np.maximum(a, b).tolist()
    return parse_decision(
        {
            "uuid": stable_uuid("neuroglancer", one.id, "done", context.reviewer, *start, *stop),
            "reviewer": context.reviewer,
            "action": "box_done",
            "origin": origin,
            "new": {"start_nm": start, "stop_nm": stop},
        }
    )


def _deleted(
    state: ViewedState, before: ViewedState, source: str, context: Context, standing: Standing
) -> list[Decision | None]:
    """Verdicts on what was exported and is gone."""
    if all(layer.name != LAYER for layer in state.layers):
        raise ReviewError(
            f"{source[:60]} has no layer {LAYER!r} any more: all of it would count as deleted; "
            "give the state in which its points were edited"
        )
    left = {one.id for one in state.annotations}
    told = {"verdict": "false", "error": "", "note": ""}
    return [
        verdict_of(
            context, standing, match[1], context.reviewer, told, f"neuroglancer:{_name(source)}",
            stable_uuid("neuroglancer", one.id, "deleted", context.reviewer),
        )
        for one in before.annotations
        if one.id not in left and (match := _EXPORTED.match(one.id))
    ]  # fmt: skip


def _nearest(place_nm: Resolution, candidates: Candidates) -> int | None:
    if not len(candidates):
        return None
    squared = ((candidates.positions_nm - place_nm) ** 2).sum(axis=1)
    row = int(np.argmin(squared))
    return int(candidates.ids[row]) if squared[row] <= _NEAR_NM**2 else None


def _name(source: str) -> str:
    """A file's name; of a link nothing, since it is the whole state."""
    return Path(source).name[:200] if "#!" not in source and not source.startswith("{") else "link"
