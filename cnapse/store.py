"""Small files beside the layers: records, tables and intermediate arrays, on disk or in a bucket.

CloudFiles writes local files in place, so a killed process can leave half of one. Here a local file
appears whole or not at all; in a bucket a single upload is atomic anyway. Arrays carry a checksum:
what is truncated or flipped is found when it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from cnapse.checksums import packed, unpacked
from cnapse.errors import DamagedFileError, LayerNotFoundError, StorageError, storage_error
from cnapse.faults import remote_errors
from cnapse.remote import cloud_files, tried_again, while_transient

if TYPE_CHECKING:
    from cloudfiles import CloudFiles

__all__ = ["Store", "canonical_json", "cloud_path", "local_path"]

Arrays = Mapping[str, npt.NDArray[Any]]

_PROBE = ".writable.part"
# More than the note of a failure: a disk that takes no note takes no probe.
_PROBE_CONTENT = bytes(1 << 16)
_DELETIONS = 5


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
        Local path, or any that CloudFiles knows (``gs://``, ``s3://``, ``file://``; ``https://``
        to read from).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = cloud_path(path)
        self._root = local_path(self.path)
        self._files: CloudFiles | None = None

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
            `StorageUnavailableError` if a bucket cannot be reached for now.
        """
        if self._root is None:
            self._upload([(name, data)])
            return
        target = self._root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, data)
        except OSError as error:
            raise storage_error(error, target) from error

    def put_all(
        self, files: Iterable[tuple[str, bytes]], *, compress: bool = False, content_type: str = ""
    ) -> None:
        """Write several files, each whole or not at all; to a bucket, several at a time.

        Parameters
        ----------
        files : iterable of (name, content)
        compress
            Whether a bucket stores them gzip'd, with the header that says so. Files on disk never
            are.
        content_type : str
            What a bucket tells browsers.

        Raises
        ------
        StorageError
            As `put`.
        """
        if self._root is None:
            self._upload(files, compress="gzip" if compress else None, content_type=content_type)
            return
        for name, data in files:
            self.put(name, data)

    def _upload(
        self,
        files: Iterable[tuple[str, bytes]],
        *,
        compress: str | None = None,
        content_type: str = "",
    ) -> None:
        self._check_protocol()
        with remote_errors(self.path):
            self._cloud.puts(
                list(files),
                compress=compress,
                content_type=content_type or None,
                # No caching by proxies: what is redone must be seen.
                cache_control="no-cache",
            )

    def check_writable(self) -> None:
        """Check that files can be written: a small one is, and deleted again.

        Raises
        ------
        StorageError
            If the disk is full, or the folder cannot be made or written to; if there is no such
            bucket, or no right to write to it.
        """
        if self._root is None:
            self.put(_PROBE, b"")
            self.delete([_PROBE])
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
            with remote_errors(f"{self.path}/{name}"):
                content: bytes | None = tried_again()(self._cloud.get, name)
            return content
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(error, self._root / name) from error

    def get_all(self, names: Iterable[str]) -> dict[str, bytes | None]:
        """The content of several files, None for those that are not there; from a bucket at once.

        Raises
        ------
        StorageError
            If one cannot be read.
        """
        if self._root is not None:
            return {name: self.get(name) for name in names}
        with remote_errors(self.path):
            found = tried_again()(self._cloud.get, list(names))
        return {file["path"]: file["content"] for file in found}

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
            with remote_errors(f"{self.path}/{name}"):
                if self.path.startswith(("gs://", "s3://")):
                    # A plain request; `exists` asks Google in batches, and S3 but once.
                    return self._cloud.size(name) is not None
                return bool(while_transient()(self._cloud.exists, name))
        return (self._root / name).is_file()

    def names(self, folder: str = "") -> list[str]:
        """Names of the files below a folder, relative to it, sorted."""
        if self._root is None:
            self._check_protocol()
            prefix = f"{folder}/" if folder else ""
            with remote_errors(self.path):
                found = while_transient()(lambda: list(self._cloud.list(prefix=prefix)))
            return sorted(name.removeprefix(prefix) for name in found)
        top = self._root / folder
        names = (
            os.path.relpath(os.path.join(where, name), top)  # noqa: PTH118 - faster on many files
            for where, _, files in os.walk(top)
            for name in files
            if not name.endswith(".part")
        )
        return sorted(names)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that are not there are passed over."""
        if self._root is None:
            self._check_protocol()
            with remote_errors(self.path):
                self._cloud.delete(list(names))
            return
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    def delete_folder(self, folder: str) -> None:
        """Delete every file below a folder; the whole store for the empty name.

        Raises
        ------
        StorageError
            If some stay.
        """
        prefix = f"{folder}/" if folder else ""
        left = self.names(folder)
        # A bucket may refuse some names of a request for many, and cloud-files does not look.
        for _ in range(_DELETIONS):
            self.delete([f"{prefix}{name}" for name in left])
            left = [] if self._root is not None else self.names(folder)
            if not left:
                return
        raise StorageError(
            f"{self.path}/{prefix}{left[0]} and {len(left) - 1} more could not be deleted: ask for "
            "the right to delete there, then run the same command again"
        )

    def put_json(self, name: str, value: object) -> None:
        """Write a value as readable JSON."""
        self.put(name, json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")

    def get_json(self, name: str) -> Any:
        """Read JSON, or None if the file is not there.

        Raises
        ------
        DamagedFileError
            If the file is damaged.
        """
        content = self.get(name)
        if content is None:
            return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DamagedFileError(f"{self.path}/{name}", str(error)) from error

    def put_arrays(self, name: str, arrays: Arrays) -> None:
        """Write named arrays as one safetensors file: the same arrays give the same bytes."""
        self.put(name, packed(arrays))

    def get_arrays(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """Read what `put_arrays` wrote, or None if the file is not there.

        Raises
        ------
        DamagedFileError
            If what is there is not what was written.
        """
        content = self.get(name)
        return None if content is None else unpacked(content, f"{self.path}/{name}")

    def _check_protocol(self) -> None:
        """A web server gives files by name, and that is all."""
        if self.path.startswith(("http://", "https://")):
            raise StorageError(
                f"{self.path}: files of a web server can only be read one by one: give a folder, "
                "gs:// or s3://"
            )

    @property
    def _cloud(self) -> CloudFiles:
        if self._files is None:
            with remote_errors(self.path):
                self._files = cloud_files(self.path)
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
