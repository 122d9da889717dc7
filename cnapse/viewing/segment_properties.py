"""Segment properties: names, types and numbers, by which Neuroglancer's segments are searched.

A file ``info`` of `neuroglancer_segment_properties`, everything in it inline. It lies beside the
layers and is a second source of theirs, so that a layer made elsewhere stays as it is.

In the list of segments, a text is searched in names and descriptions, ``#sensory`` keeps a type or
a flag, ``inputs>20`` compares a number, and ``>outputs`` sorts by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnapse.errors import TableError
from cnapse.names import Names
from cnapse.tables import flag_names

__all__ = ["MOST_SEGMENTS", "CellTotals", "Number", "segment_properties", "synapse_properties"]

Json = dict[str, Any]

MOST_SEGMENTS = 200_000
"""So many segments a layer's properties may have: the viewer reads the whole file at once."""

_MOST_PARTS = 64
_TOTALS = ("inputs", "outputs", "input_size", "output_size")
# Neuroglancer takes a word that begins with # for a tag, and a space for its end.
_NO_TAG = re.compile(r"[\s#]+")


@dataclass(frozen=True, slots=True)
class Number:
    """A number of each segment.

    Parameters
    ----------
    name : str
        By which it is asked for in the viewer: lower case, no spaces.
    column : array_like
        One a segment, finite.
    description : str
        What it is, with its unit.
    dtype
        How Neuroglancer keeps it.
    """

    name: str
    column: npt.ArrayLike
    description: str
    dtype: Literal["int32", "uint32", "float32"] = "float32"


def segment_properties(
    ids: npt.ArrayLike,
    labels: Sequence[str],
    *,
    descriptions: Sequence[str] | None = None,
    tags: Sequence[Sequence[str]] | None = None,
    numbers: Sequence[Number] = (),
) -> Json:
    """The ``info`` of segment properties.

    Parameters
    ----------
    ids : array_like of uint64, shape (n,)
    labels : sequence of str
        The segments' names.
    descriptions : sequence of str, optional
        A line each; left out where all are empty.
    tags : sequence of sequences of str, optional
        Words each. Spaces in them become ``_``, ``#`` is taken out; left out where there is none.
    numbers : sequence of Number

    Returns
    -------
    dict
        Ready for `json.dumps`, in the order of the ids; ids are strings, since JavaScript's
        numbers are exact only up to 2^53.

    Raises
    ------
    TableError
        If something has another length than the ids, an id is there twice, or a number is not
        finite.
    """
    segments = np.asarray(ids, np.uint64)
    order = np.argsort(segments, kind="stable")
    _check(segments[order], labels, descriptions, tags, numbers)
    properties: list[Json] = [
        {"id": "label", "type": "label", "values": [labels[i] for i in order.tolist()]}
    ]
    if descriptions is not None and any(descriptions):
        lines = [descriptions[i] for i in order.tolist()]
        properties.append({"id": "description", "type": "description", "values": lines})
    if tags is not None and any(tags):
        properties.append(_tags([tags[i] for i in order.tolist()]))
    properties += [_number(number, order) for number in numbers]
    return {
        "@type": "neuroglancer_segment_properties",
        "inline": {"ids": [str(i) for i in segments[order].tolist()], "properties": properties},
    }


def _check(
    ordered: npt.NDArray[np.uint64],
    labels: Sequence[str],
    descriptions: Sequence[str] | None,
    tags: Sequence[Sequence[str]] | None,
    numbers: Sequence[Number],
) -> None:
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise TableError(f"segment properties: segment {int(twice[0])} is there twice")
    columns: dict[str, Any] = {"label": labels, "description": descriptions, "tags": tags}
    columns |= {number.name: number.column for number in numbers}
    for name, values in columns.items():
        if values is not None and len(values) != len(ordered):
            raise TableError(
                f"segment properties: {len(values)} values of {name!r} for {len(ordered)} segments"
            )
    for number in numbers:
        if not np.isfinite(np.asarray(number.column, np.float64)).all():
            raise TableError(f"segment properties: {number.name!r} has values that are not finite")


def _tags(tags: Sequence[Sequence[str]]) -> Json:
    words = [sorted({w for tag in own if (w := _NO_TAG.sub("_", tag).strip("_"))}) for own in tags]
    known = sorted({word for own in words for word in own})
    place = {word: n for n, word in enumerate(known)}
    values = [[place[word] for word in own] for own in words]
    return {"id": "tags", "type": "tags", "tags": known, "values": values}


def _number(number: Number, order: npt.NDArray[np.intp]) -> Json:
    values = np.asarray(number.column)[order]
    if number.dtype == "float32":
        # The shortest text that gives the same float32.
        listed: list[Any] = [_short(value) for value in values.astype(np.float32)]
    else:
        limits = np.iinfo(number.dtype)
        listed = np.clip(values, limits.min, limits.max).astype(np.int64).tolist()
    return {
        "id": number.name,
        "type": "number",
        "description": number.description,
        "data_type": number.dtype,
        "values": listed,
    }


def _short(value: np.float32) -> float | int:
    short = float(str(value))
    return int(short) if short.is_integer() and abs(short) < 1 << 24 else short


@dataclass(slots=True)
class CellTotals:
    """Numbers of synapses of each cell, added up over the parts of a run's tables."""

    _parts: list[pd.DataFrame] = field(default_factory=list)

    def add(self, synapses: pd.DataFrame, partners: pd.DataFrame) -> None:
        """Count the rows of one part of both tables."""
        outputs = synapses.loc[synapses["pre_id"] != 0, ["pre_id", "size"]]
        inputs = partners[["post_id", "size"]]
        for cells, column in ((inputs, "post_id"), (outputs, "pre_id")):
            word = "input" if column == "post_id" else "output"
            sums = cells.groupby(column)["size"].agg(["count", "sum"])
            sums.columns = pd.Index([f"{word}s", f"{word}_size"])
            self._parts.append(sums)
        if len(self._parts) > _MOST_PARTS:
            self._parts = [self._summed()]

    def _summed(self) -> pd.DataFrame:
        # Ids beyond 2^53 must meet no float: the index is uint64 from the start.
        empty = pd.DataFrame(columns=_TOTALS, index=pd.Index([], dtype="uint64"), dtype="float64")
        whole = pd.concat([empty, *self._parts])[list(_TOTALS)].fillna(0.0)
        return whole.groupby(level=0).sum()

    def properties(self, names: Names, types: Mapping[int, Sequence[str]]) -> tuple[Json, int]:
        """The properties of every cell that has a synapse or a name.

        Parameters
        ----------
        names : Names
        types : mapping of int to sequence of str
            What becomes tags.

        Returns
        -------
        dict
            Of :func:`segment_properties`.
        int
            How many cells were left out: where there are more than :data:`MOST_SEGMENTS`, those
            with the fewest synapses.
        """
        totals = self._summed()
        named = np.array(sorted(names.ids), np.uint64)
        totals = totals.reindex(np.union1d(totals.index.to_numpy(np.uint64), named), fill_value=0.0)
        left_out = max(0, len(totals) - MOST_SEGMENTS)
        if left_out:
            most = (totals["inputs"] + totals["outputs"]).sort_values(
                ascending=False, kind="stable"
            )
            totals = totals.loc[np.sort(most.index.to_numpy()[:MOST_SEGMENTS])]
        ids = totals.index.to_numpy(np.uint64)
        numbers = [
            Number("inputs", totals["inputs"], "synapses onto the cell", "uint32"),
            Number("outputs", totals["outputs"], "synapses of the cell", "uint32"),
            Number("input_size", totals["input_size"], "its shares of its inputs' volumes, nm3"),
            Number("output_size", totals["output_size"], "volume of its outputs, nm3"),
        ]
        tags = [types.get(cell, ()) for cell in ids.tolist()]
        return segment_properties(ids, names.of(ids), tags=tags, numbers=numbers), left_out


def synapse_properties(synapses: pd.DataFrame, partners: pd.DataFrame) -> Json:
    """The properties of synapses: ``PRE -> POST, POST`` as name, flags as tags, and numbers.

    Parameters
    ----------
    synapses, partners : DataFrame
        As :data:`cnapse.tables.SYNAPSES` and :data:`cnapse.tables.PARTNERS` describe them.

    Returns
    -------
    dict
        Of :func:`segment_properties`.
    """
    ordered = partners.sort_values(["share", "post_id"], ascending=[False, True])
    posts = ordered.groupby("syn_id")["post"].agg(", ".join).to_dict()
    pairs = zip(synapses["syn_id"].tolist(), synapses["pre"].tolist(), strict=True)
    labels = [f"{pre} -> {posts.get(syn_id, 'nobody')}" for syn_id, pre in pairs]
    tags = [_flags(int(value)) for value in synapses["flags"]]
    numbers = [
        Number("size", synapses["size"], "volume, nm3"),
        Number("partners", synapses["n_partners"], "postsynaptic cells", "uint32"),
        Number("doubt", synapses["doubt"].fillna(0.0), "0 to 1, to order review by"),
    ]
    numbers += [
        Number(column, synapses[column], "predicted, 0 to 1")
        for column in ("mean_probability", "max_probability")
        if len(synapses) and synapses[column].notna().all()
    ]
    return segment_properties(
        synapses["syn_id"],
        labels,
        descriptions=synapses["doubts"].fillna("").astype("str").tolist(),
        tags=tags,
        numbers=numbers,
    )


def _flags(value: int) -> list[str]:
    return [name for name in flag_names(value).split("|") if name]
