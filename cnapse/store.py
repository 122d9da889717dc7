"""Small files beside the layers: records, tables and intermediate arrays, on disk or in a bucket.

CloudFiles writes local files in place, so a killed process can leave half of one. Here a local file
appears whole or not at all; in a bucket a single upload is atomic anyway.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import FormatError, LayerNotFoundError, storage_error

__all__ = ["Store", "canonical_json", "cloud_path", "local_path"]

Arrays = Mapping[str, npt.NDArray[Any]]

_PROBE = ".writable.part"
# More than the note of a failure: a disk that takes no note takes no probe.
_PROBE_CONTENT = bytes(1 << 16)


def cloud_path(path: str | Path) -> str:
    """A path with its protocol: a bare one is local, ``precomputed://`` is taken off."""
    text = str(path).removeprefix("precomputed://").rstrip("/")
    if "://" in text:
        return text
    return "file://" + str(Path(text).expanduser().absolute())


def local_path(path: str | Path) -> Path | None:
    """The place on this machine's disk, or None if `path` is in a bucket or on a server."""
    text = cloud_path(path)
    return Path(text.removeprefix("file://")) if text.startswith("file://") else None


def canonical_json(value: object) -> bytes:
    """The one way cnapse writes JSON that is hashed: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Store:
    """A folder of small files, local or in a bucket.

    Parameters
    ----------
    path
        Local path, or any that CloudFiles knows (``gs://``, ``s3://``, ``file://``).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = cloud_path(path)
        self._root = local_path(self.path)
        self._files: Any = None

    def __repr__(self) -> str:
        return f"Store({self.path!r})"

    def child(self, name: str) -> Store:
        """The store of a folder inside this one."""
        return Store(f"{self.path}/{name}")

    def put(self, name: str, data: bytes) -> None:
        """Write a file, replacing what is there.

        Raises
        ------
        StorageError
            If the disk is full, or the file cannot be written there; what was there stays.
        """
        if self._root is None:
            self._cloud.put(name, data, compress=None)
            return
        target = self._root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, data)
        except OSError as error:
            raise storage_error(error, target) from error

    def check_writable(self) -> None:
        """Check that files can be written to a local folder, making it; a bucket is not asked.

        Raises
        ------
        StorageError
            If the disk is full, or the folder cannot be made or written to.
        """
        if self._root is None:
            return
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            _replace(self._root / _PROBE, _PROBE_CONTENT)
            (self._root / _PROBE).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, self._root) from error

    def get(self, name: str) -> bytes | None:
        """The content of a file, or None if it is not there.

        Raises
        ------
        StorageError
            If it cannot be read.
        """
        if self._root is None:
            content: bytes | None = self._cloud.get(name)
            return content
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(error, self._root / name) from error

    def read(self, name: str) -> bytes:
        """The content of a file that must be there.

        Raises
        ------
        LayerNotFoundError
            If it is not.
        """
        content = self.get(name)
        if content is None:
            raise LayerNotFoundError(f"{self.path}/{name} is not there")
        return content

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        if self._root is None:
            return bool(self._cloud.exists(name))
        return (self._root / name).is_file()

    def names(self, folder: str = "") -> list[str]:
        """Names of the files below a folder, relative to it, sorted."""
        if self._root is None:
            prefix = f"{folder}/" if folder else ""
            return sorted(n.removeprefix(prefix) for n in self._cloud.list(prefix=prefix))
        top = self._root / folder
        found = (
            os.path.relpath(os.path.join(where, name), top)  # noqa: PTH118 - faster on many files
            for where, _, names in os.walk(top)
            for name in names
            if not name.endswith(".part")
        )
        return sorted(found)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that are not there are passed over."""
        if self._root is None:
            self._cloud.delete(list(names))
            return
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    def delete_folder(self, folder: str) -> None:
        """Delete every file below a folder; the whole store for the empty name."""
        prefix = f"{folder}/" if folder else ""
        self.delete([f"{prefix}{name}" for name in self.names(folder)])

    def put_json(self, name: str, value: object) -> None:
        """Write a value as readable JSON."""
        self.put(name, json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")

    def get_json(self, name: str) -> Any:
        """Read JSON, or None if the file is not there.

        Raises
        ------
        FormatError
            If the file is damaged.
        """
        content = self.get(name)
        if content is None:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise FormatError(f"{self.path}/{name} is damaged ({error}): delete it") from error

    def put_arrays(self, name: str, arrays: Arrays) -> None:
        """Write named arrays as one safetensors file: the same arrays give the same bytes."""
        from safetensors.numpy import save

        self.put(name, save({key: np.ascontiguousarray(a) for key, a in arrays.items()}))

    def get_arrays(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """Read what `put_arrays` wrote, or None if the file is not there."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        content = self.get(name)
        if content is None:
            return None
        try:
            arrays: dict[str, npt.NDArray[Any]] = load(content)
        except SafetensorError as error:
            raise FormatError(f"{self.path}/{name} is damaged ({error}): delete it") from error
        return arrays

    @property
    def _cloud(self) -> Any:
        if self._files is None:
            from cloudfiles import CloudFiles

            self._files = CloudFiles(self.path, progress=False)
        return self._files


def _replace(target: Path, data: bytes) -> None:
    """Put a file in place whole."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    finally:
        # A folder that must not be written to has no part, either.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
