"""The synapse tables of other projects: what their columns are called and what their units are.

A column has a *role* (``pre_x``, ``post_cell``, ``size``), and a format says which names stand for
it. What is not among them is named by the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from cnapse.errors import ConfigError, TableError
from cnapse.viewing.annotations import PropertyType

__all__ = [
    "ENDS",
    "FORMATS",
    "IDS",
    "NUMBERS",
    "PROPERTY_TYPES",
    "ROLES",
    "Format",
    "chosen_columns",
    "detected",
    "parse_mapping",
    "parse_properties",
]

PROPERTY_TYPES: tuple[PropertyType, ...] = (
    *("float32", "uint8", "int8", "uint16", "int16", "uint32", "int32"),
)
"""How a further column can be stored."""

ENDS = ("pre", "post", "centre")
"""Places that a row can have. A line goes from ``pre`` to ``post``."""

IDS = ("id", "pre_cell", "post_cell", "synapse")
"""Roles that hold numbers of up to 64 bits, which must stay exact."""

NUMBERS: Mapping[str, str] = {
    "size": "size of the synapse",
    "share": "share of the partner among those of the synapse",
    "score": "score of the synapse",
    "pre_score": "score of the presynaptic end",
    "post_score": "score of the postsynaptic end",
    "flags": "flags, a bit each",
}
"""Roles that become properties of an annotation, and what they are."""

ROLES = (*IDS, *NUMBERS, *ENDS, *(f"{end}_{axis}" for end, axis in product(ENDS, "xyz")))

_NANOMETRE = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of table.

    Attributes
    ----------
    name : str
        As ``--format`` takes it.
    source : str
        Whose it is, and where it is described.
    unit_nm : tuple of float or None
        Nanometres of a unit of its positions, x, y, z: 1 where they are in nm, the voxel size where
        they count voxels. None where the user must say it.
    names : mapping of str to tuple of str
        Names of the column of a role, the likeliest first.
    marks : tuple of tuple of str
        A table that has all columns of one of them is of this format.
    required : tuple of str
        Roles besides the positions that a table must have.
    """

    name: str
    source: str
    unit_nm: tuple[float, float, float] | None
    names: Mapping[str, tuple[str, ...]]
    marks: tuple[tuple[str, ...], ...] = ()
    required: tuple[str, ...] = ("pre_cell", "post_cell")


def _places(pattern: str, **ends: str) -> dict[str, tuple[str, ...]]:
    """Names of coordinates by a pattern with ``{end}`` and ``{axis}``."""
    return {
        f"{end}_{axis}": (pattern.format(end=name, axis=axis),)
        for end, name in ends.items()
        for axis in "xyz"
    }


FORMATS = {
    item.name: item
    for item in (
        Format(
            "cave",
            "CAVE materialization (caveclient `materialize.synapse_query`, schema "
            "`BoundSynapse` of EMAnnotationSchemas); MICrONS, FlyWire, H01",
            None,
            {
                "id": ("id",),
                "pre_cell": ("pre_pt_root_id",),
                "post_cell": ("post_pt_root_id",),
                "size": ("size",),
                "score": ("score", "cleft_score"),
                "pre": ("pre_pt_position",),
                "post": ("post_pt_position",),
                "centre": ("ctr_pt_position",),
                **_places("{end}_pt_position_{axis}", pre="pre", post="post", centre="ctr"),
            },
            (
                ("pre_pt_position", "post_pt_position"),
                ("pre_pt_position_x", "post_pt_position_x"),
                ("ctr_pt_position", "pre_pt_root_id"),
                ("ctr_pt_position_x", "pre_pt_root_id"),
            ),
        ),
        Format(
            "neuprint",
            "neuPrint (neuprint-python `fetch_synapse_connections`, and the synapse partner tables "
            "published with hemibrain and MANC); positions in voxels of 8 nm",
            (8.0, 8.0, 8.0),
            {
                "pre_cell": ("bodyId_pre", "body_pre"),
                "post_cell": ("bodyId_post", "body_post"),
                "pre_score": ("confidence_pre", "conf_pre"),
                "post_score": ("confidence_post", "conf_post"),
                **_places("{axis}_{end}", pre="pre", post="post"),
            },
            (("bodyId_pre", "x_pre"), ("body_pre", "x_pre")),
        ),
        Format(
            "flywire",
            "FlyWire (the synapse tables of Dorkenwald et al. 2024 and of fafbseg; Buhmann et al. "
            "2021 with the cleft scores of Heinrich et al. 2018); positions in nm",
            _NANOMETRE,
            {
                "id": ("id",),
                "pre_cell": ("pre_pt_root_id", "pre_root_id", "pre"),
                "post_cell": ("post_pt_root_id", "post_root_id", "post"),
                "score": ("cleft_score", "connection_score"),
                "size": ("size",),
                **_places("{end}_{axis}", pre="pre", post="post"),
            },
            (
                ("pre_x", "pre_pt_root_id"),
                ("pre_x", "pre_root_id"),
                ("pre_x", "pre", "cleft_score"),
            ),
        ),
        Format(
            "synaptor",
            "Synaptor (Turner et al. 2020), the final edge list, a row a cleft; in voxels",
            None,
            {
                "id": ("cleft_segid", "psd_segid"),
                "synapse": ("cleft_segid", "psd_segid"),
                "pre_cell": ("presyn_segid",),
                "post_cell": ("postsyn_segid",),
                "size": ("size",),
                "pre_score": ("presyn_wt",),
                "post_score": ("postsyn_wt",),
                **_places("{end}_{axis}", pre="presyn", post="postsyn", centre="centroid"),
            },
            (("presyn_segid", "postsyn_segid"),),
        ),
        Format(
            "other",
            "any table: columns named by their role, or by --columns; positions in nm, or in "
            "voxels of --resolution",
            _NANOMETRE,
            {role: (role,) for role in ROLES},
            required=(),
        ),
    )
}


def parse_mapping(texts: Sequence[str]) -> dict[str, str]:
    """Columns as a user names them: ``pre_x=column``; ``id=`` for none.

    Raises
    ------
    ConfigError
        For what is no role, or not of this form.
    """
    found: dict[str, str] = {}
    for text in texts:
        role, equals, column = text.partition("=")
        if not equals or role not in ROLES:
            raise ConfigError(
                f"--columns {text}: expected ROLE=COLUMN with one of the roles {', '.join(ROLES)}"
            )
        found[role] = column
    return found


def parse_properties(texts: Sequence[str]) -> dict[str, PropertyType]:
    """Further columns as a user names them: ``column`` or ``column=uint32``.

    Raises
    ------
    ConfigError
        For a type that there is not.
    """
    found: dict[str, PropertyType] = {}
    for text in texts:
        column, _, kind = text.rpartition("=") if "=" in text else (text, "", "float32")
        chosen = next((one for one in PROPERTY_TYPES if one == kind), None)
        if chosen is None or not column:
            raise ConfigError(
                f"--property {text}: expected COLUMN or COLUMN=TYPE with one of the types "
                f"{', '.join(PROPERTY_TYPES)}"
            )
        found[column] = chosen
    return found


def detected(path: str, names: Sequence[str], mapping: Mapping[str, str]) -> Format:
    """The format that a table's columns tell.

    Raises
    ------
    TableError
        If they tell none, and no columns are named by the user.
    """
    for item in FORMATS.values():
        if any(set(mark) <= set(names) for mark in item.marks):
            return item
    if mapping or {"pre_x", "pre_y", "pre_z"} <= set(names):
        return FORMATS["other"]
    raise TableError(
        f"{path} is of no format that is known by its columns ({_listed(names)}): give --format "
        f"({', '.join(FORMATS)}), or name them: --columns pre_x=... --columns post_cell=..."
    )


def chosen_columns(
    path: str, names: Sequence[str], kind: Format, mapping: Mapping[str, str], *, points: bool
) -> dict[str, str]:
    """The columns of a table to read, by role.

    Parameters
    ----------
    path : str
        For errors.
    names : sequence of str
        Columns that there are.
    kind : Format
    mapping : mapping of str
        What the user says instead; an empty column means none.
    points : bool
        Whether one place a row is enough.

    Returns
    -------
    dict
        Of ends, either the one column of lists (``pre``) or its three of numbers.

    Raises
    ------
    TableError
        If a column is missing.
    """
    for role, column in mapping.items():
        if column and column not in names:
            raise TableError(
                f"{path} has no column {column!r} (--columns {role}={column}): it has "
                f"{_listed(names)}"
            )
    found: dict[str, str] = {}
    for role in ROLES:
        candidates = (mapping[role],) if role in mapping else kind.names.get(role, ())
        known = [name for name in candidates if name in names]
        if known:
            found[role] = known[0]
    for end in ENDS:
        axes = [f"{end}_{axis}" for axis in "xyz"]
        if end in found or not all(axis in found for axis in axes):
            # A third of a place is none; what is named in full wins over a list.
            for axis in axes:
                found.pop(axis, None)
    needed = _needed_ends(found, points=points)
    missing = [_expected(kind, role) for role in kind.required if role not in found]
    missing += [_expected(kind, end) for end in needed if not _has_end(found, end)]
    if missing:
        raise TableError(
            f"{path}, read as {kind.name}, lacks {'; '.join(missing)}: it has {_listed(names)}; "
            "name them with --columns ROLE=COLUMN, or give another --format"
        )
    return found


def _has_end(found: Mapping[str, str], end: str) -> bool:
    return end in found or f"{end}_x" in found


def _needed_ends(found: Mapping[str, str], *, points: bool) -> tuple[str, ...]:
    if not points:
        return ("pre", "post")
    return () if any(_has_end(found, end) for end in ENDS) else ("pre",)


def _expected(kind: Format, role: str) -> str:
    """A role and the names it may have."""
    if role in ENDS:
        axes = ["/".join(kind.names.get(f"{role}_{a}", (f"{role}_{a}",))) for a in "xyz"]
        spellings = [*kind.names.get(role, ()), ", ".join(axes)]
        return f"{role} position ({' or '.join(spellings)})"
    return f"{role} ({' or '.join(kind.names.get(role, (role,)))})"


def _listed(names: Sequence[str]) -> str:
    """Columns of a table, not more than fit a line."""
    shown = ", ".join(names[:20])
    return f"{shown}, ..." if len(names) > 20 else shown
