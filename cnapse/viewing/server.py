"""Local layers and Neuroglancer's own client, served read-only to a browser.

Everything lies under a random token, so that no other web page or user can guess an address::

    http://127.0.0.1:PORT/TOKEN/                 leads to the client, with the scene
    http://127.0.0.1:PORT/TOKEN/state.json       the scene
    http://127.0.0.1:PORT/TOKEN/<layer>/...      files of a folder, on disk or in a bucket
    http://127.0.0.1:PORT/TOKEN/v/view/          the client that ships in the neuroglancer package

That client was built for neuroglancer's Python server: it wants its page below ``v/`` and an event
stream to listen to, which stays silent here. Nothing can be written, no folder is listed, no
symbolic link leads out of a layer's folder, and a refusal says nothing about what there is. Files
of a bucket are read with this user's credentials, which never leave this process.

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
from typing import Self

import tornado.httpserver
import tornado.web

from cnapse.errors import ConfigError, LayerNotFoundError
from cnapse.viewing.bucket_files import BucketFiles, BucketFolder
from cnapse.viewing.client import Client
from cnapse.viewing.handlers import Files, Refusal, SilentEvents, Site, StartPage, State

__all__ = ["LayerServer"]

_LARGEST_REQUEST = 1 << 16
_START_SECONDS = 20.0
# Of the nets that are kept for documentation: nobody has them.
_FAR_AWAY = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


class LayerServer:
    """A read-only web server in a thread of its own; a context manager.

    Parameters
    ----------
    folders : mapping of str to Path or str
        Name in the address, and the folder that is served under it: on disk, or in a bucket
        (``gs://``, ``s3://``). Empty serves the client alone.
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
        folders: Mapping[str, Path | str],
        *,
        port: int = 0,
        bind: str = "127.0.0.1",
        token: str | None = None,
    ) -> None:
        self._site = Site(
            token or secrets.token_urlsafe(24),
            {name: _existing(name, at) for name, at in folders.items() if isinstance(at, Path)},
        )
        self._buckets = {
            name: BucketFolder(at) for name, at in folders.items() if isinstance(at, str)
        }
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
            _application(self._site, self._buckets), max_body_size=_LARGEST_REQUEST
        )
        server.add_socket(self._socket)
        self._ready.set()
        await self._site.stopping.wait()
        server.stop()
        await server.close_all_connections()
        for folder in self._buckets.values():
            folder.close()


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


def _application(site: Site, buckets: Mapping[str, BucketFolder]) -> tornado.web.Application:
    """The addresses in the order in which they are tried; what is left is refused."""
    client = Path(str(importlib.resources.files("neuroglancer").joinpath("static", "client")))
    shared = {"site": site}
    return tornado.web.Application(
        [
            (r"/([^/]+)/events/view", SilentEvents, shared),
            (r"/([^/]+)/()v/view/(.*)", Client, {**shared, "root": client, "index": "index.html"}),
            (r"/([^/]+)/", StartPage, shared),
            (r"/([^/]+)/state\.json", State, shared),
            *(
                (rf"/([^/]+)/{re.escape(name)}/(.*)", BucketFiles, {**shared, "folder": folder})
                for name, folder in buckets.items()
            ),
            (r"/([^/]+)/([^/]+)/(.*)", Files, shared),
        ],
        default_handler_class=Refusal,
        default_handler_args=shared,
        log_function=lambda _: None,
    )
