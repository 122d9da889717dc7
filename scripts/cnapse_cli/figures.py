"""Figures of a command as a file, where `--json FILE` asks for one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnapse.errors import storage_error

__all__ = ["write_json"]


def write_json(path: Path | None, values: Mapping[str, Any]) -> None:
    """Write figures as JSON; nothing if there is no path.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    if path is None:
        return
    try:
        path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise storage_error(error, path) from error
