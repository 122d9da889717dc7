"""Which errors may pass when a task is tried again, and how long to wait until then."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from enum import StrEnum

from cnapse.errors import CnapseError
from cnapse.faults import is_transient

__all__ = ["Kind", "kind_of", "tries_of", "wait_seconds"]

_LONGEST_WAIT = 60.0
# An outage lasts longer than a fault: what comes from outside is tried so many times more often.
_TRANSIENT_PER_TRY = 3

_PASSING_ERRNO = {
    errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET,
    errno.EHOSTUNREACH, errno.EINTR, errno.EIO, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH,
    errno.EPIPE, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
_LASTING_ERRNO = {
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip


class Kind(StrEnum):
    """What trying again may change."""

    TRANSIENT = "transient"
    """Network or server: likely to pass."""
    MEMORY = "memory"
    """Likely to pass where more is free; but blocks do not get smaller by waiting."""
    UNKNOWN = "unknown"
    """A fault of data or program, or a body cut short that nobody noticed: tried a few times."""
    PERMANENT = "permanent"
    """Another try gives the same: set aside at once."""


def kind_of(error: BaseException) -> Kind:
    """Tell an error that may pass from one that stays, by it and what it was raised from."""
    causes = list(_causes(error))
    if any(isinstance(cause, MemoryError) for cause in causes):
        return Kind.MEMORY
    if any(_is_passing(cause) for cause in causes):
        return Kind.TRANSIENT
    if any(_is_lasting(cause) for cause in causes):
        return Kind.PERMANENT
    return Kind.UNKNOWN


def tries_of(kind: Kind, tries: int) -> int:
    """How often a task may fail in this way, where `tries` is what the configuration allows."""
    if kind is Kind.PERMANENT:
        return 1
    return tries * _TRANSIENT_PER_TRY if kind is Kind.TRANSIENT else tries


def wait_seconds(kind: Kind, failed: int) -> float:
    """Seconds until a task is tried again after it failed so often: doubled each time, jittered."""
    if kind not in (Kind.TRANSIENT, Kind.MEMORY):
        return 0.0
    longest = min(_LONGEST_WAIT, 2.0 ** min(failed, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads workers, decides nothing


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None and not _is_remote(error):
        return error.errno in _PASSING_ERRNO
    return is_transient(error)


def _is_remote(error: BaseException) -> bool:
    """Whether a client of a server raised it; a local file's error has another meaning."""
    return not type(error).__module__.startswith("builtins")


def _is_lasting(error: BaseException) -> bool:
    if isinstance(error, CnapseError | ImportError | NotImplementedError | PermissionError):
        return True
    if isinstance(error, OSError):
        return error.errno in _LASTING_ERRNO
    # What a server said, and what is not among what may pass.
    return type(error).__module__.partition(".")[0] in ("boto3", "botocore", "google")
