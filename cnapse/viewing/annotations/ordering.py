"""Orders of entries: stable, and in a time that grows with their number alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["grouped", "sorted_by"]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Orders = npt.NDArray[np.uint32]

_DIGIT_BITS = 8
_DIGITS = 8
_VALUES = 1 << _DIGIT_BITS


@njit(nogil=True, cache=True)
def grouped(groups: npt.NDArray[Any], count: int) -> tuple[Int64s, Int64s]:
    """The order that puts numbered groups one after the other, stable, and where each starts."""
    starts = np.zeros(count + 1, np.int64)
    for i in range(len(groups)):
        starts[groups[i] + 1] += 1
    starts = np.cumsum(starts)
    order, cursor = np.empty(len(groups), np.int64), starts[:-1].copy()
    for i in range(len(groups)):
        order[cursor[groups[i]]] = i
        cursor[groups[i]] += 1
    return order, starts


def sorted_by(*columns: Ids) -> Orders:
    """The order of rows by several columns, the last one first, as `numpy.lexsort` has it; stable.

    Parameters
    ----------
    *columns : ndarray of uint64, shape (n,)
        n below 2^32.
    """
    order = np.arange(len(columns[0]), dtype=np.uint32)
    for values in columns:
        order = _sorted(values, order)
    return order


@njit(nogil=True, cache=True)
def _sorted(values: Ids, order: Orders) -> Orders:
    """An order made one by values, as far as they are equal left as it was.

    By digits from the lowest on (Knuth, TAOCP 3, 5.2.5); those that are the same in all values are
    passed over, so that ids of one range cost few passes.
    """
    n = len(order)
    rises, different = True, np.uint64(0)
    keys = np.empty(n, np.uint64)
    for i in range(n):
        keys[i] = values[order[i]]
        different |= keys[i] ^ keys[0]
        rises &= i == 0 or keys[i] >= keys[i - 1]
    if rises:
        return order
    spare_keys, spare_order = np.empty_like(keys), np.empty_like(order)
    order = order.copy()
    mask = np.uint64(_VALUES - 1)
    for digit in range(_DIGITS):
        shift = np.uint64(digit * _DIGIT_BITS)
        if (different >> shift) & mask == 0:
            continue
        cursor = np.zeros(_VALUES + 1, np.int64)
        for i in range(n):
            cursor[((keys[i] >> shift) & mask) + np.uint64(1)] += 1
        for i in range(_VALUES):
            cursor[i + 1] += cursor[i]
        for i in range(n):
            value = (keys[i] >> shift) & mask
            place = cursor[value]
            cursor[value] = place + 1
            spare_keys[place], spare_order[place] = keys[i], order[i]
        keys, spare_keys = spare_keys, keys
        order, spare_order = spare_order, order
    return order
