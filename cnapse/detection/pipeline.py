"""Reading, computing and writing at the same time, in bounded memory, by threads of one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["overlapped"]

Part = TypeVar("Part")
Read = TypeVar("Read")
Made = TypeVar("Made")


def overlapped(
    parts: Iterable[Part],
    read: Callable[[Part], Read],
    compute: Callable[[Part, Read], Made],
    write: Callable[[Part, Made], object],
    *,
    ahead: int = 1,
) -> None:
    """Do ``write(part, compute(part, read(part)))`` for each part, the three at the same time.

    One thread reads ahead, the caller's computes, one writes; each goes through the parts in order.

    Parameters
    ----------
    parts : iterable
    read, compute, write : callable
    ahead : int
        How many parts may wait to be computed, and how many to be written, those in work included:
        at most ``2 ahead + 1`` parts are in memory, and one made of a part.

    Raises
    ------
    Exception
        The first that one of the three raised. What is in work is finished, no more is begun.
    """
    reading: deque[tuple[Part, Future[Read]]] = deque()
    writing: deque[Future[object]] = deque()

    def take_one() -> None:
        part, future = reading.popleft()
        made = compute(part, future.result())
        del future
        if len(writing) >= ahead:
            writing.popleft().result()
        writing.append(writer.submit(write, part, made))

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        try:
            for part in parts:
                reading.append((part, reader.submit(read, part)))
                if len(reading) > ahead:
                    take_one()
            while reading:
                take_one()
            while writing:
                writing.popleft().result()
        except BaseException:
            reader.shutdown(cancel_futures=True)
            writer.shutdown(cancel_futures=True)
            raise
