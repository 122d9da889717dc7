"""What is asked and answered, as records: they check requests and make the OpenAPI document."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from cnapse.review.decisions import (
    AddedSynapse,
    Answer,
    Deletion,
    ErrorKind,
    Loop,
    Merging,
    PartnerSet,
    ReviewedBox,
    Splitting,
    Undoing,
    Verdict,
)
from cnapse.review.items import Order
from cnapse.tables import SynapseFlag

__all__ = [
    "NUMBER",
    "WHOLE",
    "Cells",
    "Claim",
    "DecisionOut",
    "DecisionPage",
    "Detail",
    "Fault",
    "Id",
    "Item",
    "ItemPage",
    "Items",
    "LabelMap",
    "Nothing",
    "Posted",
    "Progress",
    "Release",
    "Session",
    "SignIn",
    "ViewerAddress",
    "Wanted",
]

_MOST_IDS = 2000
_FLAGS: Final = tuple(str(flag.name).lower() for flag in SynapseFlag)
_FLAG = "|".join(_FLAGS)
_UUID = r"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def _written(pattern: re.Pattern[str], what: str) -> BeforeValidator:
    """Text of an address that is just what JSON would have; pydantic takes more for a number."""

    def check(value: object) -> object:
        if isinstance(value, float) and value.is_integer() and pattern is _WHOLE:
            return int(value)  # 3.0 is a whole number of JSON
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise ValueError(f"give {what}")
        return value

    return BeforeValidator(check)


# Behind the limits: pydantic's schema does not know limits of what goes through a function.
WHOLE = _written(_WHOLE, "a whole number")
NUMBER = _written(_NUMBER, "a number")
_QueryBool = Annotated[bool, _written(re.compile("true|false"), "true or false")]

Vector = Annotated[list[float], Field(min_length=3, max_length=3)]
"""x, y, z. A tuple would be a schema that not all readers of OpenAPI know."""
Id = Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]
"""Id of a synapse or a cell: uint64, which JavaScript cannot hold."""
_Uuid = Annotated[str, Field(pattern=_UUID)]
_Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_Size = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False), NUMBER]
_Part = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NUMBER]
_Name = Annotated[str, Field(min_length=1, max_length=64)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class Fault(_Told):
    """Why a request was refused."""

    detail: str


class Nothing(_Told):
    """Done."""


# --- who ----------------------------------------------------------------------------------------


class SignIn(_Asked):
    """The name that decisions are kept under in this browser."""

    reviewer: _Name


class Session(_Told):
    """What is reviewed, and who reviews; null before a name is given."""

    title: str
    run_id: str
    reviewer: str | None
    resolution: Vector
    size: Annotated[list[int], Field(min_length=3, max_length=3)]
    start_nm: Vector
    viewer: bool
    names: bool
    flags: list[str]
    errors: list[ErrorKind]
    orders: list[str]
    total: int


# --- items --------------------------------------------------------------------------------------


class Wanted(BaseModel):
    """Which items, and in what order; what is left out does not matter."""

    order: Order = "doubt"
    descending: _QueryBool | None = None
    verdict: Literal["open", "decided", "true", "false", "unsure", "all"] = "all"
    error: ErrorKind | Literal["any"] | None = None
    cell: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    min_size: _Size | None = None
    max_size: _Size | None = None
    min_doubt: _Part | None = None
    max_doubt: _Part | None = None
    min_score: _Part | None = None
    max_score: _Part | None = None
    flag: Annotated[str, Field(pattern=rf"^({_FLAG})(\|({_FLAG})){{0,20}}$")] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1), WHOLE] = 0

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, given: Any) -> Any:
        """An address has no null but the word."""
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value != "null" or name == "cell"}


class Claim(Wanted):
    """The next items of a loop, or just these ones."""

    model_config = ConfigDict(extra="forbid")

    loop: Literal["candidates", "partners"]
    count: Annotated[int, Field(ge=1, le=200), WHOLE] = 1
    exclude: Annotated[list[Id], Field(max_length=_MOST_IDS)] = []
    items: Annotated[list[Id], Field(max_length=_MOST_IDS)] | None = None


class Release(_Asked):
    """Items that are given back."""

    loop: Loop
    items: Annotated[list[Id], Field(max_length=_MOST_IDS)]


class Item(_Told):
    """A candidate in a list."""

    syn_id: Id
    pre: str
    pre_id: Id
    size: float
    sections: int
    doubt: float | None
    doubts: str
    score: float | None
    position_nm: Vector
    n_partners: int
    flags: list[str]
    verdict: Answer | None
    error: ErrorKind | None
    note: str
    by: str | None
    leased_by: str | None
    extent: Annotated[list[int], Field(min_length=2, max_length=2)]


class Items(_Told):
    """Items that are the reviewer's now."""

    items: list[Item]


class ItemPage(_Told):
    """A part of a list of items."""

    total: int
    items: list[Item]


class DecisionOut(_Told):
    """A decision as the log has it."""

    id: int
    uuid: str
    time: str
    reviewer: str
    loop: Loop
    action: str
    syn_id: Id
    position_nm: Vector | None
    old: dict[str, JsonValue] | None
    new: dict[str, JsonValue]
    seconds: float
    origin: str
    undone: bool


class DecisionPage(_Told):
    """Some decisions."""

    decisions: list[DecisionOut]


class PartnerOut(_Told):
    """A postsynaptic cell, as the pipeline has it."""

    post_id: Id
    post: str
    share: float
    raw_share: float | None
    position_nm: Vector | None


class Cells(_Told):
    """A cell with its name; the id where it has none."""

    id: Id
    name: str


class Neighbour(_Told):
    """A synapse nearby."""

    syn_id: Id
    pre: str
    size: float
    position_nm: Vector
    distance_nm: float


class StandingOut(_Told):
    """What counts now."""

    verdict: DecisionOut | None
    partners: DecisionOut | None


class Detail(Item):
    """All about a synapse."""

    box_nm: Annotated[list[Vector], Field(min_length=2, max_length=2)]
    partners: list[PartnerOut]
    standing: StandingOut
    history: list[DecisionOut]
    neighbours: list[Neighbour]


# --- pictures -----------------------------------------------------------------------------------


class LabelMap(_Told):
    """Labels of a square of pixels, row by row, as runs: number (0 is nothing) and length."""

    size: int
    cells: list[Cells]
    cell_runs: list[int]
    synapses: list[Id]
    synapse_runs: list[int]


class ViewerAddress(_Told):
    """What a frame is to show."""

    url: str


# --- decisions ----------------------------------------------------------------------------------


class _Post(_Asked):
    uuid: _Uuid
    seconds: _Seconds = 0.0


class _OfSynapse(_Post):
    syn_id: Id


class _Perhaps(_Post):
    syn_id: Id = "0"


class PostedVerdict(_OfSynapse):
    """True, false or unsure."""

    action: Literal["verdict"]
    loop: Literal["candidates"] = "candidates"
    new: Verdict


class PostedAdd(_Perhaps):
    """A missed synapse."""

    action: Literal["add_synapse"]
    loop: Literal["candidates"] = "candidates"
    new: AddedSynapse


class PostedBox(_Perhaps):
    """A box is done."""

    action: Literal["box_done"]
    loop: Literal["candidates"] = "candidates"
    new: ReviewedBox


class PostedPartners(_OfSynapse):
    """The cells of a synapse."""

    action: Literal["partners"]
    loop: Literal["partners"] = "partners"
    new: PartnerSet


class PostedMerge(_Perhaps):
    """Several objects become one."""

    action: Literal["merge"]
    loop: Literal["objects"] = "objects"
    new: Merging


class PostedSplit(_OfSynapse):
    """One object becomes several."""

    action: Literal["split"]
    loop: Literal["objects"] = "objects"
    new: Splitting


class PostedDelete(_OfSynapse):
    """The object goes."""

    action: Literal["delete"]
    loop: Literal["objects"] = "objects"
    new: Deletion


class PostedUndo(_Perhaps):
    """A decision stands no longer."""

    action: Literal["undo"]
    loop: Loop = "candidates"
    new: Undoing


Posted = Annotated[
    PostedVerdict
    | PostedAdd
    | PostedBox
    | PostedPartners
    | PostedMerge
    | PostedSplit
    | PostedDelete
    | PostedUndo,
    Field(discriminator="action"),
]
"""A decision as a page sends it: who, when, where, and what stood before, the server knows."""


class ReviewerWork(_Told):
    """What a reviewer did."""

    name: str
    decisions: int
    candidates: int
    partners: int
    objects: int
    seconds: float
    per_minute: float | None
    last: str


class Said(_Told):
    """What a reviewer decided."""

    reviewer: str
    new: dict[str, Any]


class DisagreementOut(_Told):
    """A synapse that reviewers see differently."""

    syn_id: Id
    loop: Loop
    first: Said
    last: Said


class Progress(_Told):
    """Counts of what was done and what is left."""

    total: int
    candidates: dict[str, int]
    partners: dict[str, int]
    objects: dict[str, int]
    reviewers: list[ReviewerWork]
    minutes: list[Annotated[list[str | int], Field(min_length=2, max_length=2)]]
    disagreements: list[DisagreementOut]
