"""Who may ask: a token, the right host, no other web page; and what no answer lacks.

===================================== ===========================================================
a request that                        gets
===================================== ===========================================================
names a host that is not this one     421: a name that leads here is no proof (DNS rebinding)
asks the API without the token        401, with no word of what there is
comes from a page of another origin   403: no cookie is enough for that
writes without the custom header      403: a form cannot send it
writes something else than JSON       415
does not say how long it is           411
is too long                           413
===================================== ===========================================================
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnapse.errors import storage_error

__all__ = ["WRITE_HEADER", "Gate", "Hosts", "Keys", "host_name", "load_token"]

WRITE_HEADER = "X-Cnapse-Review"
"""Every request that writes has it: another page's form cannot send it."""

_LARGEST_BODY = 1 << 20
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SAME = frozenset({"same-origin", "none"})
_HOST = re.compile(r"(?P<name>[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_NO_STORE = "no-store"
_TOKEN_BYTES = 24


def load_token(log: Path) -> str:
    """The token of a log: it stays, so that a server that died comes back for its open pages.

    Parameters
    ----------
    log : Path
        The token is beside it, in a file of its name and ``.token`` that only its owner may read.

    Raises
    ------
    StorageError
        If it cannot be written or read.
    """
    path = log.with_name(f"{log.name}.token")
    try:
        known = _private(path)
        if known:
            return known
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        # Nobody else can read it at any moment.
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        fresh.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    return token


def _private(path: Path) -> str:
    """What is in a file that only its owner can read; empty if it is none."""
    try:
        with path.open(encoding="ascii") as file:
            text = file.read().strip()
            hidden = os.fstat(file.fileno()).st_mode & 0o077 == 0
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    return text if hidden and len(text) >= _TOKEN_BYTES else ""


@dataclass(frozen=True, slots=True)
class Keys:
    """What the token opens, and what is signed with it.

    Parameters
    ----------
    token : str
        Of a log. Browsers send the cookies of one port to all others of the machine, so the names
        of cookies tell the log.
    """

    token: str

    @property
    def ticket_name(self) -> str:
        """The cookie that stands for the token."""
        return f"cnapse_{self.run_id}"

    @property
    def name_name(self) -> str:
        """The cookie with the reviewer's name."""
        return f"cnapse_{self.run_id}_reviewer"

    @property
    def ticket(self) -> str:
        """Its value: whoever reads a cookie file does not have the token."""
        return self._digest("ticket")

    @property
    def run_id(self) -> str:
        """What a page keeps its unsent decisions under."""
        return self._digest("run")[:16]

    def admits(self, connection: HTTPConnection) -> bool:
        """Whether a request has the token, or the cookie that stands for it."""
        kind, _, given = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return True
        ticket = connection.cookies.get(self.ticket_name, "")
        return secrets.compare_digest(ticket.encode(), self.ticket.encode())

    def is_token(self, given: str) -> bool:
        """Whether this is the token, in a time that does not tell how nearly."""
        return secrets.compare_digest(given.encode(), self.token.encode())

    def signed(self, reviewer: str) -> str:
        """A name as a cookie's value."""
        packed = base64.urlsafe_b64encode(reviewer.encode()).decode().rstrip("=")
        return f"{packed}.{self._digest(f'name {packed}')}"

    def name_in(self, connection: HTTPConnection) -> str | None:
        """The reviewer's name of a request, if this server signed it."""
        packed, _, digest = connection.cookies.get(self.name_name, "").partition(".")
        if not secrets.compare_digest(digest.encode(), self._digest(f"name {packed}").encode()):
            return None
        try:
            return base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None

    def _digest(self, purpose: str) -> str:
        return hmac.new(self.token.encode(), purpose.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts that this server is asked by.

    Parameters
    ----------
    for_others : bool
        Whether other machines reach it: they ask by an address, which no rebinding can fake.
    names : collection of str
        Further names.
    """

    for_others: bool = False
    names: Collection[str] = ()

    def serve(self, host: str) -> bool:
        """Whether a ``Host`` header names this server; any port, since a tunnel has its own."""
        name = host_name(host)
        if name is None:
            return False
        if name == "localhost" or name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return self.for_others or address.is_loopback


def host_name(host: str) -> str | None:
    """The name in a ``Host`` header, without its port; None if it is none."""
    found = _HOST.fullmatch(host)
    return None if found is None else found["name"].lower()


class Gate:
    """The outermost part of the application.

    Parameters
    ----------
    app
        What is behind it.
    keys : Keys
    hosts : Hosts
    viewer_port : int, optional
        Of the viewer that pages may frame.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Keys, hosts: Hosts, viewer_port: int | None = None
    ) -> None:
        self._app = app
        self._keys = keys
        self._hosts = hosts
        self._viewer_port = viewer_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        kept = self._kept(headers.get("host", ""))

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in kept.items():
                    out[name] = value
                if "cache-control" not in out:
                    out["Cache-Control"] = _NO_STORE
            await send(message)

        refusal = self._refusal(HTTPConnection(scope), scope["method"])
        await (refusal or self._app)(scope, receive, send_more)

    def _refusal(self, asked: HTTPConnection, method: str) -> Response | None:
        if not self._hosts.serve(asked.headers.get("host", "")):
            return _refused(421, "this server is not called so: use the link that it printed")
        if not asked.url.path.startswith("/api"):
            return None
        if not self._keys.admits(asked):
            return _refused(
                401, "open the link that `cnapse review` printed", {"WWW-Authenticate": "Bearer"}
            )
        if asked.headers.get("sec-fetch-site", "none") not in _SAME:
            return _refused(403, "another web page asked for this")
        return None if method in _SAFE else _unfit(asked)

    def _kept(self, host: str) -> dict[str, str]:
        name = host_name(host) or "127.0.0.1"
        frames = f"http://{name}:{self._viewer_port}" if self._viewer_port else "'none'"
        policy = (
            "default-src 'self'; img-src 'self'; style-src 'self'; script-src 'self'; "
            f"connect-src 'self'; frame-src {frames}; object-src 'none'; base-uri 'none'; "
            "form-action 'self'; frame-ancestors 'none'"
        )
        return {**_HEADERS, "Content-Security-Policy": policy}


def _unfit(asked: HTTPConnection) -> Response | None:
    """What is wrong with a request that writes."""
    headers = asked.headers
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return _refused(403, "another web page asked for this")
    if headers.get(WRITE_HEADER) != "1":
        return _refused(403, f"a request that writes needs the header {WRITE_HEADER}: 1")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return _refused(415, "a request that writes is application/json")
    length = headers.get("content-length", "")
    if not length.isdigit():
        return _refused(411, "a request that writes needs its Content-Length")
    if int(length) > _LARGEST_BODY:
        return _refused(413, f"a request has at most {_LARGEST_BODY} bytes, not {length}")
    return None


def _refused(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": why}, status, headers)
