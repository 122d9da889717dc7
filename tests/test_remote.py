"""Faults of buckets and web servers: tried again where that helps, else one line at once."""

import gzip
import hashlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cnapse.errors import (
    ConfigError,
    FormatError,
    LayerNotFoundError,
    StorageError,
    StorageUnavailableError,
)
from cnapse.faults import retry_seconds
from cnapse.geometry import Box
from cnapse.remote import reachable
from cnapse.store import Store
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer
from cnapse_cli import main as cli

BOUNDS = Box((0, 0, 0), (20, 20, 8), (4, 4, 40))


@dataclass
class Stub:
    """A server that answers as S3 and plain web servers do, faults first."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """Taken one by one: a status, or ``cut``, ``flip``, ``drop``."""
    always: str = ""
    asked: Counter = field(default_factory=Counter)

    def fault(self) -> str:
        return self.always or (self.faults.pop(0) if self.faults else "")

    def serve(self, path: str, folder) -> None:
        """Serve the files of a folder."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.files[f"{path}/{file.relative_to(folder)}"] = file.read_bytes()


class Server(ThreadingHTTPServer):
    """For twenty connections at a time; with room for five, others wait for a second."""

    request_queue_size = 64


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: Stub

    def log_message(self, *args) -> None: ...

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else b""
        self.stub.asked[self.command] += 1
        fault = self.stub.fault()
        if fault == "drop":
            self.close_connection = True
            return
        if fault and fault[0].isdigit():
            status, _, code = fault.partition(" ")
            self.send(int(status), f"<Error><Code>{code}</Code><Message>no</Message></Error>")
            return
        if self.command == "PUT":
            self.stub.files[self.path] = body
            self.send(200, b"")
            return
        content = self.stub.files.get(self.path)
        if content is None:
            self.send(404, "<Error><Code>NoSuchKey</Code></Error>")
            return
        tag = hashlib.md5(content).hexdigest()
        if fault == "flip":
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send(200, content, tag, cut=fault == "cut")

    def send(self, status: int, content: bytes | str, tag: str = "", *, cut: bool = False) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if tag:
            self.send_header("ETag", f'"{tag}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = cut

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815 - http.server's names


@pytest.fixture
def stub(monkeypatch, tmp_path) -> Iterator[Stub]:
    """A server of faults, as S3 by ``s3://{url}/bucket`` and as a web server by its URL."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("CNAPSE_RETRY_SECONDS", "20")
    state = Stub()
    handler = type("Own", (Handler,), {"stub": state})
    server = Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    """A small layer on disk, and its voxels."""
    folder = tmp_path_factory.mktemp("layer") / "image"
    array = np.random.default_rng(3).integers(1, 255, BOUNDS.shape, np.uint8)
    create_layer(folder, kind="image", dtype="uint8", bounds=BOUNDS, chunk_size=(10, 10, 8)).write(
        array, BOUNDS
    )
    return folder, array


@pytest.mark.parametrize("fault", ["500 InternalError", "503 SlowDown", "drop", "cut", "flip"])
def test_what_may_pass_is_tried_again(stub, fault) -> None:
    store = Store(f"s3://{stub.url}/bucket/run")
    content = bytes(range(256)) * 9
    stub.files["/bucket/run/a"] = content
    stub.faults = [fault] * 3
    assert store.get("a") == content
    assert stub.faults == []


@pytest.mark.parametrize("fault", ["500 InternalError", "503 SlowDown", "drop"])
def test_writes_are_tried_again(stub, fault) -> None:
    stub.faults = [fault] * 3
    Store(f"s3://{stub.url}/bucket/run").put("a", b"content")
    assert stub.files["/bucket/run/a"] == b"content"


@pytest.mark.parametrize("scheme", ["", "s3://"])
def test_chunks_that_are_cut_short_are_fetched_again(stub, layer, scheme) -> None:
    folder, array = layer
    stub.serve("/bucket/image", folder)
    found = open_layer(f"{scheme}{stub.url}/bucket/image")
    stub.faults = ["cut", "503 SlowDown", "cut", "drop"]
    np.testing.assert_array_equal(found.read(BOUNDS), array)
    assert stub.faults == []


DENIED = "access denied ("
EXPIRED = "your credentials have expired: get new ones, then run the same command again"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("403 AccessDenied", DENIED),
        ("400 ExpiredToken", EXPIRED),
        ("403 InvalidAccessKeyId", "the server does not know your credentials ("),
        ("403 SignatureDoesNotMatch", "the server does not know your credentials ("),
        ("404 NoSuchBucket", "there is no bucket bucket: check its name, or make it"),
    ],
)
def test_refusals_are_told_at_once(stub, fault, message) -> None:
    stub.always = fault
    path = f"s3://{stub.url}/bucket/run"
    for act in (
        lambda: Store(path).get("a"),
        lambda: Store(path).put("a", b""),
        lambda: Store(path).check_writable(),
        lambda: Store(path).names(),
        lambda: open_layer(path),
    ):
        stub.asked.clear()
        with pytest.raises(StorageError) as caught:
            act()
        assert message in str(caught.value)
        assert not isinstance(caught.value, StorageUnavailableError)
        assert "\n" not in str(caught.value)
        assert path in str(caught.value)
        assert stub.asked.total() == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [("403 AccessDenied", DENIED), ("400 ExpiredToken", EXPIRED)],
)
def test_a_run_ends_with_one_line(stub, layer, fault, message, tmp_path, monkeypatch) -> None:
    """Before any work; the same command goes on when the bucket lets it."""
    config = tmp_path / "cnapse.toml"
    config.write_text(
        f'output = "s3://{stub.url}/bucket/run"\nresolution = [4, 4, 40]\n'
        f'[layers]\nprobability = "{layer[0]}"\n'
    )
    monkeypatch.setattr(sys, "argv", ["cnapse", "run", str(config)])
    stub.always = fault
    with pytest.raises(SystemExit) as ended:
        cli.main()
    line = str(ended.value.code)
    assert line.startswith(f"cnapse: s3://{stub.url}/bucket/run")
    assert message in line
    assert "\n" not in line
    assert not stub.files


def test_without_credentials(stub, monkeypatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    # boto keeps the keys that it found first.
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="no credentials: set AWS_ACCESS_KEY_ID and"):
        Store(f"s3://{stub.url}/keyless/run").get("a")
    assert not stub.asked


@pytest.mark.parametrize("path", ["s3://http://127.0.0.1:9/bucket/run", "http://127.0.0.1:9/run"])
def test_nobody_there(stub, monkeypatch, path) -> None:
    monkeypatch.setenv("CNAPSE_RETRY_SECONDS", "0.5")
    begun = time.monotonic()
    with pytest.raises(StorageUnavailableError, match=r"cannot be reached: .*; tried for 0.5 s"):
        Store(path).get("a")
    with pytest.raises(StorageUnavailableError, match="then run the same command again"):
        open_layer(path)
    assert time.monotonic() - begun < 60


def test_a_file_that_stays_damaged(stub) -> None:
    stub.files["/bucket/run/a"] = b"content"
    stub.always = "flip"
    with pytest.raises(StorageUnavailableError, match=r"run/a arrived damaged each time: .*md5"):
        Store(f"s3://{stub.url}/bucket/run").get("a")


def test_web_servers_are_for_reading(stub) -> None:
    store = Store(f"{stub.url}/run")
    stub.files["/run/a"] = b"content"
    assert store.get("a") == b"content"
    assert store.get("b") is None
    for act in (lambda: store.put("a", b""), lambda: store.delete(["a"]), store.names):
        with pytest.raises(StorageError, match="files of a web server can only be read one by one"):
            act()


def test_paths_with_their_endpoint() -> None:
    from cloudfiles import paths

    path = reachable("s3://https://s3.lab.example.org:9000/bucket/a/b")
    assert path == "s3_lab_example_org_9000://bucket/a/b"
    found = paths.extract(path)
    assert (found.host, found.bucket, found.path) == (
        "https://s3.lab.example.org:9000",
        "bucket",
        "a/b",
    )
    for same in ("s3://bucket/a", "gs://bucket/a", "https://host/a", "file:///a"):
        assert reachable(same) == same


# --- missing chunks -----------------------------------------------------------------------------


def holed(layer, tmp_path):
    """The layer without two of its four chunks."""
    import shutil

    folder, array = layer
    copy = tmp_path / "holed"
    shutil.copytree(folder, copy)
    expected = array.copy()
    (copy / "4_4_40" / "10-20_0-10_0-8").unlink()
    (copy / "4_4_40" / "0-10_10-20_0-8").unlink()
    expected[10:, :10] = 0
    expected[:10, 10:] = 0
    return copy, expected


def test_missing_chunks_are_an_error_unless_they_are_declared(layer, tmp_path) -> None:
    folder, expected = holed(layer, tmp_path)
    message = r"chunk 4_4_40/\S+ is missing: copy the layer again; if missing chunks stand"
    with pytest.raises(LayerNotFoundError, match=message):
        open_layer(folder).read(BOUNDS)
    found = open_layer(folder, fill_missing=True)
    np.testing.assert_array_equal(found.read(BOUNDS), expected)
    assert found.missing_chunks == 2
    np.testing.assert_array_equal(found.read(BOUNDS), expected)
    assert found.missing_chunks == 4
    found.read(Box((0, 0, 0), (10, 10, 8), (4, 4, 40)))
    assert found.missing_chunks == 4


def test_missing_chunks_of_a_web_server(stub, layer, tmp_path) -> None:
    folder, expected = holed(layer, tmp_path)
    stub.serve("/bucket/holed", folder)
    with pytest.raises(LayerNotFoundError, match="is missing"):
        open_layer(f"{stub.url}/bucket/holed").read(BOUNDS)
    found = open_layer(f"{stub.url}/bucket/holed", fill_missing=True)
    stub.faults = ["503 SlowDown", "drop"]
    np.testing.assert_array_equal(found.read(BOUNDS), expected)
    assert found.missing_chunks == 2


def test_an_outage_is_no_missing_chunk(stub, layer, monkeypatch) -> None:
    folder, _ = layer
    stub.serve("/bucket/image", folder)
    found = open_layer(f"s3://{stub.url}/bucket/image", fill_missing=True)
    monkeypatch.setenv("CNAPSE_RETRY_SECONDS", "0.2")
    stub.always = "503 SlowDown"
    with pytest.raises(StorageUnavailableError, match="cannot be reached"):
        found.read(BOUNDS)
    stub.always = "403 AccessDenied"
    with pytest.raises(StorageError, match="access denied"):
        found.read(BOUNDS)


def test_a_compressed_body_cut_by_a_server_that_gives_no_length(layer, tmp_path) -> None:
    """What gzip itself tells: such a file on disk is damaged."""
    folder, _ = layer
    chunk = next((folder / "4_4_40").iterdir())
    copy = tmp_path / "image"
    (copy / "4_4_40").mkdir(parents=True)
    (copy / "info").write_bytes((folder / "info").read_bytes())
    (copy / "4_4_40" / f"{chunk.name}.gz").write_bytes(gzip.compress(chunk.read_bytes())[:-20])
    start, stop = zip(*(map(int, axis.split("-")) for axis in chunk.name.split("_")), strict=True)
    with pytest.raises(FormatError, match="is damaged or not raw"):
        open_layer(copy).read(Box(start, stop, (4, 4, 40)))


def test_seconds_that_are_none(monkeypatch) -> None:
    monkeypatch.setenv("CNAPSE_RETRY_SECONDS", "long")
    with pytest.raises(ConfigError, match="CNAPSE_RETRY_SECONDS='long' is no number: give sec"):
        retry_seconds()
