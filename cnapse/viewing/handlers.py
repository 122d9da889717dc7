"""How requests to the server are answered: the token, the start page, the scene, and files."""

# ruff: noqa: D102 - methods that tornado calls, by its names for them

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import tornado.web

__all__ = [
    "RANGE",
    "STATE",
    "Files",
    "Handler",
    "Refusal",
    "SilentEvents",
    "Site",
    "StartPage",
    "State",
    "content_type",
]

# Endings of files that another program compressed, and what HTTP calls that.
_ENCODINGS = {"": "", ".gz": "gzip", ".br": "br", ".zstd": "zstd"}
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".wasm": "application/wasm",
}
_BINARY = "application/octet-stream"
_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")
RANGE = re.compile(r"bytes=(?:([0-9]+)-([0-9]*)|-([0-9]+))")
"""One range in plain digits; tornado would also take "bytes=--5" or "bytes=1_0-" for one."""
STATE = "state.json"


class Site:
    """What is served."""

    def __init__(self, token: str, folders: Mapping[str, Path]) -> None:
        self.token = token
        self.folders = dict(folders)
        self.origin = ""
        self.state: str | None = None
        self.stopping = asyncio.Event()

    def admits(self, token: str) -> bool:
        """Whether the token is right, in a time that does not tell how nearly."""
        return secrets.compare_digest(token.encode(), self.token.encode())


class Handler(tornado.web.RequestHandler):
    """Common to all answers: the token, headers for other origins, silent refusals."""

    SUPPORTED_METHODS = ("GET", "HEAD", "OPTIONS")

    def initialize(self, site: Site) -> None:
        self.site = site

    def prepare(self) -> None:
        token = self.request.path.split("/", 2)[1]
        if self.request.method in ("GET", "HEAD") and not self.site.admits(_decoded(token)):
            raise tornado.web.HTTPError(403)

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
            "Cache-Control": "private, no-cache",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.set_header(name, value)

    def options(self, *_: str) -> None:
        """Answer a browser that asks before it reads a range, or reads from a public page."""
        self.set_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        self.set_header("Access-Control-Allow-Headers", "Range, Cache-Control")
        self.set_header("Access-Control-Allow-Private-Network", "true")
        self.set_header("Access-Control-Max-Age", "3600")
        self.set_status(204)

    def write_error(self, status_code: int, **_: Any) -> None:
        self.clear_header("Content-Type")
        if status_code == 405:
            self.set_header("Allow", "GET, HEAD, OPTIONS")
        self.finish()

    def log_exception(self, *_: Any) -> None:
        """Say nothing: what is refused is no fault of the server."""


class Refusal(Handler):
    """What is not served, and what there is not."""

    def get(self, *_: str) -> None:
        raise tornado.web.HTTPError(404)

    head = get


class StartPage(Handler):
    """Leads to the client; the scene's address is a part that browsers keep to themselves."""

    def get(self, token: str) -> None:
        self.redirect(f"v/view/#!{self._origin()}/{token}/{STATE}")

    head = get

    def _origin(self) -> str:
        """The server as the browser calls it."""
        host = self.request.host
        return f"http://{host}" if _HOST.fullmatch(host) else self.site.origin


class State(StartPage):
    """The scene, its addresses in the browser's terms."""

    def get(self, token: str) -> None:  # noqa: ARG002 - checked before
        if self.site.state is None:
            raise tornado.web.HTTPError(404)
        self.set_header("Content-Type", _TYPES[".json"])
        self.finish(self.site.state.replace(self.site.origin, self._origin()))

    head = get


class SilentEvents(Handler):
    """The stream on which the client waits for a Python program; nothing is ever said."""

    async def get(self, *_: str) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.write(": nothing to say\n\n")
        await self.flush()
        await self.site.stopping.wait()

    def head(self, *_: str) -> None:
        self.set_header("Content-Type", "text/event-stream")


class Files(Handler, tornado.web.StaticFileHandler):
    """Files below a folder: tornado's handler for ranges and validators, our rule for paths."""

    def initialize(self, site: Site, root: Path | None = None, index: str = "") -> None:  # type: ignore[override]
        Handler.initialize(self, site)
        self._root, self._index = root, index
        self._encoding = ""

    async def head(self, token: str, folder: str, path: str) -> None:  # type: ignore[override]
        await self.get(token, folder, path, include_body=False)

    async def get(  # type: ignore[override]
        self,
        token: str,  # noqa: ARG002 - checked before
        folder: str,
        path: str,
        include_body: bool = True,
    ) -> None:
        root = self._root or self.site.folders.get(folder)
        path = path or self._index
        found = _inside(root, path) if root else None
        if found is None:
            raise tornado.web.HTTPError(404)
        file, self._encoding = found
        self.root = str(root)
        # Any other range is ignored, as HTTP has it. A range of a compressed file would count bytes
        # as they were before compression; nobody asks for one.
        if self._encoding or not RANGE.fullmatch(self.request.headers.get("Range", "")):
            self.request.headers.pop("Range", None)
        self._type = content_type(Path(path))
        await tornado.web.StaticFileHandler.get(self, str(file), include_body)

    def parse_url_path(self, url_path: str) -> str:
        return url_path

    @classmethod
    def get_absolute_path(cls, root: str, path: str) -> str:  # noqa: ARG003 - tornado's signature
        return path

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:  # noqa: ARG002
        return absolute_path

    def compute_etag(self) -> str | None:
        """Time and size: tornado's digest is kept for ever, also of a chunk that was edited."""
        stat = Path(str(self.absolute_path)).stat()
        return f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'

    @classmethod
    def get_content_version(cls, abspath: str) -> str:  # noqa: ARG003 - tornado's signature
        return ""

    def get_content_type(self) -> str:
        return self._type

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - tornado's signature
        if self._encoding:
            self.set_header("Content-Encoding", self._encoding)
            self.set_header("Vary", "Accept-Encoding")


def _decoded(token: str) -> str:
    return unquote_to_bytes(token).decode("utf-8", "replace")


def _inside(root: Path, path: str) -> tuple[Path, str] | None:
    """The regular file of a path below `root` or its compressed form, and how it is encoded."""
    for ending, encoding in _ENCODINGS.items():
        try:
            file = (root / (path + ending)).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            continue
        if file.is_relative_to(root) and file.is_file():
            return file, encoding
    return None


def content_type(path: Path) -> str:
    """What a file is, by its name."""
    if path.name == "info":
        return _TYPES[".json"]
    return _TYPES.get(path.suffix, _BINARY)
