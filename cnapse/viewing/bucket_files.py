"""Files of a bucket, handed on by the server: read with this user's credentials, as they are.

So a browser sees layers in private buckets, and none of them has to be made public. What a bucket
stores compressed goes to the browser compressed.
"""

# ruff: noqa: D102 - methods that tornado calls, by its names for them

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import tornado.web

from cnapse.errors import StorageError
from cnapse.faults import remote_errors
from cnapse.remote import cloud_files, tried_again
from cnapse.viewing.handlers import RANGE, Handler, Site, content_type

if TYPE_CHECKING:
    from cloudfiles import CloudFiles

__all__ = ["BucketFiles", "BucketFolder", "Fetched"]

T = TypeVar("T")

_DENIED = "access denied"
_AT_A_TIME = 32
_SIZE_SECONDS = 60.0
_MOST_SIZES = 4096
_NOT_IN_A_NAME = frozenset(chr(code) for code in range(32)) | {"\\", "\x7f"}


class Fetched(NamedTuple):
    """A file or a part of one, and how it is compressed: ``gzip``, ``br``, ``zstd`` or ""."""

    content: bytes
    encoding: str


class BucketFolder:
    """A folder in a bucket; several files are read at a time, in threads of its own.

    Parameters
    ----------
    path : str
        With protocol.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="cnapse-bucket")
        self._size_at = functools.lru_cache(_MOST_SIZES)(self._ask_size)

    @functools.cached_property
    def _files(self) -> CloudFiles:
        return cloud_files(self.path)

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> Fetched | None:
        """A file as it is stored, or some of its bytes; None if it is not there.

        Raises
        ------
        StorageError
            If it cannot be read.
        """
        wanted = name if start is None else {"path": name, "start": start, "end": stop}
        with remote_errors(f"{self.path}/{name}"):
            (found,) = tried_again()(self._files.get, [wanted], raw=True)
        if found["content"] is None:
            return None
        return Fetched(found["content"], str(found["compress"] or ""))

    def size(self, name: str) -> int | None:
        """Bytes of a file as it is stored, at most a minute ago; None if it is not there.

        Raises
        ------
        StorageError
            If the bucket does not tell.
        """
        return self._size_at(name, int(time.monotonic() / _SIZE_SECONDS))

    def _ask_size(self, name: str, _: int) -> int | None:
        with remote_errors(f"{self.path}/{name}"):
            size = self._files.size(name)
        return None if size is None else int(size)

    async def later(self, function: Callable[[], T]) -> T:
        """The result of something slow, from a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    def close(self) -> None:
        """Begin nothing new; what is under way is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class BucketFiles(Handler):
    """Files of one bucket folder: whole, or one range."""

    def initialize(self, site: Site, folder: BucketFolder) -> None:  # type: ignore[override]
        Handler.initialize(self, site)
        self._folder = folder

    async def get(self, token: str, path: str) -> None:  # noqa: ARG002 - checked before
        name = self._checked(path)
        self.set_header("Accept-Ranges", "bytes")
        wanted = RANGE.fullmatch(self.request.headers.get("Range", ""))
        if wanted is None or not await self._send_part(name, *wanted.groups()):
            await self._send_whole(name)

    async def head(self, token: str, path: str) -> None:  # noqa: ARG002 - checked before
        name = self._checked(path)
        size = await self._fetched(lambda: self._folder.size(name))
        self.set_header("Content-Type", content_type(Path(name)))
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Content-Length", str(size))

    def _checked(self, path: str) -> str:
        """A name that no storage takes for another place."""
        if any(part in ("", ".", "..") for part in path.split("/")) or _NOT_IN_A_NAME & set(path):
            raise tornado.web.HTTPError(404)
        return path

    async def _fetched(self, function: Callable[[], T | None]) -> T:
        """What the bucket has; 404 if nothing, 403 if it denies it, 502 if it cannot be asked."""
        try:
            found = await self._folder.later(function)
        except StorageError as error:
            # Who may not list a bucket is denied what is not there; the viewer takes both alike.
            raise tornado.web.HTTPError(403 if _DENIED in str(error) else 502) from error
        if found is None:
            raise tornado.web.HTTPError(404)
        return found

    async def _send_whole(self, name: str) -> None:
        found = await self._fetched(lambda: self._folder.read(name))
        self.set_header("Content-Type", content_type(Path(name)))
        if found.encoding:
            self.set_header("Content-Encoding", found.encoding)
            self.set_header("Vary", "Accept-Encoding")
        self.finish(found.content)

    async def _send_part(
        self, name: str, first: str | None, last: str | None, suffix: str | None
    ) -> bool:
        """Send a range; False, and nothing is sent, for a file that is stored compressed."""
        size = await self._fetched(lambda: self._folder.size(name))
        if suffix is not None:
            start, stop = max(0, size - int(suffix)), size
        else:
            start, stop = int(first or 0), min(int(last) + 1 if last else size, size)
        if start >= stop:
            self.set_status(416)
            self.set_header("Content-Range", f"bytes */{size}")
            self.finish()
            return True
        found = await self._fetched(lambda: self._folder.read(name, start, stop))
        if found.encoding:
            return False
        self.set_status(206)
        self.set_header("Content-Type", content_type(Path(name)))
        self.set_header("Content-Range", f"bytes {start}-{start + len(found.content) - 1}/{size}")
        self.finish(found.content)
        return True
