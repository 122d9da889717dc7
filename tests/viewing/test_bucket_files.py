"""Layers in private buckets, handed on by the server with this user's credentials."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from cnapse.errors import StorageError, StorageUnavailableError
from cnapse.viewing.bucket_files import BucketFolder
from cnapse.viewing.exhibit import Aim, Exhibit, present_layers
from cnapse.viewing.server import LayerServer

CHUNK = bytes(range(256)) * 4


@pytest.fixture
def bucket(aws: Any) -> str:
    """A layer beside what is nobody's business."""
    path: str = aws.bucket("private")
    client, name = aws.client("s3"), path.removeprefix("s3://")
    client.put_object(Bucket=name, Key="run/image/info", Body=b'{"a": 1}')
    client.put_object(Bucket=name, Key="run/image/0.shard", Body=CHUNK)
    client.put_object(Bucket=name, Key="run/image/empty", Body=b"")
    client.put_object(
        Bucket=name, Key="run/image/chunk", Body=gzip.compress(CHUNK), ContentEncoding="gzip"
    )
    for key in ("run/secret", "run/image2/secret", "run/image/../secret", "run/image//secret"):
        client.put_object(Bucket=name, Key=key, Body=b"not for you")
    return path


@pytest.fixture
def server(bucket: str) -> Iterator[LayerServer]:
    with LayerServer({"image": f"{bucket}/run/image"}) as running:
        yield running


def ask(
    server: LayerServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, f"/{server.token}/image/{path}", headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_files_come_as_they_are_stored(server: LayerServer) -> None:
    status, headers, body = ask(server, "info")
    assert (status, headers["Content-Type"], body) == (200, "application/json", b'{"a": 1}')
    assert headers["Access-Control-Allow-Origin"] == "*"
    status, headers, body = ask(server, "chunk", Range="bytes=0-9")
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert gzip.decompress(body) == CHUNK
    status, headers, body = ask(server, "0.shard", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "1024", b"")


def test_ranges(server: LayerServer) -> None:
    parts = {"0-0": (0, 1), "10-19": (10, 20), "1000-": (1000, 1024), "-7": (1017, 1024)}
    for wanted, (start, stop) in (parts | {"5-9999": (5, 1024)}).items():
        status, headers, body = ask(server, "0.shard", Range=f"bytes={wanted}")
        assert (status, body) == (206, CHUNK[start:stop])
        assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/1024"
    for wanted in ("1024-", "9-2", "-0", "99999999999999999999-"):
        status, headers, body = ask(server, "0.shard", Range=f"bytes={wanted}")
        assert (status, headers["Content-Range"], body) == (416, "bytes */1024", b"")
    for wanted in ("0-1,5-6", "a", "--5", "-"):
        assert ask(server, "0.shard", Range=f"bytes={wanted}")[::2] == (200, CHUNK)


def test_nothing_outside_of_the_folder(server: LayerServer) -> None:
    for path in (
        *("nothing", "../secret", "%2e%2e/secret", "..%2fsecret", "%2e%2e%2fsecret", "", "."),
        *("/secret", "%2fsecret", "../image2/secret", "a/../../secret", "..%5csecret", "info%00"),
    ):
        for headers in ({}, {"Range": "bytes=0-3"}):
            status, _, body = ask(server, path, **headers)
            assert (status, body) == (404, b""), path
        assert ask(server, path, "HEAD")[0] == 404


def test_nothing_without_the_token_and_nothing_written(server: LayerServer, bucket: str) -> None:
    folder = BucketFolder(f"{bucket}/run/image")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/wrong/image/info")
    assert connection.getresponse().status == 403
    connection.close()
    for method in ("PUT", "POST", "DELETE"):
        assert ask(server, "info", method)[0] == 405
    found = folder.read("info")
    folder.close()
    assert found is not None
    assert found.content == b'{"a": 1}'


def test_many_ranges_at_once(server: LayerServer) -> None:
    many = 50

    async def ask_for(start: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"GET /{server.token}/image/0.shard HTTP/1.1\r\nHost: x\r\n"
        writer.write(
            f"{head}Range: bytes={start}-{start + 9}\r\nConnection: close\r\n\r\n".encode()
        )
        answer, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return answer.startswith(b"HTTP/1.1 206 ") and body == CHUNK[start : start + 10]

    async def ask_all() -> list[bool]:
        return await asyncio.gather(*[ask_for(start) for start in range(many)])

    assert asyncio.run(ask_all()) == [True] * many


def test_what_a_bucket_refuses(server: LayerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is denied may be what is not there; all else is a fault that the viewer must tell."""
    for error, status in (
        (StorageUnavailableError("s3://b/i/info cannot be reached: no"), 502),
        (StorageError("s3://b/i/info: your credentials have expired: get new ones"), 502),
        (StorageError("s3://b/i/info: access denied (no): ask for the right to do this"), 403),
    ):

        def refuse(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(BucketFolder, "read", refuse)
        assert ask(server, "info")[::2] == (status, b"")


def test_a_scene_of_a_bucket_goes_through_the_server(bucket: str) -> None:
    paths = {"image": f"{bucket}/run/image", "cells": f"{bucket}/run/cells"}
    there = present_layers(paths)
    assert list(there) == ["image"]
    exhibit = Exhibit(there, {"annotations": [f"{bucket}/run/image"]})
    assert exhibit.folders == {"image": paths["image"], "annotations-0": paths["image"]}
    with LayerServer(exhibit.folders) as server:
        address = exhibit.show(server, (4, 4, 50), Aim((0.0, 0.0, 0.0)))
        with urllib.request.urlopen(f"{address}state.json") as answer:
            layers = json.load(answer)["layers"]
        urls = [layer["source"].removeprefix("precomputed://") for layer in layers]
        assert urls == [server.address("image"), server.address("annotations-0")]
        for url in urls:
            with urllib.request.urlopen(f"{url}/info") as answer:
                assert answer.read() == b'{"a": 1}'
