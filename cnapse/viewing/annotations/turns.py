"""Work in threads whose results come in order, and of which little waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

__all__ = ["in_turn"]

_Result = TypeVar("_Result")


def in_turn(pool: Executor, jobs: Iterable[Callable[[], _Result]], most: int) -> Iterator[_Result]:
    """What jobs give, in their order.

    Parameters
    ----------
    pool
    jobs : iterable of callable
        Gone through as results are taken.
    most : int
        Jobs that are started before the first of them is waited for.
    """
    waiting: deque[Future[_Result]] = deque()
    for job in jobs:
        waiting.append(pool.submit(job))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
