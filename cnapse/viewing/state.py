"""States of a viewer: kept in files for short links, and read back with what was edited in them.

A state is what a link carries and what Neuroglancer's ``{}`` button shows: JSON. `read_state` takes
it in any of these forms, and tells positions in nm, x, y, z::

    https://viewer/#!%7B%22dimensions%22...     the state itself, in the address
    https://viewer/#!gs://bucket/state.json     its place (gs://, s3://, https://, file://)
    gs://bucket/state.json, states/a.json       the same without a viewer
    '{"dimensions": ...}', {"dimensions": ...}  JSON, as text or parsed
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import numpy.typing as npt

from cnapse.errors import ConfigError, FormatError, LayerNotFoundError
from cnapse.store import Store, canonical_json, cloud_path
from cnapse.viewing.viewed import (
    AnnotationKind,
    Space,
    ViewedAnnotation,
    ViewedLayer,
    ViewedState,
)

__all__ = ["read_state", "write_state"]

Json = dict[str, Any]

_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
_FETCHED = ("gs://", "s3://", "http://", "https://", "file://")
_POINTS: dict[str, tuple[str, ...]] = {
    "point": ("point",),
    "line": ("pointA", "pointB"),
    "axis_aligned_bounding_box": ("pointA", "pointB"),
    "ellipsoid": ("center",),
}
_SHORT = 16


def read_state(source: str | Path | Mapping[str, Any]) -> ViewedState:
    """Read a state, with what was edited in the viewer.

    Parameters
    ----------
    source : str, Path or mapping
        A link, the place of a JSON file, JSON as text, or JSON that is parsed.

    Returns
    -------
    ViewedState

    Raises
    ------
    LayerNotFoundError
        If there is no such file.
    FormatError
        If it is no state, or lengths are missing in it.
    ConfigError
        If it must be fetched from where only a viewer can log in.
    StorageError
        If it cannot be fetched.
    """
    if isinstance(source, Mapping):
        return _state(dict(source), "state")
    text = str(source).strip()
    where = text if len(text) < 80 else f"{text[:77]}..."
    return _state(_json_of(text, where), where)


def write_state(output: str, state: Mapping[str, Any]) -> str:
    """Keep a state as a file of an output folder; its name there, ``states/<hash>.json``.

    Parameters
    ----------
    output : str
        The folder, on disk or in a bucket.
    state : mapping
        As Neuroglancer shows it by the button ``{}``. The same state has the same name.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    content = canonical_json(state)
    name = f"states/{hashlib.sha256(content).hexdigest()[:_SHORT]}.json"
    Store(output).put_all([(name, content)], content_type="application/json")
    return name


# --- where it comes from -------------------------------------------------------------------------


def _json_of(text: str, where: str) -> Json:
    if text.startswith("{"):
        return _parsed(text, where)
    _, is_link, fragment = text.partition("#!")
    if is_link:
        fragment = fragment.removeprefix("+")
        # Neuroglancer fetches what begins like an address, and takes all else for JSON.
        if _ADDRESS.match(fragment):
            return _fetched(fragment, where)
        return _parsed(_plain_json(fragment), where)
    # Viewers of CAVE before Spelunker.
    elsewhere = parse_qs(urlsplit(text).query).get("json_url", [])
    return _fetched(elsewhere[0] if elsewhere else text, where)


def _plain_json(fragment: str) -> str:
    """The JSON of a link: percent-encoded, or in the safe form with quotes and commas replaced."""
    text = unquote(fragment)
    if text.lstrip().startswith("{'"):
        from neuroglancer.url_state import url_safe_to_json

        return str(url_safe_to_json(text))
    return text


def _fetched(address: str, where: str) -> Json:
    """The JSON of a file, here or elsewhere."""
    if _ADDRESS.match(address) and not address.startswith(_FETCHED):
        raise ConfigError(
            f"{address}: only a viewer can log in there: open the link, copy the state with the "
            "button {} and give the file"
        )
    folder, _, name = cloud_path(address).rpartition("/")
    return _parsed(Store(folder).read(name), where)


def _parsed(text: str | bytes, where: str) -> Json:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{where}: no state of a viewer ({error}): give a link, or JSON as the button {{}} of "
            "Neuroglancer shows it"
        ) from error
    if not isinstance(value, dict):
        raise FormatError(f"{where}: a state is a JSON object, not a {type(value).__name__}")
    return value


# --- what it says --------------------------------------------------------------------------------


def _state(state: Json, where: str) -> ViewedState:
    if "layers" not in state and "dimensions" not in state:
        raise FormatError(
            f"{where}: neither layers nor dimensions: this is no state of Neuroglancer, or one of "
            "before 2019"
        )
    space = Space.parse(state["dimensions"], where) if state.get("dimensions") else None
    position = state.get("position")
    try:
        return ViewedState(
            space.nm(position) if space and position else None,
            space.unit_nm if space else None,
            tuple(_layer(layer, space, where) for layer in state.get("layers", [])),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FormatError | LayerNotFoundError):
            raise
        raise FormatError(f"{where}: a state that cannot be read: {error!r}") from error


def _layer(layer: Json, space: Space | None, where: str) -> ViewedLayer:
    name = str(layer.get("name", ""))
    listed = [str(segment) for segment in layer.get("segments", [])]
    given = layer.get("source", [])
    many = given if isinstance(given, list) else [given]
    urls = [str(one["url"] if isinstance(one, dict) else one) for one in many]
    return ViewedLayer(
        name,
        str(layer.get("type", "")),
        tuple(urls),
        tuple(int(one) for one in listed if not one.startswith("!")),
        tuple(int(one[1:]) for one in listed if one.startswith("!")),
        bool(layer.get("visible", True)) and not layer.get("archived", False),
        _annotations(layer, name, many, space, f"{where}: layer {name!r}"),
    )


def _annotations(
    layer: Json, name: str, sources: list[Any], space: Space | None, where: str
) -> tuple[ViewedAnnotation, ...]:
    listed = layer.get("annotations", [])
    if not listed:
        return ()
    own, matrix = _local_space(sources, space, where)
    ids = [str(one["id"]) for one in layer.get("annotationProperties", [])]
    return tuple(_annotation(one, name, ids, own, matrix, where) for one in listed)


def _local_space(
    sources: list[Any], space: Space | None, where: str
) -> tuple[Space, npt.NDArray[np.float64] | None]:
    """The space of local annotations, and the matrix that leads into it."""
    for source in sources:
        if not isinstance(source, dict) or not str(source.get("url", "")).startswith("local://"):
            continue
        transform = source.get("transform") or {}
        out = transform.get("outputDimensions")
        inner = transform.get("inputDimensions", out)
        matrix = transform.get("matrix")
        if matrix is None:
            return Space.parse(inner or {}, where) if inner else _needed(space, where), None
        if inner != out:
            raise FormatError(
                f"{where}: its source has a matrix between different dimensions: not supported, "
                "set its input dimensions to its output dimensions"
            )
        own = Space.parse(out, where) if out else _needed(space, where)
        return own, np.asarray(matrix, np.float64)
    return _needed(space, where), None


def _needed(space: Space | None, where: str) -> Space:
    if space is None:
        raise FormatError(f"{where}: annotations, but no dimensions: their unit is not known")
    return space


def _annotation(
    one: Json,
    layer: str,
    ids: list[str],
    space: Space,
    matrix: npt.NDArray[np.float64] | None,
    where: str,
) -> ViewedAnnotation:
    kind = str(one["type"]).lower()
    if kind == "polyline":
        points = one["points"]
    elif kind in _POINTS:
        points = [one[key] for key in _POINTS[kind]]
    else:
        raise FormatError(
            f"{where}: annotation {one.get('id')!r} is a {kind!r}: known are polyline, "
            f"{', '.join(_POINTS)}"
        )
    if matrix is not None:
        points = [matrix[:, :-1] @ np.asarray(p, np.float64) + matrix[:, -1] for p in points]
    radii = one.get("radii")
    return ViewedAnnotation(
        layer,
        str(one["id"]),
        cast("AnnotationKind", kind),
        tuple(space.nm(point) for point in points),
        str(one.get("description") or ""),
        _segments(one.get("segments") or []),
        dict(zip(ids, one.get("props", []), strict=False)),
        None if radii is None else space.nm(radii),
    )


def _segments(listed: list[Any]) -> tuple[tuple[int, ...], ...]:
    """Related segments; with a single relationship the viewer may leave out a bracket."""
    groups = listed if all(isinstance(group, list) for group in listed) else [listed]
    return tuple(tuple(int(segment) for segment in group) for group in groups)
