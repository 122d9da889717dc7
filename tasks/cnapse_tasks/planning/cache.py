"""Calibrations that are kept, one file for each machine and set of parameters."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

from cnapse.config import Config
from cnapse.store import Store, canonical_json
from cnapse_tasks.planning.rates import Rates

__all__ = ["cache_folder", "keep", "kept"]

# What changes how fast stages are, or what they find; not paths of outputs, links or names.
_SECTIONS = ("resolution", "layers", "label", "measure", "assign", "detect")


def cache_folder() -> Path:
    """``cnapse`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "cnapse"


def keep(config: Config, rates: Rates) -> Path:
    """Keep a calibration of this machine; where it is.

    Raises
    ------
    StorageError
        If the cache folder cannot be written to.
    """
    folder, name = cache_folder(), _name(config)
    Store(folder).put(name, rates.to_json())
    return folder / name


def kept(config: Config) -> Rates | None:
    """The calibration that this machine has for such a run, if any.

    Raises
    ------
    FormatError
        If its file is damaged.
    """
    path = cache_folder() / _name(config)
    content = Store(path.parent).get(path.name)
    return None if content is None else Rates.from_json(content, str(path))


def _name(config: Config) -> str:
    values = config.model_dump(mode="json", include=set(_SECTIONS))
    digest = hashlib.sha256(canonical_json(values)).hexdigest()[:16]
    return f"calibration-{socket.gethostname()}-{digest}.json"
