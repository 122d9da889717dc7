"""What a reviewer can decide, as records; all ids are uint64, and strings in JSON.

A decision says who, when, in which loop, about which synapse, what stood before and what stands
now. There is a class for each action; `parse_decision` tells them apart by ``action``. Which of
many decisions stands is told by :mod:`cnapse.review.standing`.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from cnapse.errors import ReviewError

__all__ = [
    "ACTIONS",
    "ERRORS",
    "LOOPS",
    "VERDICTS",
    "AddDecision",
    "AddedSynapse",
    "Answer",
    "BoxDecision",
    "CellId",
    "Decision",
    "DeleteDecision",
    "Deletion",
    "ErrorKind",
    "Loop",
    "MergeDecision",
    "Merging",
    "Partner",
    "PartnerSet",
    "PartnersDecision",
    "Point",
    "RepaintDecision",
    "Repainting",
    "ReviewedBox",
    "SplitDecision",
    "Splitting",
    "SynapseId",
    "UndoDecision",
    "Undoing",
    "Verdict",
    "VerdictDecision",
    "parse_decision",
    "timestamp",
]

Loop = Literal["candidates", "partners", "objects"]
Answer = Literal["true", "false", "unsure"]
ErrorKind = Literal[
    "false_positive", "merged", "split", "wrong_extent", "wrong_polarity", "other"
]  # fmt: skip
LOOPS: Final[tuple[Loop, ...]] = ("candidates", "partners", "objects")
VERDICTS: Final[tuple[Answer, ...]] = ("true", "false", "unsure")
ERRORS: Final[tuple[ErrorKind, ...]] = (
    "false_positive", "merged", "split", "wrong_extent", "wrong_polarity", "other",
)  # fmt: skip

_LONGEST_NOTE = 2000
_LONGEST_NAME = 64
_LARGEST_ID = 2**64 - 1
# Far beyond any tissue (1 km), and small enough for whole numbers of voxels.
_FARTHEST_NM = 1e12
_MOST = 10_000


def timestamp(when: datetime | None = None) -> str:
    """A time, or now, as the log has it: UTC, ISO 8601, milliseconds."""
    moment = (when or datetime.now(UTC)).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_EXACT = 1 << 53


def _whole(value: object) -> object:
    """An id of JSON: its digits as a string, since JavaScript has no uint64."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)  # 3.0 is a whole number of JSON
    if isinstance(value, bool) or not isinstance(value, int):
        # Values that pydantic would round: True, 5.5, "3.0".
        raise ValueError("an id is a whole number, as a string of digits")  # noqa: TRY004
    return value


def _fits(value: int) -> int:
    # Not by pydantic's `le`, whose message is rounded as a float is.
    if not 0 <= value <= _LARGEST_ID:
        raise ValueError("an id is from 0 to 18446744073709551615 (64 bits)")
    return value


def _utc(value: object) -> str:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("a time is ISO 8601 with its zone, as 2026-11-23T17:20:49.123Z")
    try:
        return timestamp(moment)
    except OverflowError as error:
        raise ValueError("a time is of the years 1 to 9999") from error


def _canonical(value: object) -> str:
    try:
        return str(uuids.UUID(str(value)))
    except ValueError as error:
        raise ValueError("a uuid is 32 hexadecimal digits") from error


def _printable(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise ValueError("a name has 1 to 64 printable characters")
    return value.strip()


def _schema(least: int) -> WithJsonSchema:
    """JSON's schema of an id from `least` on: digits, or a number where that is exact."""
    digits = str(_LARGEST_ID)
    below = [
        f"{digits[:i]}[0-{int(digit) - 1}][0-9]{{{len(digits) - i - 1}}}"
        for i, digit in enumerate(digits)
        if digit != "0"
    ]
    some = "|".join([f"[0-9]{{1,{len(digits) - 1}}}", *below, digits])
    pattern = f"^{'(?!0+$)' if least else ''}({some})$"
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": pattern},
                {"type": "integer", "minimum": least, "maximum": _LARGEST_ID},
            ]
        }
    )


_Id = Annotated[
    int, BeforeValidator(_whole), AfterValidator(_fits), PlainSerializer(str, when_used="json")
]
CellId = Annotated[_Id, _schema(0)]
"""Id of a cell, or of an object, that may be none (0)."""
SynapseId = Annotated[_Id, Field(ge=1), _schema(1)]
"""Id of an object, or of a cell that is one."""
_UUID_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_Uuid = Annotated[
    str, BeforeValidator(_canonical), Field(json_schema_extra={"pattern": _UUID_PATTERN})
]
_Time = Annotated[str, BeforeValidator(_utc)]
_Name = Annotated[str, Field(max_length=_LONGEST_NAME), AfterValidator(_printable)]
_Nm = Annotated[float, Field(ge=-_FARTHEST_NM, le=_FARTHEST_NM, allow_inf_nan=False)]
Point = tuple[_Nm, _Nm, _Nm]
"""A place in nm: x, y, z; of voxels, their centres."""
_Note = Annotated[str, Field(max_length=_LONGEST_NOTE)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# --- what is decided -----------------------------------------------------------------------------


class Verdict(_Record):
    """Whether a candidate is a synapse, and what is wrong with it."""

    verdict: Answer
    error: ErrorKind | None = None
    note: _Note = ""


class AddedSynapse(_Record):
    """A synapse that was missed: a place on it, and its presynaptic cell if known (0 = not)."""

    position_nm: Point
    pre_id: CellId = 0
    note: _Note = ""


class ReviewedBox(_Record):
    """All in this box was looked at, and what was missed was added: corners in nm."""

    start_nm: Point
    stop_nm: Point

    @model_validator(mode="after")
    def _has_voxels(self) -> Self:
        if not all(a < b for a, b in zip(self.start_nm, self.stop_nm, strict=True)):
            raise ValueError("each stop of a box must be above its start")
        return self


class Partner(_Record):
    """A postsynaptic cell; without a share it has an even part of what the others leave."""

    post_id: SynapseId
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None


class PartnerSet(_Record):
    """All partners of a synapse, as they are to be."""

    pre_id: CellId
    partners: Annotated[tuple[Partner, ...], Field(max_length=_MOST)]
    note: _Note = ""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        ids = [partner.post_id for partner in self.partners]
        if len(set(ids)) < len(ids):
            raise ValueError("a cell is listed twice among the partners")
        return self


class Merging(_Record):
    """Objects that are one synapse."""

    syn_ids: Annotated[tuple[SynapseId, ...], Field(min_length=2, max_length=_MOST)]

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.syn_ids)) < len(self.syn_ids):
            raise ValueError("a synapse is listed twice among those to merge")
        return self


class Splitting(_Record):
    """An object that is several synapses: places in nm on each."""

    markers: Annotated[
        tuple[Annotated[tuple[Point, ...], Field(min_length=1, max_length=_MOST)], ...],
        Field(min_length=2, max_length=_MOST),
    ]


class Deletion(_Record):
    """The object is to go."""


class Repainting(ReviewedBox):
    """A box was drawn anew in an editor; its voxels are kept by their digest."""

    source: Annotated[str, Field(min_length=1, max_length=_LONGEST_NOTE)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{8,128}$")]


class Undoing(_Record):
    """That decision stands no longer; an undo can be undone."""

    undoes: _Uuid


# --- decisions -----------------------------------------------------------------------------------


class Decision(_Record):
    """What is common to all decisions.

    Attributes
    ----------
    id : int
        Place in the log; 0 before it is there.
    uuid : str
        From whoever made it: the same is never written twice.
    time : str
        UTC, ISO 8601, milliseconds.
    reviewer : str
        1 to 64 printable characters.
    loop, action : str
    syn_id : int
        The object; 0 for what is about none.
    position_nm : (x, y, z) or None
        Where it was decided.
    old : dict or None
        What stood before, as JSON.
    new
        What stands now; its class depends on the action.
    seconds : float
        How long it took.
    origin : str
        ``review``, or what it was imported from.
    """

    id: Annotated[int, Field(ge=0)] = 0
    uuid: _Uuid = Field(default_factory=lambda: str(uuids.uuid4()))
    time: _Time = Field(default_factory=timestamp)
    reviewer: _Name
    loop: Loop
    action: str
    syn_id: CellId = 0
    position_nm: Point | None = None
    old: dict[str, JsonValue] | None = None
    new: Any
    seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    origin: Annotated[str, Field(max_length=_LONGEST_NOTE)] = "review"

    def to_json(self) -> dict[str, Any]:
        """As JSON: ids as strings."""
        return self.model_dump(mode="json")

    @property
    def substance(self) -> object:
        """What of it two reviewers can differ in: not notes, nor the order of a list."""
        return self.new


class _OfSynapse(Decision):
    """A decision about an object: its id is not 0."""

    syn_id: SynapseId


class VerdictDecision(_OfSynapse):
    """True, false or unsure."""

    loop: Literal["candidates"] = "candidates"
    action: Literal["verdict"] = "verdict"
    new: Verdict

    @property
    def substance(self) -> tuple[str, str | None]:
        """The answer and the kind of error."""
        return self.new.verdict, self.new.error


class AddDecision(Decision):
    """A missed synapse; its key is the uuid."""

    loop: Literal["candidates"] = "candidates"
    action: Literal["add_synapse"] = "add_synapse"
    new: AddedSynapse


class BoxDecision(Decision):
    """A box is done."""

    loop: Literal["candidates"] = "candidates"
    action: Literal["box_done"] = "box_done"
    new: ReviewedBox


class PartnersDecision(_OfSynapse):
    """The cells of a synapse."""

    loop: Literal["partners"] = "partners"
    action: Literal["partners"] = "partners"
    new: PartnerSet

    @property
    def substance(self) -> tuple[int, frozenset[int]]:
        """The cells, not their shares."""
        return self.new.pre_id, frozenset(partner.post_id for partner in self.new.partners)


class MergeDecision(Decision):
    """Several objects become one."""

    loop: Literal["objects"] = "objects"
    action: Literal["merge"] = "merge"
    new: Merging


class SplitDecision(_OfSynapse):
    """One object becomes several."""

    loop: Literal["objects"] = "objects"
    action: Literal["split"] = "split"
    new: Splitting


class DeleteDecision(_OfSynapse):
    """An object goes."""

    loop: Literal["objects"] = "objects"
    action: Literal["delete"] = "delete"
    new: Deletion = Deletion()


class RepaintDecision(Decision):
    """A box is drawn anew."""

    loop: Literal["objects"] = "objects"
    action: Literal["repaint"] = "repaint"
    new: Repainting


class UndoDecision(Decision):
    """An earlier decision stands no longer; loop and object are those of that decision."""

    # The log fills in the loop, and the object, of what is undone.
    loop: Loop = "candidates"
    action: Literal["undo"] = "undo"
    new: Undoing


_Any = Annotated[
    VerdictDecision
    | AddDecision
    | BoxDecision
    | PartnersDecision
    | MergeDecision
    | SplitDecision
    | DeleteDecision
    | RepaintDecision
    | UndoDecision,
    Field(discriminator="action"),
]
_PARSER: Final[TypeAdapter[Decision]] = TypeAdapter(_Any)

ACTIONS: Final = (
    "verdict", "add_synapse", "box_done", "partners", "merge", "split", "delete", "repaint", "undo",
)  # fmt: skip


def parse_decision(data: Mapping[str, Any]) -> Decision:
    """The decision that JSON tells.

    Parameters
    ----------
    data : mapping
        As :meth:`Decision.to_json` gives it. ``reviewer``, ``action`` and ``new`` are needed, and
        ``syn_id`` where the action is about an object; ``uuid`` and ``time`` are made if absent.

    Raises
    ------
    ReviewError
        If it is none: one line.
    """
    try:
        return _PARSER.validate_python(dict(data))
    except ValidationError as error:
        raise ReviewError(f"this is no decision: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """The first of what is wrong, as ``new.verdict: input should be 'true', 'false'``."""
    found = error.errors(include_url=False, include_context=False)[0]
    # The union puts the action first.
    where = ".".join(str(part) for part in found["loc"][1:])
    if found["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        return f"action: it is one of {', '.join(ACTIONS)}"
    message = found["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}" if where else message
