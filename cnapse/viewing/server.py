"""Local layers and Neuroglancer's own client, served read-only to a browser.

Everything lies under a random token, so that no other web page or user can guess an address::

    http://127.0.0.1:PORT/TOKEN/                 leads to the client, with the scene
    http://127.0.0.1:PORT/TOKEN/state.json       the scene
    http://127.0.0.1:PORT/TOKEN/<layer>/...      files of a folder
    http://127.0.0.1:PORT/TOKEN/v/view/          the client that ships in the neuroglancer package

That client was built for neuroglancer's Python server: it wants its page below ``v/`` and an event
stream to listen to, which stays silent here. Nothing can be written, no folder is listed, no
symbolic link leads out of a layer's folder, and a refusal says nothing about what there is.

Addresses in the scene follow the host that the browser asked, so that a tunnel
(``ssh -L 9000:127.0.0.1:PORT``) works as well.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import ipaddress
import json
import re
import secrets
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote_to_bytes

import tornado.httpserver
import tornado.web

from cnapse.errors import ConfigError, LayerNotFoundError

__all__ = ["LayerServer"]

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
# One range in plain digits; tornado would also take "bytes=--5" or "bytes=1_0-" for one.
_RANGE = re.compile(r"bytes=([0-9]+-[0-9]*|-[0-9]+)")
_STATE = "state.json"
_LARGEST_REQUEST = 1 << 16
_START_SECONDS = 20.0
# Of the nets that are kept for documentation: nobody has them.
_FAR_AWAY = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


class LayerServer:
    """A read-only web server in a thread of its own; a context manager.

    Parameters
    ----------
    folders : mapping of str to Path
        Name in the address, and the folder that is served under it. Empty serves the client alone.
    port : int
        0 takes a free one.
    bind : str
        Address to listen on. Anything but loopback lets other machines read the layers, if they
        know the token.
    token : str, optional
        Default: 32 random characters.

    Raises
    ------
    LayerNotFoundError
        If a folder is not there.
    ConfigError
        If the address cannot be listened on.

    Attributes
    ----------
    for_others : bool
        Whether other machines can reach it.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        *,
        port: int = 0,
        bind: str = "127.0.0.1",
        token: str | None = None,
    ) -> None:
        self._site = _Site(
            token or secrets.token_urlsafe(24),
            {name: _existing(name, folder) for name, folder in folders.items()},
        )
        try:
            family = socket.AF_INET6 if ":" in bind else socket.AF_INET
            self._socket = socket.create_server((bind, port), family=family)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {bind} port {port} ({error}): choose another --port, "
                "or 0 for a free one"
            ) from error
        self.bind = bind
        self._socket.setblocking(False)
        listening = ipaddress.ip_address(self._socket.getsockname()[0].partition("%")[0])
        self.port: int = self._socket.getsockname()[1]
        self.for_others = not listening.is_loopback
        host = _own_address(family) if listening.is_unspecified else bind
        self._site.origin = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="cnapse-server", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise ConfigError(f"the server on {bind} port {self.port} did not start")

    @property
    def token(self) -> str:
        """The secret part of every address."""
        return self._site.token

    @property
    def url(self) -> str:
        """Where everything lies, without a slash at the end."""
        return f"{self._site.origin}/{self.token}"

    def address(self, name: str) -> str:
        """Where a folder is served."""
        return f"{self.url}/{name}"

    def show(self, state: object) -> str:
        """Serve a scene, and the address that opens the client on it."""
        self._site.state = json.dumps(state)
        return f"{self.url}/"

    def close(self) -> None:
        """Stop serving; may be called twice."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._site.stopping.set)
        self._thread.join(_START_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = tornado.httpserver.HTTPServer(
            _application(self._site), max_body_size=_LARGEST_REQUEST
        )
        server.add_socket(self._socket)
        self._ready.set()
        await self._site.stopping.wait()
        server.stop()
        await server.close_all_connections()


class _Site:
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


def _own_address(family: socket.AddressFamily) -> str:
    """What other machines call this one: its address towards the rest of the net, or its name."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses a way, sends nothing.
            probe.connect((_FAR_AWAY[family], 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _existing(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise LayerNotFoundError(f"layer {name}: no folder {folder} to serve")
    return folder.resolve()


def _application(site: _Site) -> tornado.web.Application:
    """The addresses in the order in which they are tried; what is left is refused."""
    client = Path(str(importlib.resources.files("neuroglancer").joinpath("static", "client")))
    shared = {"site": site}
    return tornado.web.Application(
        [
            (r"/([^/]+)/events/view", _SilentEvents, shared),
            (r"/([^/]+)/()v/view/(.*)", _Files, {**shared, "root": client, "index": "index.html"}),
            (r"/([^/]+)/", _StartPage, shared),
            (r"/([^/]+)/state\.json", _State, shared),
            (r"/([^/]+)/([^/]+)/(.*)", _Files, shared),
        ],
        default_handler_class=_Refusal,
        default_handler_args=shared,
        log_function=lambda _: None,
    )


class _Handler(tornado.web.RequestHandler):
    """Common to all answers: the token, headers for other origins, silent refusals."""

    SUPPORTED_METHODS = ("GET", "HEAD", "OPTIONS")

    def initialize(self, site: _Site) -> None:
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


class _Refusal(_Handler):
    def get(self, *_: str) -> None:
        raise tornado.web.HTTPError(404)

    head = get


class _StartPage(_Handler):
    """Leads to the client; the scene's address is a part that browsers keep to themselves."""

    def get(self, token: str) -> None:
        self.redirect(f"v/view/#!{self._origin()}/{token}/{_STATE}")

    head = get

    def _origin(self) -> str:
        """The server as the browser calls it."""
        host = self.request.host
        return f"http://{host}" if _HOST.fullmatch(host) else self.site.origin


class _State(_StartPage):
    """The scene, its addresses in the browser's terms."""

    def get(self, token: str) -> None:  # noqa: ARG002 - checked before
        if self.site.state is None:
            raise tornado.web.HTTPError(404)
        self.set_header("Content-Type", _TYPES[".json"])
        self.finish(self.site.state.replace(self.site.origin, self._origin()))

    head = get


class _SilentEvents(_Handler):
    """The stream on which the client waits for a Python program; nothing is ever said."""

    async def get(self, *_: str) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.write(": nothing to say\n\n")
        await self.flush()
        await self.site.stopping.wait()

    def head(self, *_: str) -> None:
        self.set_header("Content-Type", "text/event-stream")


class _Files(_Handler, tornado.web.StaticFileHandler):
    """Files below a folder: tornado's handler for ranges and validators, our rule for paths."""

    def initialize(self, site: _Site, root: Path | None = None, index: str = "") -> None:  # type: ignore[override]
        _Handler.initialize(self, site)
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
        if self._encoding or not _RANGE.fullmatch(self.request.headers.get("Range", "")):
            self.request.headers.pop("Range", None)
        self._type = _content_type(Path(path))
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


def _content_type(path: Path) -> str:
    if path.name == "info":
        return _TYPES[".json"]
    return _TYPES.get(path.suffix, _BINARY)
