"""Columns of a table as arrays, exactly: ids never pass through float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cnapse.errors import TableError
from cnapse.tables import parse_flags

__all__ = ["as_flags", "as_ids", "as_numbers", "as_places"]

_EXACT = 2**53
_AXES = 3
_BRACKETS = r"[\[\]\(\),;\s]+"


def as_ids(column: pa.Array, where: str) -> npt.NDArray[np.uint64]:
    """A column of ids: integers, or their digits as text; what is empty is 0.

    Parameters
    ----------
    column : Array
        Of integers, text, or floats that are whole and below 2^53.
    where : str
        File and column, for errors.

    Returns
    -------
    ndarray of uint64

    Raises
    ------
    TableError
        For a negative number, a fraction, text that is no number, or floats that may have lost
        digits.
    """
    column = _plain(column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _digits(column, where)
    elif pa.types.is_floating(column.type):
        return _whole(np.asarray(pc.fill_null(column, 0.0).to_numpy(False)), where)
    if not pa.types.is_integer(column.type):
        if not pa.types.is_null(column.type):
            raise TableError(f"{where} is {column.type}: ids are integers, or text of digits")
        return np.zeros(len(column), np.uint64)
    values = np.asarray(pc.fill_null(column, 0).to_numpy(False))
    if values.dtype.kind == "i" and len(values) and int(values.min()) < 0:
        raise TableError(f"{where} has {values.min()}: ids are from 0, which is no cell, to 2^64-1")
    return values.astype(np.uint64)


def as_numbers(column: pa.Array, where: str) -> npt.NDArray[np.float64]:
    """A column of numbers; what is empty is NaN.

    Raises
    ------
    TableError
        If something is no number.
    """
    column = _plain(column)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    try:
        numbers = column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableError(f"{where}: {_said(error)}; expected numbers") from error
    return np.asarray(pc.fill_null(numbers, float("nan")).to_numpy(False), np.float64)


def as_places(column: pa.Array, where: str) -> npt.NDArray[np.float64]:
    """A column of positions: lists of three numbers, or the same as text, ``[1, 2, 3]``.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        NaN where there is none.

    Raises
    ------
    TableError
        If one has not three numbers.
    """
    column = _plain(column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        spaced = pc.utf8_trim_whitespace(pc.replace_substring_regex(column, _BRACKETS, " "))
        column = pc.utf8_split_whitespace(pc.if_else(pc.equal(spaced, ""), None, spaced))
    if pa.types.is_null(column.type):
        return np.full((len(column), _AXES), np.nan)
    if not _is_list(column.type):
        raise TableError(f"{where} is {column.type}: expected lists of x, y, z")
    there = np.asarray(column.is_valid().to_numpy(False))
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), _AXES).to_numpy(False))
    if (lengths != _AXES).any():
        row = int(np.flatnonzero(lengths != _AXES)[0])
        raise TableError(f"{where}: {column[row].as_py()} is no position; expected x, y, z")
    places = np.full((len(column), _AXES), np.nan)
    # Lists that are not there are left out of `flatten`.
    places[there] = as_numbers(pc.list_flatten(column), where).reshape(-1, _AXES)
    return places


def as_flags(column: pa.Array, where: str) -> npt.NDArray[np.uint32]:
    """A bit field: integers, or cnapse's names joined by ``|``.

    Raises
    ------
    TableError
        If it does not fit 32 bits, or a name is unknown.
    """
    column = _plain(column)
    if pa.types.is_string(column.type) and not _all_digits(column):
        coded = column.fill_null("").dictionary_encode()
        bits = np.array([parse_flags(text) for text in coded.dictionary.to_pylist()], np.uint32)
        chosen: npt.NDArray[np.uint32] = bits[coded.indices.to_numpy(zero_copy_only=False)]
        return chosen
    values = as_ids(column, where)
    if len(values) and int(values.max()) >= 1 << 32:
        raise TableError(f"{where} has {values.max()}: flags are 32 bits")
    return values.astype(np.uint32)


def _plain(column: pa.Array) -> pa.Array:
    """Without chunks, dictionaries and views."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type in (pa.large_string(), pa.string_view()):
        column = column.cast(pa.string())
    return column


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _all_digits(column: pa.Array) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, r"^\d*$"), min_count=0).as_py())


def _digits(column: pa.Array, where: str) -> pa.Array:
    """Text as integers: `12` and, as pandas writes columns with gaps, `12.0`."""
    trimmed = pc.utf8_trim_whitespace(column)
    empty = pc.is_in(trimmed, value_set=pa.array(["", "nan", "NaN", "None", "<NA>"]))
    present = pc.if_else(empty, None, trimmed)
    if pc.any(pc.match_substring_regex(present, r"\d[.eE]"), min_count=0).as_py():
        return pa.array(_whole(as_numbers(present, where), where))
    try:
        return present.cast(pa.uint64())
    except pa.ArrowInvalid as error:
        raise TableError(
            f"{where}: {_said(error)}; ids are from 0, which is no cell, to 2^64-1"
        ) from error


def _whole(values: npt.NDArray[Any], where: str) -> npt.NDArray[np.uint64]:
    """Floats that are ids."""
    values = np.nan_to_num(values.astype(np.float64), nan=0.0)
    if len(values) and not ((values >= 0) & (values == np.floor(values))).all():
        bad = values[(values < 0) | (values != np.floor(values))][0]
        raise TableError(f"{where} has {bad:g}: ids are whole numbers from 0")
    if len(values) and values.max() >= _EXACT:
        raise TableError(
            f"{where} holds floats up to {values.max():.17g}, and beyond 2^53 they are not exact: "
            "write the ids as integers (in pandas: astype('Int64') before anything is joined)"
        )
    return values.astype(np.uint64)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())
