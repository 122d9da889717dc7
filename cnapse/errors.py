"""Every error a user can meet, as one tree.

Each leaf is also the builtin it resembles, so ``except ValueError`` works as well as ``except
CnapseError``. A message names the file, layer or option, what was found, what was expected and
the way out; the command line prints it as one line.

::

    CnapseError
    ├── ConfigError        (ValueError)         an option or cnapse.toml
    ├── ResolutionError    (ValueError)         voxel sizes that do not fit together
    ├── BoundsError        (ValueError)         boxes outside of a layer, layers that do not overlap
    ├── LayerNotFoundError (FileNotFoundError)  no file, no layer, no such scale
    ├── LayerExistsError   (FileExistsError)    would overwrite
    ├── FormatError        (ValueError)         a file or array with a wrong shape, dtype or content
    │   └── DamagedFileError                    a file of a run whose bytes are not what was written
    ├── CheckpointError    (ValueError)         weights that do not fit the network
    ├── ConvergenceError   (RuntimeError)       an iteration that did not reach its tolerance
    ├── TableError         (ValueError)         a table with wrong or missing columns
    ├── StorageError       (OSError)            a disk that is full, no permission
    │   └── StorageUnavailableError             a store that cannot be reached for now
    ├── ReviewError        (ValueError)         a reviewer's decision that cannot be taken as it is
    ├── RunStateError      (RuntimeError)       a run whose parameters changed, or is incomplete
    └── TasksFailedError   (RuntimeError)       tasks that were set aside after all their tries

A script of one's own fails with one line, too, in ``with cnapse.one_line_errors():``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "BoundsError",
    "CheckpointError",
    "CnapseError",
    "ConfigError",
    "ConvergenceError",
    "DamagedFileError",
    "FormatError",
    "LayerExistsError",
    "LayerNotFoundError",
    "ResolutionError",
    "ReviewError",
    "RunStateError",
    "StorageError",
    "StorageUnavailableError",
    "TableError",
    "TasksFailedError",
    "one_line",
    "one_line_errors",
    "storage_error",
]


class CnapseError(Exception):
    """Root of all errors that cnapse raises on purpose."""


class ConfigError(CnapseError, ValueError):
    """An option, or a key of ``cnapse.toml``, that cannot be used as it is."""


class ResolutionError(CnapseError, ValueError):
    """Voxel sizes that do not fit together."""


class BoundsError(CnapseError, ValueError):
    """A box outside of a layer, or layers that do not overlap."""


class LayerNotFoundError(CnapseError, FileNotFoundError):
    """A file, a layer or a scale of a layer that is not there."""


class LayerExistsError(CnapseError, FileExistsError):
    """Writing would overwrite a layer or file."""


class FormatError(CnapseError, ValueError):
    """A file or array whose shape, dtype or content is not what is needed."""


class DamagedFileError(FormatError):
    """A file of a run whose bytes are not those that were written: truncated, or flipped bits.

    Attributes
    ----------
    path : str
        The file, with its protocol; whoever made it can make it again.
    """

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path} is damaged ({why}): delete it, and what made it makes it again")

    def __reduce__(self) -> tuple[type[DamagedFileError], tuple[str, str]]:
        # The default would pass the message as the path.
        return type(self), (self.path, self.why)


class CheckpointError(CnapseError, ValueError):
    """Weights that do not fit the network, or a model bundle that is not whole."""


class ConvergenceError(CnapseError, RuntimeError):
    """An iteration that did not reach its tolerance."""


class TableError(CnapseError, ValueError):
    """A table with wrong or missing columns."""


class StorageError(CnapseError, OSError):
    """A disk that is full, a file that must not be read or written, a folder that cannot be."""


class StorageUnavailableError(StorageError):
    """A store that failed for longer than it is tried again; later it may answer."""


class ReviewError(CnapseError, ValueError):
    """A reviewer's decision, or a log of them, that cannot be taken as it is."""


class RunStateError(CnapseError, RuntimeError):
    """A run whose parameters changed since its results were made, or which is incomplete."""


class TasksFailedError(CnapseError, RuntimeError):
    """Tasks that were set aside after all their tries."""


_AGAIN = "then run the same command again (a run goes on where it stopped)"
_FULL = f"no space left on the disk: free some, {_AGAIN}"
_FORBIDDEN = "no permission: see who may with `ls -l`, or give another path"
# What the system calls it, and what to do.
_WAYS_OUT = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: f"the quota of this disk is used up: free some space, {_AGAIN}",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "the disk is read-only: give another path",
    errno.ENOENT: "there is no such place: check the path",
    errno.ENOTDIR: "a part of this path is a file, not a folder: give another path",
    errno.EEXIST: "there is a file, and a folder is needed: give another path",
    errno.EISDIR: "there is a folder, and a file is needed: give another name",
    errno.EFBIG: "the file grows larger than this disk, or `ulimit -f`, lets it: give another disk",
    errno.EMFILE: "too many files are open: allow more with `ulimit -n 4096`",
}


def storage_error(error: OSError, path: str | Path) -> StorageError:
    """What the system said about a file, as one line with the way out.

    Parameters
    ----------
    error : OSError
    path
        The file, since a failing write does not tell which it is.
    """
    said = error.strerror or str(error) or type(error).__name__
    way_out = _WAYS_OUT.get(error.errno or 0, f"{said}: check the path and the disk")
    return StorageError(f"{path}: {way_out}")


def one_line(error: BaseException) -> str | None:
    """One line for what a user can mend; None for what is a fault of the program."""
    if isinstance(error, CnapseError):
        message = str(error)
    elif isinstance(error, OSError):
        message = str(storage_error(error, error.filename or "disk or network"))
    elif isinstance(error, MemoryError):
        message = f"not enough memory ({error}): take fewer --workers or smaller blocks"
    else:
        return None
    return " ".join(message.split())


@contextlib.contextmanager
def one_line_errors(program: str = "") -> Iterator[None]:
    """End a script with one line instead of a traceback, if it fails by what a user can mend.

    Parameters
    ----------
    program : str
        What the line begins with; default the script's own name. The environment variable
        ``CNAPSE_DEBUG`` brings the traceback back.

    Raises
    ------
    SystemExit
        With the line, which Python prints; the exit code is 1.
    """
    try:
        yield
    except Exception as error:
        line = one_line(error)
        if line is None or os.environ.get("CNAPSE_DEBUG"):
            raise
        sys.exit(f"{program or Path(sys.argv[0]).stem}: {line}")
