"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cnapse.errors import ConfigError, LayerExistsError, storage_error
from cnapse.store import local_path

__all__ = ["RECORD", "check_folder", "staged_folder"]

RECORD = "connectome.json"
"""What was made of what, and which files."""


def check_folder(out: str | Path, *, overwrite: bool) -> Path:
    """The folder to write to, on this machine.

    Raises
    ------
    ConfigError
        If it is in a bucket, or a file.
    LayerExistsError
        If it holds something, and `overwrite` is not given.
    """
    place = local_path(out)
    if place is None:
        raise ConfigError(
            f"--output {out}: give a folder on this machine, and copy it to the bucket after"
        )
    if place.exists() and not place.is_dir():
        raise ConfigError(f"--output {out}: there is a file: give the name of a folder")
    if place.is_dir() and any(place.iterdir()) and not overwrite:
        raise LayerExistsError(
            f"--output {out}: the folder is not empty: give another, or replace what was made "
            "there with --overwrite"
        )
    return place


@contextmanager
def staged_folder(out: Path, record: Mapping[str, object]) -> Iterator[Path]:
    """A folder beside `out` to write to; its files move to `out` when all went well.

    Files that an earlier run of ours made there and this one does not are taken away; nothing else
    in the folder is touched.

    Parameters
    ----------
    out : Path
    record : mapping
        For JSON; written as `RECORD` with the names of the files. May be filled meanwhile.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.part-", dir=out.parent))
    except OSError as error:
        raise storage_error(error, out) from error
    try:
        yield part
        names = sorted(path.name for path in part.iterdir())
        content = {**record, "files": names}
        (part / RECORD).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        _move(part, out, names)
    except OSError as error:
        raise storage_error(error, out) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _move(part: Path, out: Path, names: list[str]) -> None:
    if not out.exists():
        part.chmod(0o777 & ~_umask())
        part.replace(out)
        return
    earlier = _earlier(out)
    # The record goes first and comes last: a folder with one is whole.
    (out / RECORD).unlink(missing_ok=True)
    for name in earlier - {*names}:
        (out / name).unlink(missing_ok=True)
    for name in [*names, RECORD]:
        (part / name).replace(out / name)


def _earlier(out: Path) -> set[str]:
    """Files of an earlier run, by its record; never anything outside of the folder."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        names = json.loads((out / RECORD).read_text())["files"]
        return {name for name in names if isinstance(name, str) and Path(name).name == name}
    return set()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
