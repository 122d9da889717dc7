"""A proxy in front of an S3 and SQS server that does to requests what clouds do to them.

Which request is hit depends on the seed and on the request alone (its method, its address, how
often it was made before), not on the order in which processes make them.

=====================  =============================================================================
``500``, ``503``       the store refuses: InternalError, ServiceUnavailable
``SlowDown``           the store refuses: 503, reduce your request rate
``reset``              the connection is reset, nothing was done
``done, then 500``     a write is carried out, and answered as if it were not
``done, then reset``   a write is carried out, and the connection reset
``body cut``           half of a body, then the connection is closed
``queue 500``          the queue refuses
``sent, then 500``     tasks are put into the queue, and the sender told that they are not
``delivered twice``    every tenth message that is handed out is put into the queue once more
``deletion lost``      a message that was worked off is said to be deleted, and comes again
=====================  =============================================================================
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, cast

from tornado.http1connection import HTTP1Connection
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets

log = logging.getLogger("cnapse.chaos")

__all__ = ["FaultProxy", "Rates", "Seen"]

_WRITES = frozenset({"PUT", "POST", "DELETE"})
# Of one hop only, or set anew by the client of the proxy.
_HOP = frozenset({"connection", "transfer-encoding", "expect", "keep-alive"})
_LARGEST_BODY = 1 << 28
# Real queues may answer a long poll early, too; a poll cut off by a kill keeps its message.
_LONGEST_POLL_SECONDS = 1
_NO_ANSWER = 599
_SLOW_SECONDS = 20.0
_REFUSALS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "ServiceUnavailable", "Service is unable to handle request."),
    "SlowDown": (503, "SlowDown", "Please reduce your request rate."),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the requests that are hit, 0 to 1.

    Parameters
    ----------
    refused : float
        Of all requests to the store: 500, 503 and SlowDown in equal parts.
    reset : float
        Of all requests to the store.
    done : float
        Of writes to the store: carried out, then 500 or a reset in equal parts.
    cut : float
        Of bodies that are read.
    queue : float
        Of all requests to the queue: 500.
    sent : float
        Of messages put into the queue: done, then 500.
    twice_every : int
        Every n-th message is delivered twice; 0 for none.
    undeleted : float
        Of deleted messages.
    """

    refused: float = 0.05
    reset: float = 0.01
    done: float = 0.06
    cut: float = 0.03
    queue: float = 0.02
    sent: float = 0.05
    twice_every: int = 10
    undeleted: float = 0.05

    @classmethod
    def none(cls) -> Self:
        """A proxy that passes everything on."""
        return cls(0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request to the store that was carried out, before its answer is sent."""

    client: str
    method: str
    path: str


class FaultProxy:
    """A server on loopback, one port a client; a context manager.

    Parameters
    ----------
    target : str
        URL of the server behind it.
    seed : int
    rates : Rates
    watch : callable, optional
        Called with each :class:`Seen`, in the proxy's thread.

    Attributes
    ----------
    faults : Counter of str
        How often each kind happened.
    requests : Counter of str
        Requests by kind: ``store`` and ``queue``.
    """

    def __init__(
        self,
        target: str,
        seed: int,
        rates: Rates | None = None,
        watch: Callable[[Seen], None] | None = None,
    ) -> None:
        self.target = target
        self.seed = seed
        self.rates = rates or Rates()
        self.faults: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._watch = watch
        self._made: Counter[tuple[str, str]] = Counter()
        self._messages = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: dict[str, tuple[HTTPServer, int]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open)
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def endpoint(self, client: str) -> str:
        """The URL for one client, who is known by it."""
        if client not in self._servers:
            self._call(partial(self._listen, client))
        return f"http://127.0.0.1:{self._servers[client][1]}"

    # --- in the thread --------------------------------------------------------------------------

    def _call(self, do: Callable[[], None]) -> None:
        async def run() -> None:
            do()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def _open(self) -> None:
        self._client = AsyncHTTPClient(
            force_instance=True, max_clients=200, max_body_size=_LARGEST_BODY
        )

    async def _close(self) -> None:
        for server, _ in self._servers.values():
            server.stop()
            await server.close_all_connections()
        self._client.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _listen(self, client: str) -> None:
        sockets = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(partial(self._accept, client), max_buffer_size=_LARGEST_BODY)
        server.add_sockets(sockets)
        self._servers[client] = (server, sockets[0].getsockname()[1])

    def _accept(self, client: str, request: HTTPServerRequest) -> None:
        task = self._loop.create_task(self._serve(client, request))
        self._serving.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the proxy failed", exc_info=task.exception())

    async def _serve(self, client: str, request: HTTPServerRequest) -> None:
        began = time.monotonic()
        try:
            if "X-Amz-Target" in request.headers:
                await self._serve_queue(request)
            else:
                await self._serve_store(client, request)
        except StreamClosedError:
            # A client that was killed does not wait for its answer.
            _reset(request)
        finally:
            took = time.monotonic() - began
            if took > _SLOW_SECONDS:
                target = request.headers.get("X-Amz-Target", "")
                log.warning(
                    "%s %s %s %s: %.0f s", client, request.method, request.uri, target, took
                )

    # --- the store ------------------------------------------------------------------------------

    async def _serve_store(self, client: str, request: HTTPServerRequest) -> None:
        self.requests["store"] += 1
        fault = self._fault_of(request)
        if fault in _REFUSALS:
            self._count(fault)
            await _answer_refusal(request, *_REFUSALS[fault])
            return
        if fault == "reset":
            self._count(fault)
            _reset(request)
            return
        response = await self._forward(request)
        if self._watch is not None and response.code < 400:
            self._watch(Seen(client, str(request.method), request.path))
        if fault == "done, then 500" and response.code < 400:
            self._count(fault)
            await _answer_refusal(request, *_REFUSALS["500"])
        elif fault == "done, then reset" and response.code < 400:
            self._count(fault)
            _reset(request)
        elif fault == "body cut" and response.code < 300 and len(response.body or b"") > 1:
            self._count(fault)
            await _answer_half(request, response)
        else:
            await _answer(request, response)

    def _fault_of(self, request: HTTPServerRequest) -> str:
        """The kind of fault that befalls a request to the store; empty for none."""
        rates = self.rates
        kinds = [(kind, rates.refused / len(_REFUSALS)) for kind in _REFUSALS]
        kinds.append(("reset", rates.reset))
        if request.method in _WRITES:
            kinds += [("done, then 500", rates.done / 2), ("done, then reset", rates.done / 2)]
        elif request.method == "GET":
            kinds.append(("body cut", rates.cut))
        drawn = self._draw(str(request.method), str(request.uri))
        for kind, share in kinds:
            drawn -= share
            if drawn < 0:
                return kind
        return ""

    # --- the queue ------------------------------------------------------------------------------

    async def _serve_queue(self, request: HTTPServerRequest) -> None:
        self.requests["queue"] += 1
        action = request.headers["X-Amz-Target"].rpartition(".")[2]
        content = json.loads(request.body or b"{}")
        drawn = self._draw(action, hashlib.sha256(_identity(content)).hexdigest())
        if drawn < self.rates.queue:
            self._count("queue 500")
            await _answer_queue_refusal(request)
            return
        drawn -= self.rates.queue
        if action.startswith("DeleteMessage") and drawn < self.rates.undeleted:
            self._count("deletion lost")
            await _answer_json(request, {})
            return
        if action == "ReceiveMessage":
            wait = int(content.get("WaitTimeSeconds", 0))
            content["WaitTimeSeconds"] = min(wait, _LONGEST_POLL_SECONDS)
            response = await self._forward(request, json.dumps(content).encode())
            await self._deliver_again(request, content["QueueUrl"], response)
        else:
            response = await self._forward(request)
        if action.startswith("SendMessage") and drawn < self.rates.sent:
            self._count("sent, then 500")
            await _answer_queue_refusal(request)
            return
        await _answer(request, response)

    async def _deliver_again(
        self, request: HTTPServerRequest, queue: str, response: HTTPResponse
    ) -> None:
        """Put every n-th message that is handed out into the queue once more."""
        if response.code != 200 or not self.rates.twice_every:
            return
        for message in json.loads(response.body or b"{}").get("Messages", ()):
            self._messages += 1
            if self._messages % self.rates.twice_every == 0:
                self._count("delivered twice")
                again = {"QueueUrl": queue, "MessageBody": message["Body"]}
                headers = {"X-Amz-Target": "AmazonSQS.SendMessage"}
                await self._forward(request, json.dumps(again).encode(), headers)

    # --- what both need -------------------------------------------------------------------------

    def _count(self, kind: str) -> None:
        self.faults[kind] += 1

    def _draw(self, method: str, address: str) -> float:
        """A number in [0, 1) that only the request and the seed decide."""
        self._made[method, address] += 1
        text = f"{self.seed}|{method}|{address}|{self._made[method, address]}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64

    async def _forward(
        self,
        request: HTTPServerRequest,
        body: bytes | None = None,
        other: dict[str, str] | None = None,
    ) -> HTTPResponse:
        headers = HTTPHeaders({k: v for k, v in request.headers.get_all() if k.lower() not in _HOP})
        sent = request.body if body is None else body
        headers.pop("Content-Length", None)
        # Else tornado's client says that the body of a POST is a form, and the server parses it.
        headers.setdefault("Content-Type", "application/octet-stream")
        headers.update(other or {})
        response = await self._client.fetch(
            HTTPRequest(
                self.target + str(request.uri),
                method=str(request.method),
                headers=headers,
                body=sent if sent or request.method in ("PUT", "POST") else None,
                decompress_response=False,
                follow_redirects=False,
                allow_nonstandard_methods=True,
                request_timeout=50,
            ),
            raise_error=False,
        )
        if response.code == _NO_ANSWER:
            raise StreamClosedError(response.error)
        return response


def _identity(content: dict[str, Any]) -> bytes:
    """What is the same for a seed: the server draws the handles of messages."""
    known = {name: value for name, value in content.items() if name != "ReceiptHandle"}
    return json.dumps(known, sort_keys=True).encode()


def _connection(request: HTTPServerRequest) -> HTTP1Connection:
    return cast(HTTP1Connection, request.connection)


def _reset(request: HTTPServerRequest) -> None:
    """Close so that the client sees a reset, not an end."""
    stream = _connection(request).stream
    if not stream.closed():
        linger = struct.pack("ii", 1, 0)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        stream.close()


async def _send(
    request: HTTPServerRequest, code: int, reason: str, headers: HTTPHeaders, body: bytes
) -> None:
    connection = _connection(request)
    line = ResponseStartLine("HTTP/1.1", code, reason)
    await connection.write_headers(line, headers, body if request.method != "HEAD" else b"")
    connection.finish()


def _headers_of(response: HTTPResponse) -> Iterator[tuple[str, str]]:
    for name, value in response.headers.get_all():
        if name.lower() not in _HOP and name.lower() != "content-length":
            yield name, value


async def _answer(request: HTTPServerRequest, response: HTTPResponse) -> None:
    body = response.body or b""
    headers = HTTPHeaders()
    for name, value in _headers_of(response):
        headers.add(name, value)
    length = response.headers.get("Content-Length") if request.method == "HEAD" else None
    if response.code not in (204, 304):
        headers["Content-Length"] = length or str(len(body))
    await _send(request, response.code, response.reason or "", headers, body)


async def _answer_half(request: HTTPServerRequest, response: HTTPResponse) -> None:
    """Promise the whole body, give half of it, and close."""
    body = response.body
    headers = HTTPHeaders(dict(_headers_of(response)))
    headers["Content-Length"] = str(len(body))
    connection = _connection(request)
    line = ResponseStartLine("HTTP/1.1", response.code, response.reason or "")
    await connection.write_headers(line, headers, body[: len(body) // 2])
    connection.stream.close()


async def _answer_refusal(request: HTTPServerRequest, code: int, name: str, text: str) -> None:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{name}</Code>'
        f"<Message>{text}</Message><RequestId>0</RequestId></Error>"
    ).encode()
    headers = HTTPHeaders({"Content-Type": "application/xml", "Content-Length": str(len(body))})
    await _send(request, code, name, headers, body)


async def _answer_json(request: HTTPServerRequest, content: object, code: int = 200) -> None:
    body = json.dumps(content).encode()
    kind = "application/x-amz-json-1.0"
    headers = HTTPHeaders({"Content-Type": kind, "Content-Length": str(len(body))})
    await _send(request, code, "OK" if code == 200 else "Error", headers, body)


async def _answer_queue_refusal(request: HTTPServerRequest) -> None:
    error = {"__type": "com.amazonaws.sqs#InternalError", "message": "try again"}
    await _answer_json(request, error, 500)
