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
    ├── CheckpointError    (ValueError)         weights that do not fit the network
    ├── TableError         (ValueError)         a table with wrong or missing columns
    ├── RunStateError      (RuntimeError)       a run whose parameters changed, or is incomplete
    └── TasksFailedError   (RuntimeError)       tasks that were set aside after all their tries
"""

from __future__ import annotations

__all__ = [
    "BoundsError",
    "CheckpointError",
    "CnapseError",
    "ConfigError",
    "FormatError",
    "LayerExistsError",
    "LayerNotFoundError",
    "ResolutionError",
    "RunStateError",
    "TableError",
    "TasksFailedError",
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


class CheckpointError(CnapseError, ValueError):
    """Weights that do not fit the network, or a model bundle that is not whole."""


class TableError(CnapseError, ValueError):
    """A table with wrong or missing columns."""


class RunStateError(CnapseError, RuntimeError):
    """A run whose parameters changed since its results were made, or which is incomplete."""


class TasksFailedError(CnapseError, RuntimeError):
    """Tasks that were set aside after all their tries."""
