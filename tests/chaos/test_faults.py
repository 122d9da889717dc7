"""The proxy does to requests what it says, counts it, and leaves the others alone."""

import contextlib
import http.client
import http.server
import json
import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

BODY = bytes(range(256)) * 40


class Store(http.server.BaseHTTPRequestHandler):
    """Files by name, and a queue that always has the same message."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.server.files[self.path] = self._body()
        self._answer(200, b"", ETag='"of the store"')

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        self._answer(404 if content is None else 200, content or b"<none/>")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.server.files.pop(self.path, None)
        self._answer(204, b"")

    def do_POST(self) -> None:
        action = self.headers["X-Amz-Target"].rpartition(".")[2]
        content = json.loads(self._body())
        self.server.actions.append((action, content))
        messages = [{"Body": "a task", "ReceiptHandle": str(len(self.server.actions))}]
        answer = {"Messages": messages} if action == "ReceiveMessage" else {}
        self._answer(200, json.dumps(answer).encode())

    def _body(self) -> bytes:
        self.server.kinds.add(self.headers["Content-Type"])
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if code != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args) -> None: ...


@pytest.fixture
def store():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    server.daemon_threads = True
    server.files, server.actions, server.kinds = {}, [], set()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def ask(endpoint: str, method: str, path: str, body: bytes | None = None, **headers):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return SimpleNamespace(code=answer.status, headers=answer.headers, body=answer.read())
    finally:
        connection.close()


def ask_queue(endpoint: str, action: str, **content):
    body = json.dumps({"QueueUrl": "q"} | content).encode()
    return ask(endpoint, "POST", "/", body, **{"X-Amz-Target": f"AmazonSQS.{action}"})


def of_one_kind(faults, **rates):
    return replace(faults.Rates.none(), **rates)


def test_without_faults_it_is_not_there(faults, store) -> None:
    with faults.FaultProxy(store.url, 1, faults.Rates.none()) as proxy:
        url = proxy.endpoint("a")
        assert ask(url, "PUT", "/b/k", BODY).headers["ETag"] == '"of the store"'
        assert store.files["/b/k"] == BODY
        assert ask(url, "GET", "/b/k").body == BODY
        head = ask(url, "HEAD", "/b/k")
        assert (head.code, head.headers["Content-Length"], head.body) == (200, str(len(BODY)), b"")
        assert ask(url, "GET", "/b/none").code == 404
        assert ask(url, "DELETE", "/b/k").code == 204
        ask_queue(url, "SendMessage", MessageBody="x")
        assert proxy.faults.total() == 0
        assert proxy.requests == {"store": 5, "queue": 1}
    assert store.actions == [("SendMessage", {"QueueUrl": "q", "MessageBody": "x"})]
    # A body that is said to be a form is parsed by the server, and gone.
    assert not any("form" in kind for kind in store.kinds)


def test_the_store_refuses(faults, store) -> None:
    answers: Counter[tuple[int, bytes]] = Counter()
    with faults.FaultProxy(store.url, 1, of_one_kind(faults, refused=1)) as proxy:
        for n in range(60):
            answer = ask(proxy.endpoint("a"), "PUT", f"/b/{n}", BODY)
            code = answer.body.partition(b"<Code>")[2].partition(b"</Code>")[0]
            answers[answer.code, code] += 1
        assert proxy.faults.total() == 60
        assert set(proxy.faults) == {"500", "503", "SlowDown"}
    assert set(answers) == {
        (500, b"InternalError"),
        (503, b"ServiceUnavailable"),
        (503, b"SlowDown"),
    }
    assert min(answers.values()) >= 5
    assert not store.files


def test_connections_are_reset(faults, store) -> None:
    with faults.FaultProxy(store.url, 1, of_one_kind(faults, reset=1)) as proxy:
        with pytest.raises(ConnectionError):
            ask(proxy.endpoint("a"), "PUT", "/b/k", BODY)
        assert proxy.faults == {"reset": 1}
    assert not store.files


def test_writes_are_done_and_denied(faults, store) -> None:
    """The nastiest: the object is there, and its writer believes that it is not."""
    store.files["/b/read"] = BODY
    with faults.FaultProxy(store.url, 1, of_one_kind(faults, done=1)) as proxy:
        for n in range(20):
            with contextlib.suppress(ConnectionError):
                assert ask(proxy.endpoint("a"), "PUT", f"/b/{n}", BODY).code == 500
        assert proxy.faults["done, then 500"] >= 3
        assert proxy.faults["done, then reset"] >= 3
        assert proxy.faults.total() == 20
        assert ask(proxy.endpoint("a"), "GET", "/b/read").body == BODY
    assert [store.files[f"/b/{n}"] for n in range(20)] == [BODY] * 20


def test_bodies_are_cut(faults, store) -> None:
    store.files["/b/k"] = BODY
    with faults.FaultProxy(store.url, 1, of_one_kind(faults, cut=1)) as proxy:
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(proxy.endpoint("a"), "GET", "/b/k")
        assert caught.value.partial == BODY[: len(BODY) // 2]
        assert ask(proxy.endpoint("a"), "GET", "/b/none").code == 404
        assert proxy.faults == {"body cut": 1}


def test_every_tenth_message_comes_twice(faults, store) -> None:
    with faults.FaultProxy(store.url, 1, of_one_kind(faults, twice_every=10)) as proxy:
        for _ in range(35):
            answer = ask_queue(proxy.endpoint("a"), "ReceiveMessage", WaitTimeSeconds=20)
            assert json.loads(answer.body)["Messages"][0]["Body"] == "a task"
        assert proxy.faults == {"delivered twice": 3}
    sent = [content for action, content in store.actions if action == "SendMessage"]
    assert sent == [{"QueueUrl": "q", "MessageBody": "a task"}] * 3
    # A long poll of a client that was killed would keep what it gets.
    assert {c["WaitTimeSeconds"] for a, c in store.actions if a == "ReceiveMessage"} == {1}


def test_the_queue_refuses_denies_and_forgets(faults, store) -> None:
    for rates, action, code, done, kind in (
        ({"queue": 1}, "SendMessage", 500, 0, "queue 500"),
        ({"sent": 1}, "SendMessageBatch", 500, 1, "sent, then 500"),
        ({"undeleted": 1}, "DeleteMessage", 200, 0, "deletion lost"),
    ):
        store.actions.clear()
        with faults.FaultProxy(store.url, 1, of_one_kind(faults, **rates)) as proxy:
            assert ask_queue(proxy.endpoint("a"), action, ReceiptHandle="r").code == code
            assert proxy.faults == {kind: 1}
        assert len(store.actions) == done


def test_faults_follow_from_seed_and_request_alone(faults, store) -> None:
    """Not from the order, so that the same seed gives about the same run."""

    def struck(seed: int, order: list[int]) -> dict[int, list[int]]:
        codes: dict[int, list[int]] = {}
        rates = of_one_kind(faults, refused=0.3)
        with faults.FaultProxy(store.url, seed, rates) as proxy:
            for n in order:
                codes.setdefault(n, []).append(ask(proxy.endpoint("a"), "GET", f"/b/{n}").code)
        return codes

    order = [*range(15), *range(15)]
    first = struck(1, order)
    assert struck(1, order[::-1]) == first
    assert struck(2, order) != first
    # Another try may go well.
    assert any(codes[0] != codes[1] for codes in first.values())


def test_about_as_many_as_asked_for(faults, store) -> None:
    with faults.FaultProxy(store.url, 4, of_one_kind(faults, refused=0.05)) as proxy:
        for n in range(400):
            ask(proxy.endpoint("a"), "HEAD", f"/b/{n}")
        # 20 of 400; the same for this seed every time.
        assert 10 <= proxy.faults.total() <= 30


def test_requests_are_seen_with_who_made_them(faults, store) -> None:
    seen = []
    with faults.FaultProxy(store.url, 1, faults.Rates.none(), seen.append) as proxy:
        ask(proxy.endpoint("worker-1"), "PUT", "/b/k?x=1", BODY)
        ask(proxy.endpoint("worker-2"), "GET", "/b/k?x=1")
        ask(proxy.endpoint("worker-2"), "GET", "/b/none")
        ask_queue(proxy.endpoint("worker-2"), "ReceiveMessage")
        assert proxy.endpoint("worker-1") != proxy.endpoint("worker-2")
    assert [(s.client, s.method, s.path) for s in seen] == [
        ("worker-1", "PUT", "/b/k"),
        ("worker-2", "GET", "/b/k"),
    ]
