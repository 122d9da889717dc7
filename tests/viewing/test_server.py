"""The server hands out what it should and nothing else; asked over bare sockets, so that no client
tidies up a path first."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import resource
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cnapse.errors import ConfigError, LayerNotFoundError
from cnapse.viewing.server import LayerServer

SECRET = b"not for you"
CHUNK = bytes(range(256)) * 4


@pytest.fixture
def site(tmp_path: Path) -> Path:
    layer = tmp_path / "image"
    (layer / "4_4_50").mkdir(parents=True)
    (layer / "info").write_text('{"type": "image"}')
    (layer / "4_4_50" / "0-64_0-64_0-16").write_bytes(CHUNK)
    (layer / "4_4_50" / "64-128_0-64_0-16.gz").write_bytes(gzip.compress(CHUNK, mtime=0))
    (layer / "4_4_50" / "name with space").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "image2").mkdir()
    (tmp_path / "image2" / "secret").write_bytes(SECRET)
    (layer / "link").symlink_to(tmp_path / "secret")
    (layer / "folder-link").symlink_to(tmp_path)
    (layer / "own-link").symlink_to(layer / "info")
    (layer / "loop").symlink_to(layer / "loop")
    return tmp_path


@pytest.fixture
def server(site: Path) -> Iterator[LayerServer]:
    with LayerServer({"image": site / "image"}) as running:
        yield running


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


def ask(
    server: LayerServer,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """Ask for exactly this path; TOKEN stands for the token."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path.replace("TOKEN", server.token), body, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def test_files_are_served_with_their_types(server: LayerServer) -> None:
    info = ask(server, "/TOKEN/image/info")
    assert (info.status, info.body) == (200, b'{"type": "image"}')
    assert info.headers["Content-Type"] == "application/json"
    chunk = ask(server, "/TOKEN/image/4_4_50/0-64_0-64_0-16")
    assert (chunk.status, chunk.body) == (200, CHUNK)
    assert chunk.headers["Content-Type"] == "application/octet-stream"
    assert "Content-Encoding" not in chunk.headers
    assert ask(server, "/TOKEN/image/own-link").body == info.body
    assert ask(server, "/TOKEN/image/4_4_50/name%20with%20space").body == b"x"


def test_a_compressed_file_stands_in_for_a_missing_one(server: LayerServer) -> None:
    whole = {"Accept-Encoding": "gzip", "Range": "bytes=0-9"}
    chunk = ask(server, "/TOKEN/image/4_4_50/64-128_0-64_0-16", headers=whole)
    assert chunk.status == 200
    assert chunk.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(chunk.body) == CHUNK
    plain = ask(server, "/TOKEN/image/4_4_50/64-128_0-64_0-16.gz")
    assert "Content-Encoding" not in plain.headers


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("10-19", 10, 20),
        ("1000-", 1000, 1024),
        ("-7", 1017, 1024),
        ("5-9999", 5, 1024),
    ],
)
def test_ranges(server: LayerServer, wanted: str, start: int, stop: int) -> None:
    part = ask(server, "/TOKEN/image/4_4_50/0-64_0-64_0-16", headers={"Range": f"bytes={wanted}"})
    assert part.status == 206
    assert part.body == CHUNK[start:stop]
    assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/1024"
    assert part.headers["Access-Control-Allow-Origin"] == "*"
    assert "Content-Range" in part.headers["Access-Control-Expose-Headers"]


def test_a_range_past_the_end(server: LayerServer) -> None:
    part = ask(server, "/TOKEN/image/4_4_50/0-64_0-64_0-16", headers={"Range": "bytes=5000-6000"})
    assert (part.status, part.headers["Content-Range"]) == (416, "bytes */1024")


@pytest.mark.parametrize(
    "wanted",
    [
        *(
            "bytes=abc",
            "bytes=-",
            "bytes=",
            "bytes=--5",
            "bytes=-5-2",
            "bytes=1.5-2",
            "bytes=1_0-20",
        ),
        *("bytes=+1-+3", "bytes=0-1,3-4", "items=0-1", "0-1", "bytes=\u0663-\u0664"),
    ],
)
def test_what_is_no_range_is_ignored(server: LayerServer, wanted: str) -> None:
    headers = {"Range": wanted.encode()}
    whole = ask(server, "/TOKEN/image/4_4_50/0-64_0-64_0-16", headers=headers)  # type: ignore[arg-type]
    assert (whole.status, whole.body) == (200, CHUNK)
    assert "Content-Range" not in whole.headers


@pytest.mark.parametrize("wanted", ["9-2", "1024-", "-0", "99999999999999999999999-"])
def test_ranges_of_nothing_are_refused(server: LayerServer, wanted: str) -> None:
    headers = {"Range": f"bytes={wanted}"}
    part = ask(server, "/TOKEN/image/4_4_50/0-64_0-64_0-16", headers=headers)
    assert (part.status, part.body) == (416, b"")
    assert part.headers["Content-Range"] == "bytes */1024"


def test_a_thousand_ranges_at_once(server: LayerServer) -> None:
    """All connections are open before the first is answered; each gets its own bytes."""
    path = f"/{server.token}/image/4_4_50/0-64_0-64_0-16"

    async def ask_for(start: int, opened: asyncio.Barrier) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await opened.wait()
        range_ = f"Range: bytes={start}-{start + 9}\r\nConnection: close"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{range_}\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return head.startswith(b"HTTP/1.1 206 ") and body == CHUNK[start : start + 10]

    async def ask_all() -> list[bool]:
        opened = asyncio.Barrier(many)
        return await asyncio.gather(*[ask_for(start, opened) for start in range(many)])

    # Both ends of a connection are files of this process.
    many = min(1000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)
    assert asyncio.run(ask_all()) == [True] * many
    assert ask(server, "/TOKEN/image/info").status == 200


def test_head_has_no_body(server: LayerServer) -> None:
    head = ask(server, "/TOKEN/image/4_4_50/0-64_0-64_0-16", "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "1024")


@pytest.mark.parametrize(
    "path",
    [
        "/TOKEN/image/../secret",
        "/TOKEN/image/../image2/secret",
        "/TOKEN/image/4_4_50/../../secret",
        "/TOKEN/image/%2e%2e/secret",
        "/TOKEN/image/%2e%2e%2fsecret",
        "/TOKEN/image/..%2fsecret",
        "/TOKEN/image/..%5csecret",
        "/TOKEN/image/%252e%252e/secret",
        "/TOKEN/image//etc/passwd",
        "/TOKEN/image/%2fetc%2fpasswd",
        "/TOKEN/image/%00",
        "/TOKEN/image/info%00.json",
        "/TOKEN/image/%ff%fe",
        "/TOKEN/image/link",
        "/TOKEN/image/folder-link/secret",
        "/TOKEN/image/loop",
        "/TOKEN/image/" + "a" * 5000,
        "/TOKEN/image/",
        "/TOKEN/image/4_4_50",
        "/TOKEN/image/4_4_50/",
        "/TOKEN/image",
        "/TOKEN/nothing/info",
        "/TOKEN/../image/info",
        "/TOKEN/state.json",
        "/TOKEN/v/view/../../../__init__.py",
        "/TOKEN/v/view/%2e%2e/__init__.py",
        "/TOKEN",
        "/",
        "//",
        "/TOKEN//info",
    ],
)
def test_nothing_outside_of_the_folders(server: LayerServer, path: str) -> None:
    answer = ask(server, path)
    assert answer.status in (400, 403, 404), answer.body
    assert answer.body == b""
    assert SECRET not in answer.body


@pytest.mark.parametrize("path", ["image/info", "", "state.json", "v/view/", "events/view"])
@pytest.mark.parametrize("token", ["wrong", "%20", "%C3%A9", "image"])
def test_nothing_without_the_token(server: LayerServer, token: str, path: str) -> None:
    server.show({"a": 1})
    for method in ("GET", "HEAD"):
        answer = ask(server, f"/{token}/{path}", method)
        assert (answer.status, answer.body) == (403, b"")
    assert ask(server, f"/%ff/{path}").status == 400
    shortened = ask(server, f"/{server.token[:-1]}/{path}")
    assert shortened.status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "MKCOL"])
@pytest.mark.parametrize(
    "path",
    ["/TOKEN/image/info", "/TOKEN/image/new", "/TOKEN/", "/TOKEN/state/view", "/x/image/info"],
)
def test_nothing_can_be_written(server: LayerServer, site: Path, method: str, path: str) -> None:
    before = sorted(site.rglob("*"))
    answer = ask(server, path, method, body=b"overwritten" if method != "TRACE" else None)
    assert (answer.status, answer.body) == (405, b"")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert sorted(site.rglob("*")) == before
    assert (site / "image" / "info").read_text() == '{"type": "image"}'


def test_a_large_body_is_refused(server: LayerServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("POST", f"/{server.token}/image/info")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 400
    connection.close()


def test_other_origins_may_ask(server: LayerServer) -> None:
    asked = {
        "Origin": "https://neuroglancer-demo.appspot.com",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range",
        "Access-Control-Request-Private-Network": "true",
    }
    answer = ask(server, "/TOKEN/image/info", "OPTIONS", asked)
    assert (answer.status, answer.body) == (204, b"")
    assert "Range" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"


def test_no_referrer_and_no_server_name(server: LayerServer) -> None:
    answer = ask(server, "/TOKEN/image/info")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in answer.headers


def test_a_chunk_edited_in_place_is_sent_again(server: LayerServer, site: Path) -> None:
    path = "/TOKEN/image/4_4_50/0-64_0-64_0-16"
    tag = ask(server, path).headers["ETag"]
    assert ask(server, path, headers={"If-None-Match": tag}).status == 304
    (site / "image" / "4_4_50" / "0-64_0-64_0-16").write_bytes(CHUNK[::-1])
    again = ask(server, path, headers={"If-None-Match": tag})
    assert (again.status, again.body) == (200, CHUNK[::-1])


def test_one_connection_serves_many(server: LayerServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.connect()
    kept = connection.sock
    for path in ("image/info", "image/nothing", "image/4_4_50/0-64_0-64_0-16", "image/info"):
        connection.request("GET", f"/{server.token}/{path}")
        connection.getresponse().read()
        assert connection.sock is kept
    connection.close()


def test_the_client_and_the_scene(server: LayerServer) -> None:
    address = server.show({"source": server.address("image")})
    assert address == f"http://127.0.0.1:{server.port}/{server.token}/"
    start = ask(server, "/TOKEN/")
    assert start.status == 302
    state = f"http://127.0.0.1:{server.port}/{server.token}/state.json"
    assert start.headers["Location"] == f"v/view/#!{state}"
    page = ask(server, "/TOKEN/v/view/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    script = page.body.decode().split('script defer src="')[-1].split('"')[0]
    code = ask(server, f"/TOKEN/v/view/{script}")
    assert code.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert len(code.body) > 10_000
    # What the client does not set, and then cannot write (viewing/client.py).
    assert b"localAnnotationRelationships;" not in code.body
    part = ask(server, f"/TOKEN/v/view/{script}", headers={"Range": "bytes=100-"})
    assert part.body == code.body[100:]
    scene = ask(server, "/TOKEN/state.json")
    assert json.loads(scene.body) == {"source": server.address("image")}


def test_through_a_tunnel_addresses_are_the_tunnels(server: LayerServer) -> None:
    server.show({"source": server.address("image")})
    scene = ask(server, "/TOKEN/state.json", headers={"Host": "localhost:9000"})
    assert json.loads(scene.body) == {"source": f"http://localhost:9000/{server.token}/image"}
    forged = ask(server, "/TOKEN/state.json", headers={"Host": 'a"b'})
    assert forged.status in (200, 400)
    if forged.status == 200:
        assert json.loads(forged.body) == {"source": server.address("image")}


def test_the_event_stream_stays_open_and_silent(server: LayerServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", f"/{server.token}/events/view?c=1")
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.readline() == b": nothing to say\n"
    assert ask(server, "/TOKEN/image/info").status == 200
    connection.close()


def test_it_listens_on_loopback_only(server: LayerServer) -> None:
    assert server.bind == "127.0.0.1"
    with socket.socket() as other:
        other.settimeout(2)
        with pytest.raises(OSError):  # noqa: PT011 - refused or unreachable, as the system likes
            other.connect(("127.0.0.2", server.port))


@pytest.mark.parametrize("bind", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_loopback_is_for_this_machine(bind: str) -> None:
    with LayerServer({}, bind=bind) as server:
        assert not server.for_others
        assert urlsplit(server.url).hostname == bind


def test_other_machines_get_an_address_that_leads_here(site: Path) -> None:
    with LayerServer({"image": site / "image"}, bind="0.0.0.0") as server:
        assert server.for_others
        assert urlsplit(server.url).hostname not in ("0.0.0.0", "127.0.0.1", "localhost")
        with urllib.request.urlopen(f"{server.address('image')}/info") as answer:
            assert answer.read() == b'{"type": "image"}'
        assert ask(server, "/wrong/image/info").status == 403


def test_without_a_net_they_get_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unconnected(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "socket", Unconnected)
    monkeypatch.setattr(socket, "gethostname", lambda: "microscope")
    with LayerServer({}, bind="0.0.0.0", token="t") as server:
        assert server.url == f"http://microscope:{server.port}/t"


def test_tokens_are_random(site: Path) -> None:
    with LayerServer({}) as one, LayerServer({}) as other:
        assert one.token != other.token
        assert len(one.token) >= 32


def test_closing_ends_the_thread_with_a_stream_open(site: Path) -> None:
    server = LayerServer({"image": site / "image"})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", f"/{server.token}/events/view")
    connection.getresponse()
    server.close()
    server.close()
    connection.close()
    assert "cnapse-server" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(OSError):  # noqa: PT011
        socket.create_connection(("127.0.0.1", server.port), timeout=2)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LayerNotFoundError, match=r"layer cells: no folder .*missing to serve"):
        LayerServer({"cells": tmp_path / "missing"})


def test_a_port_in_use(server: LayerServer) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1 port .*another --port"):
        LayerServer({}, port=server.port)
